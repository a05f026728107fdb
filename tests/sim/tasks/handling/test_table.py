"""Terms of tasks at tables, by hand-made states, and where their things begin."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from pipeline.geometry import matrix_from_quaternion, matrix_from_rotvec, quaternion_from_matrix
from pipeline.types import F64
from sim.controlled import find_robot
from sim.physics.bodies import BodyState
from sim.randomisation import Randomisation
from sim.robots.arm import DOWN, Arm
from sim.robots.catalog import PACKAGE
from sim.robots.state import RobotState
from sim.scene.floors import Floors
from sim.scene.scene import SimScene
from sim.tasks.handling import table_terms
from sim.tasks.handling.arm_tasks import CUBE, PLATE, PLATE_AREA, PUSH_TO_MARK
from sim.tasks.handling.table import TableScenario
from sim.tasks.handling.table_state import TableState, folded, seen
from sim.tasks.task import Grasp, Item, StepState

pytest.importorskip("mujoco")
if not PACKAGE.is_dir():
    pytest.skip("example-robot-data is not installed", allow_module_level=True)

PANDA, _ = find_robot("panda")
ARM = Arm(PANDA)
YAW, BASE = np.deg2rad(40), np.array([1.2, -0.7, 0.72])
TURN = matrix_from_rotvec(np.array([0, 0, YAW]))


def hand_at(place: list[float]) -> F64:
    """Joints (J,) with the hand there, pointing down."""
    aim = np.eye(4)
    aim[:3, :3], aim[:3, 3] = DOWN, place
    return ARM.solve(PANDA.default_position[None], aim[None], 60)[0].astype(np.float64)


AT = hand_at([0.5, 0.05, 0.13])
HAND = ARM.hands(AT[None])[0, :3, 3]


def step_of(
    places: list[list[Any]],
    *,
    joints: F64 = AT,
    fingers: float = 0.08,
    rate: float = 0.0,
    speed: float = 0.0,
    yaws: tuple[float, ...] = (0.0, 0.0),
    mark: tuple[float, float] = (0.0, 0.0),
    items: tuple[Item, ...] = (CUBE, PLATE),
    surface: float = 0.0,
) -> StepState:
    """A step of N arms with things at places (N, K, 3) before their base, which is turned and lifted.

    `fingers` is how far they are apart; another body of the scene comes first. `surface` is lower than the base by so
    much.
    """
    local, count = np.array(places, np.float64), len(places)
    quaternion = np.tile([np.cos(YAW / 2), 0, 0, np.sin(YAW / 2)], (count, 1))
    position = np.tile(joints, (count, 1)).astype(np.float32)
    position[:, ARM.fingers] = [0.4 * fingers, 0.6 * fingers]
    state = RobotState.at_rest(np.tile(BASE, (count, 1)), quaternion, position)
    state.joint_velocity[:, ARM.columns[2]] = -rate
    turns = TURN @ matrix_from_rotvec(np.array(yaws)[: local.shape[1], None] * np.array([0, 0, 1.0]))
    own = BodyState.at_rest(BASE + local @ TURN.T, np.tile(quaternion_from_matrix(turns), (count, 1, 1)))
    own.linear_velocity[:, 0] = [0.6 * speed, 0, -0.8 * speed]
    other = BodyState.at_rest(np.full((count, 1, 3), 7.0), np.tile([1.0, 0, 0, 0], (count, 1, 1)))
    none, nothing = np.zeros((count, 4), np.float32), np.zeros(count, np.float32)
    marks = np.tile(np.array([*mark, surface], np.float32), (count, 1))
    return StepState(
        robot=PANDA,
        state=state,
        action=none,
        last_action=none,
        contact_force=nothing,
        heights=none,
        tilt=nothing,
        seconds=nothing,
        elapsed=nothing,
        legs=None,
        scenario=TableState(items, ARM, marks, nothing + np.float32(surface)),
        bodies=other.joined(own),
    )


FAR = [0.45, -0.15, 0.0]


def test_a_table_is_seen_from_the_base() -> None:
    """Places and turns of the task's own things in the base's axes, its surface at 0; speeds and gaps as they are."""
    step = step_of(
        [[[0.5, 0.1, 0.02], [0.4, -0.2, 0.03]]], yaws=(0.3, -0.5), fingers=0.05, rate=0.7, speed=0.2, mark=(0.45, 0.1)
    )
    now = seen(step)
    np.testing.assert_allclose(now.place, [[[0.5, 0.1, 0.02], [0.4, -0.2, 0.03]]], atol=1e-6)
    np.testing.assert_allclose(now.grip, now.place)
    np.testing.assert_allclose(now.grip_yaw, [[0.3, -0.5]], atol=1e-6)
    np.testing.assert_allclose(now.hand[0, :3, 3], [0.5, 0.05, 0.13], atol=1e-3)
    np.testing.assert_allclose(now.hand_yaw, [0], atol=5e-3)
    np.testing.assert_allclose(now.speed, [[0.2, 0]], atol=1e-6)
    assert now.fingers == pytest.approx(0.05)
    assert now.rates == pytest.approx(0.7)
    np.testing.assert_allclose(now.mark, [[0.45, 0.1, 0]], atol=1e-6)
    assert now.apart(0, 1) == pytest.approx(np.hypot(0.1, 0.3), abs=1e-6)
    assert now.higher(0, 1) == pytest.approx(-0.01, abs=1e-6)
    assert seen(step) is now


@pytest.mark.parametrize(
    ("off", "fingers", "held"),
    [
        (0.024, 0.04, True),
        (0.026, 0.04, False),
        (0, 0.0455, True),
        (0, 0.0465, False),
        (0, 0.0245, True),
        (0, 0.0235, False),
    ],
)
def test_held_is_near_and_between_fingers(off: float, fingers: float, held: bool) -> None:
    """Within 25 mm of the hand; fingers 6 mm wider or 16 mm narrower than the thing hold nothing."""
    step = step_of([[HAND + np.array([0, 0.6 * off, -0.8 * off]), FAR]], fingers=fingers)
    assert seen(step).held(0, CUBE.grasp).tolist() == [held]


def test_a_thing_is_held_beside_its_origin() -> None:
    """By its grasp, which turns with it; hands are alike after its turn."""
    grasp = Grasp((0.03, 0, 0.05), 0.4, 0.02, np.pi)
    thing = replace(CUBE, grasp=grasp)
    away = np.array([0, 0.03, 0.05])  # turned by a quarter
    step = step_of([[HAND - away, FAR]], yaws=(np.pi / 2, 0), fingers=0.02, items=(thing, PLATE))
    now = seen(step)
    np.testing.assert_allclose(now.grip[0, 0], HAND, atol=1e-5)
    assert now.held(0, grasp).all()
    np.testing.assert_allclose(now.askew(0, grasp), np.pi / 2 + 0.4 - np.pi, atol=5e-3)
    assert not seen(step_of([[HAND, FAR]], yaws=(np.pi / 2, 0), fingers=0.02, items=(thing, PLATE))).held(0, grasp)


@pytest.mark.parametrize(
    ("state", "stands"),
    [
        ({}, True),
        ({"fingers": 0.0475}, False),
        ({"rate": 1.01}, False),
        ({"speed": 0.051}, False),
        ({"mark": (0.45, 0.131)}, False),
    ],
)
def test_stands_at_mark(state: dict[str, Any], stands: bool) -> None:
    """Near its middle, let go, arm and thing at rest; what fell over doesn't count."""
    at = {"mark": (0.45, 0.1), **state}
    assert table_terms.stands_at_mark(step_of([[[0.45, 0.1, 0.02], FAR]], **at), within=0.03).tolist() == [stands]
    step = step_of([[[0.45, 0.1, 0.02], FAR]], **at)
    assert step.bodies
    over = TURN @ matrix_from_rotvec(np.array([0.6, 0, 0]))
    step.bodies.quaternion[:, 1] = quaternion_from_matrix(over[None])
    assert not table_terms.stands_at_mark(step, within=0.03).any()


