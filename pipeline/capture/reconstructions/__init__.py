"""Poses found elsewhere: COLMAP, nerfstudio."""
