"""The depth stage: one map a view, from the sensor, from the pictures, from both, or from a network."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.depth.agreement import MapSet
from pipeline.depth.combine import Candidates, candidates, combine, evidence, seen_from
from pipeline.depth.conflicts import find_conflicts, small
from pipeline.depth.distortion import fit_distortion
from pipeline.depth.maps import DepthMap, load_depth_map, save_depth_map, write_index
from pipeline.depth.mvs import estimate_depth, stereo_report
from pipeline.depth.network import network_maps
from pipeline.depth.params import DepthParams
from pipeline.depth.sensor import measure_noise, measured_share, sensor_depth_maps
from pipeline.depth.stereo_map import StereoDepth
from pipeline.errors import CaptureError, ReconstructionError
from pipeline.poses.network import WORKERS
from pipeline.poses.scene import PosedScene, read_mask
from pipeline.progress import track
from pipeline.stage import resume_folder

logger = logging.getLogger(__name__)

STEREO_EVERY = 2
"""Combined: every so-many-th training view is matched; the others' sensor depth meets stereo in the fusion."""
WHOLE_PICTURE = 0.95
"""Combined: least mean share of pixels with depth for that; a scanner of few lines leaves whole parts of the pictures
to stereo, and then all views are matched and combined in the finer one's pixels."""
POSE_ERROR = 0.0003
"""Of the depth, one sigma: what errors of poses and scale add to a stereo depth (refined poses of the sample hall, 1 mm
and 0.01 degrees off: 68 % of the errors within 1.03 sigmas instead of 1.41)."""
NEIGHBOURS, NEIGHBOURS_WITH_GAPS = 8, 12
"""Combined: views that are asked about a conflict; beside a scanner with gaps also about what only stereo knows, and
fewer hardly ever see what lies at a picture's border."""


def run(inputs: Mapping[str, Path], params: DepthParams, out_dir: Path) -> None:
    """Write one .npz a view and `depth.json`.

    Args:
        inputs: Folders of the stages capture and poses.
        params: With a concrete backend.
        out_dir: Existing folder to write to.

    Raises:
        CaptureError: When the sensor's depth is asked for and there is none, or it is damaged.
        MachineError: When a network can't run.
        ReconstructionError: When the views share too little to be matched.
    """
    scene = PosedScene.load(inputs["poses"])
    params = replace(params, max_range=params.max_range or scene.depth_range or 0.0)
    if params.backend == "sensor":
        names, report = _write_sensor_maps(scene, inputs, params, out_dir)
    elif params.backend == "mvs":
        names, report = _write_stereo_maps(scene, inputs["poses"], params, out_dir)
    elif params.backend == "combined":
        with_gaps = measured_share(scene, inputs["capture"]) <= WHOLE_PICTURE
        names, report = _write_sensor_maps(scene, inputs, params, out_dir, with_gaps=with_gaps)
        report["combined"] = _add_stereo(scene, inputs["poses"], params, out_dir, with_gaps=with_gaps)
    elif params.backend in WORKERS:
        names, report = network_maps(scene, inputs["poses"], params, out_dir)
    else:
        raise ValueError(f"the depth stage needs a concrete backend, got {params.backend!r}")
    report["conflicts"] = _drop_conflicts(out_dir, [view.name for view in scene.training if view.name in set(names)])
    write_index(out_dir, names, params.backend, report)


def _write_sensor_maps(
    scene: PosedScene, inputs: Mapping[str, Path], params: DepthParams, out_dir: Path, *, with_gaps: bool = False
) -> tuple[list[str], dict[str, Any]]:
    capture_folder = inputs["capture"]
    count = sum(view.sensor_depth is not None for view in scene.views)
    if not count:
        raise CaptureError(
            f"the {params.backend} backend needs depth images",
            found="a capture without any",
            remedy="leave depth.backend at auto, or set it to mvs",
            file=capture_folder,
        )
    distortion, distortion_report = fit_distortion(scene, capture_folder, params)
    noise, comparisons = measure_noise(scene, capture_folder, params, distortion)
    logger.info("sensor noise %s by %d comparisons", noise, comparisons)
    names: list[str] = []
    per_view: dict[str, dict[str, float]] = {}
    maps = sensor_depth_maps(scene, capture_folder, params, noise, distortion, with_gaps=with_gaps)
    for result in track(maps, "depth", count):
        name = result.depth_map.name
        save_depth_map(out_dir, _unmasked(result.depth_map, scene, inputs["poses"]))
        names.append(name)
        per_view[name] = {"measured": result.measured, "kept": result.kept}
    return names, {
        "noise": noise.report() | {"comparisons": comparisons},
        "distortion": distortion_report,
        "kept_share": float(np.mean([values["kept"] for values in per_view.values()])),
        "views": per_view,
    }


