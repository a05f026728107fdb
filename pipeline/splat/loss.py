"""What training minimises, with derivatives, and the image metrics PSNR and SSIM.

Source of the similarity: Z. Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity, TIP
2004, section III; an 11x11 Gaussian window and zeros outside the image, as in the 3DGS reference code. The window is
applied column by column first: the blurred row is needed at once, so it stays in a buffer of a few kilobytes.

All kernels work on planes (channels first) and on fixed bands of rows, so that sums don't depend on the thread count.
"""

from __future__ import annotations

import math

import numpy as np

from pipeline.geometry.jit import njit, prange
from pipeline.raster.lanes import WIDTH, Lanes, line_aligned_buffer, load, spread, store
from pipeline.raster.layout import line_aligned
from pipeline.types import F32, F64, U8, Floats, Mask

BAND = 64
"""Rows a task works on."""
RADIUS = 5
"""Half the window, without the centre [px]."""
SIGMA = 1.5
"""Standard deviation of the window [px]."""
_window = np.exp(-(np.arange(RADIUS + 1) ** 2) / (2 * SIGMA**2))
WEIGHTS = tuple(np.float32(v) for v in _window / (_window[0] + 2 * _window[1:].sum()))
"""Weights of the window from its centre outwards."""
C1, C2 = np.float32(0.01**2), np.float32(0.03**2)
ZERO, ONE, TWO = np.float32(0), np.float32(1), np.float32(2)
FROM_BYTE = 1 / 255
MIN_ALPHA = np.float32(0.05)
"""Pixels more transparent than this have no meaningful depth."""
PLAIN_COLOR_PIXELS = 50.0
"""Number of pixels whose pull on a coefficient of view-dependent colour the cost of a coefficient of 1 has."""
HUBER = np.float32(1 / 0.05)
"""One over the difference of colour up to which the photometric loss is quadratic. Absolute differences throughout give
the median of what the views show of a point; squares of the small ones give their mean, which PSNR asks for."""
NO_GAIN = np.ones(3, np.float32)
HALF_TOLERANCE = np.float32(0.5 / HUBER)


def psnr(a: Floats, b: Floats) -> float:
    """Peak signal-to-noise ratio [dB] of two images of the same shape in 0..1."""
    error = float(np.mean((np.asarray(a, np.float64) - np.asarray(b, np.float64)) ** 2))
    return -10 * math.log10(max(error, 1e-12))


def ssim(a: Floats, b: Floats) -> float:
    """Mean structural similarity of two images (H, W, 3) in 0..1, with windows of 11x11 pixels."""
    height, width, channels = a.shape
    first, second = (framed(np.moveaxis(np.asarray(v, np.float32), -1, 0)) for v in (a, b))
    return float(ssim_maps(first, second, width, empty_frame(3 * channels, height, width)).sum() / a.size)


def photometric_loss(
    planes: F32,
    target: U8,
    ssim_weight: float,
    by_planes: F32,
    gain: F32 = NO_GAIN,
    mask: Mask | None = None,
) -> tuple[float, F32]:
    """(1 - w) Huber + w (1 - SSIM) of a rendered image, and its derivative.

    Huber's loss of a difference d is |d| - k / 2 beyond k = 1 / `HUBER`, d^2 / (2 k) within. The image is in `planes`
    (>= 3, h, w), which may be larger than the photo `target` (3, H, W), and becomes as bright as that by its `gain` of
    each channel (3,). The derivative is written to `by_planes`, zero. The mask (H, W) is False where the photo is to be
    ignored: the image gets its colours there, so that windows of the similarity that reach in compare equal with equal.

    Returns:
        The loss, and the image (3, H, W) that was compared.
    """
    channels, height, width = target.shape
    rendered, photo = framed(planes[:channels, :height, :width], gain[:, None, None]), framed(target, FROM_BYTE)
    inside = (slice(None), slice(RADIUS, RADIUS + height), slice(width))
    if mask is not None:
        np.copyto(rendered[inside], photo[inside], where=~mask)
    derivatives = empty_frame(3 * channels, height, width)
    similarity = ssim_maps(rendered, photo, width, derivatives).sum() / target.size
    weight = np.float32(ssim_weight)
    huber = photometric_gradient(rendered, photo, width, derivatives, weight, gain, by_planes).sum() / target.size
    if mask is not None:
        by_planes[:channels, :height, :width] *= mask
    return float((1 - ssim_weight) * huber + ssim_weight * (1 - similarity)), rendered[inside]


