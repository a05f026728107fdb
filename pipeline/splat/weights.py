"""How much of a picture each Gaussian makes up.

The sum of a Gaussian's blending weights over some pixels is the derivative of their summed red by its red: grey
Gaussians and a backward pass of ones at those pixels give it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import SH_C0, Gaussians
from pipeline.splat.raster import Raster, rasterize_backward


def grey(gaussians: Gaussians) -> Gaussians:
    """The same Gaussians in plain grey."""
    return replace(gaussians, sh=np.zeros((len(gaussians), 1, 3), np.float32))


def add_weights(total: NDArray[np.floating], raster: Raster, gaussians: Gaussians, pixels: NDArray[np.bool_]) -> None:
    """Add each Gaussian's blending weights, summed over pixels.

    Args:
        total: (N,), changed.
        raster: Of `rasterize` with `gaussians`.
        gaussians: Of `grey`.
        pixels: (H, W), those that count.
    """
    height, width = pixels.shape
    by_planes = np.zeros_like(raster.planes)
    by_planes[0, :height, :width] = pixels
    gradients = rasterize_backward(raster, gaussians, by_planes, np.zeros_like(raster.transmittance))
    total[gradients.visible] += gradients.sh[gradients.visible, 0, 0] / np.float32(SH_C0)
