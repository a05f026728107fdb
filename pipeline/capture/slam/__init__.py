"""Recordings and exports of visual and LiDAR SLAM: EuRoC, KITTI, map clouds."""
