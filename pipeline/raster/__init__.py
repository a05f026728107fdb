"""The CPU rasteriser: images and gradients of Gaussians."""

from pipeline.raster.batch import render_batch
from pipeline.raster.layout import Cutoffs
from pipeline.raster.packing import PackedGaussians, pack
from pipeline.raster.rasterizer import (
    Gradients,
    Raster,
    Rendering,
    blending_weights,
    contiguous,
    grey,
    pose_gradient,
    rasterize,
    rasterize_backward,
    render,
)
