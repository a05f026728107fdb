"""Depth maps by a network (VGGT, Depth Anything 3): at the poses' scale, with sigmas, and as far as other views agree.

Where the poses are the same network's its depth is already there; else the network sees the training images now. In
both cases the sparse points say how large an image's depth is, and how far off the network is at what confidence.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import coo_array, triu

from pipeline.depth.consistency import DepthMapSet
from pipeline.depth.free_space import small
from pipeline.depth.local_planes import drop_flying_pixels, fit_local_planes, plane_normals, window_step
from pipeline.depth.maps import DepthMap, load_depth_map, save_depth_map
from pipeline.depth.params import DepthParams
from pipeline.errors import ReconstructionError
from pipeline.poses.network import (
    FOLDER,
    INDEX,
    ChunkRunner,
    KeptDepth,
    KeptMaps,
    NetworkDepth,
    network_session,
    order_by_matches,
)
from pipeline.poses.scene import PosedScene, View, read_mask
from pipeline.progress import track
from pipeline.types import F64, Mask

logger = logging.getLogger(__name__)

MIN_POINTS = 30
"""Sparse points that a run's images must show together, else their scale is unknown."""
RUN_COUNTS = 20
"""Sparse points of an image that count as much for its scale as all of its run."""
SIGMAS = (0.003, 0.08)
"""Of a pixel [share of the depth]: at least, for poses and scale are no better, and at most, else it is dropped."""
NEIGHBOURS, MAX_DEVIATION = 12, 3.0
NORMAL = 1.4826
"""One sigma of a normal distribution by its median absolute deviation."""


@dataclass(frozen=True, eq=False)
class Scales:
    """What the sparse points say of a network's depth.

    Attributes:
        factors: What to multiply a view's depth with, by name; not of views whose run shows too few points.
        sigma: One sigma of a pixel's depth [share of it], times its confidence.
    """

    factors: Mapping[str, float]
    sigma: float


def write_maps(
    scene: PosedScene, inputs: Mapping[str, Path], params: DepthParams, out_dir: Path
) -> tuple[list[str], dict[str, Any]]:
    """Write a map for every training view that the network knows the depth of; returns names and report.

    Raises:
        MachineError: When the network can't run.
        ReconstructionError: When the sparse points don't say how large the depth is.
    """
    poses_folder = inputs["poses"]
    with tempfile.TemporaryDirectory(dir=out_dir) as scratch:
        kept, report = _maps_of(scene, poses_folder, params, Path(scratch))
        scales = _scales(scene, [view for view in scene.training if view.name in kept], kept)
        wanted = [view for view in scene.training if view.name in scales.factors]
        if not wanted:
            raise ReconstructionError(
                "sparse points must say how large a network's depth is",
                found=f"no view of {len(scene.training)} shows {MIN_POINTS} of them with its run",
                remedy="match the images instead: --set depth.backend=mvs",
                file=poses_folder,
            )
        for view in track(wanted, "depth"):
            mask = read_mask(poses_folder, view, kept.size(view))
            save_depth_map(out_dir, _depth_map(view, kept.load(view), mask, scales))
    names = [view.name for view in wanted]
    shares = _drop_denied(out_dir, names, params)
    empty = [view.name for view in scene.training if view.name not in scales.factors]
    if empty:
        logger.warning("%d of %d views have no depth: %s", len(empty), len(scene.training), ", ".join(empty[:5]))
    return names, report | {
        "kept_share": float(np.mean(list(shares.values()))),
        "sigma_times_confidence": scales.sigma,
        "empty_views": empty,
        "views": {name: {"kept": share} for name, share in shares.items()},
    }


def _maps_of(
    scene: PosedScene, poses_folder: Path, params: DepthParams, scratch: Path
) -> tuple[KeptMaps, dict[str, Any]]:
    """The maps that came with the poses where these are the same network's, else new ones in `scratch`."""
    if (poses_folder / FOLDER / INDEX).is_file():
        kept = KeptMaps(poses_folder)
        if kept.backend == params.backend:
            return kept, {"source": "the poses stage"}
    images = {n + 1: poses_folder / view.image for n, view in enumerate(scene.views) if not view.held_out}
    links, depth, camera = _links(scene), NetworkDepth(scratch), scene.training[0].camera
    with network_session(params) as (session, about):
        runner = ChunkRunner(session, images, links, depth.keep)
        order, size = order_by_matches(list(images), links), (camera.width, camera.height)
        chunks = runner.run(order, size, in_time=False, close_loops=False)
    scales = {(chunk.run, i): 1.0 for chunk in chunks.chunks for i in chunk.views}
    depth.finish(params.backend, scales, {i: (scene.views[i - 1].name, None) for i in images})
    not_finite = [scene.views[i - 1].name for i in chunks.failed]
    return KeptMaps(scratch), {"source": "a run of its own", **about, "not_finite": not_finite}


