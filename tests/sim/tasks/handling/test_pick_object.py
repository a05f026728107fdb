"""An arm and an object that was scanned: where it begins, how it is seen, the expert, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import sim
from pipeline.errors import SimError
from pipeline.geometry import Gaussians, Pose, matrix_from_quaternion
from pipeline.types import F64
from sim.env import SceneEnv
from sim.physics.bodies import RigidBody
from sim.randomisation import Randomisation
from sim.robots.catalog import PACKAGE
from sim.scene.scene import SceneObject, SimScene
from tests.sim.tasks.handling.test_grasps import L, box
from tests.sim.tasks.handling.test_table import ARM

pytest.importorskip("mujoco")
if not PACKAGE.is_dir():
    pytest.skip("example-robot-data is not installed", allow_module_level=True)

PINK = (1.0, 0.1, 0.8)


def pink(corners: F64) -> Gaussians:
    """Gaussians at points (P, 3)."""
    count = len(corners)
    scales, quaternions = np.full((count, 3), 0.006), np.tile([1.0, 0, 0, 0], (count, 1))
    return Gaussians.from_colors(corners, scales, quaternions, np.tile(PINK, (count, 1)), 0.99, 1)


def with_object(scene: SimScene, *hulls: F64, count: int = 1) -> SimScene:
    """The scene with a loose object of 50 g, or more of it."""
    body = RigidBody("thing", hulls, 0.05, 0.6)
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.uniform(hull.min(0), hull.max(0), (400, 3)) for hull in hulls])
    one = SceneObject(body, Pose(np.eye(3), np.zeros(3)), lambda: pink(points))
    return replace(scene, objects=(one,) * count)


def picking(scene: SimScene, count: int, **config: Any) -> SceneEnv:
    """Arms that pick it up."""
    return sim.make("pick_object", [scene], count, robot="panda", **config)


def solved(env: SceneEnv) -> np.ndarray:
    """Whether the expert solves the first episodes (N,)."""
    seen, _ = env.reset(seed=3)
    ended, done = np.zeros(env.num_envs, bool), np.zeros(env.num_envs, bool)
    for _ in range(round(env.task.seconds / env.task.control_period)):
        seen, _, terminated, truncated, info = env.step(seen["expert"])
        now = (terminated | truncated) & ~ended
        if now.any():
            done[now], ended[now] = info["final_success"][now], True
        if ended.all():
            break
    assert ended.all()
    return done


def test_it_begins_anywhere_turned_any_way(room_scene: SimScene) -> None:
    """In its area, upright on the table, away from the mark; the scene has no other bodies, the hand is above it."""
    env = picking(with_object(room_scene, *L), 40, cameras=())
    env.reset(seed=0)
    assert [body.name for body in env.engine.bodies] == ["thing"]
    assert env.now
    base, bodies = env.now.state, env.engine.read_bodies()
    turn = matrix_from_quaternion(base.quaternion)
    place = np.einsum("nji,nj->ni", turn, bodies.position[:, 0] - base.position)
    item = env.task.items[0]
    low, high = np.array(item.area).T
    assert (place[:, :2] > low - 1e-3).all() and (place[:, :2] < high + 1e-3).all()
    np.testing.assert_allclose(place[:, 2], 0, atol=0.01)
    rotation = np.einsum("nji,njk->nik", turn, matrix_from_quaternion(bodies.quaternion[:, 0]))
    yaw = np.arctan2(rotation[:, 1, 0], rotation[:, 0, 0])
    assert yaw.min() < -2.5 and yaw.max() > 2.5
    hands = ARM.hands(env.now.state.joint_position)
    assert (hands[:, 2, 3] > 0.19).all()
    env.close()


def test_the_expert_succeeds(room_scene: SimScene) -> None:
    """On an L, which is held beside its middle and its origin."""
    env = picking(with_object(room_scene, *L), 24, cameras=(), expert=True)
    assert solved(env).mean() >= 0.95
    env.close()


def test_the_expert_succeeds_in_mujoco(room_scene: SimScene) -> None:
    """Its contacts are others."""
    env = picking(
        with_object(room_scene, box((-0.015, -0.05, 0), (0.015, 0.05, 0.05))),
        4,
        cameras=(),
        expert=True,
        engine="mujoco",
    )
    assert solved(env).mean() >= 0.75
    env.close()


def test_cameras_see_it_by_its_own_splat(room_scene: SimScene) -> None:
    """Where it stands; nothing is drawn as a solid."""
    env = picking(with_object(room_scene, *L), 3)
    seen, _ = env.reset(seed=1)
    assert env.solid_hulls == ()
    props = env.props()
    np.testing.assert_allclose(props.objects, env.engine.read_bodies().world_from_bodies, atol=1e-6)
    image = seen["third_rgb"].astype(int)
    looks_pink = (image[..., 0] - image[..., 1] > 60) & (image[..., 2] - image[..., 1] > 40)
    assert (looks_pink.sum((1, 2)) > 15).all()
    env.close()


def test_other_things_may_lie_there(room_scene: SimScene) -> None:
    """They are solids; the object is still the one that has a splat."""
    env = picking(with_object(room_scene, *L), 4, cameras=(), randomisation=Randomisation(distractors=3))
    env.reset(seed=1)
    props, poses = env.props(), env.engine.read_bodies().world_from_bodies
    np.testing.assert_array_equal(props.objects, poses[:, -1:])
    np.testing.assert_array_equal(props.solids.pose, poses[:, :-1])
    assert len(env.solid_hulls) == len(env.engine.bodies) - 1 == props.solids.color.shape[1]
    env.close()


def test_the_page_shows_it_where_it_is(room_scene: SimScene) -> None:
    """Among distractors, whose bodies come before it."""
    pytest.importorskip("viser")
    from flows.sim_view import SimPage, serve_sim

    env = picking(with_object(room_scene, *L), 1, cameras=(), randomisation=Randomisation(distractors=3))
    seen, _ = env.reset(seed=2)
    page = SimPage(env, serve_sim(18097, "a robot"))
    page.update(seen, {})
    shown = page.server.scene._handle_from_node_name["/object_0"]
    np.testing.assert_allclose(shown.position, env.engine.read_bodies().position[0, -1], atol=1e-5)
    page.close()
    env.close()


def test_it_is_the_same_in_two_scenes(room_scene: SimScene) -> None:
    """One body, wherever the arm is."""
    one = with_object(room_scene, *L)
    env = sim.make("pick_object", [one, one], 4, robot="panda", cameras=())
    env.reset(seed=1)
    assert len(env.engine.bodies) == 1
    assert (np.abs(env.engine.read_bodies().position) < 100).all()
    env.close()


@pytest.mark.parametrize("count", [0, 2])
def test_it_is_about_one_object(room_scene: SimScene, count: int) -> None:
    """None or several are refused, and so are different ones."""
    with pytest.raises(SimError, match=r"(?s)one loose object.*--objects NAME"):
        picking(with_object(room_scene, *L, count=count), 2)
    other = with_object(room_scene, box((-0.02, -0.02, 0), (0.02, 0.02, 0.04)))
    with pytest.raises(SimError, match="one loose object"):
        sim.make("pick_object", [with_object(room_scene, *L), other], 2, robot="panda")


def test_what_is_too_wide_is_refused(room_scene: SimScene) -> None:
    """Before anything is simulated."""
    with pytest.raises(SimError, match=r"(?s)gripper is too small for the object"):
        picking(with_object(room_scene, box((-0.12, -0.17, 0), (0.12, 0.17, 0.2))), 2)
