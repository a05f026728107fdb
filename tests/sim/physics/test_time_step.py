"""The long time step of driving tasks: rovers do in it what they do in short ones, and crashes are seen."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.constants import GRAVITY
from pipeline.geometry import Mesh
from pipeline.types import F32, F64
from sim.controlled import find_robot
from sim.physics.catalog import find_engine
from sim.physics.state import PhysicsEngine
from sim.robots.state import RobotState
from sim.tasks.driving.driving_tasks import NAVIGATE
from sim.tasks.terms import COLLISION_FORCE
from tests.sim.physics.test_conformance import floor

SHORT, LONG = 0.004, NAVIGATE.time_step
PERIOD = NAVIGATE.control_period
ROVER, DRIVE = find_robot("rover")
FRONT, HALF_WIDTH, WHEEL, RADIUS = 0.2, 0.13, 0.16, 0.08
"""Of the rover: the hull's front and side, the wheels' place to the side and their radius [m]."""
WALL = 1.0
"""Where along x a wall stands [m]."""
AT_RIDGE, RIDGE = 0.4, 0.018
"""Where along x a ridge is, and how high [m]."""
CASES = [("sapien", SHORT), ("sapien", LONG), ("mujoco", LONG)]


def bumpy() -> Mesh:
    """A floor that is uneven by millimetres, as scanned ones are."""
    level = floor()
    noise = np.random.default_rng(1).normal(0, 0.001, len(level.vertices))
    return Mesh.from_arrays(level.vertices + np.c_[np.zeros((len(noise), 2)), noise], level.triangles)


def walled(level: Mesh | None = None) -> Mesh:
    """A level floor with a wall across."""
    level = level or floor()
    y, z = (grid.ravel() for grid in np.meshgrid(np.linspace(-4, 4, 21), np.linspace(-0.1, 0.9, 6), indexing="ij"))
    number = np.arange(21 * 6).reshape(21, 6)
    low, right, top, corner = number[:-1, :-1], number[1:, :-1], number[:-1, 1:], number[1:, 1:]
    sides = np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((low, corner, right), (low, top, corner))])
    vertices = np.concatenate([level.vertices, np.c_[np.full(len(y), WALL), y, z]])
    return Mesh.from_arrays(vertices, np.concatenate([level.triangles, sides + len(level.vertices)]))


def ridged() -> Mesh:
    """A level floor with a ridge across, as between two scans."""
    level = floor()
    ends = np.array([-4, 4])[:, None, None]
    profile = np.array([[AT_RIDGE - 0.03, 0], [AT_RIDGE, RIDGE], [AT_RIDGE + 0.03, 0]])
    vertices = np.stack(np.broadcast_arrays(profile[:, 0], ends[..., 0], profile[:, 1]), -1).reshape(-1, 3)
    triangles = np.array([[0, 1, 3], [1, 4, 3], [1, 2, 4], [2, 5, 4]])
    return Mesh.from_arrays(
        np.concatenate([level.vertices, vertices]), np.concatenate([level.triangles, triangles + len(level.vertices)])
    )


def placed(name: str, mesh: Mesh, time_step: float, x: F64, yaw: F64) -> PhysicsEngine:
    """Rovers at rest at places (N,) on the x axis, with headings (N,)."""
    count, nothing = len(x), np.zeros(len(x))
    engine = find_engine(name)(ROVER, [mesh], count, time_step)
    quaternion = np.column_stack([np.cos(yaw / 2), nothing, nothing, np.sin(yaw / 2)])
    at = np.column_stack([x, nothing, np.full(count, 0.01)])
    state = RobotState.at_rest(at, quaternion, np.zeros((count, len(ROVER.default_position)), np.float32))
    engine.reset(np.arange(count), state, np.zeros(count, np.int64))
    return engine


def bumps(engine: PhysicsEngine) -> F32:
    """Horizontal forces on the bases (N,), as shares of the weight."""
    return np.linalg.norm(engine.contact_forces()[:, 0, :2], axis=1) / np.float32(ROVER.mass * GRAVITY)


def yaw_of(state: RobotState) -> F32:
    """Headings (N,) of robots that stand level [rad]."""
    return 2 * np.arctan2(state.quaternion[:, 3], state.quaternion[:, 0])


@pytest.mark.parametrize("name", ["sapien", "mujoco"])
def test_long_steps_lead_where_short_ones_do(name: str) -> None:
    """40 rovers on uneven ground do the same random things for 3 s: all are still together, and none felt a bump."""
    ends = []
    for time_step in (SHORT, LONG):
        rng = np.random.default_rng(4)
        engine = placed(name, bumpy(), time_step, np.zeros(40), rng.uniform(-np.pi, np.pi, 40))
        for _ in range(5):
            engine.set_targets(DRIVE.command(rng.uniform(-1, 1, (40, 2)).astype(np.float32)))
            for _ in range(3):
                engine.step(round(PERIOD / time_step))
                assert bumps(engine).max() < COLLISION_FORCE / 2
        ends.append(engine.read())
        engine.close()
    assert np.linalg.norm(ends[0].position[:, :2], axis=1).max() > 1.0  # they went somewhere
    apart = np.linalg.norm(ends[0].position - ends[1].position, axis=1)
    turned = np.abs(np.angle(np.exp(1j * (yaw_of(ends[0]) - yaw_of(ends[1])))))
    assert np.median(apart) < 0.015  # as far as one engine from the other
    assert apart.max() < 0.05
    assert turned.max() < np.deg2rad(5)


@pytest.mark.parametrize(("name", "time_step"), CASES)
def test_wheels_do_as_told(name: str, time_step: float) -> None:
    """Half a second after an order speed and turn are right, and nothing bounces at any time."""
    forward, turn = (grid.ravel() for grid in np.meshgrid([-0.2, 0.1, 0.5, 0.8], [-1.4, -0.5, 0.2, 1.0]))
    engine = placed(name, floor(), time_step, np.zeros(16), np.linspace(-3, 3, 16))
    engine.step(round(PERIOD / time_step))
    engine.set_targets(DRIVE.command(DRIVE.velocities.actions(forward, turn)))
    for step in range(5):
        engine.step(round(PERIOD / time_step))
        state = engine.read()
        assert np.abs(state.linear_velocity[:, 2]).max() < 0.01
        if step >= 2:
            heading = np.column_stack([np.cos(yaw_of(state)), np.sin(yaw_of(state))])
            assert np.abs((state.linear_velocity[:, :2] * heading).sum(1) - forward).max() < 0.008
            assert np.abs(state.angular_velocity[:, 2] - turn).max() < 0.015
    engine.close()


@pytest.mark.parametrize(("name", "time_step"), CASES)
def test_crashes_are_seen_at_control_steps(name: str, time_step: float) -> None:
    """Head-on and askew, slow and fast, wherever in a control step; and nothing is felt before.

    MuJoCo's rovers bounce: one of sixty is between two bumps whenever a control step ends, for three of them.
    """
    angles, speeds, room = np.deg2rad([0, 15, 30, 45]), [0.2, 0.5, 0.8], [0.02, 0.06, 0.13]
    angle, speed, gap = (grid.ravel() for grid in np.meshgrid(angles, speeds, room))
    front = np.maximum(FRONT * np.cos(angle) + HALF_WIDTH * np.sin(angle), WHEEL * np.sin(angle) + RADIUS)
    engine = placed(name, walled(), time_step, WALL - front - gap, angle)
    engine.set_targets(DRIVE.command(DRIVE.velocities.actions(speed, np.zeros(len(speed)))))
    felt = np.full(len(gap), np.inf)
    for step in range(1, 13):
        before = (gap - speed * np.cos(angle) * step * PERIOD) > 0
        engine.step(round(PERIOD / time_step))
        collided = bumps(engine) > COLLISION_FORCE
        assert not collided[before].any()
        felt[collided] = np.minimum(felt[collided], step * PERIOD)
    engine.close()
    late = felt - gap / (speed * np.cos(angle))
    assert (late < 3 * PERIOD).mean() >= (0.94 if name == "mujoco" else 1)
    assert late.max() < 6 * PERIOD


@pytest.mark.parametrize("name", ["sapien", "mujoco"])
def test_a_ridge_is_no_crash(name: str) -> None:
    """Wheels and casters run over it, straight and askew, and nothing is felt in any step; the wall behind it is."""
    yaw, speed = np.deg2rad([-20, 0, 10, 25]), 0.7
    engine = placed(name, walled(ridged()), LONG, np.array([0.0, 0.05, 0.0, 0.03]), yaw)
    engine.set_targets(DRIVE.command(DRIVE.velocities.actions(np.full(4, speed), np.zeros(4))))
    front = FRONT * np.cos(yaw) + HALF_WIDTH * np.sin(np.abs(yaw))
    seen, felt = np.zeros(4), np.zeros(4, bool)
    for _ in range(round(2 / LONG)):
        before = engine.read().position[:, 0] + front < WALL - 2 * speed * LONG
        engine.step(1)
        collided = bumps(engine) > COLLISION_FORCE
        assert not collided[before].any()
        seen, felt = np.maximum(seen, engine.read().position[:, 2]), felt | collided
    assert seen.min() > RIDGE / 2  # they were on it
    assert felt.all()
    engine.close()


@pytest.mark.parametrize("name", ["sapien", "mujoco"])
def test_backing_into_a_wall_is_a_crash(name: str) -> None:
    """The hull meets it, not a caster: with any speed, at any time."""
    gap, speed = np.linspace(0.02, 0.14, 12), np.linspace(0.1, 0.24, 12)
    engine = placed(name, walled(), LONG, WALL - FRONT - gap, np.full(12, np.pi))
    engine.set_targets(DRIVE.command(DRIVE.velocities.actions(-speed, np.zeros(12))))
    felt = np.full(12, np.inf)
    for step in range(1, 8):
        engine.step(round(PERIOD / LONG))
        collided = bumps(engine) > COLLISION_FORCE
        felt[collided] = np.minimum(felt[collided], step * PERIOD)
    engine.close()
    assert (felt - gap / speed).max() < 3 * PERIOD


def test_mujoco_keeps_its_own_steps_short() -> None:
    """Bit for bit, a long step is so many short ones."""
    states = []
    for time_step, steps in ((0.02, 3), (0.004, 15)):
        engine = placed("mujoco", bumpy(), time_step, np.array([0.0, 0.4]), np.array([0.3, -2.0]))
        engine.set_targets(np.array([[5.0, 2.0], [-3.0, 6.0]], np.float32))
        engine.step(steps)
        states.append(engine.read())
    np.testing.assert_array_equal(states[0].position, states[1].position)
    np.testing.assert_array_equal(states[0].joint_velocity, states[1].joint_velocity)
