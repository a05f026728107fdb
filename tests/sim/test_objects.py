"""Loose objects of a bundle in a simulation: opened, seen, moved, and put back at the start of an episode."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import sim
from flows.cli import main
from flows.sim_view import SimPage, serve_sim
from pipeline.errors import BundleError, SimError
from pipeline.geometry import Mesh
from pipeline.geometry.rays import RayCaster
from pipeline.scenes.manifest import file_sha256
from sim.env import SceneEnv
from sim.physics.bodies import BodyState
from sim.scene.opening import open_scene
from tests.objects.furniture import BOXES, JOINT, with_joint


@pytest.fixture()
def env(cut_room: Path) -> SceneEnv:
    """Three rovers, each with its own objects."""
    return sim.make("navigate", [cut_room], 3, objects=["all"], seed=0)


def height_at(mesh: Mesh, x: float, y: float) -> float:
    """Of the highest surface below 1.5 m."""
    return 1.5 - float(RayCaster(mesh).cast(np.array([[x, y, 1.5]]), np.array([0, 0, -1.0])).distance[0])


def test_without_names_the_scene_is_whole(cut_room: Path):
    """As other versions are."""
    scene = open_scene(cut_room)
    assert scene.objects == ()
    (x, y, _), size, _ = BOXES["crate"]
    assert height_at(scene.collision, x + 0.15, y) == pytest.approx(size[2], abs=0.03)


def test_the_chosen_are_loose_the_others_stand(cut_room: Path):
    """In the mesh and in the splat."""
    everything = open_scene(cut_room, objects=["all"])
    assert len(everything.objects) == len(BOXES)
    (x, y, _), size, _ = BOXES["crate"]
    assert height_at(everything.collision, x + 0.15, y) == pytest.approx(0, abs=0.01)
    parcel = min(
        everything.objects,
        key=lambda one: np.linalg.norm(one.world_from_body.translation - BOXES["mug on the table"][0]),
    )
    one = open_scene(cut_room, objects=[parcel.body.name])
    assert [other.body.name for other in one.objects] == [parcel.body.name]
    assert height_at(one.collision, x + 0.15, y) == pytest.approx(size[2], abs=0.03)
    others = sum(len(other.splat()) for other in everything.objects if other.body.name != parcel.body.name)
    assert len(one.gaussians) == len(everything.gaussians) + others


def test_what_a_joint_holds_moves_on_it(cut_room: Path, tmp_path: Path):
    """Pushed in one of two robots' rooms, it is seen elsewhere there, and back in the next episode."""
    folder = with_joint(cut_room, tmp_path / "room" / "1.1.0", JOINT)
    env = sim.make("navigate", [folder], 2, objects=["all"], seed=0)
    number = next(number for number, body in enumerate(env.engine.bodies) if body.joint)
    joint = env.engine.bodies[number].joint
    assert joint
    assert len(env.scenes[0].objects) == len(BOXES)
    env.reset(seed=0)
    first = env.engine.read_bodies()
    for field in ("position", "quaternion", "linear_velocity", "angular_velocity"):
        getattr(first, field)[1, number] = getattr(joint.state(np.array([0.5]), np.array([0.4])), field)[0]
    env.engine.place_bodies(np.arange(2), first)
    env.step(np.zeros((2, env.controller.size), np.float32))
    travel, _ = joint.travel(env.engine.read_bodies()[:, number])
    assert travel[0] == pytest.approx(0, abs=1e-3)
    assert 0.05 < travel[1] < 0.45, "its axis is askew, so that it falls back"
    seen = env.props().objects[:, number]
    np.testing.assert_allclose(seen[0], joint.world_from_body.matrix, atol=1e-3)
    turned = joint.state(travel[1:], np.zeros(1)).world_from_bodies[0]
    np.testing.assert_allclose(seen[1], turned, atol=1e-4)
    env.reset(seed=1)
    again, _ = joint.travel(env.engine.read_bodies()[:, number])
    np.testing.assert_allclose(again, 0, atol=1e-5)
    env.close()


@pytest.mark.parametrize("reference", ["bundle", "terrain:0"])
def test_no_such_object_is_said(cut_room: Path, reference: str):
    """Nor in procedural ground."""
    with pytest.raises(SimError, match="cut out"):
        open_scene(cut_room if reference == "bundle" else reference, objects=["sofa"])


