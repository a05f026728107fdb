"""Which seconds of a generated video hold together, on walks through a room whose walls begin to flow."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.capture.model import Capture
from pipeline.errors import ReconstructionError
from pipeline.geometry import fit_similarity
from pipeline.poses.params import PosesParams
from pipeline.poses.scene import PosedScene
from pipeline.poses.stage import run
from tests.poses.conftest import write_capture
from tests.synthetic import CAMERA, Room, walk

COUNT, RATE = 24, 4.0
POSES = walk(96)[:COUNT]
PARAMS = PosesParams(backend="colmap", mask_dynamic=False)


def flowing(room: Room, drift: list[float]) -> list[np.ndarray]:
    """Images of the walk whose surfaces have flowed by so much [m], everywhere another way."""
    images = []
    for pose, amount in zip(POSES, drift, strict=True):
        fine = CAMERA.resized(640, 480)
        place = room.cast(fine, pose)[0]
        x, y, z = np.moveaxis(place, -1, 0)
        away = np.stack([np.sin(3 * y + 2 * z), np.sin(2.5 * z + 3 * x + 1), np.sin(3 * x - 2 * y + 2)], -1)
        color = room._cell_colors[room._cells.query((place + amount * away).reshape(-1, 3))[1]]
        images.append(color.reshape(240, 2, 320, 2, 3).mean((1, 3)).round().astype(np.uint8))
    return images


def write_video_capture(folder: Path, images: list[np.ndarray], kind: str) -> dict[str, Path]:
    """As the reader of videos writes it, every eighth image held out."""
    inputs = write_capture(folder, images, CAMERA, held_out=range(0, COUNT, 8))
    capture = Capture.load(inputs["capture"])
    frames = [replace(f, time=i / RATE, source_time=i / RATE) for i, f in enumerate(capture.frames)]
    replace(capture, kind=kind, frames=tuple(frames), ordered=True, scale_sigma=None).save()
    return inputs


@pytest.fixture(scope="module")
def late(room: Room) -> list[np.ndarray]:
    """The walls flow from 4 s on, 3 cm an image."""
    return flowing(room, [max(0, i - 15) * 0.03 for i in range(COUNT)])


def test_seconds_that_drift_are_left_out(late: list[np.ndarray], tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """The report names the seconds, their frames are no views, and the rest gets the right track."""
    inputs = write_video_capture(tmp_path, late, "generated")
    with caplog.at_level(logging.WARNING):
        run(inputs, PARAMS, tmp_path)
    scene = PosedScene.load(tmp_path)
    assert scene.report["temporal_consistency"]["consistent_seconds"] == [[0, 4]]
    assert scene.report["temporal_consistency"]["inconsistent_seconds"] == [[4, 6]]
    assert "drifts at 4-6 s" in caplog.text
    assert [view.name for view in scene.views] == [f"{i:04d}.png" for i in range(16)]
    exact = np.array([pose.translation for pose in POSES[:16]])
    found = np.array([view.world_from_camera.translation for view in scene.views])
    assert np.abs(fit_similarity(found, exact).apply(found) - exact).max() < 0.02


@pytest.mark.slow
def test_a_filmed_video_is_not_asked(late: list[np.ndarray], tmp_path: Path):
    """Places that somebody filmed hold together."""
    run(write_video_capture(tmp_path, late, "video"), PARAMS, tmp_path)
    assert PosedScene.load(tmp_path).report["temporal_consistency"] is None


@pytest.mark.slow
def test_a_place_that_holds_together(room: Room, tmp_path: Path):
    """All seconds are usable, hardly a match is off."""
    run(write_video_capture(tmp_path, flowing(room, [0.0] * COUNT), "generated"), PARAMS, tmp_path)
    scene = PosedScene.load(tmp_path)
    assert scene.report["temporal_consistency"]["consistent_seconds"] == [[0, 6]]
    assert scene.report["temporal_consistency"]["inconsistent_seconds"] == []
    assert max(scene.report["temporal_consistency"]["violations"].values()) < 0.01
    assert len(scene.views) == COUNT


@pytest.mark.slow
def test_a_scene_that_drifts_most_of_the_time_is_refused(room: Room, tmp_path: Path):
    """The error says which seconds drift and what to do."""
    images = flowing(room, [max(0, i - 6) * 0.03 for i in range(COUNT)])
    with pytest.raises(ReconstructionError, match="one consistent scene") as caught:
        run(write_video_capture(tmp_path, images, "generated"), PARAMS, tmp_path)
    assert "of 6 seconds" in str(caught.value)
    assert "capture.start" in str(caught.value)
