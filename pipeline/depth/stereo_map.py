# ruff: noqa: ANN001, ANN202 - numba infers the types of compiled functions
"""A depth map from the hypotheses of one view and its neighbours: agreement, smoothing, sigma, filling."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.depth.local_planes import depth_of, fit_local_planes, map_from_planes, window_step
from pipeline.depth.maps import DepthMap
from pipeline.depth.params import DepthParams
from pipeline.depth.patchmatch import COST_CAP
from pipeline.geometry import Camera
from pipeline.geometry.jit import njit
from pipeline.poses.scene import View
from pipeline.types import F32, I64, U8, Mask

SURE_SIGMA = np.float32(0.002)
"""A match with a smaller sigma [share of the depth] needs only one other view that agrees."""
TOLERANCE, LOOSE_TOLERANCE, LOOSE_SIGMA = np.float32(0.0005), np.float32(0.003), np.float32(2)
"""Depths within twice their sigma, at least twice this share of the depth, are smoothed as one surface. Rough surfaces
(fur, leaves) only fit the loose tolerance, and their sigma is larger by the factor."""
MATCH_SIGMA, MATCH_SIGMA_PER_COST, WORST_COST = 0.045, 0.3, 0.15
"""One sigma of a smoothed match is the first plus the second times the cost, up to the third [px]. It does not fall
with the number of agreeing views: they share images, so errors are not independent."""
SPREAD_SHARE = np.float32(1.2)
"""Factor of the agreeing depths' variance over their number, for the same reason. All were fitted to rooms with exact
depth."""


@dataclass(frozen=True, eq=False)
class StereoDepth:
    """One view's depth by stereo, without pixels that no other view confirms.

    Attributes:
        matched: Share of all pixels that had a match of any quality.
        kept: Share of all pixels that enough other views agree on.
        guessed: Share of all pixels that were filled in.
        disagreement: Median relative spread of the agreeing depths.
        consistency: Median over its neighbours of the share of textured pixels whose first estimate the neighbour
            confirms; None where too few pixels could be compared.
        suspicious: Whether that is so much less than in other views that its pose must be wrong; other views' maps
            then don't depend on it.
    """

    depth_map: DepthMap
    matched: float = 0.0
    kept: float = 0.0
    guessed: float = 0.0
    disagreement: float = 0.0
    consistency: float | None = None
    suspicious: bool = False


Neighbours = tuple[F32, I64, F32, F32]
"""The views that one view is compared with; see `average_agreeing` for their inverse depth, layout and warps."""


def finish_map(
    view: View, camera: Camera, gray: U8, inverse_depth: F32, cost: F32, others: Neighbours, params: DepthParams
) -> StereoDepth:
    """The depth map of the pixels that `others` agree with, by the result of matching (H, W) and its cost (H, W).

    `camera` is that of the matched image `gray` (H, W).
    """
    w, agreeing, variance, parallax = average_agreeing(inverse_depth, *others)
    match_sigma = MATCH_SIGMA + MATCH_SIGMA_PER_COST * np.minimum(cost, WORST_COST)
    mean_square_parallax = np.maximum(parallax / np.maximum(agreeing, 1), 1e-12)
    squared = match_sigma**2 / mean_square_parallax + SPREAD_SHARE * variance / (agreeing + np.float32(1))
    relative_sigma = (np.sqrt(squared) / np.maximum(w, 1e-12)).astype(np.float32)
    confirmed = (agreeing >= params.min_agreeing) | ((agreeing >= 1) & (relative_sigma < SURE_SIGMA))
    confirmed_depth = np.where(confirmed, 1 / np.maximum(w, 1e-12), 0).astype(np.float32)
    w, slope_x, slope_y, relative_sigma = _smooth(confirmed_depth, relative_sigma, camera.fx)
    w = drop_rims(w, slope_x, slope_y)
    kept = w > 0
    guessed = np.zeros(kept.shape, bool)
    if params.fill:
        guessed = fill_flat_patches(gray, w, slope_x, slope_y, relative_sigma)
    depth = depth_of(w)
    return StereoDepth(
        depth_map=map_from_planes(view, camera, (w, slope_x, slope_y), relative_sigma * depth, guessed),
        matched=float((cost < COST_CAP).mean()),
        kept=float(kept.mean()),
        guessed=float(guessed.mean()),
        disagreement=float(np.median(np.sqrt(variance[kept]) * depth[kept])) if kept.any() else 0.0,
    )


def empty_map(view: View, camera: Camera) -> StereoDepth:
    """The map of a view that can't be matched."""
    zeros = np.zeros((camera.height, camera.width), np.float32)
    return StereoDepth(map_from_planes(view, camera, (zeros, zeros, zeros), zeros))