def depth_loss(
    planes: F32, transmittance: F32, target: F32, tolerance: F32, weight: float, by_planes: F32, by_transmittance: F32
) -> float:
    """Robust difference of the expected depth from a measured one, relative to the depth, and its derivative.

    Per pixel with known depth d, tolerance t and expected depth e = D / A: (sqrt((e - d)^2 + t^2) - t) / d, quadratic
    within the tolerance and linear outside; the mean over all pixels of the view, so that views with little known depth
    pull less. D is the last of the `planes` (4, h, w), A is 1 - `transmittance` (h, w); the target and the tolerance
    (H, W) are in world units, 0 where unknown. The derivative is added to `by_planes` and `by_transmittance`.
    """
    return float(
        _depth_gradient(planes, transmittance, target, tolerance, np.float32(weight), by_planes, by_transmittance).sum()
    )


def plain_color_pull(sh_count: int, pixels_in_view: int) -> F32:
    """Weights (3 K,) of half the squares of a visible Gaussian's K SH coefficients in the loss of a view.

    Seen from a narrow range of directions, the spherical harmonics of a Gaussian can fit any noise, and become any
    colour elsewhere: a robot under the table sees rainbows. The squares of the coefficients above degree 0 therefore
    cost as much as a fixed number of pixels would. The loss is a mean over the view's pixels.
    """
    return np.repeat(np.array([0, PLAIN_COLOR_PIXELS / pixels_in_view], np.float32), [3, 3 * sh_count - 3])


def framed(planes: np.ndarray, factor: float | F32 = 1.0) -> F32:
    """Planes (C, H, W) times a factor, or one of each (C, 1, 1), in zeros: (C, H + 10, W rounded up to 16) float32."""
    channels, height, width = planes.shape
    result = empty_frame(channels, height, width)
    result[:, RADIUS : RADIUS + height, width:] = 0
    np.multiply(planes, np.asarray(factor, np.float32), out=result[:, RADIUS : RADIUS + height, :width])
    return result


def empty_frame(channels: int, height: int, width: int) -> F32:
    """Uninitialised planes between rows of zeros, of the shape of `framed`."""
    result = line_aligned(channels, height + 2 * RADIUS, -(-width // WIDTH) * WIDTH)
    result[:, :RADIUS] = 0
    result[:, RADIUS + height :] = 0
    return result


@njit(fastmath=True, error_model="numpy")
def _across(row: F32, at: int) -> Lanes:
    """The blur along a row."""
    blurred = load(row, at) * WEIGHTS[0]
    for k in range(1, RADIUS + 1):
        blurred = blurred + (load(row, at - k) + load(row, at + k)) * WEIGHTS[k]
    return blurred


@njit(fastmath=True, error_model="numpy")
def _down(plane: F32, at: int, stride: int) -> Lanes:
    """The blur along a column."""
    blurred = load(plane, at) * WEIGHTS[0]
    for k in range(1, RADIUS + 1):
        blurred = blurred + (load(plane, at - k * stride) + load(plane, at + k * stride)) * WEIGHTS[k]
    return blurred


@njit(fastmath=True, error_model="numpy")
def _blur_products(a: F32, b: F32, first: int, padded: int, rows: F32, length: int) -> None:
    """Blur a, b, a^2 + b^2, a b of `framed` planes down columns, from index `first`, into `rows` from column 16."""
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
def ssim_maps(a: F32, b: F32, width: int, derivatives: F32) -> F64:
    """Sums by channel and band of the SSIM of `framed` planes (C, H + 10, P) of which `width` columns are the image.

    The `derivatives` (3 C, H + 10, P) by the blurred a, a^2 and a b are written, C planes each.
    """
    channels, height, padded = a.shape[0], a.shape[1] - 2 * RADIUS, a.shape[2]
    bands = (height + BAND - 1) // BAND
    sums = np.zeros(channels * bands)
    plane = (height + 2 * RADIUS) * padded
    length = padded + 2 * WIDTH
    for task in prange(channels * bands):
        channel, band = task // bands, task % bands
        inside, rows, total = line_aligned_buffer(padded), line_aligned_buffer(4 * length), line_aligned_buffer(WIDTH)
        inside[:], rows[:] = ZERO, ZERO
        inside[:width] = ONE  # 0 in the padding
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
    a: F32, b: F32, width: int, derivatives: F32, ssim_weight: np.float32, gain: F32, by_planes: F32
) -> F64:
    """Sums of Huber's losses of a - b by channel and band; writes the derivative of the whole loss to [:C, :H, :W].

    It is by a over its channel's gain. Arguments are those of `ssim_maps`, which wrote `derivatives`, and of
    `photometric_loss`.
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
        huber, similarity = huber_factor * gain[channel], ssim_factor * gain[channel]
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
                store(out, x, slope * huber - by_similarity * similarity)
            store(total, 0, row_sum)
            for lane in range(WIDTH):
                sums[task] += total[lane]
            for x in range(width):
                by_planes[channel, y, x] = out[x]
    return sums


@njit(parallel=True, fastmath=True, nogil=True, error_model="numpy", cache=True)
def _depth_gradient(
    planes: F32,
    transmittance: F32,
    target: F32,
    tolerance: F32,
    weight: np.float32,
    by_planes: F32,
    by_transmittance: F32,
) -> F64:
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
