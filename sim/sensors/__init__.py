"""What robots sense: cameras and height scans."""
