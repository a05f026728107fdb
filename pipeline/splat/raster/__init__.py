"""The CPU rasteriser: pictures and gradients of Gaussians."""

import os

# libgomp reads this once, when numba starts its threads. By default waiting threads spin, which doubles the CPU time
# of kernels that last a few milliseconds.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

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
