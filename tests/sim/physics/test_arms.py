"""Arms on fixed bases in every engine that has them: they stay, reach, and hold what they grasp."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from pipeline.errors import SimError
from pipeline.geometry import quaternion_from_matrix
from pipeline.types import F64
from sim.controlled import find_robot
from sim.physics.bodies import ABSENT, BodyJoint, BodyState, RigidBody
from sim.physics.catalog import ENGINES
from sim.physics.state import EVERYWHERE, Dynamics, PhysicsEngine
from sim.robots.catalog import PACKAGE, ROBOTS
from sim.robots.kinematics import link_poses
from sim.robots.state import RobotState
from tests.sim.physics.test_bodies import BRICK
from tests.sim.physics.test_conformance import floor
from tests.sim.physics.test_joints import drawer

pytest.importorskip("mujoco")
if not PACKAGE.is_dir():
    pytest.skip("example-robot-data is not installed", allow_module_level=True)

ARM, _ = find_robot("panda")
assert ARM.gripper
HAND = ARM.gripper
LINK = next(number for number, link in enumerate(ARM.links) if link.name == HAND.link)
FINGERS = [ARM.joint_names.index(name) for name in HAND.joints]
STEP, CONTROL = 0.025, 2
ENGINES_OF_ARMS = ["sapien", "mujoco"]


def cube(mass: float = 0.5, size: float = 0.04) -> RigidBody:
    """Around its origin."""
    corners = np.stack(np.meshgrid(*[[-0.5, 0.5]] * 3, indexing="ij"), -1).reshape(-1, 3)
    return RigidBody("cube", (corners * size,), mass, 1.0)


def bases(count: int, height: float = 0.4) -> RobotState:
    """Arms at rest, each elsewhere and turned, above the floor."""
    rng = np.random.default_rng(count)
    yaw = rng.uniform(-3, 3, count)
    quaternion = np.column_stack([np.cos(yaw / 2), 0 * yaw, 0 * yaw, np.sin(yaw / 2)])
    quaternion *= np.where(quaternion[:, :1] < 0, -1, 1)
    place = np.column_stack([rng.uniform(-1, 1, (count, 2)), np.full(count, height)])
    return RobotState.at_rest(place, quaternion, np.tile(ARM.default_position, (count, 1)).astype(np.float32))


def hands(state: RobotState) -> F64:
    """World from hands (N, 4, 4)."""
    return link_poses(ARM, state)[:, LINK] @ HAND.link_from_hand.matrix


Make = Callable[..., PhysicsEngine]


@pytest.fixture(params=ENGINES_OF_ARMS)
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Makes engines with arms at their bases, in the first scene."""
    made: list[PhysicsEngine] = []

    def build(count: int, bodies: list[list[RigidBody]] | None = None, scenes: int = 1) -> PhysicsEngine:
        grounds = [floor(-0.5 * number) for number in range(scenes)]
        engine = ENGINES[request.param].make(ARM, grounds, count, STEP, bodies or [])
        engine.reset(np.arange(count), bases(count), np.zeros(count, int))
        made.append(engine)
        return engine

    yield build
    for engine in made:
        engine.close()


def put_into_hands(engine: PhysicsEngine) -> None:
    """The first body of every arm, between its fingers, which touch it."""
    state = engine.read()
    joints = state.joint_position.copy()
    joints[:, FINGERS] = 0.02
    engine.reset(np.arange(engine.num_robots), replace(state, joint_position=joints), np.zeros(engine.num_robots, int))
    poses = hands(state)
    state = BodyState.at_rest(poses[:, None, :3, 3], quaternion_from_matrix(poses[:, :3, :3])[:, None])
    engine.place_bodies(np.arange(engine.num_robots), state)


def grasp(engine: PhysicsEngine) -> np.ndarray:
    """Shut the fingers on what is between them; the targets (N, A)."""
    targets = np.tile(ARM.default_position, (engine.num_robots, 1)).astype(np.float32)
    targets[:, FINGERS] = HAND.closed
    engine.set_targets(targets)
    return targets


