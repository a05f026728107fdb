"""Multi-view stereo on the CPU: one depth map per training view, from the images alone.

Pyramid of slanted-plane PatchMatch (patchmatch.py), a pass with a geometric term, then agreement between views
(stereo_map.py). Random numbers are hashes of the pixel and each view is processed by one thread, so the result does not
depend on the number of threads. Images and hypotheses are on disk: a thread holds one view and its neighbours.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np

from pipeline.depth.consistency import intrinsics
from pipeline.depth.maps import save_depth_map, unmasked
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
from pipeline.depth.view_selection import MIN_PARALLAX_DEG, MatchingViews, select_views
from pipeline.errors import MachineError, ReconstructionError
from pipeline.geometry import Camera, Pose
from pipeline.io.results import preview_folder, resume_folder
from pipeline.machine import available_memory
from pipeline.parallel import core_count, map_in_order
from pipeline.poses.scene import PosedScene, View, read_image
from pipeline.previews import Arrays, Cameras, Publisher
from pipeline.progress import bar
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
POSE_ERROR = 0.0003
"""One sigma of the error that poses and scale add to a stereo depth, as a share of it (with refined poses of the sample
hall, 1 mm and 0.01 degrees off, 68 % of the errors lie within 1.03 sigmas instead of 1.41)."""
MAX_NEIGHBOURS, EXTRA_NEIGHBOURS = 64, 4
"""Number of ranked neighbours; number that must agree in addition to those that were matched."""

AGREEMENT_STEP, MIN_COMPARED = 6, 50
"""Consistency of a view is measured on every AGREEMENT_STEP-th pixel, with neighbours that share enough of them."""
SUSPICIOUS_SHARE, USUAL_CONSISTENCY = 0.3, 0.2
"""A view's pose is wrong if its consistency is less than this share of its neighbours', and theirs at least this."""
LITTLE_MEASURED = 0.2
"""A view with a smaller share of measured pixels is reported: too little texture, or too little motion."""

BYTES_PER_PIXEL, BYTES_PER_SOURCE_PIXEL, BYTES_PER_NATIVE_PIXEL = 230, 10, 8
"""Memory of a thread: for its own view, for each view it is compared with, for the image as it is read."""
SCRATCH_BYTES_PER_PIXEL = 25
PREVIEW_STEP = 4
"""Step between the pixels of a preview; the sides of all images are multiples of it."""
_MATCHED, _SLOPES, _CHOSEN, _REFINED, _IMAGE = "matched", "slopes", "chosen", "refined", "image"


def write_maps(
    scene: PosedScene, inputs: Mapping[str, Path], params: DepthParams, out_dir: Path
) -> tuple[list[str], dict[str, object]]:
    """Write the stereo map of every training view; returns names and report. For errors see `estimate_depth`."""
    previews = Publisher(preview_folder(out_dir))
    maps = estimate_depth(scene, inputs["poses"], params, resume_folder(out_dir), previews=previews)
    return stereo_report(saved_maps(maps, scene, inputs["poses"], out_dir))


def saved_maps(
    maps: Iterable[StereoDepth], scene: PosedScene, poses_folder: Path, folder: Path
) -> Iterator[StereoDepth]:
    """Save the maps in `folder`, without masked pixels and with the error of poses in sigma, and yield them."""
    for result in maps:
        depth_map = result.depth_map
        sigma = np.hypot(depth_map.sigma, np.float32(POSE_ERROR) * depth_map.depth)
        save_depth_map(folder, unmasked(replace(depth_map, sigma=sigma), scene, poses_folder))
        yield result


def estimate_depth(
    scene: PosedScene,
    poses_folder: Path,
    params: DepthParams,
    scratch: Path,
    threads: int | None = None,
    names: Collection[str] | None = None,
    start: Callable[[View, Camera], F32] | None = None,
    previews: Publisher | None = None,
) -> Iterator[StereoDepth]:
    """Depth maps of the training views, in order.

    Temporary files in `scratch`, about 25 bytes per pixel and view, are removed after the last map; after a kill the
    next run with the same arguments continues with them. By default all cores are used; the result does not depend on
    the number of threads. Only views with these names, if given, get maps; they are matched with all views, and must
    agree with each other. `start` gives a view's inverse depth and its slopes (3, H, W) by a camera at the view's pose,
    0 where unknown, for captures whose depth is known nearly everywhere.

    Raises:
        MachineError: When there is not enough memory for one view.
        ReconstructionError: When the views don't share enough sparse points, or were taken from one position.
    """
    view_ids = [i for i, view in enumerate(scene.views) if not view.held_out]
    views = [scene.views[i] for i in view_ids]
    requested = [i for i, view in enumerate(views) if names is None or view.name in names]
    around = _select_views(scene, views, view_ids, requested)
    cameras = []
    for camera in (view.camera for view in views):  # sides are multiples of 4, so that all levels halve exactly
        scale = min(1.0, params.image_size / max(camera.width, camera.height))
        cameras.append(camera.resized(*(max(4, 4 * round(side * scale / 4)) for side in (camera.width, camera.height))))
    threads = _affordable_threads(views, cameras, params, threads or core_count(), len(requested))
    identity = [
        [view.name, view.image, view.held_out, view.camera.to_json(), view.world_from_camera.matrix.tolist()]
        for view in scene.views
    ]
    text = json.dumps([identity, params.model_dump(), sorted(names) if names is not None else None])
    digest = hashlib.sha256(text.encode() + scene.points.xyz.tobytes()).hexdigest()[:16]
    store = StereoStore(scratch / f"stereo-{digest}")
    stereo = _Stereo(views, cameras, around, poses_folder, params, store, start, previews)
    matched = [i for i in requested if i in around]
    read = sorted({int(j) for i in matched for j in [i, *stereo.sources(i)]})
    with bar(2 * len(matched), "stereo") as shown:
        for _ in map_in_order(stereo.prepare, [i for i in read if not store.has(_IMAGE, i)], threads):
            pass
        for _ in map_in_order(stereo.match, [i for i in matched if not store.has(_MATCHED, i)], threads):
            shown.update(1)
        stereo.measure_consistency(matched, threads)
        for _ in map_in_order(stereo.refine, [i for i in matched if not store.has(_REFINED, i)], threads):
            shown.update(1)
    yield from map_in_order(stereo.finish, requested, threads)
    store.remove()


_PROBLEMS = {
    "empty_views": "share too little with others, or were taken from one position, and have no depth",
    "little_measured_views": "have little measured depth, for lack of texture or of movement",
}


def stereo_report(results: Iterable[StereoDepth]) -> tuple[list[str], dict[str, object]]:
    """Names of all maps, of which only one is in memory at a time, and the report: shares, views with problems."""
    per_view, lists = {}, {"suspicious_views": [], "empty_views": [], "little_measured_views": []}
    for result in results:
        name = result.depth_map.name
        values = {k: getattr(result, k) for k in ("matched", "kept", "guessed", "disagreement", "consistency")}
        per_view[name] = values
        if result.suspicious:
            lists["suspicious_views"].append(name)
        elif not result.matched:
            lists["empty_views"].append(name)
        elif result.kept < LITTLE_MEASURED:
            lists["little_measured_views"].append(name)
    for kind, problem in _PROBLEMS.items():
        if names := lists[kind]:
            listed = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            logger.warning("stereo: %d of %d views %s: %s", len(names), len(per_view), problem, listed)
    return list(per_view), {
        "kept_share": float(np.mean([values["kept"] for values in per_view.values()])),
        "guessed_share": float(np.mean([values["guessed"] for values in per_view.values()])),
        "relative_disagreement": float(np.median([values["disagreement"] for values in per_view.values()])),
        **lists,
        "views": per_view,
    }


@dataclass(eq=False)
class _Stereo:
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
        self.store.keep(_IMAGE, index, cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))

    def match(self, index: int) -> None:
        """Match a view from coarse to fine."""
        sources = self.sources(index)
        images = [self.store.load(_IMAGE, i) for i in (index, *sources)]
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
        self.store.keep(_CHOSEN, index, chosen)
        self.store.keep(_SLOPES, index, planes[1:3])
        self.store.keep(_MATCHED, index, planes[0])
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
        w = self.store.load(_MATCHED, index)
        planes = np.concatenate([w[None], self.store.load(_SLOPES, index), np.zeros_like(w)[None]])
        if len(sources):
            images = [self.store.load(_IMAGE, i) for i in (index, *sources)]
            inverse_depth = np.concatenate([self.store.load(_MATCHED, i).ravel() for i in sources])
            same = np.array_equal(sources, self.sources(index))
            chosen = self.store.load(_CHOSEN, index) if same else _all_of(sources, self.cameras[index])
            stream = 16 * (len(PASSES) + 1)
            self._sweep(index, sources, GEOMETRIC_PASS, planes, chosen, images, stream, inverse_depth)
        self.store.keep(_REFINED, index, planes[[0, 3]])

    def finish(self, index: int) -> StereoDepth:
        """The depth map of the pixels that other views agree with."""
        view, camera = self.views[index], self.cameras[index]
        if index not in self.around:
            return empty_map(view, camera)
        others = self._agreeing(index)
        inverse_depth, cost = self.store.load(_REFINED, index)
        around = self._neighbours(index, others, [self.store.load(_REFINED, i)[0] for i in others])
        image = self.store.load(_IMAGE, index)
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
        w = np.where(flat_pixels(self.store.load(_IMAGE, index)), 0, self.store.load(_MATCHED, index))
        around = self._neighbours(index, others, [self.store.load(_MATCHED, i) for i in others])
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


def _select_views(
    scene: PosedScene, views: list[View], view_ids: list[int], requested: list[int]
) -> dict[int, MatchingViews]:
    """The neighbours of all views that can have depth; an error when nothing can be matched."""
    poses, cameras = [view.world_from_camera for view in views], [view.camera for view in views]
    selected = select_views(cameras, poses, scene.points, view_ids, MAX_NEIGHBOURS)
    alone = [i for i in requested if selected[i] is None]
    still = [i for i in requested if (s := selected[i]) is not None and s.parallax_deg < MIN_PARALLAX_DEG]
    if len(requested) - len(alone) - len(still) >= 2:
        return {i: around for i, around in enumerate(selected) if around is not None and i not in still}
    if len(still) > len(alone):
        raise ReconstructionError(
            "multi-view stereo needs images from different places",
            found=f"{len(still)} of {len(requested)} training views show what others show, but from the same place "
            f"(less than {MIN_PARALLAX_DEG} degrees of parallax): the camera only turned",
            remedy="walk sideways while you take the images, or use a capture with depth",
        )
    raise ReconstructionError(
        "multi-view stereo needs views that share sparse points",
        found=f"{len(requested) - len(alone)} of {len(requested)} training views share enough of them with another one",
        remedy="take more images with more overlap, or use a capture with depth",
    )


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


def _affordable_threads(views: list[View], cameras: list[Camera], params: DepthParams, threads: int, count: int) -> int:
    """The number of threads that fit into memory; logs the resources that they need."""
    pixels = max(camera.width * camera.height for camera in cameras)
    native = max(view.camera.width * view.camera.height for view in views)
    others = min(params.source_views + EXTRA_NEIGHBOURS, len(views))
    each = pixels * (BYTES_PER_PIXEL + BYTES_PER_SOURCE_PIXEL * others) + native * BYTES_PER_NATIVE_PIXEL
    available = available_memory()
    if available is not None and each > available:
        raise MachineError(
            "multi-view stereo needs memory for one image and those it is compared with",
            found=f"{each / 2**20:.0f} MiB needed for images of {pixels / 1e6:.1f} MP, {available / 2**20:.0f} free",
            remedy="match smaller images, e.g. with --set depth.image_size=640, or close other programs",
        )
    if available is not None:
        threads = max(1, min(threads, available // each))
    logger.info(
        "stereo: %d views of %.1f MP, read from %.1f MP, with %d others each; %d threads need %.0f MiB of memory, "
        "all views %.0f MiB of disk",
        count,
        pixels / 1e6,
        native / 1e6,
        others,
        threads,
        threads * each / 2**20,
        len(views) * pixels * SCRATCH_BYTES_PER_PIXEL / 2**20,
    )
    return threads


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
