"""Bodies on joints in every engine that has bodies: they stay, are moved along their joint only, stop at its limits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.geometry import Pose, matrix_from_rotvec
from pipeline.types import F64
from sim.physics.bodies import ABSENT, HOLDS, BodyJoint, BodyState, RigidBody
from sim.physics.catalog import ENGINES
from sim.physics.state import PhysicsEngine
from sim.robots.state import RobotState
from tests.sim.physics.test_bodies import BRICK, FAR, GRAVITY, ROVER, Make, block, make, run  # noqa: F401
from tests.sim.physics.test_conformance import floor

pytest.importorskip("mujoco")


def board(size: tuple[float, float, float], middle: tuple[float, float, float]) -> F64:
    corners = np.stack(np.meshgrid(*[[-0.5, 0.5]] * 3, indexing="ij"), -1).reshape(-1, 3)
    return corners * size + middle


def door(low: float = -0.2, high: float = 1.3, lean: float = 0.0) -> RigidBody:
    """A door of two boards, 0.7 m wide, which stands askew in the world, stuck in the floor, its hinge at one end."""
    turn = matrix_from_rotvec([0, 0, 0.4])
    home = Pose(turn @ matrix_from_rotvec([lean, 0, 0]), np.array([0.6, -0.3, -0.01]))
    hulls = (board((0.7, 0.04, 0.9), (0, 0, 0.45)), board((0.1, 0.1, 0.1), (0.3, -0.05, 0.5)))
    axis = turn @ matrix_from_rotvec([lean, 0, 0]) @ np.array([0, 0, 1.0])
    joint = BodyJoint("hinge", axis, home.apply([-0.36, 0.01, 0.2]), (low, high), home)
    return RigidBody("door", hulls, 6.0, 0.4, joint)


def drawer() -> RigidBody:
    """A drawer that hangs in the air and slides along a line that is not level."""
    home = Pose(matrix_from_rotvec([0, 0, -0.7]), np.array([-0.4, 0.5, 0.35]))
    axis = home.rotate([np.cos(0.02), 0, np.sin(0.02)])
    joint = BodyJoint("slide", axis, home.translation, (0.0, 0.3), home)
    return RigidBody("drawer", block((0.4, 0.3, 0.2)).hulls, 3.0, 0.4, joint)


def at_home(engine: PhysicsEngine, *, asleep: bool = False) -> BodyState:
    """Put all bodies to where their joints are at 0, at rest."""
    homes = [body.joint.world_from_body if body.joint else Pose.identity() for body in engine.bodies]
    places = np.tile([pose.translation for pose in homes], (engine.num_robots, 1, 1))
    turns = np.tile([pose.quaternion for pose in homes], (engine.num_robots, 1, 1))
    state = BodyState.at_rest(places, turns)
    engine.place_bodies(np.arange(engine.num_robots), state, asleep=asleep)
    return state


def kicked(engine: PhysicsEngine, rates: list[float]) -> None:
    """Put all bodies to where their joints are at 0, moving."""
    parts = []
    for body, rate in zip(engine.bodies, rates, strict=True):
        assert body.joint
        parts.append(body.joint.state(np.zeros(engine.num_robots), np.full(engine.num_robots, rate)))
    arrays = (np.stack([getattr(part, name) for part in parts], 1) for name in BodyState.__dataclass_fields__)
    engine.place_bodies(np.arange(engine.num_robots), BodyState(*arrays))


def travels(engine: PhysicsEngine, state: BodyState) -> F64:
    """Travel (N, K) of all bodies; nothing else of them has moved, turned or moves."""
    result = []
    for number, body in enumerate(engine.bodies):
        assert body.joint
        joint, own = replace(body.joint, range=(-3.0, 3.0)), state[:, number]  # limits are a little soft
        travel, rate = joint.travel(own)
        expected = joint.state(travel, rate)
        for name in BodyState.__dataclass_fields__:
            np.testing.assert_allclose(getattr(own, name), getattr(expected, name), atol=2e-4)
        result.append(travel)
    return np.stack(result, 1)


def test_a_travel_is_that_of_the_pose():
    """There and back, with velocities by differences."""
    for body in (door(), drawer()):
        joint = body.joint
        assert joint
        travel, rate, short = np.array([0.07, 0.23]), np.array([0.4, -0.9]), 1e-3
        now, then = (joint.state(travel + after * rate, rate) for after in (-short, short))
        moved = (then.position.astype(np.float64) - now.position) / (2 * short)
        np.testing.assert_allclose(joint.state(travel, rate).linear_velocity, moved, atol=2e-3)
        np.testing.assert_allclose(joint.travel(joint.state(travel, rate)), [travel, rate], atol=1e-6)
        np.testing.assert_allclose(joint.state(0 * travel, rate).position[0], joint.world_from_body.translation)
    wide = door(3.0, 6.0).joint
    assert wide
    np.testing.assert_allclose(wide.travel(wide.state(np.array([4.0, 5.9]), np.zeros(2)))[0], [4.0, 5.9], atol=1e-5)


@pytest.mark.parametrize("asleep", [False, True])
def test_they_stay_where_they_are(make: Make, asleep: bool):  # noqa: F811
    """Although the door is stuck in the floor and leans by a degree, and the drawer's rail by more."""
    engine = make([door(lean=np.deg2rad(1.0)), drawer()])
    given = at_home(engine, asleep=asleep)
    after = run(engine, 5.0)
    np.testing.assert_allclose(after.position, given.position, atol=5e-4)
    np.testing.assert_allclose(after.quaternion, given.quaternion, atol=5e-4)