def on_plate(aside: float = 0.0, lift: float = 0.0) -> list[list[float]]:
    """A cube on a plate: 2 cm over its top of 1 cm."""
    return [[0.45 + aside, -0.15, 0.03 + lift], FAR]


@pytest.mark.parametrize(
    ("places", "state", "rests"),
    [
        (on_plate(), {}, True),
        (on_plate(0.049), {}, True),
        (on_plate(0.051), {}, False),
        (on_plate(lift=0.014), {}, True),
        (on_plate(lift=0.016), {}, False),
        (on_plate(lift=-0.014), {}, True),
        (on_plate(lift=-0.016), {}, False),
        (on_plate(), {"fingers": 0.0485}, True),
        (on_plate(), {"fingers": 0.0475}, False),
        (on_plate(), {"speed": 0.049}, True),
        (on_plate(), {"speed": 0.051}, False),
        (on_plate(), {"rate": 0.99}, True),
        (on_plate(), {"rate": 1.01}, False),
    ],
)
def test_rests_on(places: list, state: dict[str, float], rests: bool) -> None:
    """Near the middle, at its height, let go, and both at rest: just inside and just outside of each bound."""
    assert table_terms.rests_on(step_of([places], **state), within=0.05).tolist() == [rests]  # type: ignore[arg-type]