def test_they_start_where_they_stood_and_stay(env: SceneEnv):
    """In every episode, although they were moved in the last."""
    env.reset(seed=0)
    first = env.engine.read_bodies().position
    for _ in range(5):
        env.step(np.zeros((3, env.controller.size), np.float32))
    np.testing.assert_allclose(env.engine.read_bodies().position, first, atol=0.003)
    moved = BodyState.at_rest(first + np.array([0, 0, 0.5], np.float32), env.engine.read_bodies().quaternion)
    env.engine.place_bodies(np.arange(3), moved)
    env.reset(seed=1)
    np.testing.assert_array_equal(env.engine.read_bodies().position, first)
    env.close()


def test_cameras_see_them_where_they_are(env: SceneEnv):
    """Lifted before its camera, one is in the next image."""
    env.reset(seed=0)
    bodies, robots = env.engine.read_bodies(), env.engine.read()
    before = env.cameras[0].shoot(np.arange(3), robots, env.scene_of, env.props())["rgb"]
    ahead = robots.position + 0.8 * robots.world_from_base[:, :, 0] + np.array([0, 0, 0.1])
    place = bodies.position.copy()
    place[1, 0] = ahead[1]
    env.engine.place_bodies(np.arange(3), BodyState.at_rest(place, bodies.quaternion))
    after = env.cameras[0].shoot(np.arange(3), robots, env.scene_of, env.props())["rgb"]
    changed = np.abs(after - before).mean((1, 2, 3))
    assert changed[1] > 0.01
    assert changed[[0, 2]].max() == 0
    env.close()


def test_a_state_comes_back(env: SceneEnv):
    """With the objects, whose places come back to the last digit or so, in images too."""
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (12, 3, env.controller.size)).astype(np.float32)
    env.step(actions[0])
    saved = env.save()
    first = [env.step(action)[0]["rgb"].astype(int) for action in actions]
    env.restore(saved)
    second = [env.step(action)[0]["rgb"].astype(int) for action in actions]
    np.testing.assert_allclose(first, second, atol=1)
    assert np.mean(np.array(first) != second) < 1e-4
    env.close()


def test_the_page_shows_them_where_they_are(env: SceneEnv):
    """Those of the first robot."""
    page = SimPage(env, serve_sim(18095, "a robot"))
    seen, _ = env.reset(seed=0)
    bodies = env.engine.read_bodies()
    place = bodies.position + np.array([0, 0, 0.7], np.float32)
    env.engine.place_bodies(np.arange(3), BodyState.at_rest(place, bodies.quaternion))
    page.update(seen, {})
    nodes = page.server.scene._handle_from_node_name
    for number in range(len(BOXES)):
        np.testing.assert_allclose(nodes[f"/object_{number}"].position, place[0, number], atol=1e-5)
    page.close()
    env.close()


@pytest.mark.parametrize("hull", [[[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]], [[0, 0, 0]] * 4, [[0, 0, 1e-9]] * 5])
def test_flat_pieces_are_refused(cut_room: Path, tmp_path: Path, hull: list[list[float]]):
    """Of a bundle of others, before an engine gets them."""
    folder = tmp_path / "room" / "1.1.0"
    shutil.copytree(cut_room, folder)
    file = next((folder / "objects").glob("*/object.json"))
    record = json.loads(file.read_text())
    file.write_text(json.dumps(record | {"hulls": [*record["hulls"], hull]}))
    manifest = json.loads((folder / "bundle.json").read_text())
    entry = manifest["files"][file.relative_to(folder).as_posix()]
    entry["bytes"], entry["sha256"] = file.stat().st_size, file_sha256(file)
    (folder / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="solids"):
        open_scene(folder, objects=["all"])


def test_from_a_registry_only_what_is_needed_comes(cut_room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """And all of that at once: another process loads the splats."""
    monkeypatch.setenv("SPLATYARD_CACHE", str(tmp_path / "cache"))
    yard = f"registry:{tmp_path / 'yard'}"
    assert main(["publish", str(cut_room), "--to", yard]) == 0
    scene = open_scene(f"{yard}/room@1.1.0", objects=["all"])
    shutil.rmtree(tmp_path / "yard")
    assert len(scene.gaussians) > 1000
    assert all(len(one.splat()) > 10 for one in scene.objects)
    names = {path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    assert {"rest_sim.ply", "rest_collision.ply", "object.json"} <= names
    assert not {"splat.ply", "mesh.ply", "rest.ply"} & names
