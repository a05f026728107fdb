"""The steps of stereo for one view: match it from coarse to fine, compare it with its neighbours, refine, finish.

What a step makes is on disk until the next takes it up.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np

from pipeline.depth.consistency import intrinsics
from pipeline.depth.params import DepthParams
from pipeline.depth.patchmatch import (
    NARROW_WINDOW,
    WIDE_WINDOW,
    pack_texels,
    random_planes,
    sweep_planes,
    upsample_planes,
)
from pipeline.depth.stereo_map import Neighbours, StereoDepth, count_agreement, empty_map, finish_map, flat_pixels
from pipeline.depth.view_selection import MatchingViews
from pipeline.geometry import Camera, Pose
from pipeline.parallel import map_in_order
from pipeline.poses.scene import View, read_image
from pipeline.previews import Arrays, Cameras, Publisher
from pipeline.types import F32, F64, I64, U8, U32

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Pass:
    """One round of PatchMatch on images halved `level` times; see `patchmatch.sweep_planes` for the others."""

    level: int
    sweeps: int
    amplitude: float
    propagated: int
    perturbed: int
    kept_sources: int
    window: F32
    geometric_weight: float = 0.0


PASSES = (
    Pass(level=2, sweeps=2, amplitude=0.2, propagated=8, perturbed=4, kept_sources=64, window=WIDE_WINDOW),
    Pass(level=2, sweeps=2, amplitude=0.05, propagated=8, perturbed=4, kept_sources=7, window=WIDE_WINDOW),
    Pass(level=1, sweeps=2, amplitude=0.04, propagated=5, perturbed=3, kept_sources=5, window=WIDE_WINDOW),
    Pass(level=0, sweeps=1, amplitude=0.01, propagated=3, perturbed=1, kept_sources=4, window=NARROW_WINDOW),
)
PASSES_FROM_START = (
    Pass(level=1, sweeps=1, amplitude=0.02, propagated=5, perturbed=3, kept_sources=5, window=WIDE_WINDOW),
    PASSES[-1],
)
"""Passes where the sensor's depth is nearly right already: on the sample hall as good, for two thirds of the time."""
GEOMETRIC_PASS = Pass(
    0, 1, 0.002, propagated=3, perturbed=1, kept_sources=4, window=NARROW_WINDOW, geometric_weight=0.1
)
SAME_PIXEL = 0.03
"""Hypotheses that differ by less in every source image [px] are one: on a wall, neighbours have the same plane."""
BEST_VIEWS = 3
MAX_NEIGHBOURS, EXTRA_NEIGHBOURS = 64, 4
"""Number of ranked neighbours; number that must agree in addition to those that were matched."""
AGREEMENT_STEP, MIN_COMPARED = 6, 50
"""Consistency of a view is measured on every AGREEMENT_STEP-th pixel, with neighbours that share enough of them."""
SUSPICIOUS_SHARE, USUAL_CONSISTENCY = 0.3, 0.2
"""A view's pose is wrong if its consistency is less than this share of its neighbours', and theirs at least this."""
PREVIEW_STEP = 4
"""Step between the pixels of a preview; the sides of all images are multiples of it."""
MATCHED, SLOPES, CHOSEN, REFINED, IMAGE = "matched", "slopes", "chosen", "refined", "image"


