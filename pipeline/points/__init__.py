"""One oriented, coloured point cloud from the depth maps."""