def test_they_come_to_rest_where_friction_says(make: Make):  # noqa: F811
    """Pushed once, half of the square of the speed over the deceleration, and no farther."""
    engine = make([door(), drawer()], 2)
    kicked(engine, [0.8, 0.3])
    first = travels(engine, run(engine, 3.0))
    frame, moments = engine.bodies[0].inertia
    about_hinge = (frame.rotation[2] ** 2 * moments).sum() + 6.0 * np.square(frame.translation - [-0.36, 0.01, 0])[
        :2
    ].sum()
    decelerations = np.array([HOLDS * np.sqrt(6.0 / about_hinge), HOLDS + GRAVITY * np.sin(0.02)])
    expected = np.array([0.8, 0.3]) ** 2 / (2 * decelerations)
    np.testing.assert_allclose(first, [expected, expected], rtol=0.03)
    np.testing.assert_allclose(travels(engine, run(engine, 2.0)), first, atol=5e-4)


def test_they_stop_at_their_limits(make: Make):  # noqa: F811
    """Both ways; they bounce back by a tenth of their speed at most."""
    engine = make([door(), drawer()])
    for sign, limits in ((1, [1.3, 0.3]), (-1, [-0.2, 0.0])):
        kicked(engine, [sign * 2.5, sign * 1.0])
        reached = np.array([travels(engine, run(engine, 0.1))[0] for _ in range(25)])
        np.testing.assert_allclose((sign * reached).max(0), sign * np.array(limits), atol=0.02)
        np.testing.assert_allclose(reached[-1], limits, atol=0.05)


def test_a_state_comes_back(make: Make):  # noqa: F811
    """Saved while they move: the same future, bit for bit."""
    engine = make([door(), drawer()], 2)
    kicked(engine, [0.9, 0.3])
    run(engine, 0.1)
    saved = engine.save()
    first = run(engine, 0.5)
    engine.restore(saved)
    second = run(engine, 0.5)
    for field in BodyState.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(first, field), getattr(second, field))


