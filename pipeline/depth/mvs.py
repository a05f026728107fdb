"""Multi-view stereo on the CPU: one depth map a training view, from the pictures alone.

Pyramid of slanted-plane PatchMatch (patchmatch.py), a pass with a geometric term, then agreement between views
(consistency.py). Every random number is a hash of the pixel and every view is worked on by one thread, so the result
does not depend on the number of threads. Hypotheses of all views live in a file-backed buffer: the memory held is the
pictures', about 7 bytes a pixel and view.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.depth.consistency import average_agreeing
from pipeline.depth.fill import fill_flat_patches
from pipeline.depth.maps import DepthMap
from pipeline.depth.neighbours import Surroundings, surroundings
from pipeline.depth.normals import plane_normals
from pipeline.depth.parallel import map_in_order
from pipeline.depth.params import DepthParams
from pipeline.depth.patchmatch import (
    COST_CAP,
    NARROW_WINDOW,
    PLANE_CHANNELS,
    WIDE_WINDOW,
    pack_texels,
    random_planes,
    sweep_planes,
    upsample_planes,
)
from pipeline.depth.smoothing import fit_local_planes, window_step
from pipeline.errors import ReconstructionError
from pipeline.geometry import Camera, Pose
from pipeline.poses.scene import PosedScene, View, read_image
from pipeline.progress import bar

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Pass:
    """One round of PatchMatch.

    Attributes:
        level: Pyramid level; the picture is halved that often.
        sweeps: Propagation and refinement sweeps.
        amplitude: Relative size of the first random changes.
        propagated: Neighbours' hypotheses tried per pixel and sweep.
        perturbed: Random hypotheses tried per pixel and sweep.
        kept_sources: Source views looked at per pixel after the first cost.
        window: (2, 32) offsets of the samples that are compared.
        geometric_weight: Cost per pixel of disagreement with the source views' depth.
    """

    level: int
    sweeps: int
    amplitude: float
    propagated: int
    perturbed: int
    kept_sources: int
    window: NDArray[np.float32]
    geometric_weight: float = 0.0


PASSES = (
    Pass(level=2, sweeps=4, amplitude=0.2, propagated=8, perturbed=4, kept_sources=64, window=WIDE_WINDOW),
    Pass(level=1, sweeps=2, amplitude=0.04, propagated=5, perturbed=3, kept_sources=4, window=WIDE_WINDOW),
    Pass(level=0, sweeps=1, amplitude=0.01, propagated=3, perturbed=2, kept_sources=4, window=WIDE_WINDOW),
)
GEOMETRIC_PASS = Pass(
    0, 1, 0.005, propagated=3, perturbed=2, kept_sources=4, window=NARROW_WINDOW, geometric_weight=0.1
)
BEST_VIEWS = 3
EXTRA_NEIGHBOURS = 2
"""Neighbours looked at for agreement, beyond those that were matched."""
RIM, RIM_STEP = 2, 0.05
"""So many pixels are dropped where a surface ends before one that is farther by more than this share."""
TOLERANCE, LOOSE_TOLERANCE, LOOSE_SIGMA = np.float32(0.001), np.float32(0.003), np.float32(2)
"""Smoothing takes depths as one surface within twice their sigma, at least twice this share of the depth. Rough
surfaces (fur, leaves) only pass the loose one, and are less sure by the factor."""
MATCH_SIGMA, MATCH_SIGMA_PER_COST, WORST_COST = 0.025, 0.6, 0.15
"""One sigma of a smoothed match is the first plus the second times the cost, up to the third [px]. Fitted to rooms with
exact depth. It does not fall with the number of agreeing views: they share pictures, so errors are not independent."""
SPREAD_SHARE = np.float32(0.25)
"""How much of the agreeing depths' variance smoothing leaves."""


@dataclass(frozen=True, eq=False)
class _Level:
    """All views' pictures at one pyramid level; texels of view i begin at `starts[i]`."""

    cameras: list[Camera]
    gray: list[NDArray[np.uint8]]
    texels: NDArray[np.uint32]
    starts: NDArray[np.int64]

    def layout(self, views: NDArray[np.int64]) -> NDArray[np.int64]:
        """(S, 3) first texel, width and height of each view."""
        sizes = [(self.starts[i], self.cameras[i].width, self.cameras[i].height) for i in views]
        return np.array(sizes, np.int64).reshape(-1, 3)


@dataclass(frozen=True, eq=False)
class StereoDepth:
    """What stereo found for one view.

    Attributes:
        depth_map: The map, pixels that no other view confirms dropped.
        matched: Share of all pixels that had a match of any quality.
        kept: Share of all pixels that enough other views agree on.
        guessed: Share of all pixels that were filled in.
        disagreement: Median relative spread of the agreeing depths.
    """

    depth_map: DepthMap
    matched: float
    kept: float
    guessed: float
    disagreement: float


