"""Gaussian splats: training, files, levels of detail."""
