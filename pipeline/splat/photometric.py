"""The photometric loss as kernels on planes: Huber's loss and structural similarity, with their derivatives.

Source of the similarity: Z. Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity, TIP
2004, section III; an 11x11 Gaussian window and zeros outside the picture, as in the 3DGS reference code.

The window is applied column by column first: the blurred row is needed at once, so it stays in a buffer of a few
kilobytes. Everything works on fixed bands of rows, so that sums don't depend on the number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from pipeline.splat.raster.lanes import WIDTH, line_aligned_buffer, load, spread, store
from pipeline.splat.raster.layout import line_aligned

Float = NDArray[np.float32]
Lanes = Any

BAND = 64
"""Rows a task works on."""
RADIUS = 5
"""Half the window, without the centre [px]."""
SIGMA = 1.5
"""Standard deviation of the window [px]."""
_window = np.exp(-(np.arange(RADIUS + 1) ** 2) / (2 * SIGMA**2))
WEIGHTS = tuple(np.float32(v) for v in _window / (_window[0] + 2 * _window[1:].sum()))
"""From the window's centre outwards."""
C1, C2 = np.float32(0.01**2), np.float32(0.03**2)
ZERO, ONE, TWO = np.float32(0), np.float32(1), np.float32(2)
HUBER = np.float32(1 / 0.05)
"""One over the difference of colour up to which the photometric loss is quadratic. Absolute differences throughout give
the median of what the views show of a place; squares of the small ones give their mean, which PSNR asks for."""
HALF_TOLERANCE = np.float32(0.5 / HUBER)


def framed(planes: NDArray[Any], factor: float = 1.0) -> Float:
    """Planes (C, H, W) times a factor, with zeros around: (C, H + 10, W rounded up to 16) float32."""
    channels, height, width = planes.shape
    result = empty_frame(channels, height, width)
    result[:, RADIUS : RADIUS + height, width:] = 0
    np.multiply(planes, np.float32(factor), out=result[:, RADIUS : RADIUS + height, :width])
    return result