def estimate_depth(
    scene: PosedScene, poses_folder: Path, params: DepthParams, scratch: Path, threads: int | None = None
) -> Iterator[StereoDepth]:
    """Depth maps of the training views, in order.

    Args:
        scene: Undistorted pinhole views and the sparse points they share.
        poses_folder: Where the pictures are.
        params: See there.
        scratch: Folder for a temporary file of 32 bytes a pixel and view.
        threads: How many; None = all cores. The result does not depend on it.

    Raises:
        ReconstructionError: When the views don't share enough sparse points.
    """
    view_ids = [i for i, view in enumerate(scene.views) if not view.held_out]
    views = [scene.views[i] for i in view_ids]
    count = params.source_views + EXTRA_NEIGHBOURS
    around = surroundings([v.world_from_camera for v in views], scene.points, view_ids, count)
    matched = [i for i, found in enumerate(around) if found is not None]
    if len(matched) < 2:
        raise ReconstructionError(
            "multi-view stereo needs views that share sparse points",
            found=f"{len(matched)} of {len(views)} training views share enough of them with another one",
            remedy="take more pictures with more overlap, or a capture with depth",
        )
    stereo = _Stereo(views, around, _build_levels(views, poses_folder, params.image_size), params)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        shape = (PLANE_CHANNELS, stereo.pixels)
        first = np.memmap(Path(folder) / "first", np.float32, "w+", shape=shape)
        second = np.memmap(Path(folder) / "second", np.float32, "w+", shape=shape)
        with bar(2 * len(matched), "stereo") as shown:
            for _ in map_in_order(lambda i: stereo.match(i, first), matched, threads):
                shown.update(1)
            for _ in map_in_order(lambda i: stereo.refine(i, first, second), matched, threads):
                shown.update(1)
        yield from map_in_order(lambda i: stereo.finish(i, second), range(len(views)), threads)


