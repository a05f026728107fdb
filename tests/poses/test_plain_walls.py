"""Walks whose images show next to nothing: given poses are a prior, not all or nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import ReconstructionError
from pipeline.geometry import Pose
from pipeline.poses.params import PosesParams
from pipeline.poses.scene import PosedScene
from pipeline.poses.stage import run
from tests.poses.by_depth.walks import LENS, drifting, error_of, matrices, noisy_depth
from tests.poses.conftest import write_capture
from tests.synthetic import CAMERA, Room, walk

COUNT, HELD_OUT = 36, (5, 13, 21, 29)
TRUTH = walk(COUNT)
REFINED = PosesParams(backend="refined", mask_dynamic=False)


def plain_images(rng: np.random.Generator) -> list[np.ndarray]:
    """White walls: nothing but noise."""
    shape = (CAMERA.height, CAMERA.width, 3)
    return [np.clip(rng.normal([182, 180, 176], 1.5, shape), 0, 255).astype(np.uint8) for _ in TRUTH]


def posed(folder: Path, images: list[np.ndarray], given: list[Pose], depths: list[np.ndarray] | None) -> PosedScene:
    """The stage's result."""
    inputs = write_capture(folder, images, CAMERA, poses=given, depths=depths, depth_camera=LENS, held_out=HELD_OUT)
    run(inputs, REFINED, folder)
    return PosedScene.load(folder)


@pytest.mark.parametrize(("textured", "path"), [(0, "depth"), (6, "depth"), (26, "depth"), (40, "sensor")])
def test_depth_corrects_what_no_match_could(room: Room, tmp_path: Path, textured: int, path: str):
    """All views have poses, held-out ones too, within a centimetre; the images decide only where they determine all."""
    rng = np.random.default_rng(21)
    images = plain_images(rng)
    images[:textured] = [room.render(CAMERA, pose, samples=1)[0] for pose in TRUTH[:textured]]
    given = drifting(TRUTH, rng)
    scene = posed(tmp_path, images, given, [noisy_depth(room, pose, rng) for pose in TRUTH])
    found = matrices([view.world_from_camera for view in scene.views])
    assert len(found) == COUNT
    assert error_of(matrices(given), TRUTH) > 0.015
    assert error_of(found, TRUTH) < 0.009
    assert scene.report.get("path") == path
    assert all(view.sigma_position is not None and 0.0003 < view.sigma_position < 0.02 for view in scene.views)
    assert scene.scale_sigma is not None
    assert any("corrected by the depth images" in note for note in scene.report["notes"])


def test_without_depth_views_stay_where_they_were_given(tmp_path: Path):
    """With the sensor's sigma; nothing is refused."""
    rng = np.random.default_rng(22)
    given = drifting(TRUTH, rng)
    scene = posed(tmp_path, plain_images(rng), given, None)
    assert scene.report.get("path") == "given"
    np.testing.assert_allclose(matrices([view.world_from_camera for view in scene.views]), matrices(given), atol=1e-9)
    assert {view.sigma_position for view in scene.views} == {REFINED.sensor_sigma_position}


def test_poses_that_depth_contradicts_are_named(room: Room, tmp_path: Path):
    """No images could help: the error says what is wrong, and the setting that would go on."""
    rng = np.random.default_rng(23)
    shuffled = [TRUTH[i] for i in rng.permutation(COUNT)]
    with pytest.raises(ReconstructionError, match=r"depth images contradict[\s\S]*poses\.backend=sensor"):
        posed(tmp_path, plain_images(rng), shuffled, [noisy_depth(room, pose, rng) for pose in TRUTH])
