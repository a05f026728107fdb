"""ROS bags and GrandTour."""