def in_hands(engine: PhysicsEngine) -> F64:
    """Where the first body of every arm is in its hand (N, 3) [m]."""
    poses = hands(engine.read())
    away = engine.read_bodies().position[:, 0] - poses[:, :3, 3]
    return np.einsum("nji,nj->ni", poses[:, :3, :3], away)


def shake(engine: PhysicsEngine, seconds: float, seed: int = 0) -> None:
    """New targets of the arm's joints every 0.2 s, a few degrees from rest; the fingers stay shut."""
    rng, targets = np.random.default_rng(seed), grasp(engine)
    for _ in range(round(seconds / 0.2)):
        targets[:, :7] = ARM.default_position[:7] + rng.uniform(-0.15, 0.15, (engine.num_robots, 7))
        for _ in range(4):
            engine.set_targets(targets)
            engine.step(CONTROL)


def test_a_fixed_base_stays(make: Make) -> None:
    """Bit for bit, whatever the arm does; and goes where the next reset puts it."""
    engine = make(3)
    given = bases(3)
    shake(engine, 0.6)
    np.testing.assert_allclose(engine.read().position, given.position, atol=2e-6)
    np.testing.assert_allclose(engine.read().quaternion, given.quaternion, atol=2e-6)
    assert np.abs(engine.read().linear_velocity).max() == 0
    moved = bases(4)[np.array([3])]
    engine.push(np.array([1]), np.ones((1, 3), np.float32))
    engine.reset(np.array([1]), moved, np.array([0]))
    engine.step(4)
    found = engine.read()
    np.testing.assert_allclose(found.position, [given.position[0], moved.position[0], given.position[2]], atol=2e-6)
    np.testing.assert_allclose(found.quaternion[1], moved.quaternion[0], atol=2e-6)
    np.testing.assert_allclose(found.joint_position[1], ARM.default_position, atol=1e-3)


def test_servos_reach_their_targets(make: Make) -> None:
    """Nothing weighs on them: no joint is off by a tenth of a degree."""
    engine = make(4)
    rng = np.random.default_rng(1)
    targets = np.tile(ARM.default_position, (4, 1)).astype(np.float32)
    targets[:, :7] += rng.uniform(-0.4, 0.4, (4, 7)).astype(np.float32)
    targets[:, FINGERS] = 0.02
    engine.set_targets(targets)
    engine.step(round(3 / STEP))
    found = engine.read()
    assert np.abs(found.joint_position - targets)[:, :7].max() < np.deg2rad(0.1)
    assert np.abs(found.joint_position - targets)[:, FINGERS].max() < 5e-4
    assert np.abs(found.joint_velocity).max() < 0.01


def test_weaker_servos_are_slower(make: Make) -> None:
    """The fingers' too; all reach their targets in the end. By little: damping is weaker by as much as stiffness."""
    engine = make(3)
    ones = np.ones(3, np.float32)
    engine.set_dynamics(np.arange(3), Dynamics(ones, ones, np.array([1.0, 0.5, 0.1], np.float32)))
    targets = np.tile(ARM.default_position, (3, 1)).astype(np.float32)
    targets[:, :7] += 0.1
    targets[:, FINGERS] = HAND.closed
    begun = engine.read().joint_position
    engine.set_targets(targets)
    engine.step(2)
    way = np.abs(engine.read().joint_position - begun)
    for joints, most in ((slice(0, 7), 0.75), (FINGERS, 0.97)):  # fingers are light
        usual, half, weak = way[:, joints].sum(1)
        assert half < usual
        assert weak < most * usual
    engine.step(round(4 / STEP))
    assert np.abs(engine.read().joint_position - targets)[:, :7].max() < np.deg2rad(0.2)


