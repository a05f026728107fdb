"""The depth stage: one map for each view, from the sensor, from the images, from both, or from a network."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.depth.free_space import find_violations, small
from pipeline.depth.maps import load_depth_map, save_depth_map, write_index
from pipeline.depth.params import BACKENDS, DepthParams
from pipeline.poses.scene import PosedScene

logger = logging.getLogger(__name__)


def run(inputs: Mapping[str, Path], params: DepthParams, out_dir: Path) -> None:
    """Write one .npz for each view, and `depth.json`.

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
    params = params.changed(max_range=params.max_range or scene.depth_range or 0.0)
    names, report = BACKENDS[params.backend].load()(scene, inputs, params, out_dir)
    report["conflicts"] = _drop_violations(out_dir, [view.name for view in scene.training if view.name in set(names)])
    write_index(out_dir, names, params.backend, report)


def _drop_violations(out_dir: Path, training: list[str]) -> dict[str, Any]:
    """Take out of the training maps what other views contradict, and say where that was."""
    found = find_violations([small(load_depth_map(out_dir, name)) for name in training])
    for name in found.masks:
        save_depth_map(out_dir, found.remove_from(load_depth_map(out_dir, name)))
    if found.regions:
        views = ", ".join(sorted(found.masks)[:5])
        logger.warning(
            "other views contradict depth in %d regions of %d views (mirror, window, something moved?): %s",
            len(found.regions), len(found.masks), views,
        )  # fmt: skip
    return found.report()
