"""Splats in files that hold more than a splat: levels of detail, stages, volumes."""