def _write_stereo_maps(
    scene: PosedScene, poses_folder: Path, params: DepthParams, out_dir: Path
) -> tuple[list[str], dict[str, Any]]:
    maps = estimate_depth(scene, poses_folder, params, resume_folder(out_dir))
    report = stereo_report(_saved(maps, scene, poses_folder, out_dir))
    return list(report["views"]), report


def _saved(maps: Iterable[StereoDepth], scene: PosedScene, poses_folder: Path, folder: Path) -> Iterator[StereoDepth]:
    for result in maps:
        found = result.depth_map
        sigma = np.hypot(found.sigma, np.float32(POSE_ERROR) * found.depth)
        save_depth_map(folder, _unmasked(replace(found, sigma=sigma), scene, poses_folder))
        yield result


def _unmasked(depth_map: DepthMap, scene: PosedScene, poses_folder: Path) -> DepthMap:
    """The map without what the mask of its view's picture hides."""
    view = next(view for view in scene.views if view.name == depth_map.name)
    mask = read_mask(poses_folder, view)
    return depth_map if mask is None else depth_map.without_masked(mask, view.camera, view.world_from_camera)


def _add_stereo(
    scene: PosedScene, poses_folder: Path, params: DepthParams, out_dir: Path, *, with_gaps: bool
) -> dict[str, Any]:
    """Match some views, beside a scanner with gaps all; combine their sensor maps in `out_dir` with what that finds."""
    every, asked = (1, NEIGHBOURS_WITH_GAPS) if with_gaps else (STEREO_EVERY, NEIGHBOURS)
    training = [view.name for view in scene.training if view.sensor_depth]
    with tempfile.TemporaryDirectory(dir=out_dir) as scratch:
        folder = Path(scratch)
        maps = estimate_depth(scene, poses_folder, params, resume_folder(out_dir), names=training[::every])
        try:
            report = stereo_report(_saved(maps, scene, poses_folder, folder))
        except ReconstructionError as error:
            logger.warning("sensor depth alone is used: %s", error)
            return {"reason": f"the pictures could not be matched: {error}"}
        matched = set(report["views"])

        def both(name: str) -> Candidates:
            sensor, stereo = load_depth_map(out_dir, name), load_depth_map(folder, name)
            finer = with_gaps and stereo.camera.fx > sensor.camera.fx
            return candidates(seen_from(sensor, stereo) if finer else sensor, stereo)

        views = MapSet.pack(
            [small(evidence(both(name)) if name in matched else load_depth_map(out_dir, name)) for name in training]
        )
        neighbours = views.neighbours(asked)
        shares: dict[str, dict[str, float]] = {}
        for name, near in track(zip(training, neighbours, strict=True), "combine depth", len(training)):
            if name in matched:
                result = combine(both(name), views, near)
                save_depth_map(out_dir, result.depth_map)
                shares[name] = result.shares()
    return report | {key: float(np.mean([v[key] for v in shares.values()])) for key in next(iter(shares.values()))}


def _drop_conflicts(out_dir: Path, training: list[str]) -> dict[str, Any]:
    """Take out of the training maps what other views contradict, and say where that was."""
    found = find_conflicts([small(load_depth_map(out_dir, name)) for name in training])
    for name in found.masks:
        save_depth_map(out_dir, found.dropped_from(load_depth_map(out_dir, name)))
    if found.regions:
        views = ", ".join(sorted(found.masks)[:5])
        logger.warning(
            "other views contradict depth in %d regions of %d views (mirror, window, something moved?): %s",
            len(found.regions), len(found.masks), views,
        )  # fmt: skip
    return found.report()
