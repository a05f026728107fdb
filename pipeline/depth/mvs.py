"""Multi-view stereo on the CPU: one depth map per training view, from the images alone.

Pyramid of slanted-plane PatchMatch (patchmatch.py), a pass with a geometric term, then agreement between views
(stereo_map.py). Random numbers are hashes of the pixel and each view is processed by one thread, so the result does not
depend on the number of threads. Images and hypotheses are on disk: a thread holds one view and its neighbours.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.depth.maps import save_depth_map, unmasked
from pipeline.depth.params import DepthParams
from pipeline.depth.stereo_map import StereoDepth
from pipeline.depth.stereo_steps import EXTRA_NEIGHBOURS, IMAGE, MATCHED, MAX_NEIGHBOURS, REFINED, Stereo, StereoStore
from pipeline.depth.view_selection import MIN_PARALLAX_DEG, MatchingViews, select_views
from pipeline.errors import MachineError, ReconstructionError
from pipeline.geometry import Camera
from pipeline.io.results import preview_folder, resume_folder
from pipeline.machine import available_memory
from pipeline.parallel import core_count, map_in_order
from pipeline.poses.scene import PosedScene, View
from pipeline.previews import Publisher
from pipeline.progress import bar
from pipeline.types import F32

logger = logging.getLogger(__name__)


POSE_ERROR = 0.0003
"""One sigma of the error that poses and scale add to a stereo depth, as a share of it (with refined poses of the sample
hall, 1 mm and 0.01 degrees off, 68 % of the errors lie within 1.03 sigmas instead of 1.41)."""

LITTLE_MEASURED = 0.2
"""A view with a smaller share of measured pixels is reported: too little texture, or too little motion."""

BYTES_PER_PIXEL, BYTES_PER_SOURCE_PIXEL, BYTES_PER_NATIVE_PIXEL = 230, 10, 8
"""Memory of a thread: for its own view, for each view it is compared with, for the image as it is read."""
SCRATCH_BYTES_PER_PIXEL = 25


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
    stereo = Stereo(views, cameras, around, poses_folder, params, store, start, previews)
    matched = [i for i in requested if i in around]
    read = sorted({int(j) for i in matched for j in [i, *stereo.sources(i)]})
    with bar(2 * len(matched), "stereo") as shown:
        for _ in map_in_order(stereo.prepare, [i for i in read if not store.has(IMAGE, i)], threads):
            pass
        for _ in map_in_order(stereo.match, [i for i in matched if not store.has(MATCHED, i)], threads):
            shown.update(1)
        stereo.measure_consistency(matched, threads)
        for _ in map_in_order(stereo.refine, [i for i in matched if not store.has(REFINED, i)], threads):
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
