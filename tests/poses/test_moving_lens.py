"""Images whose declared intrinsics move from one to the next share a camera, each seen through its own lens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.capture.model import Capture, Frame, Selection
from pipeline.capture.model import Keyframe as SelectedFrame
from pipeline.geometry import Camera
from pipeline.poses.keyframes import load_keyframes

LENS = Camera(640, 480, 500.0, 498.0, 317.0, 243.0, (0.03, -0.02, 0.001, -0.002))


def keyframes(folder: Path, step: float):
    """Five images whose centre moves by `step` [px] and whose focal length grows by 0.2 %, read at half the size."""
    frames = []
    for n in range(5):
        camera = replace(LENS, fx=LENS.fx * (1 + 0.002 * n), cx=LENS.cx + step * n, cy=LENS.cy - step * n / 2)
        frames.append(Frame(f"{n}.png", f"{n}.png", camera, "given"))
    selection = Selection(tuple(SelectedFrame(f.name, False, 1.0) for f in frames))
    return load_keyframes(Capture(folder, "record3d", tuple(frames), True), selection, 320)


def test_a_point_lands_where_the_shared_camera_sees_it(tmp_path: Path) -> None:
    """Its pixel in an image, taken over to the shared camera, is the pixel there; with the lens as found, too."""
    moved = keyframes(tmp_path, 3.0)
    assert len({k.camera_id for k in moved}) == 1
    points = np.array([[-0.3, 0.2, 1.0], [0.1, -0.25, 1.0], [0.5, 0.35, 1.0]])
    shared = moved[0].camera
    estimated = replace(shared, fx=1.01 * shared.fx, fy=1.01 * shared.fy, cx=shared.cx + 0.7, cy=shared.cy - 0.4)
    for keyframe in moved:
        assert keyframe.own is not None
        there = keyframe.to_camera(keyframe.own.project(points).astype(np.float32))
        assert there == pytest.approx(shared.project(points), abs=1e-3)
        there = keyframe.to_camera(keyframe.lens(estimated).project(points).astype(np.float32))
        assert there == pytest.approx(estimated.project(points), abs=1e-3)


def test_small_steps_are_noise(tmp_path: Path) -> None:
    """Up to a pixel from the median, which serves all."""
    still = keyframes(tmp_path, 0.4)
    assert {k.own for k in still} == {None}
    assert still[4].lens(LENS) is LENS