def _links(scene: PosedScene) -> dict[tuple[int, int], int]:
    """How many sparse points pairs of views share, by numbers from 1."""
    points = scene.points
    rows = points.view_index, points.point_index
    seen = coo_array((np.ones(len(rows[0]), np.int32), rows), (len(scene.views), len(points.xyz))).tocsr()
    shared = triu(seen @ seen.T, 1).tocoo()
    return {(int(i) + 1, int(j) + 1): int(n) for i, j, n in zip(*shared.coords, shared.data, strict=True)}


def _scales(scene: PosedScene, views: Sequence[View], kept: KeptMaps) -> Scales:
    """By the sparse points' depth over the network's: median of a run, drawn to an image's own as it has points."""
    index = {view.name: n for n, view in enumerate(scene.views)}
    ratios: dict[str, F64] = {}
    sure: dict[str, F64] = {}
    run_of: dict[str, int] = {}
    for view in views:
        found = kept.load(view)
        run_of[view.name] = found.run
        mine = scene.points.point_index[scene.points.view_index == index[view.name]]
        ratios[view.name], sure[view.name] = _ratios(view, found, scene.points.xyz[mine])
    of_run = {
        run: np.concatenate([ratios[name] for name in ratios if run_of[name] == run]) for run in set(run_of.values())
    }
    usual = {run: float(np.median(values)) for run, values in of_run.items() if len(values) >= MIN_POINTS}
    logs: dict[str, float] = {}
    for name, values in ratios.items():
        if run_of[name] in usual:
            own = float(np.median(values)) if len(values) else 0.0
            share = len(values) / (len(values) + RUN_COUNTS)
            logs[name] = share * own + (1 - share) * usual[run_of[name]]
    off = np.concatenate([np.zeros(0), *(np.abs(ratios[name] - log) * sure[name] for name, log in logs.items())])
    sigma = NORMAL * float(np.median(off)) if len(off) else SIGMAS[1]
    return Scales({name: float(np.exp(log)) for name, log in logs.items()}, sigma)


def _ratios(view: View, found: KeptDepth, points: F64) -> tuple[F64, F64]:
    """Logarithms of the points' depth by the network's, where both are known, and the confidence there."""
    local = view.world_from_camera.inverse().apply(points)
    height, width = found.depth.shape
    camera = view.camera.resized(width, height)
    ahead = local[:, 2] > 1e-6
    column, row = np.floor(camera.project(np.where(ahead[:, None], local, 1.0))).astype(np.int64).T
    inside = ahead & (column >= 0) & (row >= 0) & (column < width) & (row < height)
    inside[inside] = found.depth[row[inside], column[inside]] > 0
    cells = row[inside], column[inside]
    return np.log(local[inside, 2] / found.depth[cells]), found.confidence[cells].astype(np.float64)


def _depth_map(view: View, found: KeptDepth, mask: Mask | None, scales: Scales) -> DepthMap:
    """The view's map in the scene's unit: unsure and flying pixels dropped, smoothed as far as surfaces go."""
    height, width = found.depth.shape
    camera = view.camera.resized(width, height)
    relative = np.maximum(scales.sigma / np.maximum(found.confidence, 1e-6), SIGMAS[0]).astype(np.float32)
    good = (relative <= SIGMAS[1]) & (True if mask is None else mask)
    depth = np.where(good, found.depth * np.float32(scales.factors[view.name]), 0).astype(np.float32)
    depth = drop_flying_pixels(depth, relative * depth, camera.fx)
    inverse, slope_x, slope_y = fit_local_planes(depth, relative * depth, camera.fx, window_step(camera.fx))
    known = inverse > 0
    smooth = np.where(known, 1 / np.maximum(inverse, 1e-9), 0).astype(np.float32)
    normals = plane_normals(camera, inverse, slope_x, slope_y)
    return DepthMap(
        name=view.name,
        held_out=False,
        camera=camera,
        world_from_camera=view.world_from_camera,
        depth=smooth,
        sigma=np.where(known, relative * smooth, 0).astype(np.float32),
        normals=np.where(known[..., None], normals, 0).astype(np.float32),
        guessed=np.zeros(known.shape, bool),
    )


def _drop_denied(folder: Path, names: Sequence[str], params: DepthParams) -> dict[str, float]:
    """Keep of the maps what other views agree with, averaged with them; returns the shares of pixels kept."""
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
