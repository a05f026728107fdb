"""Depth maps and their fusion into the shared point cloud."""
