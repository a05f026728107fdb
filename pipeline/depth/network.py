"""Depth maps by a network (VGGT, Depth Anything 3): at the poses' scale, with sigmas, consistent with other views.

The poses stage has run the same network already, or it runs here. The sparse points determine the scale of each
image's depth, and the network's error as a function of its confidence.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.sparse import coo_array, triu

from pipeline.depth.consistency import DepthMapSet
from pipeline.depth.free_space import small
from pipeline.depth.local_planes import depth_of, drop_flying_pixels, fit_local_planes, map_from_planes, window_step
from pipeline.depth.maps import DepthMap, load_depth_map, pixels_of, save_depth_map
from pipeline.depth.params import DepthParams
from pipeline.errors import ReconstructionError
from pipeline.poses import network
from pipeline.poses.network import KeptDepth, KeptMaps
from pipeline.poses.scene import PosedScene, View, read_mask
from pipeline.progress import track
from pipeline.types import F64, Mask

logger = logging.getLogger(__name__)

MIN_POINTS = 30
"""Sparse points that a run's images must show in total, else their scale is unknown."""
RUN_COUNTS = 20
"""Number of an image's sparse points that weigh as much for its scale as its whole run."""
SIGMAS = (0.003, 0.08)
"""Smallest sigma of a pixel, because of poses and scale, and largest, above which it is dropped [share of depth]."""
NEIGHBOURS, MAX_DEVIATION = 12, 3.0
NORMAL = 1.4826
"""One sigma of a normal distribution by its median absolute deviation."""


def write_maps(
    scene: PosedScene, inputs: Mapping[str, Path], params: DepthParams, out_dir: Path
) -> tuple[list[str], dict[str, object]]:
    """Write a map for every training view with depth from the network; returns names and report.

    Raises:
        MachineError: When the network can't run.
        ReconstructionError: When the sparse points don't determine the scale of the depth.
    """
    poses_folder = inputs["poses"]
    with tempfile.TemporaryDirectory(dir=out_dir) as scratch:
        stored, report = _network_maps(scene, poses_folder, params, Path(scratch))
        scales, sigma = _scales(scene, stored)
        views = [view for view in scene.training if view.name in scales]
        if not views:
            raise ReconstructionError(
                "sparse points must determine the scale of a network's depth",
                found=f"no view of {len(scene.training)} shows {MIN_POINTS} of them with its run",
                remedy="match the images instead: --set depth.backend=mvs",
                file=poses_folder,
            )
        for view in track(views, "depth"):
            mask = read_mask(poses_folder, view, stored.size(view))
            save_depth_map(out_dir, _depth_map(view, stored.load(view), mask, scales[view.name], sigma))
    names = [view.name for view in views]
    shares = _drop_inconsistent(out_dir, names, params)
    empty = [view.name for view in scene.training if view.name not in scales]
    if empty:
        logger.warning("%d of %d views have no depth: %s", len(empty), len(scene.training), ", ".join(empty[:5]))
    return names, report | {
        "kept_share": float(np.mean(list(shares.values()))),
        "sigma_times_confidence": sigma,
        "empty_views": empty,
        "views": {name: {"kept": share} for name, share in shares.items()},
    }


def _network_maps(
    scene: PosedScene, poses_folder: Path, params: DepthParams, scratch: Path
) -> tuple[KeptMaps, dict[str, object]]:
    """The poses stage's maps if they are the same network's, else new ones in `scratch`; and the report on them."""
    if (poses_folder / network.FOLDER / network.INDEX).is_file():
        stored = KeptMaps(poses_folder)
        if stored.backend == params.backend:
            return stored, {"source": "the poses stage"}
    images = {n + 1: poses_folder / view.image for n, view in enumerate(scene.views) if not view.held_out}
    links, depth, camera = _links(scene), network.NetworkDepth(scratch), scene.training[0].camera
    with network.network_session(params.backend, params) as (session, about):
        runner = network.ChunkRunner(session, images, links, depth.keep)
        order, size = network.order_by_matches(list(images), links), (camera.width, camera.height)
        chunks = runner.run(order, size, in_time=False, close_loops=False)
    scales = {(chunk.run, i): 1.0 for chunk in chunks.chunks for i in chunk.views}
    depth.finish(params.backend, scales, {i: (scene.views[i - 1].name, None) for i in images})
    not_finite = [scene.views[i - 1].name for i in chunks.failed]
    return KeptMaps(scratch), {"source": "a run of its own", **about, "not_finite": not_finite}


