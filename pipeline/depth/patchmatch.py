# ruff: noqa: ANN001, ANN202 - numba infers the types of compiled functions
"""Slanted-plane PatchMatch stereo: the compiled kernels.

A hypothesis is a local plane, as inverse depth linear in the pixel: (w, gx, gy) says that pixel (x + dx, y + dy) has
inverse depth w + gx dx + gy dy, which is exact for planes in space. A point of inverse depth w at the homogeneous
pixel p appears in another view at q = A p + b w; the 12 numbers (A row by row, then b) are that pair's `warp`, pixel
centres at +0.5. Extrapolating a hypothesis along the image is therefore both its warp and its propagation.

Sources: M. Bleyer et al., PatchMatch Stereo, BMVC 2011 (slanted windows, plane refinement); Q. Xu and W. Tao,
Multi-Scale Geometric Consistency Guided Multi-View Stereo, CVPR 2019 (red-black propagation from V and line regions,
pyramid, geometric term).
"""

from __future__ import annotations

import math

import numpy as np

from pipeline.geometry.jit import njit
from pipeline.raster.lanes import WIDTH, bilinear, load, spread, total
from pipeline.types import F32, I64, U8, U32

PLANE_CHANNELS = 4
"""Inverse depth, its slope along x, its slope along y, matching cost."""
COST_CAP = np.float32(0.5)
"""The cost of a source without information: little correlation, outside of the image, or no texture. Otherwise chance
matches in views that don't show the surface would outweigh the one that does."""

_compile = njit(fastmath=True, nogil=True, error_model="numpy", cache=True)
_inline = njit(fastmath=True, nogil=True, error_model="numpy", cache=True, forceinline=True)

_SAMPLES = 32
"""A whole number of vector registers."""


def _window(offsets: list[tuple[int, int]]) -> F32:
    return np.array(offsets[:_SAMPLES], np.float32).T.copy()


WIDE_WINDOW = _window([(x, y) for y in range(-5, 6, 2) for x in range(-5, 6, 2) if not (abs(x) == 5 and abs(y) == 5)])
"""(2, 32) offsets x and y: 6x6 samples at every second pixel, without the corners. Robust, but widens foreground."""
NARROW_WINDOW = _window(
    sorted(((x, y) for y in range(-3, 4) for x in range(-3, 4)), key=lambda o: o[0] ** 2 + o[1] ** 2)
)
"""(2, 32) offsets: the 32 pixels nearest to the centre. Preserves edges, once the depth is nearly right."""

_NEAR = np.array([(0, -1), (-1, -2), (1, -2), (-2, -3), (2, -3), (-3, -4), (3, -4)])
_FAR = np.array([(0, -3 - 2 * min(k, 5)) for k in range(7)])
_REGIONS = np.array([turned for x, y in (_NEAR.T, _FAR.T) for turned in ((x, y), (x, -y), (y, x), (-y, x))])
"""(8, 2, 7) offsets x and y of neighbours whose hypotheses are tried: near and far, in all four directions."""
_CANDIDATES = 8

_REACH = np.float32(4)
"""Distance of a window's outer samples [px]."""
_MIN_VARIANCE = np.float32(0.2)
_MAX_SLANT_START, _MAX_SLANT = np.float32(3.0), np.float32(6.0)
_MAX_REPROJECTION = np.float32(3.0)
_NO_LIMIT = np.float32(1e9)

_f4, _i4, _i8, _u4, _u8 = np.float32, np.int32, np.int64, np.uint32, np.uint64
_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)


def pack_texels(gray: U8) -> U32:
    """Each pixel (H, W) with its right, lower and diagonal neighbours in one word (H*W,), as `bilinear` reads them."""
    edged = np.pad(gray, ((0, 1), (0, 1)), mode="edge").astype(np.uint32)
    packed = edged[:-1, :-1] | edged[:-1, 1:] << 8 | edged[1:, :-1] << 16 | edged[1:, 1:] << 24
    return np.asarray(packed.ravel(), np.uint32)