class _Stereo:
    """The pictures of all views, and what is done to one view at a time."""

    def __init__(
        self, views: list[View], around: list[Surroundings | None], levels: list[_Level], params: DepthParams
    ) -> None:
        self._views, self._around, self._levels, self._params = views, around, levels, params

    @property
    def pixels(self) -> int:
        """Pixels of all views together."""
        return len(self._levels[0].texels)

    def match(self, index: int, planes: NDArray[np.float32]) -> None:
        """Match view `index` from coarse to fine and store its hypotheses into `planes` (4, all pixels)."""
        found = self._surroundings(index)
        hypotheses = None
        for number, stage in enumerate(PASSES):
            camera = self._levels[stage.level].cameras[index]
            if hypotheses is None:
                hypotheses = random_planes(camera.height, camera.width, _intrinsics(camera), found.inverse_depth, index)
            else:
                hypotheses = upsample_planes(hypotheses, camera.height, camera.width)
            self._sweep(index, stage, hypotheses, stream=16 * (number + 1))
        self._store(index, planes, hypotheses)

    def refine(self, index: int, planes: NDArray[np.float32], refined: NDArray[np.float32]) -> None:
        """One more sweep in which agreement with the source views' hypotheses counts as well."""
        hypotheses = self._fetch(index, planes)
        inverse_depth = np.asarray(planes[0])
        self._sweep(index, GEOMETRIC_PASS, hypotheses, stream=16 * (len(PASSES) + 1), inverse_depth=inverse_depth)
        self._store(index, refined, hypotheses)

    def finish(self, index: int, planes: NDArray[np.float32]) -> StereoDepth:
        """Keep what other views agree with and turn it into a depth map."""
        view, level = self._views[index], self._levels[0]
        camera = level.cameras[index]
        if self._around[index] is None:
            return StereoDepth(_empty_map(view, camera), 0.0, 0.0, 0.0, 0.0)
        hypotheses = self._fetch(index, planes)
        w, agreeing, variance, parallax = average_agreeing(
            hypotheses[0],
            np.asarray(planes[0]),
            *self._pairs(index, level, self._surroundings(index).neighbours),
        )
        relative_sigma = _relative_sigma(w, hypotheses[3], agreeing, variance, parallax)
        confirmed = np.where(agreeing >= self._params.min_agreeing, 1 / np.maximum(w, 1e-12), 0).astype(np.float32)
        w, slope_x, slope_y, relative_sigma = _smooth(_drop_rims(confirmed), relative_sigma, camera.fx)
        kept = w > 0
        guessed = np.zeros(kept.shape, bool)
        if self._params.fill:
            filling = fill_flat_patches(level.gray[index], w)
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
            matched=float((hypotheses[3] < COST_CAP).mean()),
            kept=float(kept.mean()),
            guessed=float(guessed.mean()),
            disagreement=float(np.median(np.sqrt(variance[kept]) * depth[kept])) if kept.any() else 0.0,
        )

    def _surroundings(self, index: int) -> Surroundings:
        found = self._around[index]
        if found is None:
            raise ValueError(f"view {self._views[index].name} shares no points with others and can't be matched")
        return found

    def _sweep(
        self,
        index: int,
        stage: Pass,
        hypotheses: NDArray[np.float32],
        stream: int,
        inverse_depth: NDArray[np.float32] | None = None,
    ) -> None:
        level = self._levels[stage.level]
        found = self._surroundings(index)
        sources, warps, back_warps = self._pairs(index, level, found.neighbours[: self._params.source_views])
        sweep_planes(
            hypotheses,
            level.gray[index],
            level.texels,
            sources,
            warps,
            back_warps,
            np.zeros(1, np.float32) if inverse_depth is None else inverse_depth,
            np.float32(stage.geometric_weight),
            _intrinsics(level.cameras[index]),
            found.inverse_depth,
            stage.window,
            np.float32(stage.amplitude),
            stage.sweeps,
            stage.propagated,
            stage.perturbed,
            stage.kept_sources,
            BEST_VIEWS,
            stream,
        )

    def _pairs(
        self, index: int, level: _Level, others: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
        """Layout of the other views and the warps there and back."""
        own = level.cameras[index], self._views[index].world_from_camera
        theirs = [(level.cameras[j], self._views[j].world_from_camera) for j in others]
        there = np.array([pair_warp(*own, *other) for other in theirs], np.float32).reshape(-1, 12)
        back = np.array([pair_warp(*other, *own) for other in theirs], np.float32).reshape(-1, 12)
        return level.layout(others), there, back

    def _span(self, index: int) -> slice:
        camera, start = self._levels[0].cameras[index], int(self._levels[0].starts[index])
        return slice(start, start + camera.width * camera.height)

    def _store(self, index: int, planes: NDArray[np.float32], hypotheses: NDArray[np.float32] | None) -> None:
        if hypotheses is not None:
            planes[:, self._span(index)] = hypotheses.reshape(PLANE_CHANNELS, -1)

    def _fetch(self, index: int, planes: NDArray[np.float32]) -> NDArray[np.float32]:
        camera = self._levels[0].cameras[index]
        return np.array(planes[:, self._span(index)], np.float32).reshape(PLANE_CHANNELS, camera.height, camera.width)


def _build_levels(views: list[View], poses_folder: Path, image_size: int) -> list[_Level]:
    """Read the pictures and halve them; sides are multiples of 4, so that all levels halve exactly."""
    cameras, gray = [], []
    for view in views:
        scale = min(1.0, image_size / max(view.camera.width, view.camera.height))
        width, height = (max(4, 4 * round(side * scale / 4)) for side in (view.camera.width, view.camera.height))
        cameras.append(view.camera.resized(width, height))
        gray.append(cv2.cvtColor(read_image(poses_folder, view, (width, height)), cv2.COLOR_RGB2GRAY))
    levels = []
    for level in range(1 + max(stage.level for stage in PASSES)):
        if level:
            cameras = [c.resized(c.width // 2, c.height // 2) for c in cameras]
            gray = [cv2.resize(g, (g.shape[1] // 2, g.shape[0] // 2), interpolation=cv2.INTER_AREA) for g in gray]
        gray = [np.ascontiguousarray(g, np.uint8) for g in gray]
        starts = np.cumsum([0, *(g.size for g in gray[:-1])])
        levels.append(_Level(cameras, gray, np.concatenate([pack_texels(g) for g in gray]), starts))
    return levels


def pair_warp(camera: Camera, pose: Pose, other_camera: Camera, other_pose: Pose) -> NDArray[np.float64]:
    """The 12 numbers (A row by row, then b) that take pixels of `camera` to those of `other_camera`."""
    other_from_own = other_pose.inverse() @ pose
    homography = other_camera.matrix @ other_from_own.rotation @ np.linalg.inv(camera.matrix)
    return np.concatenate([homography.ravel(), other_camera.matrix @ other_from_own.translation])


def _intrinsics(camera: Camera) -> NDArray[np.float32]:
    return np.array([camera.fx, camera.fy, camera.cx, camera.cy], np.float32)


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


def _drop_rims(depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """The depth without the outermost pixels of what is near: the matching window makes it wider than it is."""
    farthest_around = cv2.dilate(depth, np.ones((2 * RIM + 1, 2 * RIM + 1), np.uint8))
    return np.where(farthest_around > (1 + RIM_STEP) * depth, 0, depth).astype(np.float32)


def _empty_map(view: View, camera: Camera) -> DepthMap:
    shape = (camera.height, camera.width)
    zeros = np.zeros(shape, np.float32)
    normals = np.zeros((*shape, 3), np.float32)
    return DepthMap(view.name, False, camera, view.world_from_camera, zeros, zeros, normals, np.zeros(shape, bool))
