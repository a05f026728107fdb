"""Worlds of boxes: robots stand, feel the ground, and behave as in the engine with the whole mesh."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.errors import SimError
from pipeline.geometry import Mesh
from sim.controlled import find_robot
from sim.physics.mujoco_worlds import MujocoWorldsEngine
from sim.physics.sapien_engine import SapienEngine
from sim.physics.state import Dynamics, PhysicsEngine
from sim.robots.legs import reduced
from sim.robots.state import RobotState
from sim.scene.terrain import KINDS, LEVELS, TILE, make_terrain

pytest.importorskip("mujoco")
ROBOT = find_robot("go2")[0]
GROUND = make_terrain(seed=1)
MESH = GROUND.mesh()


def standing(positions: np.ndarray, yaw: np.ndarray) -> RobotState:
    """At rest over the ground."""
    height = GROUND.heights(positions) + ROBOT.base_height + 0.005
    nothing = np.zeros((len(yaw), 2))
    quaternion = np.column_stack([np.cos(yaw / 2), nothing, np.sin(yaw / 2)])
    rest = np.tile(ROBOT.default_position, (len(yaw), 1)).astype(np.float32)
    return RobotState.at_rest(np.column_stack([positions, height]), quaternion, rest)


def engine_with(count: int, kind: type[PhysicsEngine] = MujocoWorldsEngine, level: int = 4) -> PhysicsEngine:
    """Robots in the middle of stairs, or rather on their top."""
    robot = ROBOT if kind is MujocoWorldsEngine else reduced(ROBOT)
    engine = kind(robot, [MESH], count, 0.005)
    middle = GROUND.centre(np.full(count, KINDS.index("stairs")), np.full(count, level))[:, :2]
    engine.reset(np.arange(count), standing(middle, np.linspace(-2, 2, count)), np.zeros(count, np.int64))
    return engine


def test_robots_stand_on_boxes():
    """Their feet bear their weight, at the height of the top step."""
    engine = engine_with(3)
    engine.step(1000)
    state, forces = engine.read(), engine.contact_forces()
    np.testing.assert_allclose(forces.sum(1)[:, 2], ROBOT.mass * 9.81, rtol=0.02)
    feet = engine.foot_forces([0, 1, 2, 3])
    assert feet.shape == (3, 4, 3)
    np.testing.assert_allclose(feet.sum((1, 2)), forces.sum((1, 2)), rtol=1e-4)
    assert (feet[..., 2] > 10).all()
    np.testing.assert_allclose(state.position[:, 2], 0.5 + ROBOT.base_height, atol=0.06)
    np.testing.assert_allclose(np.linalg.norm(state.linear_velocity, axis=1), 0, atol=0.02)


def test_as_in_sapien():
    """Standing robots sag alike, in another engine with the same shapes."""
    here, there = engine_with(2), engine_with(2, SapienEngine)
    for engine in (here, there):
        engine.step(300)  # MuJoCo's soft contacts let feet creep, by a centimetre in a second
    np.testing.assert_allclose(here.read().position, there.read().position, atol=0.012)
    np.testing.assert_allclose(here.read().joint_position, there.read().joint_position, atol=0.08)


def test_turned_velocities():
    """A robot that falls while it turns: velocities of the base are those of the world's axes."""
    engine = engine_with(1)
    state = engine.read()
    spin, speed = np.array([[0.3, -0.4, 1.0]], np.float32), np.array([[1.0, -2.0, 3.0]], np.float32)
    thrown = RobotState(
        state.position + np.array([0, 0, 2]), state.quaternion, speed, spin, state.joint_position, state.joint_velocity
    )
    engine.reset(np.array([0]), thrown, np.array([0]))
    np.testing.assert_allclose(engine.read().angular_velocity, spin, atol=1e-6)
    engine.step(20)
    moved = engine.read().position - thrown.position
    np.testing.assert_allclose(moved, [[0.1, -0.2, 0.3 - 9.81 * 0.1**2 / 2]], atol=0.02)


def test_dynamics_are_each_robots_own():
    """A heavier robot presses more, and stronger actuators sag less."""
    engine = engine_with(3)
    ones = np.ones(1, np.float32)
    engine.set_dynamics(np.array([1]), Dynamics(ones, 1.5 * ones, ones))
    engine.set_dynamics(np.array([2]), Dynamics(ones, ones, 2 * ones))
    engine.step(1000)
    weight = engine.contact_forces().sum(1)[:, 2]
    base = ROBOT.links[0].mass
    np.testing.assert_allclose(weight[1] - weight[0], 0.5 * base * 9.81, rtol=0.03)
    assert weight[2] == pytest.approx(weight[0], rel=0.01)
    assert engine.read().position[2, 2] > engine.read().position[0, 2] + 0.005


def test_the_future_is_saved():
    """The same state gives the same future."""
    engine, rng = engine_with(4), np.random.default_rng(0)
    engine.step(10)
    targets = ROBOT.default_position + rng.normal(0, 0.2, (4, 12))
    saved = engine.save()
    engine.set_targets(targets.astype(np.float32))
    engine.step(20)
    first = engine.read()
    engine.restore(saved)
    engine.set_targets(targets.astype(np.float32))
    engine.step(20)
    np.testing.assert_array_equal(first.joint_position, engine.read().joint_position)


def test_tiles():
    """A robot has the ground of the tile where it begins."""
    engine = engine_with(2)
    place = GROUND.centre(np.array([KINDS.index("stairs"), KINDS.index("rubble")]), np.array([9, 0]))[:, :2]
    engine.reset(np.array([0, 1]), standing(place, np.zeros(2)), np.zeros(2, np.int64))
    engine.step(1000)
    np.testing.assert_allclose(engine.read().position[0, 2], 1.0 + ROBOT.base_height, atol=0.06)
    assert MESH.tile_at(place).tolist() == [KINDS.index("stairs") * LEVELS + 9, KINDS.index("rubble") * LEVELS]
    assert MESH.tile_at(np.array([[-5.0, TILE / 2]])).tolist() == [0]


def test_a_mesh_is_refused():
    """It says which engine takes one."""
    with pytest.raises(SimError, match="boxes") as caught:
        MujocoWorldsEngine(ROBOT, [Mesh.from_arrays(np.eye(3), np.array([[0, 1, 2]]))], 1)
    assert "sapien" in caught.value.remedy