def _smooth(depth: F32, relative_sigma: F32, focal: float) -> tuple[F32, F32, F32, F32]:
    """Inverse depth, its slopes and its relative sigma by a strict plane fit, or a loose one where that fails."""
    tolerance = np.maximum(relative_sigma, TOLERANCE) * depth
    step = window_step(focal)
    strict = fit_local_planes(depth, tolerance, focal, step)
    use = strict[0] > 0
    loose_tolerance = np.where(use, 0, np.maximum(relative_sigma, LOOSE_TOLERANCE) * depth).astype(np.float32)
    loose = fit_local_planes(depth, loose_tolerance, focal, max(1, step // 2))
    w, slope_x, slope_y = (np.where(use, s, o) for s, o in zip(strict, loose, strict=True))
    return w, slope_x, slope_y, np.where(use, relative_sigma, LOOSE_SIGMA * relative_sigma)


_compile = njit(fastmath=True, nogil=True, error_model="numpy", cache=True)
_f4, _i8 = np.float32, np.int64
_HALF = np.float32(0.5)

MAX_REPROJECTION, MAX_RELATIVE = np.float32(1.0), np.float32(0.01)
"""Largest forward-backward error [px] and relative difference of the inverse depths of two views that agree."""
_SMOOTH = np.float32(1.03)
RIM, RIM_STEP = 3, np.float32(0.015)
"""Width of the rim [px] that is dropped in front of surfaces behind a pixel's plane by more than this share."""
_UNSEEN, _DIFFERENT, _AGREES = 0, 1, 2


@_compile
def _sample(inverse_depth, start, width, u, v):
    """Inverse depth at (u, v): bilinear on one surface, else that of the pixel; 0 where unknown."""
    column, row = _i8(u - _HALF), _i8(v - _HALF)
    right, below = u - _HALF - _f4(column), v - _HALF - _f4(row)
    corner = start + row * width + column
    a, b = inverse_depth[corner], inverse_depth[corner + 1]
    c, d = inverse_depth[corner + width], inverse_depth[corner + width + 1]
    lowest, highest = min(min(a, b), min(c, d)), max(max(a, b), max(c, d))
    if lowest > 0 and highest < lowest * _SMOOTH:
        return (a + right * (b - a)) * (1 - below) + (c + right * (d - c)) * below
    return inverse_depth[start + _i8(v) * width + _i8(u)]


@_compile
def _compare(px, py, w, inverse_depth, sources, warps, back_warps, s):
    """Comparison of one pixel with a neighbour: verdict, difference of the inverse depths, squared parallax."""
    start, width, height = sources[s, 0], sources[s, 1], sources[s, 2]
    z = warps[s, 6] * px + warps[s, 7] * py + warps[s, 8] + warps[s, 11] * w
    if z < _f4(1e-4):
        return _UNSEEN, _f4(0), _f4(0)
    u = (warps[s, 0] * px + warps[s, 1] * py + warps[s, 2] + warps[s, 9] * w) / z
    v = (warps[s, 3] * px + warps[s, 4] * py + warps[s, 5] + warps[s, 10] * w) / z
    if u < 1 or v < 1 or u >= _f4(width - 1) or v >= _f4(height - 1):
        return _UNSEEN, _f4(0), _f4(0)
    seen = _sample(inverse_depth, start, width, u, v)
    z_back = back_warps[s, 6] * u + back_warps[s, 7] * v + back_warps[s, 8] + back_warps[s, 11] * seen
    if not seen > 0 or z_back < _f4(1e-4):
        return _UNSEEN, _f4(0), _f4(0)
    du = (back_warps[s, 0] * u + back_warps[s, 1] * v + back_warps[s, 2] + back_warps[s, 9] * seen) / z_back - px
    dv = (back_warps[s, 3] * u + back_warps[s, 4] * v + back_warps[s, 5] + back_warps[s, 10] * seen) / z_back - py
    difference = seen / z_back - w
    if du * du + dv * dv < MAX_REPROJECTION**2 and abs(difference) < MAX_RELATIVE * w:
        along_u, along_v = (warps[s, 9] - u * warps[s, 11]) / z, (warps[s, 10] - v * warps[s, 11]) / z
        return _AGREES, difference, along_u * along_u + along_v * along_v
    return _DIFFERENT, difference, _f4(0)


@_compile
def count_agreement(own: F32, step: int, inverse_depth: F32, sources: I64, warps: F32, back_warps: F32) -> I64:
    """(S, 2): number of pixels, of every `step`-th one, that each neighbour shows, and that it agrees with.

    The other arguments are those of `average_agreeing`.
    """
    height, width = own.shape
    counts = np.zeros((len(sources), 2), np.int64)
    for y in range(step // 2, height, step):
        for x in range(step // 2, width, step):
            w = own[y, x]
            if not w > 0:
                continue
            for s in range(len(sources)):
                verdict, _, _ = _compare(
                    _f4(x) + _HALF, _f4(y) + _HALF, w, inverse_depth, sources, warps, back_warps, s
                )
                if verdict != _UNSEEN:
                    counts[s, 0] += 1
                if verdict == _AGREES:
                    counts[s, 1] += 1
    return counts


@_compile
def average_agreeing(
    own: F32, inverse_depth: F32, sources: I64, warps: F32, back_warps: F32
) -> tuple[F32, U8, F32, F32]:
    """Compare one view's inverse depth with its neighbours' and average those that agree.

    Source: J. Schoenberger et al., Pixelwise View Selection for Unstructured Multi-View Stereo, ECCV 2016, section 4.

    Args:
        own: (H, W) the view's inverse depth, 0 = unknown.
        inverse_depth: The neighbours', flat.
        sources: (S, 3) start in `inverse_depth`, width and height of each neighbour.
        warps: (S, 12) to the neighbour, see patchmatch.
        back_warps: (S, 12) from it.

    Returns:
        Averaged inverse depth (H, W); number of agreeing neighbours (H, W); variance of the agreeing inverse depths
        (H, W); their sum of squared parallaxes (H, W), in pixels per unit of inverse depth.
    """
    height, width = own.shape
    averaged = np.zeros((height, width), np.float32)
    agreeing = np.zeros((height, width), np.uint8)
    variance = np.zeros((height, width), np.float32)
    parallax = np.zeros((height, width), np.float32)
    for y in range(height):
        for x in range(width):
            w = own[y, x]
            if not w > 0:
                continue
            px, py = _f4(x) + _HALF, _f4(y) + _HALF
            count = 0
            change, squares, information = _f4(0), _f4(0), _f4(0)
            for s in range(len(sources)):
                verdict, difference, squared_parallax = _compare(
                    px, py, w, inverse_depth, sources, warps, back_warps, s
                )
                if verdict == _AGREES:
                    count += 1
                    change += difference
                    squares += difference * difference
                    information += squared_parallax
            mean = change / _f4(count + 1)
            averaged[y, x] = w + mean
            agreeing[y, x] = count
            variance[y, x] = max(squares / _f4(count + 1) - mean * mean, _f4(0))
            parallax[y, x] = information
    return averaged, agreeing, variance, parallax


@_compile
def drop_rims(inverse_depth: F32, slope_x: F32, slope_y: F32) -> F32:
    """The inverse depth (H, W) without the outermost pixels of foreground surfaces, which matching windows widen.

    Its slopes (H, W) per pixel distinguish slanted surfaces from those behind them.
    """
    height, width = inverse_depth.shape
    clean = inverse_depth.copy()
    for y in range(height):
        for x in range(width):
            w = inverse_depth[y, x]
            if not w > 0:
                continue
            reach = min(min(x, y), min(width - 1 - x, height - 1 - y))
            for step in range(1, min(RIM, reach) + 1):
                for j in range(-1, 2):
                    for i in range(-1, 2):
                        other = inverse_depth[y + j * step, x + i * step]
                        expected = w + slope_x[y, x] * _f4(i * step) + slope_y[y, x] * _f4(j * step)
                        if other > 0 and other < expected * (1 - RIM_STEP):
                            clean[y, x] = 0
    return clean


FLAT_CONTRAST = 10
"""Largest contrast of grey values in the window around a flat pixel, which can't be matched."""
WINDOW = 7
MIN_AREA, MIN_KNOWN = 200, 64
"""Least size of a patch that is filled, and least number of its known pixels [px]."""
INLIER, MIN_INLIERS = 0.01, 0.7
"""Largest relative residual of an inlier, and least share of inliers of a planar patch."""
MAX_REACH = 3.0
"""Largest extrapolation of the plane beyond the known pixels, in their standard deviations."""
GUESS_SIGMA = 0.005
"""Relative one sigma of a guess among known pixels; grows with the square of the extrapolation."""
_ROUNDS = 6


def flat_pixels(gray: U8) -> Mask:
    """Which pixels (H, W) have no contrast in the window around them."""
    window = np.ones((WINDOW, WINDOW), np.uint8)
    return (cv2.dilate(gray, window).astype(np.int16) - cv2.erode(gray, window)) <= FLAT_CONTRAST


def fill_flat_patches(gray: U8, inverse_depth: F32, slope_x: F32, slope_y: F32, relative_sigma: F32) -> Mask:
    """Guess the unknown pixels of flat patches in an image (H, W) whose known inverse depth (H, W) is on one plane.

    A patch is a connected set of pixels without contrast, widened by half a window. Its plane (inverse depth linear in
    the pixel) is a least-squares fit with Cauchy weights to the known pixels. The inverse depth, its slopes per pixel
    and its relative one sigma, all (H, W), are filled in place.

    Returns:
        Which pixels (H, W) were guessed.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats(flat_pixels(gray).astype(np.uint8), connectivity=4)
    patches = cv2.dilate(labels.astype(np.float32), np.ones((WINDOW, WINDOW), np.uint8)).astype(np.int32)
    guessed = np.zeros(gray.shape, bool)
    margin = WINDOW // 2
    for patch in range(1, count):
        left, top, width, height, area = stats[patch]
        if area < MIN_AREA:
            continue
        rows = slice(max(top - margin, 0), top + height + margin)
        columns = slice(max(left - margin, 0), left + width + margin)
        inside = patches[rows, columns] == patch
        known = inside & (inverse_depth[rows, columns] > 0)
        unknown = inside & ~known
        if known.sum() < MIN_KNOWN or not unknown.any():
            continue
        y, x = np.nonzero(known)
        positions = np.stack([x, y], 1).astype(np.float64)
        middle = positions.mean(0)
        spread = np.cov((positions - middle).T) + np.eye(2)
        design = np.column_stack([np.ones(len(x)), positions - middle])
        target = inverse_depth[rows, columns][known].astype(np.float64)
        typical = np.median(target)
        plane = np.array([typical, 0.0, 0.0])
        for _ in range(_ROUNDS):
            residual = (target - design @ plane) / (INLIER * typical)
            weight = 1 / (1 + residual**2)
            plane = np.linalg.solve((design * weight[:, None]).T @ design, (design * weight[:, None]).T @ target)
        inliers = np.abs(target - design @ plane) < INLIER * np.abs(design @ plane)
        if inliers.mean() < MIN_INLIERS:
            continue
        y, x = np.nonzero(unknown)
        offsets = np.stack([x, y], 1) - middle
        reach = np.einsum("ni,ij,nj->n", offsets, np.linalg.inv(spread), offsets)
        guess = plane[0] + offsets @ plane[1:]
        plausible = (reach < MAX_REACH**2) & (guess > 0.5 * target.min()) & (guess < 2 * target.max())
        y, x = y[plausible] + rows.start, x[plausible] + columns.start
        guessed[y, x] = True
        inverse_depth[y, x] = guess[plausible]
        slope_x[y, x], slope_y[y, x] = plane[1], plane[2]
        relative_sigma[y, x] = GUESS_SIGMA * (1 + reach[plausible])
    return guessed
