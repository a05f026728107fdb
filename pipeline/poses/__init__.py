"""Camera poses, intrinsics and calibration."""
