"""What training minimises (Huber's loss and SSIM against the photo, a robust depth difference); PSNR and SSIM.

All kernels work on planes (channels first) and on fixed bands of rows, so that sums don't depend on the thread count.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from pipeline.splat.photometric import empty_frame, framed, photometric_gradient, ssim_maps

Float = NDArray[np.float32]
Bytes = NDArray[np.uint8]

BAND = 64
"""Rows a task works on."""
ZERO, ONE = np.float32(0), np.float32(1)
FROM_BYTE = 1 / 255
MIN_ALPHA = np.float32(0.05)
"""Pixels more transparent than this have no depth to speak of."""


def psnr(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Peak signal-to-noise ratio [dB] of two pictures of the same shape in 0..1."""
    error = float(np.mean((np.asarray(a, np.float64) - np.asarray(b, np.float64)) ** 2))
    return -10 * math.log10(max(error, 1e-12))


def ssim(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Mean structural similarity of two pictures (H, W, 3) in 0..1, see `pipeline.splat.photometric`."""
    height, width, channels = a.shape
    first, second = (framed(np.moveaxis(np.asarray(v, np.float32), -1, 0)) for v in (a, b))
    return float(ssim_maps(first, second, width, empty_frame(3 * channels, height, width)).sum() / a.size)


def photometric_loss(planes: Float, target: Bytes, ssim_weight: float, by_planes: Float) -> float:
    """(1 - w) Huber + w (1 - SSIM) of a rendered picture, and its derivative.

    Huber's loss of a difference d is |d| - k / 2 beyond k = 1 / `photometric.HUBER`, d^2 / (2 k) within.

    Args:
        planes: (>= 3, h, w) float32, rendered red, green, blue; h, w >= the target's.
        target: (3, H, W) uint8, the photo.
        ssim_weight: w.
        by_planes: As `planes`, zero; the derivative is written to [:3, :H, :W].
    """
    channels, height, width = target.shape
    rendered, photo = framed(planes[:channels, :height, :width]), framed(target, FROM_BYTE)
    derivatives = empty_frame(3 * channels, height, width)
    similarity = ssim_maps(rendered, photo, width, derivatives).sum() / target.size
    weight = np.float32(ssim_weight)
    huber = photometric_gradient(rendered, photo, width, derivatives, weight, by_planes).sum() / target.size
    return float((1 - ssim_weight) * huber + ssim_weight * (1 - similarity))


def depth_loss(
    planes: Float,
    transmittance: Float,
    target: Float,
    tolerance: Float,
    weight: float,
    by_planes: Float,
    by_transmittance: Float,
) -> float:
    """Robust difference of the expected depth from a measured one, relative to the depth, and its derivative.

    Per pixel with known depth d, tolerance t and expected depth e = D / A: (sqrt((e - d)^2 + t^2) - t) / d, quadratic
    within the tolerance and linear outside; the mean over all pixels of the view, so that views with little known depth
    pull less.

    Args:
        planes: (4, h, w) float32; the last holds D, the sum of weight times depth.
        transmittance: (h, w) float32, 1 - A.
        target: (H, W) float32, measured depth, 0 where unknown.
        tolerance: (H, W) float32, in the unit of the depth.
        weight: Factor of the loss and its derivative.
        by_planes: (4, h, w), the derivative is added to [3, :H, :W].
        by_transmittance: (h, w), the derivative is added.
    """
    return float(
        _depth_gradient(planes, transmittance, target, tolerance, np.float32(weight), by_planes, by_transmittance).sum()
    )


@njit(parallel=True, fastmath=True, nogil=True, error_model="numpy", cache=True)
def _depth_gradient(
    planes: Float,
    transmittance: Float,
    target: Float,
    tolerance: Float,
    weight: np.float32,
    by_planes: Float,
    by_transmittance: Float,
) -> NDArray[np.float64]:
    """Sums of the depth loss by band; adds its derivative."""
    height, width = target.shape
    bands = (height + BAND - 1) // BAND
    sums = np.zeros(bands)
    factor = weight / np.float32(height * width)
    for band in prange(bands):
        for y in range(band * BAND, min((band + 1) * BAND, height)):
            total = ZERO
            for x in range(width):
                measured, alpha, bound = target[y, x], ONE - transmittance[y, x], tolerance[y, x]
                if measured > ZERO and alpha > MIN_ALPHA:
                    expected = planes[3, y, x] / alpha
                    difference = expected - measured
                    length = math.sqrt(difference * difference + bound * bound)
                    total += factor * (length - bound) / measured
                    by_expected = factor * difference / (length * measured)
                    by_planes[3, y, x] += by_expected / alpha
                    by_transmittance[y, x] += by_expected * expected / alpha
            sums[band] += total
    return sums