def test_each_robot_has_its_own(make: Make):  # noqa: F811
    """One of two doors is pushed, then put back while the other moves."""
    engine = make([door(), drawer()], 2)
    home = at_home(engine)
    kicked(engine, [0.8, 0.3])
    engine.place_bodies(np.array([0]), home[:1])
    after = travels(engine, run(engine, 2.0))
    np.testing.assert_allclose(after[0], 0, atol=5e-4)
    assert (after[1] > 0.04).all()
    engine.place_bodies(np.array([1]), home[1:])
    np.testing.assert_allclose(travels(engine, run(engine, 0.1)), 0, atol=5e-4)


def test_a_loose_body_meets_them(make: Make):  # noqa: F811
    """A brick falls onto the drawer and stays on it, where it would otherwise fall to the floor."""
    engine = make([drawer(), BRICK])
    given = at_home(engine)
    given.position[:, 1], given.quaternion[:, 1] = [-0.4, 0.5, 0.56], [1, 0, 0, 0]
    engine.place_bodies(np.arange(1), given)
    after = run(engine, 1.5)
    np.testing.assert_allclose(after.position[0, 1], [-0.4, 0.5, 0.55], atol=0.01)
    np.testing.assert_allclose(after.position[0, 0], given.position[0, 0], atol=1e-3)


@pytest.mark.parametrize("name", ["sapien", "mujoco"])
def test_a_rover_pushes_a_door_open(name: str):
    """It feels it, and the door stays open behind it; that of a robot which stands stays closed."""
    hinge = BodyJoint(
        "hinge", np.array([0, 0, 1.0]), np.array([0.8, 0.4, 0.0]), (0.0, 1.5), Pose(np.eye(3), np.array([0.8, 0, 0]))
    )
    body = RigidBody("door", (board((0.04, 0.8, 0.9), (0, 0, 0.45)),), 6.0, 0.4, hinge)
    engine = ENGINES[name].make(ROVER, [floor()], 2, bodies=[[body]])
    place = np.tile([0.0, -0.1, ROVER.base_height + 0.01], (2, 1))
    rest = np.tile(ROVER.default_position, (2, 1))
    engine.reset(np.arange(2), RobotState.at_rest(place, np.tile([1, 0, 0, 0], (2, 1)), rest), np.zeros(2, int))
    at_home(engine, asleep=True)
    targets = np.zeros((2, len(ROVER.actuators)), np.float32)
    targets[0] = 5.0
    engine.set_targets(targets)
    felt = 0.0
    for _ in range(30):
        engine.step(round(0.1 / engine.time_step))
        felt = max(felt, -float(engine.contact_forces()[0, :, 0].min()))
    opened = travels(engine, engine.read_bodies())[:, 0]
    assert opened[0] > 0.5
    assert opened[1] == pytest.approx(0, abs=1e-3)
    assert felt > 1
    engine.set_targets(-targets)
    run(engine, 2.0)
    assert travels(engine, engine.read_bodies())[0, 0] >= opened[0] - 0.02
    engine.close()


@pytest.mark.parametrize("name", ["sapien", "mujoco"])
def test_those_of_another_scene_are_absent(name: str):
    """And are where they hang when the robot comes."""
    engine = ENGINES[name].make(ROVER, [floor(), floor(-1.0)], 2, bodies=[[drawer()], [door()]])
    for scenes in (np.array([0, 1]), np.array([1, 0])):
        place = np.array([[FAR, FAR, ROVER.base_height + 0.01 - scene] for scene in scenes])
        rest = np.tile(ROVER.default_position, (2, 1))
        engine.reset(np.arange(2), RobotState.at_rest(place, np.tile([1, 0, 0, 0], (2, 1)), rest), scenes)
        given, after = at_home(engine), run(engine, 0.5)
        for row, scene in enumerate(scenes):
            np.testing.assert_allclose(after.position[row, scene], given.position[row, scene], atol=5e-4)
            np.testing.assert_allclose(after.position[row, 1 - scene], ABSENT)
    engine.close()