def test_over_is_gsenvs_success() -> None:
    """Within 7 cm of the middle and up to 7 cm above, held or not."""
    places = [[[0.45, -0.15 + y, z], FAR] for y, z in ((0.069, 0.0001), (0.071, 0.03), (0, -0.001), (0, 0.0699))]
    places.append([[0.45, -0.15, 0.0705], FAR])
    assert table_terms.over(step_of(places, fingers=0.04), within=0.07, height=0.07).tolist() == [
        True,
        False,
        False,
        True,
        False,
    ]


def test_is_lifted() -> None:
    """Held, and 10 cm over where it lay at 2 cm."""
    assert HAND[2] == pytest.approx(0.13, abs=1e-3)
    places = [[[*HAND[:2], z], FAR] for z in (0.1205, 0.1195)]
    lifted = partial(table_terms.is_lifted, height=0.1)
    assert lifted(step_of(places, fingers=0.04)).tolist() == [True, False]
    assert lifted(step_of(places, fingers=0.08)).tolist() == [False, False]


@pytest.mark.parametrize(("speed", "slow"), [(0.049, True), (0.051, False)])
def test_is_at_mark(speed: float, slow: bool) -> None:
    """Within 3 cm of its middle, lying, at rest."""
    near = [[0.45 + x, 0.1 + y, 0.02 + z] for x, y, z in ((0, 0.029, 0), (-0.031, 0, 0), (0, 0, 0.014), (0, 0, 0.016))]
    step = step_of([[place, FAR] for place in near], mark=(0.45, 0.1), speed=speed)
    assert table_terms.is_at_mark(step, within=0.03).tolist() == [slow, False, slow, False]


def test_dropped() -> None:
    """Any thing more than 10 cm below the surface."""
    places = [[[0.9, 0, -0.099], FAR], [[0.9, 0, -0.101], FAR], [[0.5, 0, 0.02], [0.9, 0, -0.2]]]
    assert table_terms.dropped(step_of(places)).tolist() == [False, True, True]