@_inline
def _random(pixel, stream, draw):
    """A uniform number in [0, 1) that depends on its arguments only: no state, any order of threads."""
    mask = _u8(0xFFFFFFFF)
    h = (_u8(pixel) * _u8(0x9E3779B1) ^ _u8(stream) * _u8(0x85EBCA77) ^ _u8(draw) * _u8(0xC2B2AE3D)) & mask
    h ^= h >> _u8(15)
    h = (h * _u8(0x2C1B3C6D)) & mask
    h ^= h >> _u8(12)
    h = (h * _u8(0x297A2D39)) & mask
    h ^= h >> _u8(15)
    return _f4(_i4(h >> _u8(8))) * _f4(1 / 16777216.0)


@_inline
def _faces_camera(x, y, w, gx, gy, camera, limit):
    """Whether the plane's normal is within acos(1 / limit) of the viewing ray. `camera` is fx, fy, cx, cy."""
    ray_x = (_f4(x) + _HALF - camera[2]) / camera[0]
    ray_y = (_f4(y) + _HALF - camera[3]) / camera[1]
    normal_x = camera[0] * gx
    normal_y = camera[1] * gy
    normal_z = w - normal_x * ray_x - normal_y * ray_y
    squared = (normal_x**2 + normal_y**2 + normal_z**2) * (ray_x**2 + ray_y**2 + _ONE)
    return squared < limit * limit * w * w


@_compile
def random_planes(height: int, width: int, camera: F32, nearest: F32, seed: int) -> F32:
    """Random hypotheses (4, H, W), with inverse depth uniform between the two values of `nearest`."""
    planes = np.zeros((PLANE_CHANNELS, height, width), np.float32)
    low, high = nearest[0], nearest[1]
    for y in range(height):
        for x in range(width):
            pixel = y * width + x
            w = low + (high - low) * _random(pixel, seed, 1)
            planes[0, y, x] = w
            for attempt in range(8):
                gx = w * (_random(pixel, seed, 2 + 2 * attempt) - _HALF) * _f4(4) / camera[0]
                gy = w * (_random(pixel, seed, 3 + 2 * attempt) - _HALF) * _f4(4) / camera[1]
                planes[1, y, x] = gx
                planes[2, y, x] = gy
                if _faces_camera(x, y, w, gx, gy, camera, _MAX_SLANT_START):
                    break
    return planes


def upsample_planes(coarse: F32, factor: int) -> F32:
    """Hypotheses (4, h, w) extrapolated to a grid so many times finer; their costs are not those of the finer image."""
    planes = coarse.repeat(factor, 1).repeat(factor, 2)
    planes[1:3] /= factor
    shift = np.arange(factor, dtype=np.float32) + _HALF - _f4(factor / 2)  # from the middle of a coarse pixel
    dx, dy = np.tile(shift, coarse.shape[2]), np.tile(shift, coarse.shape[1])[:, None]
    planes[0] += planes[1] * dx + planes[2] * dy
    return planes


@_inline
def _reference_patch(gray, x, y, window, patch):
    """Centre the window's grey values into `patch` (32,) and return their variance."""
    height, width = gray.shape
    total = _ZERO
    for k in range(_SAMPLES):
        column = min(max(x + _i8(window[0, k]), 0), width - 1)
        row = min(max(y + _i8(window[1, k]), 0), height - 1)
        value = _f4(gray[row, column])
        patch[k] = value
        total += value
    mean = total / _f4(_SAMPLES)
    squares = _ZERO
    for k in range(_SAMPLES):
        patch[k] -= mean
        squares += patch[k] * patch[k]
    return squares / _f4(_SAMPLES)