def _links(scene: PosedScene) -> dict[tuple[int, int], int]:
    """Number of sparse points that pairs of views share, by view numbers from 1."""
    points = scene.points
    rows = points.view_index, points.point_index
    observed = coo_array((np.ones(len(rows[0]), np.int32), rows), (len(scene.views), len(points.xyz))).tocsr()
    shared = triu(observed @ observed.T, 1).tocoo()
    return {(int(i) + 1, int(j) + 1): int(n) for i, j, n in zip(*shared.coords, shared.data, strict=True)}


def _scales(scene: PosedScene, stored: KeptMaps) -> tuple[dict[str, float], float]:
    """Scale of each view's depth by the sparse points: its run's median ratio, weighted with its own by its points.

    Views whose run shows too few points have none. Also returns one sigma of a pixel's depth [share of it] times its
    confidence.
    """
    ratios: dict[str, F64] = {}  # logarithms
    confidence: dict[str, F64] = {}
    runs: dict[str, int] = {}
    for n, view in enumerate(scene.views):
        if view.name in stored and not view.held_out:
            kept = stored.load(view)
            runs[view.name] = kept.run
            own = scene.points.point_index[scene.points.view_index == n]
            local = view.world_from_camera.inverse().apply(scene.points.xyz[own])
            height, width = kept.depth.shape
            row, column, inside = pixels_of(local, view.camera.resized(width, height))
            inside[inside] = kept.depth[row[inside], column[inside]] > 0
            cells = row[inside], column[inside]
            ratios[view.name] = np.log(local[inside, 2] / kept.depth[cells])
            confidence[view.name] = kept.confidence[cells].astype(np.float64)
    logs: dict[str, float] = {}
    for run in set(runs.values()):
        names = [name for name in ratios if runs[name] == run]
        of_run = np.concatenate([ratios[name] for name in names])
        for name in names if len(of_run) >= MIN_POINTS else ():
            count = len(ratios[name])
            share = count / (count + RUN_COUNTS)
            median = float(np.median(ratios[name])) if count else 0.0
            logs[name] = share * median + (1 - share) * float(np.median(of_run))
    errors = np.concatenate(
        [np.zeros(0), *(np.abs(ratios[name] - log) * confidence[name] for name, log in logs.items())]
    )
    sigma = NORMAL * float(np.median(errors)) if len(errors) else SIGMAS[1]
    return {name: float(np.exp(log)) for name, log in logs.items()}, sigma


def _depth_map(view: View, stored: KeptDepth, mask: Mask | None, scale: float, sigma: float) -> DepthMap:
    """The view's map in the scene's unit, without uncertain and flying pixels, smoothed by local planes."""
    height, width = stored.depth.shape
    camera = view.camera.resized(width, height)
    relative = np.maximum(sigma / np.maximum(stored.confidence, 1e-6), SIGMAS[0]).astype(np.float32)
    good = (relative <= SIGMAS[1]) & (True if mask is None else mask)
    depth = np.where(good, stored.depth * np.float32(scale), 0).astype(np.float32)
    depth = drop_flying_pixels(depth, relative * depth, camera.fx)
    planes = fit_local_planes(depth, relative * depth, camera.fx, window_step(camera.fx))
    return map_from_planes(view, camera, planes, relative * depth_of(planes[0]))


def _drop_inconsistent(folder: Path, names: Sequence[str], params: DepthParams) -> dict[str, float]:
    """Keep pixels that other views agree with, averaged with them; returns the shares of pixels kept."""
    views = DepthMapSet.pack([small(load_depth_map(folder, name)) for name in names])
    shares = {}
    for name, near in track(list(zip(names, views.neighbours(NEIGHBOURS), strict=True)), "agreement"):
        own = load_depth_map(folder, name)
        result = views.compare(own, near, MAX_DEVIATION)
        required = min(params.min_agreeing, len(near))
        good = (own.depth > 0) & (result.agreeing >= required) & (result.violations <= result.agreeing)
        sigma = np.maximum(np.maximum(result.sigma, result.disagreement), SIGMAS[0] * own.depth)
        own = replace(own, depth=result.depth, sigma=sigma.astype(np.float32)).without(~good)
        save_depth_map(folder, own)
        shares[name] = float(good.mean())
    return shares
