"""The depth stage: one map per view from the sensor, the images, both, or a network."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from pipeline.depth.free_space import find_violations, small
from pipeline.depth.maps import load_depth_map, save_depth_map, write_index
from pipeline.depth.params import BACKENDS, DepthParams
from pipeline.poses.scene import PosedScene

logger = logging.getLogger(__name__)


def run(inputs: Mapping[str, Path], params: DepthParams, out_dir: Path) -> None:
    """Read capture and poses; write one .npz for each view, and `depth.json`.

    Raises:
        CaptureError: When the backend needs sensor depth that is missing or damaged.
        MachineError: When a network can't run.
        ReconstructionError: When the views share too little to be matched.
    """
    scene = PosedScene.load(inputs["poses"])
    params = params.changed(max_range=params.max_range or scene.depth_range or 0.0)
    names, report = BACKENDS[params.backend].load()(scene, inputs, params, out_dir)
    training = [view.name for view in scene.training if view.name in set(names)]
    violations = find_violations([small(load_depth_map(out_dir, name)) for name in training])
    for name in violations.masks:
        save_depth_map(out_dir, violations.remove_from(load_depth_map(out_dir, name)))
    if violations.regions:
        logger.warning(
            "other views contradict depth in %d regions of %d views (mirror, window, motion?): %s",
            len(violations.regions),
            len(violations.masks),
            ", ".join(sorted(violations.masks)[:5]),
        )
    report["conflicts"] = violations.report()
    write_index(out_dir, names, params.backend, report)
