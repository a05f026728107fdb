"""The CPU rasteriser: pictures and gradients of Gaussians."""