def test_heights_are_those_over_the_surface() -> None:
    """With the base 4 cm above it or 3 cm below: what is lifted, dropped, at the mark, and where things are to go."""
    for surface in (-0.04, 0.03):
        places = [[[*HAND[:2], HAND[2]], FAR], [[0.45, 0.1, surface + 0.02], FAR], [[0.9, 0, surface - 0.101], FAR]]
        step = step_of(places, fingers=0.04, mark=(0.45, 0.1), surface=surface)
        assert table_terms.is_lifted(step, height=HAND[2] - surface - 0.021).tolist() == [True, False, False]
        assert table_terms.is_lifted(step, height=HAND[2] - surface - 0.019).tolist() == [False, False, False]
        assert table_terms.is_at_mark(step, within=0.03).tolist() == [False, True, False]
        assert table_terms.dropped(step).tolist() == [False, False, True]
        np.testing.assert_allclose(table_terms.raised(0, 0.2)(step)[:, 2], surface + 0.2, atol=1e-6)
        np.testing.assert_allclose(table_terms.at_mark(0)(step)[:, 2], surface + 0.02, atol=1e-6)
        np.testing.assert_allclose(table_terms.things(step)[1, 11], 0.1, atol=1e-5)


def test_reach_and_push_by_hand() -> None:
    """1 - tanh of five times the distance, of the hand to a thing and of a thing to the mark."""
    step = step_of([[HAND + np.array([0.06, 0, -0.08]), FAR], [HAND, FAR]])
    np.testing.assert_allclose(table_terms.reach(step), [1 - np.tanh(0.5), 1], atol=1e-5)
    step = step_of([[[0.45, 0.06, 0.1], FAR], [[0.45, 0.0, 0.02], FAR]], mark=(0.45, 0.0))
    np.testing.assert_allclose(table_terms.push(step), [1 - np.tanh(0.5), 1], atol=1e-5)


def test_carry_and_release_by_hand() -> None:
    """Held pays 1 and up to 2 for nearness; without hold only what is at its goal pays; there, open fingers pay."""
    goal = table_terms.on_top(0, 1)
    plate = [HAND[0] - 0.16, HAND[1], HAND[2] - 0.03 - 0.12]  # the goal is 20 cm away
    places = [[HAND, plate], on_plate(0.03), on_plate(0.039), on_plate(0.041)]
    held = step_of(places, fingers=0.04)
    near = [3 - 2 * np.tanh(5 * off) for off in (0.2, 0.03, 0.039)]
    np.testing.assert_allclose(table_terms.carry(held, goal=goal), [*near, 0], atol=1e-4)
    np.testing.assert_allclose(table_terms.carry(step_of(places), goal=goal), [0, *near[1:], 0], atol=1e-4)
    np.testing.assert_allclose(
        table_terms.release(step_of(places, fingers=0.06), goal=goal), [0, 0.75, 0.75, 0], atol=1e-5
    )
    raised = table_terms.carry(step_of([[HAND, FAR]], fingers=0.04), goal=table_terms.raised(0, 0.23))
    np.testing.assert_allclose(raised, [3 - 2 * np.tanh(5 * (0.23 - HAND[2]))], atol=1e-4)


def test_turns_of_cubes_are_modulo_a_quarter() -> None:
    """The nearest to 0."""
    np.testing.assert_allclose(
        folded(np.array([0.3, np.pi / 2 - 0.2, -np.pi - 0.1, 1.0]), np.pi / 2), [0.3, -0.2, -0.1, 1 - np.pi / 2]
    )


COUNT = 300
Begin = tuple[TableScenario, Any]


def begun(scene: SimScene, seed: int, **arguments: Any) -> Begin:
    """A scenario and its first episodes."""
    scenario = TableScenario(Floors([scene], PANDA), COUNT, 0.05, **arguments)
    envs, zeros = np.arange(COUNT), np.zeros(COUNT, int)
    return scenario, scenario.reset(envs, zeros, zeros, np.random.default_rng(seed))


