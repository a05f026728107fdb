"""The depth stage: one map a view, from the sensor or from the pictures."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.depth.maps import save_depth_map, write_index
from pipeline.depth.mvs import estimate_depth
from pipeline.depth.params import DepthParams
from pipeline.depth.sensor import measure_noise, sensor_depth_maps
from pipeline.errors import CaptureError
from pipeline.poses.scene import PosedScene
from pipeline.progress import track

logger = logging.getLogger(__name__)


def run(inputs: Mapping[str, Path], params: DepthParams, out_dir: Path) -> None:
    """Write one .npz a view and `depth.json`.

    Args:
        inputs: Folders of the stages capture and poses.
        params: With a concrete backend.
        out_dir: Existing folder to write to.

    Raises:
        CaptureError: When the sensor's depth is asked for and there is none, or it is damaged.
        ReconstructionError: When the views share too little to be matched.
    """
    scene = PosedScene.load(inputs["poses"])
    if params.backend == "sensor":
        names, report = _write_sensor_maps(scene, inputs["capture"], params, out_dir)
    elif params.backend == "mvs":
        names, report = _write_stereo_maps(scene, inputs["poses"], params, out_dir)
    else:
        raise ValueError(f"the depth stage needs a concrete backend, got {params.backend!r}")
    write_index(out_dir, names, params.backend, report)


def _write_sensor_maps(
    scene: PosedScene, capture_folder: Path, params: DepthParams, out_dir: Path
) -> tuple[list[str], dict[str, Any]]:
    count = sum(view.sensor_depth is not None for view in scene.views)
    if not count:
        raise CaptureError(
            "the sensor backend needs depth images",
            found="a capture without any",
            remedy="leave depth.backend at auto, or set it to mvs",
            file=capture_folder,
        )
    noise, comparisons = measure_noise(scene, capture_folder, params)
    logger.info(
        "sensor noise %.1f mm + %.2f mm/m^2 by %d comparisons", 1e3 * noise.constant, 1e3 * noise.quadratic, comparisons
    )
    names: list[str] = []
    per_view: dict[str, dict[str, float]] = {}
    for result in track(sensor_depth_maps(scene, capture_folder, params, noise), "depth", count):
        name = result.depth_map.name
        save_depth_map(out_dir, result.depth_map)
        names.append(name)
        per_view[name] = {"measured": result.measured, "kept": result.kept}
    return names, {
        "noise": {"constant": noise.constant, "quadratic": noise.quadratic, "comparisons": comparisons},
        "kept_share": float(np.mean([values["kept"] for values in per_view.values()])),
        "views": per_view,
    }


def _write_stereo_maps(
    scene: PosedScene, poses_folder: Path, params: DepthParams, out_dir: Path
) -> tuple[list[str], dict[str, Any]]:
    names: list[str] = []
    per_view: dict[str, dict[str, float]] = {}
    for result in estimate_depth(scene, poses_folder, params, out_dir):
        name = result.depth_map.name
        save_depth_map(out_dir, result.depth_map)
        names.append(name)
        per_view[name] = {
            "matched": result.matched,
            "kept": result.kept,
            "guessed": result.guessed,
            "disagreement": result.disagreement,
        }
    return names, {
        "kept_share": float(np.mean([values["kept"] for values in per_view.values()])),
        "guessed_share": float(np.mean([values["guessed"] for values in per_view.values()])),
        "relative_disagreement": float(np.median([values["disagreement"] for values in per_view.values()])),
        "views": per_view,
    }
