"""The poses stage with a stand-in of VGGT on the synthetic room, against exact poses."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.errors import MachineError
from pipeline.geometry import Camera, angle_deg
from pipeline.poses.params import PosesParams
from pipeline.poses.scene import PosedScene
from pipeline.poses.stage import run
from tests.fakes import scene
from tests.fakes.simulated_network import Simulated, Truth
from tests.fakes.weights import install, save_weights
from tests.poses.conftest import Rendered, noisy, write_capture
from tests.poses.test_stage import HELD_OUT, track_error
from tests.synthetic import Room

GUESSED = Camera(320, 240, 300, 300, 160, 120)


@pytest.fixture(scope="module")
def truth(rendered: Rendered, room: Room) -> Truth:
    """Depth as large as the network's."""
    camera = rendered.camera.resized(518, 392)
    return Truth(camera, rendered.poses, [room.cast(camera, pose)[1] for pose in rendered.poses])


@pytest.fixture
def network(monkeypatch, rendered: Rendered, truth: Truth) -> Simulated:
    """The stand-in, which sees the room."""
    install(monkeypatch)
    simulated = Simulated(truth)
    scene.show(scene.SeenPlace(simulated, rendered.images))
    return simulated


def weights(tmp_path: Path) -> str:
    """Of the stand-in."""
    return str(save_weights(tmp_path / "weights"))


def test_photos_through_the_network(network, rendered, tmp_path):
    """Poses are as good as from the images alone; held-out views are localised and never shown to the network."""
    inputs = write_capture(tmp_path, rendered.images, GUESSED, held_out=HELD_OUT)
    run(inputs, PosesParams(backend="vggt", weights=weights(tmp_path)), tmp_path)
    found = PosedScene.load(tmp_path)
    error, _ = track_error(found.training, rendered.poses, with_scale=True)
    assert len(found.views) == len(rendered.poses) and error < 0.01
    assert found.views[0].camera.fx == pytest.approx(rendered.camera.fx, rel=0.02)
    assert not set(HELD_OUT) & {i for asked in network.asked for i in asked}
    assert track_error(found.views, rendered.poses, with_scale=True)[0] < 0.01
    kept = json.loads((tmp_path / "network" / "network.json").read_text())
    assert set(kept["views"]) == {view.name for view in found.training}
    assert found.report["chunks"]["runs"] == 1 and "weights of unknown licence" in found.report["licence"]
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("tmp")) == []


def test_the_network_s_poses_as_they_are(network, rendered, tmp_path):
    """Without adjustment its own noise remains, and points are still made; here by the second network."""
    size = 504, 378
    depths = [cv2.resize(depth, size, interpolation=cv2.INTER_NEAREST) for depth in network.truth.depths]
    network.truth = Truth(rendered.camera.resized(*size), rendered.poses, depths)
    inputs = write_capture(tmp_path, rendered.images, rendered.camera)
    given = str(save_weights(tmp_path / "weights", network="depth_anything_3"))
    run(inputs, PosesParams(backend="depth_anything_3", weights=given, adjust=False), tmp_path)
    found = PosedScene.load(tmp_path)
    error, _ = track_error(found.views, rendered.poses, with_scale=True)
    assert 0.002 < error < 0.02 and len(found.views) == len(rendered.poses)
    assert len(found.points.xyz) > 300


def test_a_sensor_s_poses_anchor_the_network_s(network, rendered, tmp_path):
    """With noisy metric poses of the source the result is in its frame and in metres."""
    given = noisy(rendered.poses, np.random.default_rng(1), 0.02, 0.5)
    inputs = write_capture(tmp_path, rendered.images, rendered.camera, poses=given, held_out=HELD_OUT)
    network.fits = 8
    run(inputs, PosesParams(backend="vggt", weights=weights(tmp_path)), tmp_path)
    found = PosedScene.load(tmp_path)
    assert found.scale_sigma is not None and found.scale_sigma < 0.05
    turn = [
        float(angle_deg(v.world_from_camera.rotation, rendered.poses[int(v.name[:4])].rotation)) for v in found.views
    ]
    shift = [
        np.linalg.norm(v.world_from_camera.translation - rendered.poses[int(v.name[:4])].translation)
        for v in found.views
    ]
    assert np.median(turn) < 0.3 and np.median(shift) < 0.015


def test_images_without_answer_are_named(network, rendered, tmp_path):
    """An image of which nothing finite was found is reported; the others are built."""
    network.nan = (3,)
    inputs = write_capture(tmp_path, rendered.images, rendered.camera)
    run(inputs, PosesParams(backend="vggt", weights=weights(tmp_path)), tmp_path)
    found = PosedScene.load(tmp_path)
    assert found.report["not_finite"] == ["0003.png"]
    assert "vggt gave nothing finite for 1 keyframe" in found.report["notes"]
    assert len(found.views) == len(rendered.poses) - 1


def test_no_memory_for_two_images(network, rendered, tmp_path):
    """One clear error."""
    network.fits = 1
    inputs = write_capture(tmp_path, rendered.images[:6], rendered.camera)
    with pytest.raises(MachineError, match="not even 2 images"):
        run(inputs, PosesParams(backend="vggt", weights=weights(tmp_path)), tmp_path)