def test_bodies_that_are_put_away_stay_there(make: Make) -> None:
    """Below everything, at rest, apart; and come back."""
    engine = make(2, [[], [cube(), cube(), cube()]])
    place = np.tile(ABSENT, (2, 3, 1))
    place[..., 0] += np.arange(3)
    place[:, 1] = engine.read().position + np.array([0.6, 0, 0.2])
    state = BodyState.at_rest(place, np.tile([1.0, 0, 0, 0], (2, 3, 1)))
    assert state.absent.tolist() == [[True, False, True]] * 2
    engine.place_bodies(np.arange(2), state)
    engine.step(40)
    found = engine.read_bodies()
    np.testing.assert_allclose(found.position[:, [0, 2], 2], ABSENT[2], atol=1e-3)
    assert np.abs(found.linear_velocity[:, [0, 2]]).max() == 0
    assert found.absent.tolist() == state.absent.tolist()
    saved = engine.save()
    engine.step(10)
    engine.restore(saved)
    engine.step(10)
    np.testing.assert_allclose(engine.read_bodies().position[:, [0, 2], 2], ABSENT[2], atol=1e-3)
    place[:, 0] = engine.read().position + np.array([0.6, 0.3, 0.2])
    engine.place_bodies(np.array([1]), BodyState.at_rest(place, state.quaternion)[np.array([1])])
    engine.step(40)
    assert engine.read_bodies().absent.tolist() == [[True, False, True], [False, False, True]]
    assert engine.read_bodies().position[1, 0, 2] < place[1, 0, 2] - 0.05


@pytest.mark.parametrize(("name", "count", "most"), [("sapien", 32, 0.0005), ("mujoco", 24, 0.004)])
def test_a_grasp_holds(name: str, count: int, most: float) -> None:
    """Half a kilogram in every hand, through three seconds of shaking: all are kept, and the median slips little.

    MuJoCo's friction has no memory: what is held lags behind a hand on a curve, at any coefficient.
    """
    engine = ENGINES[name].make(ARM, [floor()], count, STEP, [[cube(0.5)]])
    engine.reset(np.arange(count), bases(count), np.zeros(count, int))
    put_into_hands(engine)
    grasp(engine)
    engine.step(round(0.5 / STEP))
    before = in_hands(engine)
    assert np.linalg.norm(before, axis=1).max() < 0.002
    shake(engine, 3.0)
    grasp(engine)
    engine.step(round(0.75 / STEP))
    slip = np.linalg.norm(in_hands(engine) - before, axis=1)
    assert (slip < 0.01).all(), slip
    assert np.median(slip) < most
    engine.close()


def test_what_is_let_go_falls(make: Make) -> None:
    """Open fingers hold nothing."""
    engine = make(2, [[cube(0.5)]])
    put_into_hands(engine)
    targets = grasp(engine)
    engine.step(12)
    targets[1, FINGERS] = HAND.opened
    engine.set_targets(targets)
    engine.step(40)
    away = np.linalg.norm(in_hands(engine), axis=1)
    assert away[0] < 0.005
    assert away[1] > 0.2


def test_a_body_can_be_in_every_scene(make: Make) -> None:
    """A cube for both, beside what only one of them has."""
    engine = make(2, [[BRICK], [], [cube()]], scenes=2)
    assert engine.scene_of_body.tolist() == [0, EVERYWHERE]
    state, scenes = bases(2), np.array([0, 1])
    engine.reset(np.arange(2), state, scenes)
    places = np.array([[[3.0, 3, 0.001], [3.0, 2, 0.03]], [[3.0, 3, 0.001], [3.0, 2, -0.47]]])
    engine.place_bodies(np.arange(2), BodyState.at_rest(places, np.tile([1.0, 0, 0, 0], (2, 2, 1))))
    engine.step(40)
    found = engine.read_bodies().position
    np.testing.assert_allclose(found[:, 1], [[3, 2, 0.02], [3, 2, -0.48]], atol=0.003)
    np.testing.assert_allclose(found[1, 0], ABSENT)
    np.testing.assert_allclose(found[0, 0], [3, 3, 0], atol=0.005)


