"""What training minimises: L1 and SSIM against the photo, a robust depth difference; and the figures PSNR and SSIM.

All kernels work on planes (channels first) and on fixed bands of rows, so that sums don't depend on the thread count.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

Float = NDArray[np.float32]
Bytes = NDArray[np.uint8]

BAND = 64
"""Rows a task works on."""
RADIUS = 5
"""Half the window of SSIM, without the centre [px]."""
SIGMA = 1.5
"""Standard deviation of SSIM's Gaussian window [px]."""
_window = np.exp(-(np.arange(RADIUS + 1) ** 2) / (2 * SIGMA**2))
K0, K1, K2, K3, K4, K5 = (np.float32(v) for v in _window / (_window[0] + 2 * _window[1:].sum()))
C1, C2 = np.float32(0.01**2), np.float32(0.03**2)
ZERO, ONE, TWO = np.float32(0), np.float32(1), np.float32(2)
FROM_BYTE = np.float32(1 / 255)
MIN_ALPHA = np.float32(0.05)
"""Pixels more transparent than this have no depth to speak of."""


def psnr(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Peak signal-to-noise ratio [dB] of two pictures of the same shape in 0..1."""
    error = float(np.mean((np.asarray(a, np.float64) - np.asarray(b, np.float64)) ** 2))
    return -10 * math.log10(max(error, 1e-12))


def ssim(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Mean structural similarity of two pictures (H, W, 3) in 0..1; an 11x11 Gaussian window, zeros outside.

    Source: Z. Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity, TIP 2004,
    section III; window and padding as in the 3DGS reference code.
    """
    first, second = (np.ascontiguousarray(np.moveaxis(np.asarray(v, np.float32), -1, 0)) for v in (a, b))
    derivatives = np.empty((3 * len(first), *first.shape[1:]), np.float32)
    return float(_ssim_maps(first, second, derivatives).sum() / first.size)


def photometric_loss(planes: Float, target: Bytes, ssim_weight: float, by_planes: Float) -> float:
    """(1 - w) L1 + w (1 - SSIM) of a rendered picture, and its derivative.

    Args:
        planes: (>= 3, h, w) float32, rendered red, green, blue; h, w >= the target's.
        target: (3, H, W) uint8, the photo.
        ssim_weight: w.
        by_planes: As `planes`, zero; the derivative is written to [:3, :H, :W].
    """
    channels, height, width = target.shape
    rendered = np.ascontiguousarray(planes[:channels, :height, :width])
    photo = target.astype(np.float32)
    photo *= FROM_BYTE
    derivatives = np.empty((3 * channels, height, width), np.float32)
    similarity = _ssim_maps(rendered, photo, derivatives).sum() / target.size
    absolute = _photometric_gradient(rendered, photo, derivatives, np.float32(ssim_weight), by_planes)
    return float((1 - ssim_weight) * absolute.sum() / target.size + ssim_weight * (1 - similarity))


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


@njit(fastmath=True, nogil=True, error_model="numpy", cache=True)
def _blur_row(padded: Float, out: Float) -> None:
    """Blur a row that has 5 zeros on either side."""
    for x in range(out.shape[0]):
        out[x] = (
            K0 * padded[x + 5]
            + K1 * (padded[x + 4] + padded[x + 6])
            + K2 * (padded[x + 3] + padded[x + 7])
            + K3 * (padded[x + 2] + padded[x + 8])
            + K4 * (padded[x + 1] + padded[x + 9])
            + K5 * (padded[x] + padded[x + 10])
        )


@njit(fastmath=True, nogil=True, error_model="numpy", cache=True)
def _blur_column(rows: Float, first: int, out: Float) -> None:
    """Blur 11 rows (first .. first + 10) into one."""
    for x in range(out.shape[0]):
        out[x] = (
            K0 * rows[first + 5, x]
            + K1 * (rows[first + 4, x] + rows[first + 6, x])
            + K2 * (rows[first + 3, x] + rows[first + 7, x])
            + K3 * (rows[first + 2, x] + rows[first + 8, x])
            + K4 * (rows[first + 1, x] + rows[first + 9, x])
            + K5 * (rows[first, x] + rows[first + 10, x])
        )


@njit(fastmath=True, nogil=True, error_model="numpy", cache=True)
def _multiply_row(a: Float, b: Float, out: Float) -> None:
    for x in range(out.shape[0]):
        out[x] = a[x] * b[x]


@njit(fastmath=True, nogil=True, error_model="numpy", cache=True)
def _ssim_row(
    mean_a: Float,
    mean_b: Float,
    square_a: Float,
    square_b: Float,
    product: Float,
    by_mean: Float,
    by_square: Float,
    by_product: Float,
) -> np.float32:
    """SSIM of a row from blurred values; writes the derivatives by mean_a, square_a and product."""
    total = ZERO
    for x in range(mean_a.shape[0]):
        a, b = mean_a[x], mean_b[x]
        variance_a, variance_b, covariance = square_a[x] - a * a, square_b[x] - b * b, product[x] - a * b
        luminance, structure = TWO * a * b + C1, TWO * covariance + C2
        inverse_l, inverse_s = ONE / (a * a + b * b + C1), ONE / (variance_a + variance_b + C2)
        similarity = luminance * structure * inverse_l * inverse_s
        total += similarity
        by_variance, by_covariance = -similarity * inverse_s, TWO * luminance * inverse_l * inverse_s
        by_mean[x] = (
            TWO * b * structure * inverse_l * inverse_s
            - similarity * TWO * a * inverse_l
            - TWO * a * by_variance
            - b * by_covariance
        )
        by_square[x] = by_variance
        by_product[x] = by_covariance
    return total


@njit(parallel=True, fastmath=True, nogil=True, error_model="numpy", cache=True)
def _ssim_maps(a: Float, b: Float, derivatives: Float) -> NDArray[np.float64]:
    """Sums of SSIM by channel and band.

    Args:
        a: (C, H, W).
        b: (C, H, W).
        derivatives: (3 C, H, W), written: by the blurred a, a^2 and a b of each pixel, C planes each.
    """
    channels, height, width = a.shape
    bands = (height + BAND - 1) // BAND
    sums = np.zeros(channels * bands)
    for task in prange(channels * bands):
        channel, first = task // bands, task % bands * BAND
        last = min(first + BAND, height)
        padded = np.zeros((5, width + 2 * RADIUS), np.float32)
        inner = padded[:, RADIUS : RADIUS + width]
        rows = np.zeros((5, last - first + 2 * RADIUS, width), np.float32)
        for y in range(max(0, first - RADIUS), min(height, last + RADIUS)):
            inner[0] = a[channel, y]
            inner[1] = b[channel, y]
            _multiply_row(inner[0], inner[0], inner[2])
            _multiply_row(inner[1], inner[1], inner[3])
            _multiply_row(inner[0], inner[1], inner[4])
            for k in range(5):
                _blur_row(padded[k], rows[k, y - first + RADIUS])
        blurred = np.empty((5, width), np.float32)
        for y in range(first, last):
            for k in range(5):
                _blur_column(rows[k], y - first, blurred[k])
            sums[task] += _ssim_row(
                blurred[0],
                blurred[1],
                blurred[2],
                blurred[3],
                blurred[4],
                derivatives[channel, y],
                derivatives[channels + channel, y],
                derivatives[2 * channels + channel, y],
            )
    return sums


@njit(fastmath=True, nogil=True, error_model="numpy", cache=True)
def _photometric_row(
    a: Float,
    b: Float,
    by_mean: Float,
    by_square: Float,
    by_product: Float,
    l1_factor: np.float32,
    ssim_factor: np.float32,
    out: Float,
) -> np.float32:
    """The derivative of a row; gives its sum of absolute differences."""
    total = ZERO
    for x in range(a.shape[0]):
        difference = a[x] - b[x]
        total += abs(difference)
        sign = l1_factor if difference > ZERO else -l1_factor
        out[x] = sign - ssim_factor * (by_mean[x] + TWO * a[x] * by_square[x] + b[x] * by_product[x])
    return total


@njit(parallel=True, fastmath=True, nogil=True, error_model="numpy", cache=True)
def _photometric_gradient(
    a: Float, b: Float, derivatives: Float, ssim_weight: np.float32, by_planes: Float
) -> NDArray[np.float64]:
    """Sums of |a - b| by channel and band; writes the derivative of the loss to `by_planes`."""
    channels, height, width = a.shape
    bands = (height + BAND - 1) // BAND
    sums = np.zeros(channels * bands)
    ssim_factor = ssim_weight / np.float32(a.size)
    l1_factor = (ONE - ssim_weight) / np.float32(a.size)
    for task in prange(channels * bands):
        channel, first = task // bands, task % bands * BAND
        last = min(first + BAND, height)
        padded = np.zeros((3, width + 2 * RADIUS), np.float32)
        rows = np.zeros((3, last - first + 2 * RADIUS, width), np.float32)
        for y in range(max(0, first - RADIUS), min(height, last + RADIUS)):
            for k in range(3):
                padded[k, RADIUS : RADIUS + width] = derivatives[k * channels + channel, y]
                _blur_row(padded[k], rows[k, y - first + RADIUS])
        blurred = np.empty((3, width), np.float32)
        for y in range(first, last):
            for k in range(3):
                _blur_column(rows[k], y - first, blurred[k])
            sums[task] += _photometric_row(
                a[channel, y],
                b[channel, y],
                blurred[0],
                blurred[1],
                blurred[2],
                l1_factor,
                ssim_factor,
                by_planes[channel, y, :width],
            )
    return sums


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