@_inline
def _correlate(texels, start, width, height, window, patch, u0, v0, u_x, u_y, v_x, v_y):
    """Variance of the warped window in the source, and its covariance with `patch`.

    The warp is affine inside the window, so that a sample needs no division.
    """
    u_max, v_max = _f4(width - 1) - _f4(0.01), _f4(height - 1) - _f4(0.01)
    total_value, squares, product = spread(_ZERO), spread(_ZERO), spread(_ZERO)
    for k in range(0, _SAMPLES, WIDTH):
        dx, dy = load(window, k), load(window, _SAMPLES + k)
        u = min(max(u0 + dx * u_x + dy * u_y, spread(_ZERO)), spread(u_max))
        v = min(max(v0 + dx * v_x + dy * v_y, spread(_ZERO)), spread(v_max))
        value = bilinear(texels, start, _i4(width), u, v)
        total_value = total_value + value
        squares = squares + value * value
        product = product + load(patch, k) * value
    mean = total(total_value) / _f4(_SAMPLES)
    return total(squares) / _f4(_SAMPLES) - mean * mean, total(product) / _f4(_SAMPLES)


@_inline
def _plane_cost(
    x, y, w, gx, gy, texels, sources, warps, back_warps, source_inverse_depth,
    geometric_weight, chosen, best_views, window, patch, variance, costs, ranked, limit,
):  # fmt: skip
    """Mean cost over the best of the chosen source views; every source's own cost goes into `costs`.

    Stops and returns `limit` as soon as the mean can't be less.
    """
    px, py = _f4(x) + _HALF, _f4(y) + _HALF
    count, total_count = 0, 0
    for s in range(len(sources)):
        total_count += (chosen >> s) & 1
    used = min(best_views, total_count)
    limit_sum = limit * _f4(used)
    for s in range(len(sources)):
        if (chosen >> s) & 1 == 0:
            continue
        start, width, height = sources[s, 0], sources[s, 1], sources[s, 2]
        z = warps[s, 6] * px + warps[s, 7] * py + warps[s, 8] + warps[s, 11] * w
        cost = COST_CAP
        if z > _f4(1e-4):
            inverse = _ONE / z
            u = (warps[s, 0] * px + warps[s, 1] * py + warps[s, 2] + warps[s, 9] * w) * inverse
            v = (warps[s, 3] * px + warps[s, 4] * py + warps[s, 5] + warps[s, 10] * w) * inverse
            if u > _f4(2) and v > _f4(2) and u < _f4(width - 2) and v < _f4(height - 2):
                z_x, z_y = warps[s, 6] + warps[s, 11] * gx, warps[s, 7] + warps[s, 11] * gy
                variance_warped, covariance = _correlate(
                    texels,
                    start,
                    width,
                    height,
                    window,
                    patch,
                    u - _HALF,
                    v - _HALF,
                    (warps[s, 0] + warps[s, 9] * gx - u * z_x) * inverse,
                    (warps[s, 1] + warps[s, 9] * gy - u * z_y) * inverse,
                    (warps[s, 3] + warps[s, 10] * gx - v * z_x) * inverse,
                    (warps[s, 4] + warps[s, 10] * gy - v * z_y) * inverse,
                )
                if variance_warped > _MIN_VARIANCE:
                    cost = min(_ONE - covariance / math.sqrt(variance_warped * variance), COST_CAP)
                if geometric_weight > _ZERO:
                    seen = source_inverse_depth[start + _i8(v) * width + _i8(u)]
                    error = _MAX_REPROJECTION
                    z_back = back_warps[s, 6] * u + back_warps[s, 7] * v + back_warps[s, 8] + back_warps[s, 11] * seen
                    if seen > _ZERO and z_back > _f4(1e-4):
                        du = (
                            back_warps[s, 0] * u + back_warps[s, 1] * v + back_warps[s, 2] + back_warps[s, 9] * seen
                        ) / z_back - px
                        dv = (
                            back_warps[s, 3] * u + back_warps[s, 4] * v + back_warps[s, 5] + back_warps[s, 10] * seen
                        ) / z_back - py
                        error = min(_MAX_REPROJECTION, math.sqrt(du * du + dv * dv))
                    cost += geometric_weight * error
        costs[s] = cost
        rank = count
        count += 1
        while rank > 0 and ranked[rank - 1] > cost:
            ranked[rank] = ranked[rank - 1]
            rank -= 1
        ranked[rank] = cost
        # Whatever the remaining views cost, this many of those ranked so far count.
        certain = _ZERO
        for k in range(used - (total_count - count)):
            certain += ranked[k]
        if certain >= limit_sum:
            return limit
    total = _ZERO
    for k in range(used):
        total += ranked[k]
    return total / _f4(used)


