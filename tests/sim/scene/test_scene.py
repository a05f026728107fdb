"""What opens as a scene, what is refused, and what the record says."""

from __future__ import annotations

import json
import logging
import pickle
from pathlib import Path

import numpy as np
import pytest

import sim
from pipeline.errors import BundleError, SimError
from pipeline.importing.gaussgym import read_gaussgym, write_gaussgym
from sim.scene.opening import open_scene
from sim.scene.scene import SimScene
from sim.scene.terrain_splat import splat_of
from tests.bundles import make_bundle
from tests.synthetic import Room, walk


def rewrite(bundle: Path, change) -> None:
    """Change the manifest in place."""
    content = json.loads((bundle / "bundle.json").read_text())
    change(content)
    (bundle / "bundle.json").write_text(json.dumps(content))


@pytest.fixture
def gaussgym(tmp_path: Path, room: Room, room_scene: SimScene) -> Path:
    """The room as a scene of GaussGym."""
    folder = tmp_path / "some_room"
    folder.mkdir()
    write_gaussgym(folder, room.mesh, room_scene.gaussians, [np.array([pose.matrix for pose in walk(16)])])
    return folder


def test_gaussgym_scene_is_known_by_its_content(gaussgym: Path, room_scene: SimScene, caplog):
    """The floor is found as for a bundle, and nobody pretends to know its quality."""
    with caplog.at_level(logging.WARNING):
        scene = open_scene(gaussgym)
    assert "gates are unknown" in caplog.text
    assert (scene.lock.gates, scene.lock.failed_gates, scene.lock.reference) == ("unknown", (), "some_room")
    assert scene.lock.sha256 == read_gaussgym(gaussgym).sha256
    assert (scene.regions.drivable == room_scene.regions.drivable).all()


def test_robots_drive_in_a_gaussgym_scene(gaussgym: Path):
    """Through `sim.make`, as in a bundle; they see its splat."""
    env = sim.make("navigate", [gaussgym], 3, seed=2)
    seen, _ = env.reset(seed=2)
    assert seen["rgb"].std() > 20
    env.close()


def test_scenes_go_to_other_processes(gaussgym: Path, tmp_path: Path, room: Room):
    """Before and after their splat was loaded."""
    for source in (gaussgym, make_bundle(tmp_path, room), "terrain:0:flat:0"):
        scene = open_scene(source, allow_failed=True)
        assert len(pickle.loads(pickle.dumps(scene)).gaussians) == len(scene.gaussians)
        assert len(pickle.loads(pickle.dumps(scene)).gaussians) == len(scene.gaussians)


def test_gaussgym_scene_without_floor_is_refused(tmp_path: Path, room: Room, room_scene: SimScene):
    """Its mesh hangs far below the way."""
    way = np.array([pose.matrix for pose in walk(16)])
    way[:, 2, 3] += 50
    write_gaussgym(tmp_path, room.mesh, room_scene.gaussians, [way])
    with pytest.raises(SimError, match="a scene needs a floor"):
        open_scene(tmp_path)


def test_missing_level_is_made_and_said(tmp_path: Path, room: Room, caplog):
    """Of all Gaussians, without their view-dependent colour."""
    bundle = make_bundle(tmp_path, room)
    rewrite(bundle, lambda content: content["splats"].pop("sim"))
    with caplog.at_level(logging.WARNING):
        gaussians = open_scene(bundle).gaussians
    assert "no level of detail 'sim': it is made in memory" in caplog.text
    assert (len(gaussians), gaussians.sh.shape[1]) == (200, 1)


@pytest.mark.parametrize("gravity", [(0.0, -9.81, 0.0), (0.0, 0.0, 9.81), (0.3, 0.0, -9.8), (0.0, 0.0, -1.62)])
def test_gravity_along_another_axis_is_refused(tmp_path: Path, room: Room, gravity: tuple[float, float, float]):
    """A manifest whose gravity isn't down the z axis of its mesh."""
    bundle = make_bundle(tmp_path, room)
    rewrite(bundle, lambda content: content["frame"].update(gravity=gravity))
    with pytest.raises(SimError, match="gravity"):
        open_scene(bundle)


def test_gates_are_in_the_record(tmp_path: Path, room: Room):
    """Passed, or failed and taken all the same; a local one has no commit."""
    good, bad = make_bundle(tmp_path / "good", room), make_bundle(tmp_path / "bad", room, failing=True)
    assert (open_scene(good).lock.gates, open_scene(good).lock.commit) == ("passed", "")
    assert open_scene(bad, allow_failed=True).lock.gates == "failed"


def test_folder_that_is_neither_is_refused(tmp_path: Path):
    """Only one of GaussGym's two folders."""
    (tmp_path / "meshes").mkdir()
    with pytest.raises(BundleError, match=r"bundle\.json"):
        open_scene(tmp_path)


def test_a_splat_is_made_when_first_seen(monkeypatch):
    """A simulation without cameras doesn't wait for it."""
    made = []
    monkeypatch.setattr("sim.scene.terrain_splat.splat_of", lambda terrain: made.append(terrain) or splat_of(terrain))
    sim.make("walk", ["terrain:0:flat:0"], 1, robot="go2", cameras=()).close()
    assert not made
    scene = open_scene("terrain:0:flat:0")
    assert scene.gaussians is scene.gaussians
    assert len(made) == 1
