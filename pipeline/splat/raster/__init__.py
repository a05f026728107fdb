"""The CPU rasteriser: pictures and gradients of Gaussians."""

from pipeline.splat.raster.batch import PackedGaussians, pack, render_batch
from pipeline.splat.raster.layout import Cutoffs
from pipeline.splat.raster.pose import pose_gradient
from pipeline.splat.raster.rasterizer import (
    Gradients,
    Raster,
    Rendering,
    contiguous,
    rasterize,
    rasterize_backward,
    render,
)

__all__ = [
    "Cutoffs",
    "Gradients",
    "PackedGaussians",
    "Raster",
    "Rendering",
    "contiguous",
    "pack",
    "pose_gradient",
    "rasterize",
    "rasterize_backward",
    "render",
    "render_batch",
]