@_inline
def _cheapest(planes, offsets, x, y):
    """The cheapest pixel at `offsets` (2, 7) from (x, y); column -1 when all are outside."""
    height, width = planes.shape[1:]
    best = _f4(1e9)
    best_x, best_y = -1, -1
    for k in range(offsets.shape[1]):
        column, row = x + offsets[0, k], y + offsets[1, k]
        if column < 0 or row < 0 or column >= width or row >= height:
            continue
        if planes[3, row, column] < best:
            best = planes[3, row, column]
            best_x, best_y = column, row
    return best_x, best_y


@_inline
def _gather(planes, x, y, nearest, limit, candidates):
    """Extrapolate the neighbours' hypotheses to (x, y); the `limit` cheapest come first in `candidates` (8, 4)."""
    count = 0
    for region in _REGIONS:
        column, row = _cheapest(planes, region, x, y)
        if column < 0:
            continue
        w = planes[0, row, column]
        w += planes[1, row, column] * _f4(x - column) + planes[2, row, column] * _f4(y - row)
        if w > nearest[0] and w < nearest[1]:
            candidates[count, 0] = w
            candidates[count, 1] = planes[1, row, column]
            candidates[count, 2] = planes[2, row, column]
            candidates[count, 3] = planes[3, row, column]
            count += 1
    limit = min(limit, count)
    for k in range(limit):
        cheapest = k
        for other in range(k + 1, count):
            if candidates[other, 3] < candidates[cheapest, 3]:
                cheapest = other
        for channel in range(PLANE_CHANNELS):
            kept = candidates[cheapest, channel]
            candidates[cheapest, channel] = candidates[k, channel]
            candidates[k, channel] = kept
    return limit


@_inline
def _best_of(costs, chosen, count):
    """The cheapest `count` of the chosen sources, as bits."""
    kept = 0
    for _ in range(count):
        best = -1
        for s in range(len(costs)):
            if ((chosen & ~kept) >> s) & 1 == 1 and (best < 0 or costs[s] < costs[best]):
                best = s
        if best >= 0:
            kept |= 1 << best
    return kept