def in_base(poses: Any, points: F64) -> F64:
    """World points (N, K, 3) in the frames of the bases."""
    turn = matrix_from_rotvec(poses.yaw[:, None] * np.array([0, 0, 1.0]))
    return np.einsum("nji,nkj->nki", turn, points - poses.position[:, None])


def test_things_begin_in_their_areas(room_scene: SimScene) -> None:
    """On a station's surface, turned as far as they may be, apart; hands begin open over the table."""
    begin = partial(begun, room_scene, items=(CUBE, PLATE))
    scenario, poses = begin(1)
    local = in_base(poses, poses.bodies.position.astype(np.float64))
    for number, item in enumerate((CUBE, PLATE)):
        low, high = np.array(item.area).T
        assert (local[:, number, :2] > low - 1e-5).all()
        assert (local[:, number, :2] < high + 1e-5).all()
        assert np.ptp(local[:, number, :2], axis=0) == pytest.approx(high - low, rel=0.1)
        np.testing.assert_allclose(local[:, number, 2], item.rest, atol=1e-5)
        turn = matrix_from_quaternion(poses.bodies.quaternion[:, number])
        yaw = np.arctan2(turn[:, 1, 0], turn[:, 0, 0]) - poses.yaw
        yaw = (yaw + np.pi) % (2 * np.pi) - np.pi
        assert np.abs(yaw).max() == pytest.approx(item.yaw, rel=0.05, abs=1e-4)
    apart = np.linalg.norm((local[:, 0] - local[:, 1])[:, :2], axis=1)
    assert apart.min() >= 0.14 - 1e-5
    stations = {tuple(np.round(station.world_from_base.translation, 4)) for station in scenario.stations[0]}
    assert {tuple(place) for place in np.round(poses.position, 4)} == stations
    hands = ARM.hands(poses.joints)
    assert np.abs(hands[:, :3, 3] - [0.5, 0, 0.18]).max() < 0.032
    np.testing.assert_allclose(hands[:, 2, 2], -1, atol=1e-3)
    assert (poses.joints[:, ARM.fingers] == np.float32(0.04)).all()
    again, other = begin(1)[1], begin(2)[1]
    for name in ("position", "quaternion"):
        np.testing.assert_array_equal(getattr(again.bodies, name), getattr(poses.bodies, name))
    np.testing.assert_array_equal(again.joints, poses.joints)
    assert (other.bodies.position != poses.bodies.position).any(2).all()


def test_things_in_one_area_are_apart(room_scene: SimScene) -> None:
    """Three cubes in 18 x 14 cm."""
    _, poses = begun(room_scene, 3, items=(CUBE, CUBE, CUBE), apart=0.065)
    place = poses.bodies.position
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert np.linalg.norm(place[:, one] - place[:, other], axis=1).min() >= 0.065 - 1e-5


def test_a_mark_is_painted_where_terms_have_it(room_scene: SimScene) -> None:
    """Its patch is in the world, on turned tables too; terms have it before the base; things are beside it."""
    area = PLATE_AREA
    scenario, poses = begun(room_scene, 4, items=(CUBE,), mark=area, mark_radius=0.05, mark_color=(0.1, 0.6, 0.3))
    assert np.unique(np.round(poses.yaw, 3)).size > 2
    patches, mark = scenario.props().patches, scenario.state().mark
    local = in_base(poses, patches.center)
    np.testing.assert_allclose(local[:, 0], mark, atol=1e-6)
    low, high = np.array(area).T
    assert (mark[:, :2] >= low).all()
    assert (mark[:, :2] <= high).all()
    assert (mark[:, 2] == 0).all()
    assert (patches.radius == 0.05).all()
    np.testing.assert_allclose(patches.color[7, 0], [0.1, 0.6, 0.3])
    things = in_base(poses, poses.bodies.position.astype(np.float64))
    assert np.linalg.norm((things[:, 0] - local[:, 0])[:, :2], axis=1).min() >= 0.14 - 1e-5
    kept = mark.copy()
    scenario.reset(np.array([3]), np.array([0]), np.array([0]), np.random.default_rng(9))
    np.testing.assert_array_equal(mark, kept)
    changed = (scenario.state().mark != kept).any(1)
    assert np.flatnonzero(changed).tolist() == [3]


