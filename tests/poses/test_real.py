"""Metrics on real captures."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline.capture import stage as capture_stage
from pipeline.capture.model import Capture, Selection
from pipeline.capture.model import Keyframe as SelectedFrame
from pipeline.capture.params import CaptureParams
from pipeline.geometry import fit_similarity
from pipeline.poses.params import PosesParams
from pipeline.poses.scene import PosedScene
from pipeline.poses.stage import run
from tests.paths import REDKITCHEN, needs_real


@pytest.mark.real
@pytest.mark.slow
@needs_real
def test_the_kitchens_colour_camera_is_not_the_declared_one(tmp_path: Path):
    """Fifty frames of the walk tell f = 523 from the declared 585, lay depth onto the images, and keep the scale."""
    source, capture, select = tmp_path / "source", tmp_path / "capture", tmp_path / "select"
    source.mkdir()
    select.mkdir()
    shutil.copy(REDKITCHEN / "camera-intrinsics.txt", source)
    for color in sorted(REDKITCHEN.glob("frame-*.color.jpg"))[::4]:
        for path in REDKITCHEN.glob(color.name.replace("color.jpg", "*")):
            shutil.copy(path, source)
    capture_stage.run({"source": source}, CaptureParams(), capture)
    frames = Capture.load(capture).frames
    by_name = {frame.name: frame.world_from_camera.translation for frame in frames if frame.world_from_camera}
    Selection(tuple(SelectedFrame(frame.name, i % 8 == 0, 1.0) for i, frame in enumerate(frames))).save(select)
    out = tmp_path / "poses"
    out.mkdir()
    run({"capture": capture, "select": select}, PosesParams(backend="refined"), out)
    scene = PosedScene.load(out)
    found, calibration = scene.report["cameras"]["1"]["found"], scene.report["calibration"]
    assert len(scene.views) == 50
    assert found["fx"] == pytest.approx(523, abs=10)
    assert scene.report["held_out_reprojection_error_px"] < 1.5
    assert calibration["residual_median_m"] < 0.7 * calibration["residual_median_declared_m"]
    given = np.array([by_name[view.name] for view in scene.views])
    found_places = np.array([view.world_from_camera.translation for view in scene.views])
    assert fit_similarity(found_places, given).scale == pytest.approx(1, abs=0.03)
