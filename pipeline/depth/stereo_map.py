"""From the hypotheses of one view and its neighbours' to a depth map: agreement, smoothing, sigma, filling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.depth.consistency import average_agreeing, drop_rims
from pipeline.depth.fill import fill_flat_patches
from pipeline.depth.maps import DepthMap
from pipeline.depth.normals import plane_normals
from pipeline.depth.params import DepthParams
from pipeline.depth.patchmatch import COST_CAP
from pipeline.depth.smoothing import fit_local_planes, window_step
from pipeline.geometry import Camera
from pipeline.poses.scene import View

SURE_SIGMA = np.float32(0.002)
"""A match that is surer than this share of its depth needs one other view only that found it."""
TOLERANCE, LOOSE_TOLERANCE, LOOSE_SIGMA = np.float32(0.0005), np.float32(0.003), np.float32(2)
"""Smoothing takes depths as one surface within twice their sigma, at least twice this share of the depth. Rough
surfaces (fur, leaves) only pass the loose one, and are less sure by the factor."""
MATCH_SIGMA, MATCH_SIGMA_PER_COST, WORST_COST = 0.045, 0.3, 0.15
"""One sigma of a smoothed match is the first plus the second times the cost, up to the third [px]. It does not fall
with the number of agreeing views: they share pictures, so errors are not independent."""
SPREAD_SHARE = np.float32(1.2)
"""The agreeing depths' variance over their number counts so many times, for the same reason. All fitted to rooms with
exact depth."""


@dataclass(frozen=True, eq=False)
class StereoDepth:
    """What stereo found for one view.

    Attributes:
        depth_map: The map, pixels that no other view confirms dropped.
        matched: Share of all pixels that had a match of any quality.
        kept: Share of all pixels that enough other views agree on.
        guessed: Share of all pixels that were filled in.
        disagreement: Median relative spread of the agreeing depths.
        consistency: Median over its neighbours of the share of textured pixels whose first estimate the neighbour
            found too; None where too few pixels could be compared.
        suspicious: Whether that is so much less than in other views that its pose must be wrong: it then has no say
            in other views' maps.
    """

    depth_map: DepthMap
    matched: float = 0.0
    kept: float = 0.0
    guessed: float = 0.0
    disagreement: float = 0.0
    consistency: float | None = None
    suspicious: bool = False


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """The other views that one view is compared with.

    Attributes:
        inverse_depth: Theirs, flat, one after the other.
        layout: (S, 3) first element in `inverse_depth`, width and height.
        warps: (S, 12) to them, see patchmatch.
        back_warps: (S, 12) from them.
    """

    inverse_depth: NDArray[np.float32]
    layout: NDArray[np.int64]
    warps: NDArray[np.float32]
    back_warps: NDArray[np.float32]


def finish_map(
    view: View,
    camera: Camera,
    gray: NDArray[np.uint8],
    inverse_depth: NDArray[np.float32],
    cost: NDArray[np.float32],
    others: Neighbourhood,
    params: DepthParams,
) -> StereoDepth:
    """Keep what other views agree with and turn it into a depth map.

    Args:
        view: Whose map it is.
        camera: Of the pictures that were matched.
        gray: (H, W) such a picture.
        inverse_depth: (H, W) what matching found.
        cost: (H, W) its matching cost.
        others: What it must agree with.
        params: See there.
    """
    w, agreeing, variance, parallax = average_agreeing(
        inverse_depth, others.inverse_depth, others.layout, others.warps, others.back_warps
    )
    relative_sigma = _relative_sigma(w, cost, agreeing, variance, parallax)
    confirmed = (agreeing >= params.min_agreeing) | ((agreeing >= 1) & (relative_sigma < SURE_SIGMA))
    confirmed_depth = np.where(confirmed, 1 / np.maximum(w, 1e-12), 0).astype(np.float32)
    w, slope_x, slope_y, relative_sigma = _smooth(confirmed_depth, relative_sigma, camera.fx)
    w = drop_rims(w, slope_x, slope_y)
    kept = w > 0
    guessed = np.zeros(kept.shape, bool)
    if params.fill:
        filling = fill_flat_patches(gray, w)
        guessed = filling.mask
        w = np.where(guessed, filling.inverse_depth, w)
        relative_sigma = np.where(guessed, filling.relative_sigma, relative_sigma)
        slope_x = np.where(guessed, filling.slope_x, slope_x)
        slope_y = np.where(guessed, filling.slope_y, slope_y)
    known = w > 0
    depth = np.where(known, 1 / np.maximum(w, 1e-12), 0).astype(np.float32)
    depth_map = DepthMap(
        name=view.name,
        held_out=False,
        camera=camera,
        world_from_camera=view.world_from_camera,
        depth=depth,
        sigma=np.where(known, relative_sigma * depth, 0).astype(np.float32),
        normals=np.where(known[..., None], plane_normals(camera, w, slope_x, slope_y), 0).astype(np.float32),
        guessed=guessed,
    )
    return StereoDepth(
        depth_map=depth_map,
        matched=float((cost < COST_CAP).mean()),
        kept=float(kept.mean()),
        guessed=float(guessed.mean()),
        disagreement=float(np.median(np.sqrt(variance[kept]) * depth[kept])) if kept.any() else 0.0,
    )


def empty_map(view: View, camera: Camera) -> StereoDepth:
    """The map of a view that can't be matched."""
    shape = (camera.height, camera.width)
    zeros = np.zeros(shape, np.float32)
    normals = np.zeros((*shape, 3), np.float32)
    nothing = DepthMap(view.name, False, camera, view.world_from_camera, zeros, zeros, normals, np.zeros(shape, bool))
    return StereoDepth(nothing)


def _relative_sigma(
    w: NDArray[np.float32],
    cost: NDArray[np.float32],
    agreeing: NDArray[np.uint8],
    variance: NDArray[np.float32],
    parallax: NDArray[np.float32],
) -> NDArray[np.float32]:
    """One sigma (H, W) as a share of the depth, after smoothing, from what `average_agreeing` gives."""
    match_sigma = MATCH_SIGMA + MATCH_SIGMA_PER_COST * np.minimum(cost, WORST_COST)
    mean_square_parallax = np.maximum(parallax / np.maximum(agreeing, 1), 1e-12)
    squared = match_sigma**2 / mean_square_parallax + SPREAD_SHARE * variance / (agreeing + np.float32(1))
    return (np.sqrt(squared) / np.maximum(w, 1e-12)).astype(np.float32)


def _smooth(
    depth: NDArray[np.float32], relative_sigma: NDArray[np.float32], focal: float
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Inverse depth, its slopes and its relative sigma after a strict plane fit; a loose one where that finds none."""
    tolerance = np.maximum(relative_sigma, TOLERANCE) * depth
    loose_tolerance = np.maximum(relative_sigma, LOOSE_TOLERANCE) * depth
    step = window_step(focal)
    strict = fit_local_planes(depth, tolerance, focal, step)
    loose = fit_local_planes(depth, loose_tolerance, focal, max(1, step // 2))
    use = strict[0] > 0
    w, slope_x, slope_y = (np.where(use, s, o) for s, o in zip(strict, loose, strict=True))
    return w, slope_x, slope_y, np.where(use, relative_sigma, LOOSE_SIGMA * relative_sigma)