@dataclass(eq=False)
class Stereo:
    """The steps for one view; views are indices into the training views."""

    views: list[View]
    cameras: list[Camera]
    around: dict[int, MatchingViews]
    poses_folder: Path
    params: DepthParams
    store: StereoStore
    start: Callable[[View, Camera], F32] | None
    previews: Publisher | None = None
    partners: list[int] = field(default_factory=list)
    consistency: dict[int, float] = field(default_factory=dict)
    suspicious: set[int] = field(default_factory=set)

    def sources(self, index: int) -> I64:
        """The views with which view `index` is matched."""
        return self.around[index].neighbours[: self.params.source_views]

    def prepare(self, index: int) -> None:
        """Store a view's grey image at working size."""
        camera = self.cameras[index]
        image = read_image(self.poses_folder, self.views[index], (camera.width, camera.height))
        self.store.keep(IMAGE, index, cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))

    def match(self, index: int) -> None:
        """Match a view from coarse to fine."""
        sources = self.sources(index)
        images = [self.store.load(IMAGE, i) for i in (index, *sources)]
        pyramid = [images]  # by level
        passes = PASSES_FROM_START if self.start else PASSES
        for _ in range(passes[0].level):
            images = [cv2.resize(i, (i.shape[1] // 2, i.shape[0] // 2), interpolation=cv2.INTER_AREA) for i in images]
            pyramid.append(images)
        camera = _at_level(self.cameras[index], passes[0].level)
        depth_range = self.around[index].inverse_depth
        planes = random_planes(camera.height, camera.width, intrinsics(camera), depth_range, index)
        if self.start:
            known = self.start(self.views[index], camera)
            planes[:3] = np.where(known[0] > 0, known, planes[:3])
        chosen = _all_of(sources, camera)
        for number, stage in enumerate(passes):
            if number:
                factor = 1 << (passes[number - 1].level - stage.level)
                planes = upsample_planes(planes, factor)
                chosen = chosen.repeat(factor, 0).repeat(factor, 1)
            self._sweep(index, sources, stage, planes, chosen, pyramid[stage.level], stream=16 * (number + 1))
        self.store.keep(CHOSEN, index, chosen)
        self.store.keep(SLOPES, index, planes[1:3])
        self.store.keep(MATCHED, index, planes[0])
        if self.previews is not None:
            self.previews.publish(f"depth-{index:05d}", self._preview(index, planes[0]))

    def _preview(self, index: int, inverse_depth: F32) -> Arrays:
        """Some pixels of a view's depth, before other views have confirmed it."""
        some = inverse_depth[PREVIEW_STEP // 2 :: PREVIEW_STEP, PREVIEW_STEP // 2 :: PREVIEW_STEP]
        depth = np.where(some > 0, 1 / np.maximum(some, np.float32(1e-9)), 0)
        camera = self.cameras[index].resized(*depth.shape[::-1])
        return {"depth": depth, **Cameras((index,), (camera,), (self.views[index].world_from_camera,)).to_arrays()}

    def measure_consistency(self, matched: list[int], threads: int) -> None:
        """Compare all matched views with their neighbours and find those whose pose must be wrong."""
        self.partners = matched
        for index, consistency in zip(matched, map_in_order(self._measure_consistency, matched, threads), strict=True):
            if consistency is not None:
                self.consistency[index] = consistency
        for index, consistency in self.consistency.items():
            others = [self.consistency[j] for j in self._agreeing(index) if j in self.consistency]
            usual = float(np.median(others)) if len(others) > 1 else 0.0
            if usual > USUAL_CONSISTENCY and consistency < SUSPICIOUS_SHARE * usual:
                self.suspicious.add(index)
                logger.warning(
                    "view %s agrees with its neighbours in %.0f %% of its pixels, they with each other in %.0f %%: its "
                    "pose must be wrong, other views' depth does not use it",
                    self.views[index].name,
                    100 * consistency,
                    100 * usual,
                )

    def refine(self, index: int) -> None:
        """One more sweep with a geometric term: agreement with the source views' hypotheses."""
        sources = self._agreeing(index)[: self.params.source_views]
        w = self.store.load(MATCHED, index)
        planes = np.concatenate([w[None], self.store.load(SLOPES, index), np.zeros_like(w)[None]])
        if len(sources):
            images = [self.store.load(IMAGE, i) for i in (index, *sources)]
            inverse_depth = np.concatenate([self.store.load(MATCHED, i).ravel() for i in sources])
            same = np.array_equal(sources, self.sources(index))
            chosen = self.store.load(CHOSEN, index) if same else _all_of(sources, self.cameras[index])
            stream = 16 * (len(PASSES) + 1)
            self._sweep(index, sources, GEOMETRIC_PASS, planes, chosen, images, stream, inverse_depth)
        self.store.keep(REFINED, index, planes[[0, 3]])

    def finish(self, index: int) -> StereoDepth:
        """The depth map of the pixels that other views agree with."""
        view, camera = self.views[index], self.cameras[index]
        if index not in self.around:
            return empty_map(view, camera)
        others = self._agreeing(index)
        inverse_depth, cost = self.store.load(REFINED, index)
        around = self._neighbours(index, others, [self.store.load(REFINED, i)[0] for i in others])
        image = self.store.load(IMAGE, index)
        result = finish_map(view, camera, image, inverse_depth, cost, around, self.params)
        return replace(result, consistency=self.consistency.get(index), suspicious=index in self.suspicious)

    def _agreeing(self, index: int) -> I64:
        """The views with which the depth of view `index` must agree."""
        neighbours = self.around[index].neighbours
        usable = [i for i in self.partners if i not in self.suspicious]
        return neighbours[np.isin(neighbours, usable)][: self.params.source_views + EXTRA_NEIGHBOURS]

    def _measure_consistency(self, index: int) -> float | None:
        others = self._agreeing(index)
        if not len(others):
            return None
        w = np.where(flat_pixels(self.store.load(IMAGE, index)), 0, self.store.load(MATCHED, index))
        around = self._neighbours(index, others, [self.store.load(MATCHED, i) for i in others])
        counts = count_agreement(w, AGREEMENT_STEP, *around)
        counts = counts[counts[:, 0] >= MIN_COMPARED]
        return float(np.median(counts[:, 1] / counts[:, 0])) if len(counts) else None

    def _sweep(
        self,
        index: int,
        sources: I64,
        stage: Pass,
        planes: F32,
        chosen: U32,
        images: list[U8],
        stream: int,
        inverse_depth: F32 | None = None,
    ) -> None:
        """Improve `planes` in place by the view's image and the sources', all at the pass's level."""
        layout, warps, back_warps = self._pairs(index, sources, stage.level)
        camera = _at_level(self.cameras[index], stage.level)
        sweep_planes(
            planes,
            chosen,
            images[0],
            np.concatenate([pack_texels(image) for image in images[1:]]),
            layout,
            warps,
            back_warps,
            np.zeros(1, np.float32) if inverse_depth is None else inverse_depth,
            np.float32(stage.geometric_weight),
            intrinsics(camera),
            self.around[index].inverse_depth,
            _smallest_step(warps, intrinsics(camera), self.around[index].inverse_depth),
            stage.window,
            np.float32(stage.amplitude),
            stage.sweeps,
            stage.propagated,
            stage.perturbed,
            stage.kept_sources,
            BEST_VIEWS,
            stream,
        )

    def _neighbours(self, index: int, others: I64, inverse_depths: list[F32]) -> Neighbours:
        flat = np.concatenate([np.zeros(0, np.float32), *(w.ravel() for w in inverse_depths)])
        return flat, *self._pairs(index, others, 0)

    def _pairs(self, index: int, others: I64, level: int) -> tuple[I64, F32, F32]:
        """Layout (S, 3) of the others in a flat array, and the warps (S, 12) to them and back."""
        own = _at_level(self.cameras[index], level), self.views[index].world_from_camera
        theirs = [(_at_level(self.cameras[j], level), self.views[j].world_from_camera) for j in others]
        warps = np.array([pair_warp(*own, *other) for other in theirs], np.float32).reshape(-1, 12)
        back_warps = np.array([pair_warp(*other, *own) for other in theirs], np.float32).reshape(-1, 12)
        sizes = np.array([(camera.width, camera.height) for camera, _ in theirs], np.int64).reshape(-1, 2)
        starts = np.cumsum(sizes.prod(1)) - sizes.prod(1)
        return np.column_stack([starts, sizes]), warps, back_warps


def _all_of(sources: I64, camera: Camera) -> U32:
    """Every source, for each pixel (H, W); see `sweep_planes`."""
    return np.full((camera.height, camera.width), (1 << len(sources)) - 1, np.uint32)


def _smallest_step(warps: F32, camera: F32, nearest: F32) -> np.float32:
    """The change of inverse depth that moves the middle of the image by `SAME_PIXEL` in the source of most motion."""
    middle = np.array([*camera[2:], 1], np.float32)
    at_infinity, along = warps[:, :9].reshape(-1, 3, 3) @ middle, warps[:, 9:]
    projected = at_infinity + along * nearest.mean()
    pixels = projected[:, :2] / projected[:, 2:]
    moved = np.linalg.norm((along[:, :2] - pixels * along[:, 2:]) / projected[:, 2:], axis=1)
    return np.float32(SAME_PIXEL / moved.max())


def _at_level(camera: Camera, level: int) -> Camera:
    return camera.resized(camera.width >> level, camera.height >> level)


def pair_warp(camera: Camera, pose: Pose, other_camera: Camera, other_pose: Pose) -> F64:
    """The warp (12,) from pixels of `camera` to those of `other_camera`: A row by row, then b (see patchmatch)."""
    other_from_own = other_pose.inverse() @ pose
    homography = other_camera.matrix @ other_from_own.rotation @ np.linalg.inv(camera.matrix)
    return np.concatenate([homography.ravel(), other_camera.matrix @ other_from_own.translation])


class StereoStore:
    """Arrays on disk by kind and view, written atomically."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def has(self, kind: str, view: int) -> bool:
        """Whether the array is stored."""
        return self._path(kind, view).is_file()

    def keep(self, kind: str, view: int, values: np.ndarray) -> None:
        """Write an array."""
        path = self._path(kind, view)
        unfinished = path.with_suffix(".part")
        with unfinished.open("wb") as file:
            np.save(file, values)
        unfinished.replace(path)

    def load(self, kind: str, view: int) -> np.ndarray:
        """Read an array."""
        return np.load(self._path(kind, view), allow_pickle=False)

    def remove(self) -> None:
        """Delete everything."""
        shutil.rmtree(self._folder)

    def _path(self, kind: str, view: int) -> Path:
        return self._folder / f"{kind}-{view:05d}.npy"