def empty_frame(channels: int, height: int, width: int) -> Float:
    """Uninitialised planes between rows of zeros, of the shape of `framed`."""
    result = line_aligned(channels, height + 2 * RADIUS, -(-width // WIDTH) * WIDTH)
    result[:, :RADIUS] = 0
    result[:, RADIUS + height :] = 0
    return result


@njit(fastmath=True, error_model="numpy")
def _across(row: Float, at: int) -> Lanes:
    """The blur along a row."""
    blurred = load(row, at) * WEIGHTS[0]
    for k in range(1, RADIUS + 1):
        blurred = blurred + (load(row, at - k) + load(row, at + k)) * WEIGHTS[k]
    return blurred


@njit(fastmath=True, error_model="numpy")
def _down(plane: Float, at: int, stride: int) -> Lanes:
    """The blur along a column."""
    blurred = load(plane, at) * WEIGHTS[0]
    for k in range(1, RADIUS + 1):
        blurred = blurred + (load(plane, at - k * stride) + load(plane, at + k * stride)) * WEIGHTS[k]
    return blurred


@njit(fastmath=True, error_model="numpy")
def _inside(width: int, padded: int) -> Float:
    """1 in the picture's columns, 0 in the padding."""
    inside = line_aligned_buffer(padded)
    inside[:] = ZERO
    inside[:width] = ONE
    return inside


@njit(fastmath=True, error_model="numpy")
def _blur_products(a: Float, b: Float, first: int, padded: int, rows: Float, length: int) -> None:
    """Blur a, b, a^2 + b^2 and a b along the columns.

    Args:
        a: Of `framed`.
        b: Of `framed`.
        first: Flat index of the row's first pixel in both.
        padded: Pixels of a row.
        rows: (4, length), flat, written from the 16th column on.
        length: See `rows`.
    """
    for x in range(0, padded, WIDTH):
        at = first + x
        va, vb = load(a, at), load(b, at)
        mean_a, mean_b = va * WEIGHTS[0], vb * WEIGHTS[0]
        squares, product = (va * va + vb * vb) * WEIGHTS[0], (va * vb) * WEIGHTS[0]
        for k in range(1, RADIUS + 1):
            above_a, below_a = load(a, at - k * padded), load(a, at + k * padded)
            above_b, below_b = load(b, at - k * padded), load(b, at + k * padded)
            mean_a = mean_a + (above_a + below_a) * WEIGHTS[k]
            mean_b = mean_b + (above_b + below_b) * WEIGHTS[k]
            all_squares = above_a * above_a + below_a * below_a + above_b * above_b + below_b * below_b
            squares = squares + all_squares * WEIGHTS[k]
            product = product + (above_a * above_b + below_a * below_b) * WEIGHTS[k]
        store(rows, WIDTH + x, mean_a)
        store(rows, length + WIDTH + x, mean_b)
        store(rows, 2 * length + WIDTH + x, squares)
        store(rows, 3 * length + WIDTH + x, product)


@njit(fastmath=True, error_model="numpy")
def _similarity(a: Lanes, b: Lanes, squares: Lanes, product: Lanes) -> tuple[Lanes, Lanes, Lanes, Lanes]:
    """SSIM from blurred values; its derivatives by the blurred a, a^2 and a b."""
    variances, covariance = squares - a * a - b * b, product - a * b
    luminance, structure = TWO * a * b + C1, TWO * covariance + C2
    inverse_l, inverse_s = ONE / (a * a + b * b + C1), ONE / (variances + C2)
    similarity = luminance * structure * inverse_l * inverse_s
    by_variance, by_covariance = ZERO - similarity * inverse_s, TWO * luminance * inverse_l * inverse_s
    by_mean = TWO * b * structure * inverse_l * inverse_s - similarity * (TWO * a) * inverse_l
    return similarity, by_mean - TWO * a * by_variance - b * by_covariance, by_variance, by_covariance


@njit(parallel=True, fastmath=True, nogil=True, error_model="numpy", cache=True)
def ssim_maps(a: Float, b: Float, width: int, derivatives: Float) -> NDArray[np.float64]:
    """Sums of SSIM by channel and band.

    Args:
        a: (C, H + 10, P) of `framed`.
        b: As `a`.
        width: Columns of the picture.
        derivatives: (3 C, H + 10, P) of `empty_frame`, written: by the blurred a, a^2 and a b, C planes each.
    """
    channels, height, padded = a.shape[0], a.shape[1] - 2 * RADIUS, a.shape[2]
    bands = (height + BAND - 1) // BAND
    sums = np.zeros(channels * bands)
    plane = (height + 2 * RADIUS) * padded
    length = padded + 2 * WIDTH
    for task in prange(channels * bands):
        channel, band = task // bands, task % bands
        inside, rows, total = _inside(width, padded), line_aligned_buffer(4 * length), line_aligned_buffer(WIDTH)
        rows[:] = ZERO
        for y in range(band * BAND, min((band + 1) * BAND, height)):
            first = channel * plane + (y + RADIUS) * padded
            _blur_products(a, b, first, padded, rows, length)
            row_sum = spread(ZERO)
            for x in range(0, padded, WIDTH):
                at, counted = WIDTH + x, load(inside, x)
                similarity, by_mean, by_square, by_product = _similarity(
                    _across(rows, at),
                    _across(rows, length + at),
                    _across(rows, 2 * length + at),
                    _across(rows, 3 * length + at),
                )
                row_sum = row_sum + similarity * counted
                store(derivatives, first + x, by_mean * counted)
                store(derivatives, first + x + channels * plane, by_square * counted)
                store(derivatives, first + x + 2 * channels * plane, by_product * counted)
            store(total, 0, row_sum)
            for lane in range(WIDTH):
                sums[task] += total[lane]
    return sums


@njit(parallel=True, fastmath=True, nogil=True, error_model="numpy", cache=True)
def photometric_gradient(
    a: Float, b: Float, width: int, derivatives: Float, ssim_weight: np.float32, by_planes: Float
) -> NDArray[np.float64]:
    """Sums of Huber's losses of a - b by channel and band; writes the derivative of the whole loss.

    Args:
        a: (C, H + 10, P) of `framed`, rendered.
        b: As `a`, the photo.
        width: Columns of the picture.
        derivatives: Of `ssim_maps`.
        ssim_weight: w of `photometric_loss`.
        by_planes: (>= C, >= H, >= W), the derivative is written to [:C, :H, :W].
    """
    channels, height, padded = a.shape[0], a.shape[1] - 2 * RADIUS, a.shape[2]
    bands = (height + BAND - 1) // BAND
    sums = np.zeros(channels * bands)
    plane = (height + 2 * RADIUS) * padded
    length = padded + 2 * WIDTH
    ssim_factor = ssim_weight / np.float32(channels * height * width)
    huber_factor = (ONE - ssim_weight) / np.float32(channels * height * width)
    for task in prange(channels * bands):
        channel, band = task // bands, task % bands
        rows, out, total = line_aligned_buffer(3 * length), line_aligned_buffer(padded), line_aligned_buffer(WIDTH)
        rows[:] = ZERO
        for y in range(band * BAND, min((band + 1) * BAND, height)):
            first = channel * plane + (y + RADIUS) * padded
            for x in range(0, padded, WIDTH):
                for k in range(3):
                    column = _down(derivatives, first + x + k * channels * plane, padded)
                    store(rows, k * length + WIDTH + x, column)
            row_sum = spread(ZERO)
            for x in range(0, padded, WIDTH):
                at = WIDTH + x
                va, vb = load(a, first + x), load(b, first + x)
                by_mean, by_square = _across(rows, at), _across(rows, length + at)
                by_similarity = by_mean + TWO * va * by_square + vb * _across(rows, 2 * length + at)
                difference = va - vb  # 0 in the padding
                slope = min(max(difference * HUBER, -ONE), ONE)
                row_sum = row_sum + slope * (difference - slope * HALF_TOLERANCE)
                store(out, x, slope * huber_factor - by_similarity * ssim_factor)
            store(total, 0, row_sum)
            for lane in range(WIDTH):
                sums[task] += total[lane]
            by_planes[channel, y, :width] = out[:width]
    return sums