def test_bases_stand_above_and_below_the_surface(room_scene: SimScene) -> None:
    """By as much as was set; things, marks and hands stay over the surface, of which the light knows the height."""
    plain, rest = begun(room_scene, 6, items=(CUBE, PLATE), mark=PLATE_AREA)
    scenario = TableScenario(Floors([room_scene], PANDA), COUNT, 0.05, items=(CUBE, PLATE), mark=PLATE_AREA)
    scenario.vary(Randomisation(base_height=0.04), light=False)
    envs, zeros = np.arange(COUNT), np.zeros(COUNT, int)
    poses = scenario.reset(envs, zeros, zeros, np.random.default_rng(6))
    heights = {round(float(station.world_from_base.translation[2]), 5) for station in scenario.stations[0]}
    lowered = scenario.state().surface
    assert -0.04 <= lowered.min() < -0.038
    assert 0.038 < lowered.max() <= 0.04
    surface = poses.position[:, 2] + lowered
    assert {round(float(height), 5) for height in surface} <= heights
    light, patches = scenario.props().lighting, scenario.props().patches
    assert light
    np.testing.assert_allclose(light.surface, surface, atol=1e-6)
    np.testing.assert_allclose(patches.center[:, 0, 2], surface, atol=1e-6)
    np.testing.assert_allclose(poses.bodies.position[:, 0, 2] - surface, CUBE.rest, atol=0.01)
    np.testing.assert_allclose(scenario.state().mark[:, 2], lowered)
    hands = ARM.hands(poses.joints)[:, :3, 3]
    assert np.abs(hands - [0.5, 0, 0.18] - lowered[:, None] * np.array([0, 0, 1.0])).max() < 0.032
    assert np.ptp(hands[:, 2]) > np.ptp(ARM.hands(rest.joints)[:, 2, 3]) + 0.04
    assert (plain.state().surface == 0).all()


def test_the_light_comes_from_anywhere_if_it_varies(room_scene: SimScene) -> None:
    """From above; another way in each episode, which others keep; else always the same."""
    scenario, _ = begun(room_scene, 4, items=(CUBE,))
    fixed = scenario.props().lighting
    assert fixed
    assert (fixed.toward == fixed.toward[0]).all()
    scenario.vary(Randomisation(), light=True)
    envs, zeros = np.arange(COUNT), np.zeros(COUNT, int)
    scenario.reset(envs, zeros, zeros, np.random.default_rng(0))
    drawn = scenario.props().lighting
    assert drawn
    np.testing.assert_allclose(np.linalg.norm(drawn.toward, axis=1), 1)
    elevation = np.rad2deg(np.arcsin(drawn.toward[:, 2]))
    assert 40 <= elevation.min() < 42
    assert 78 < elevation.max() <= 80
    assert np.abs(drawn.toward[:, :2].mean(0)).max() < 0.1
    scenario.reset(np.array([3]), np.array([0]), np.array([0]), np.random.default_rng(9))
    again = scenario.props().lighting
    assert again
    assert np.flatnonzero((again.toward != drawn.toward).any(1)).tolist() == [3]


def test_without_a_mark_nothing_is_painted(room_scene: SimScene) -> None:
    """Things have their own colours, a little off."""
    scenario, _ = begun(room_scene, 4, items=(CUBE, PLATE))
    props = scenario.props()
    assert (props.patches.radius == 0).all()
    off = np.abs(props.solids.color - [CUBE.color, PLATE.color])
    assert 0.1 < off.max() <= 0.12 + 1e-9
    assert PUSH_TO_MARK.items == (CUBE,)
