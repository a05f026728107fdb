"""Poses found elsewhere: COLMAP, nerfstudio, RealityCapture, Metashape, Meshroom, OpenSfM, Bundler."""
