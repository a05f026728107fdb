"""The CPU rasteriser: pictures and gradients of Gaussians."""

from pipeline.splat.raster.layout import Cutoffs
from pipeline.splat.raster.rasterizer import (
    Gradients,
    Raster,
    Rendering,
    contiguous,
    rasterize,
    rasterize_backward,
    render,
)

__all__ = ["Cutoffs", "Gradients", "Raster", "Rendering", "contiguous", "rasterize", "rasterize_backward", "render"]