@_compile
def sweep_planes(
    planes: F32,
    chosen: U32,
    gray: U8,
    texels: U32,
    sources: I64,
    warps: F32,
    back_warps: F32,
    source_inverse_depth: F32,
    geometric_weight: np.float32,
    camera: F32,
    nearest: F32,
    same: np.float32,
    window: F32,
    amplitude: np.float32,
    sweeps: int,
    propagated: int,
    perturbed: int,
    kept_sources: int,
    best_views: int,
    stream: int,
) -> None:
    """Improve the hypotheses of one view in place: red-black propagation, then random refinement.

    Args:
        planes: (4, H, W), see the module; the costs are computed again first.
        chosen: (H, W) the sources that a pixel is compared with, as bits; the best of them replace them.
        gray: (H, W) the view's image.
        texels: Packed images of the source views, one after the other.
        sources: (S, 3) first texel, width and height of each source view; at most 32.
        warps: (S, 12) from this view to the source.
        back_warps: (S, 12) from the source to this view; read with a geometric weight only.
        source_inverse_depth: The sources' inverse depth, laid out as `texels`; read with a geometric weight only.
        geometric_weight: Cost per pixel of forward-backward error; 0 switches the geometric term off.
        camera: fx, fy, cx, cy [px].
        nearest: Lowest and highest inverse depth allowed.
        same: Hypotheses that differ by less inverse depth all over the window are one.
        window: (2, 32) offsets x and y of the samples that are compared [px].
        amplitude: Relative size of the first sweep's random changes; halves with every sweep.
        sweeps: Number of sweeps.
        propagated: Neighbours' hypotheses tried per pixel and sweep, at most 8.
        perturbed: Random hypotheses tried per pixel and sweep.
        kept_sources: Number of the chosen sources that are kept, by the first cost.
        best_views: The cost is the mean of this many best sources (the others may be occluded).
        stream: Number of the random stream.
    """
    height, width = gray.shape
    count = len(sources)
    patch = np.zeros(_SAMPLES, np.float32)
    costs = np.zeros(count, np.float32)
    ranked = np.zeros(count, np.float32)
    candidates = np.zeros((_CANDIDATES, PLANE_CHANNELS), np.float32)
    for y in range(height):
        for x in range(width):
            variance = _reference_patch(gray, x, y, window, patch)
            if variance < _MIN_VARIANCE:
                planes[3, y, x] = COST_CAP
                continue
            planes[3, y, x] = _plane_cost(
                x, y, planes[0, y, x], planes[1, y, x], planes[2, y, x], texels, sources, warps, back_warps,
                source_inverse_depth, geometric_weight, chosen[y, x], best_views, window, patch, variance, costs,
                ranked, _NO_LIMIT,
            )  # fmt: skip
            chosen[y, x] = _best_of(costs, chosen[y, x], kept_sources)
    for sweep in range(sweeps):
        for colour in range(2):
            for y in range(height):
                for x in range((y + colour) & 1, width, 2):
                    variance = _reference_patch(gray, x, y, window, patch)
                    if variance < _MIN_VARIANCE:
                        continue
                    w, gx, gy, cost = planes[0, y, x], planes[1, y, x], planes[2, y, x], planes[3, y, x]
                    taken = _gather(planes, x, y, nearest, propagated, candidates)
                    for k in range(taken + perturbed):
                        if k < taken:
                            new_w, new_gx, new_gy = candidates[k, 0], candidates[k, 1], candidates[k, 2]
                        else:
                            # In turn: depth alone, slope alone (a wide range), both, and depth anywhere.
                            kind = k - taken
                            pixel, draw = y * width + x, 10 + 3 * kind
                            depth_change = _random(pixel, stream + sweep, draw) * _f4(2) - _ONE
                            new_w, new_gx, new_gy = w, gx, gy
                            if kind == 3:
                                new_w = nearest[0] + (nearest[1] - nearest[0]) * (depth_change * _HALF + _HALF)
                            elif kind != 1:
                                new_w = w * (_ONE + amplitude * depth_change)
                            if kind == 1 or kind == 2:
                                reach = (_f4(24) if kind == 1 else _f4(6)) * amplitude * w
                                new_gx += reach / camera[0] * (_random(pixel, stream + sweep, draw + 1) * _f4(2) - _ONE)
                                new_gy += reach / camera[1] * (_random(pixel, stream + sweep, draw + 2) * _f4(2) - _ONE)
                            if not (new_w > nearest[0] and new_w < nearest[1]):
                                continue
                            if not _faces_camera(x, y, new_w, new_gx, new_gy, camera, _MAX_SLANT):
                                continue
                        slant = max(abs(new_gx - gx), abs(new_gy - gy)) * _REACH
                        if abs(new_w - w) < same and slant < same:
                            continue
                        new_cost = _plane_cost(
                            x, y, new_w, new_gx, new_gy, texels, sources, warps, back_warps, source_inverse_depth,
                            geometric_weight, chosen[y, x], best_views, window, patch, variance, costs, ranked, cost,
                        )  # fmt: skip
                        if new_cost < cost:
                            w, gx, gy, cost = new_w, new_gx, new_gy, new_cost
                    planes[0, y, x] = w
                    planes[1, y, x] = gx
                    planes[2, y, x] = gy
                    planes[3, y, x] = cost
        amplitude *= _HALF