def test_what_is_everywhere_has_no_joint() -> None:
    """A joint is in the frame of one scene."""
    assert isinstance(drawer().joint, BodyJoint)
    with pytest.raises(SimError, match="in every scene are loose"):
        ENGINES["sapien"].make(ARM, [floor()], 1, STEP, [[], [drawer()]])


def test_a_saved_grasp_has_one_future(make: Make) -> None:
    """Bit for bit, base and cube included, after other ways and in another place."""
    engine = make(3, [[cube(0.5)]])
    put_into_hands(engine)
    shake(engine, 0.6)
    saved = engine.save()
    shake(engine, 0.4, 1)
    first, first_bodies = engine.read(), engine.read_bodies()
    shake(engine, 0.4, 2)
    engine.reset(np.arange(3), bases(6)[np.arange(3, 6)], np.zeros(3, int))
    put_into_hands(engine)
    engine.step(4)
    engine.restore(saved)
    shake(engine, 0.4, 1)
    for name in vars(first):
        np.testing.assert_array_equal(getattr(engine.read(), name), getattr(first, name), err_msg=name)
    for name in vars(first_bodies):
        np.testing.assert_array_equal(getattr(engine.read_bodies(), name), getattr(first_bodies, name), err_msg=name)


def test_grasps_need_short_steps() -> None:
    """SAPIEN says so; MuJoCo splits them."""
    with pytest.raises(SimError, match="25 ms at most"):
        ENGINES["sapien"].make(ARM, [floor()], 1, 0.03)


@pytest.mark.parametrize("name", ["mujoco-worlds", "sapien-gpu", "isaacgym"])
def test_other_engines_have_no_fixed_bases(name: str) -> None:
    """They refuse them."""
    assert not ENGINES[name].make.has_fixed_bases  # pyright: ignore[reportFunctionMemberAccess]
    with pytest.raises(SimError, match="no robots with a fixed base"):
        PhysicsEngine(ARM, [floor()], 1)


def test_other_engines_of_the_process_are_left_alone() -> None:
    """A rover does the same, bit for bit, before and after an arm was made; SAPIEN's defaults are its own."""
    physx = pytest.importorskip("sapien").physx
    rover, _ = find_robot("rover")
    ends, defaults = list[np.ndarray](), list[tuple[float, ...]]()
    for _ in range(2):
        body, shape = physx.get_body_config(), physx.get_shape_config()
        defaults.append((body.solver_position_iterations, body.solver_velocity_iterations, shape.contact_offset))
        engine = ENGINES["sapien"].make(rover, [floor(slope=0.1)], 1, bodies=[[BRICK]])
        joints = rover.default_position[None].astype(np.float32)
        start = RobotState.at_rest(np.array([[0, 0, 0.05]]), np.array([[1, 0, 0, 0]]), joints)
        engine.reset(np.arange(1), start, np.zeros(1, int))
        engine.set_targets(np.array([[5.0, 3.0]], np.float32))
        engine.step(100)
        ends.append(engine.read().position)
        engine.close()
        ENGINES["sapien"].make(ARM, [floor()], 1, STEP, [[cube()]]).close()
    np.testing.assert_array_equal(ends[0], ends[1])
    assert defaults[0] == defaults[1]


def test_panda_is_in_the_catalog() -> None:
    """It looks down on what is before it."""
    assert ROBOTS["panda"].gripper is HAND
    state = RobotState.at_rest(
        np.zeros((1, 3)), np.array([[1.0, 0, 0, 0]]), ARM.default_position[None].astype(np.float32)
    )
    pose = hands(state)[0]
    np.testing.assert_allclose(pose[:3, 2], [0, 0, -1], atol=0.05)
    assert 0.4 < pose[0, 3] < 0.7
