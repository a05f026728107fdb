"""Tasks of arms: where they stand, what lies there, when it is done, and that experts do it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import SimError
from pipeline.geometry import Mesh, matrix_from_rotvec, quaternion_from_matrix
from sim.drivers import find_driver
from sim.env import EnvConfig, SceneEnv
from sim.physics.bodies import BodyState
from sim.physics.state import RobotState
from sim.robots.arm import Arm
from sim.robots.catalog import PACKAGE, find_robot, robot_for
from sim.robots.drive import ArmState
from sim.robots.hand_drive import HAND_ACTIONS
from sim.scene import SimScene
from sim.tasks import table
from sim.tasks.arm_tasks import ARM_TASKS, CUBE, PLATE, PUSH_TO_MARK, PUT_CUBE_ON_PLATE
from sim.tasks.stations import ROOM, WORK, find_stations
from sim.tasks.table import TableScenario, TableState
from sim.tasks.task import StepState, Task
from tests.synthetic import TABLE_HIGH, TABLE_LOW, TABLE_TOP, box_faces

pytest.importorskip("mujoco")
pytest.importorskip("sapien")
if not PACKAGE.is_dir():
    pytest.skip("example-robot-data is not installed", allow_module_level=True)

PANDA, _ = find_robot("panda")
ARM = Arm(PANDA)


def with_box(scene: SimScene, low: np.ndarray, high: np.ndarray) -> SimScene:
    """A scene with one box more."""
    return replace(scene, collision=scene.collision.joined(Mesh.from_arrays(*box_faces(low, high))))


def corners_of(area: tuple[tuple[float, float], tuple[float, float]]) -> np.ndarray:
    """Corners (4, 3) of an area, base frame."""
    return np.array([[x, y, 0.0] for x in area[0] for y in area[1]])


def test_stations_are_at_the_table(room_scene: SimScene):
    """At its height, the work surface on it, nothing in the arm's room; always the same."""
    found = find_stations(room_scene)
    assert found
    for station in found:
        assert abs(station.world_from_base.translation[2] - TABLE_TOP) < 1e-3
        work = station.world_from_base.apply(corners_of(WORK))
        assert (work[:, :2] > TABLE_LOW - 0.02).all()
        assert (work[:, :2] < TABLE_HIGH + 0.02).all()
        room = station.world_from_base.apply(corners_of(ROOM))
        assert (room[:, :2] > -0.03).all(), "the wall"
    again = find_stations(room_scene)
    for one, other in zip(found, again, strict=True):
        np.testing.assert_array_equal(one.world_from_base.matrix, other.world_from_base.matrix)


def test_stations_keep_off_what_stands_there(room_scene: SimScene):
    """A box on the table is in no arm's room; with one that leaves no space, arms stand at the crate."""
    x, y = (TABLE_LOW + TABLE_HIGH) / 2
    low, high = np.array([x - 0.1, y - 0.1, TABLE_TOP]), np.array([x + 0.1, y + 0.14, TABLE_TOP + 0.1])
    for station in find_stations(with_box(room_scene, low, high)):
        corners = box_faces(low, high)[0]
        edge = np.concatenate([corners, (corners[:, None] + corners[None]).reshape(-1, 3) / 2])
        local = station.world_from_base.inverse().apply(edge)
        inside = (local[:, 0] > ROOM[0][0]) & (local[:, 0] < ROOM[0][1]) & (np.abs(local[:, 1]) < ROOM[1][1])
        assert not inside.any()
    tall = with_box(room_scene, low - np.array([0.3, 0.1, 0]), high + np.array([0.3, 0.1, 1.4]))
    np.testing.assert_allclose([one.world_from_base.translation[2] for one in find_stations(tall)], 0.55, atol=1e-3)


def test_without_a_level_surface_there_is_no_station(room_scene: SimScene):
    """A plane that leans by ten degrees, and nothing else."""
    corners = np.array([[-3.0, -3, 0], [3, -3, 0], [3, 3, 0], [-3, 3, 0]])
    corners[:, 2] = np.tan(np.deg2rad(10)) * corners[:, 0]
    slope = Mesh.from_arrays(corners, np.array([[0, 1, 2], [0, 2, 3]]))
    with pytest.raises(SimError, match="level surface"):
        find_stations(replace(room_scene, collision=slope))


def test_a_tilted_table_is_none(room_scene: SimScene):
    """By three degrees things would slide in images and lie askew."""
    vertices = room_scene.collision.vertices.astype(np.float64).copy()
    on_table = (np.abs(vertices[:, 2] - TABLE_TOP) < 0.05) & (vertices[:, :2] > TABLE_LOW - 0.01).all(1)
    on_table &= (vertices[:, :2] < TABLE_HIGH + 0.01).all(1)
    assert on_table.sum() >= 8
    vertices[on_table, 2] += np.tan(np.deg2rad(3)) * (vertices[on_table, 0] - TABLE_LOW[0])
    tilted = replace(room_scene, collision=replace(room_scene.collision, vertices=vertices.astype(np.float32)))
    try:
        found = find_stations(tilted)
    except SimError:
        return
    assert all(abs(station.world_from_base.translation[2] - TABLE_TOP) > 0.1 for station in found)


def step_of(
    places: list[list[float]], fingers: float = 0.08, speed: float = 0.0, mark: tuple[float, ...] = (0, 0, 0)
) -> StepState[TableState]:
    """One arm, its base lifted and turned by 40 degrees, with things at places in its frame."""
    base, turn = np.array([1.3, -0.7, 0.74]), matrix_from_rotvec(np.array([0, 0, np.deg2rad(40)]))
    joints = PANDA.default_position.astype(np.float32)[None].copy()
    joints[:, ARM.fingers] = fingers / 2
    state = RobotState.at_rest(base[None], quaternion_from_matrix(turn)[None], joints)
    own = turn @ matrix_from_rotvec(np.array([0, 0, 0.3]))
    bodies = BodyState.at_rest(
        (base + np.array(places) @ turn.T)[None], np.tile(quaternion_from_matrix(own), (1, len(places), 1))
    )
    moving = replace(bodies, linear_velocity=np.full(bodies.position.shape, speed / np.sqrt(3), np.float32))
    nothing = np.zeros(1, np.float32)
    return StepState(
        robot=PANDA,
        state=state,
        action=np.zeros((1, 5), np.float32),
        last_action=np.zeros((1, 5), np.float32),
        contact_force=nothing,
        heights=np.zeros((1, 0), np.float32),
        tilt=nothing,
        seconds=nothing,
        elapsed=nothing,
        legs=None,
        scenario=TableState((CUBE, PLATE), ARM, np.array([mark], np.float32)),
        arm=ArmState(HAND_ACTIONS["position_yaw"], ARM.hands(joints)),
        bodies=moving,
    )


def hand_at() -> list[float]:
    """Where the hand is at rest, base frame."""
    return ARM.hands(PANDA.default_position[None].astype(np.float32))[0, :3, 3].tolist()


def test_places_are_in_the_bases_frame():
    """Of things, their turns, the hand."""
    now = table.seen(step_of([[0.5, 0.1, 0.02], [0.4, -0.2, 0.0]]))
    np.testing.assert_allclose(now.place[0], [[0.5, 0.1, 0.02], [0.4, -0.2, 0.0]], atol=1e-6)
    np.testing.assert_allclose(now.yaw[0], 0.3, atol=1e-6)
    np.testing.assert_allclose(now.hand[0, :3, 3], hand_at(), atol=1e-6)
    np.testing.assert_allclose(now.fingers, 0.08, atol=1e-6)


@pytest.mark.parametrize(
    ("cube", "fingers", "speed", "rests", "over"),
    [
        ([0.44, -0.2, 0.03], 0.08, 0.0, True, True),
        ([0.44, -0.2, 0.03], 0.045, 0.0, False, True),  # not let go
        ([0.44, -0.2, 0.03], 0.08, 0.1, False, True),  # moves
        ([0.44, -0.2, 0.06], 0.08, 0.0, False, True),  # held over it
        ([0.46, -0.2, 0.03], 0.08, 0.0, False, True),  # at the rim
        ([0.48, -0.2, 0.03], 0.08, 0.0, False, False),
        ([0.44, -0.2, 0.08], 0.08, 0.0, False, False),
    ],
)
def test_what_counts_as_on_the_plate(cube: list[float], fingers: float, speed: float, *, rests: bool, over: bool):
    """Ours: lies there, let go, at rest. GSEnv's: is over it, held or not."""
    step = step_of([cube, [0.4, -0.2, 0.0]], fingers, speed)
    assert table.rests_on(0, 1, 0.05)(step)[0] == rests
    assert table.over(0, 1, 0.07, 0.07)(step)[0] == over


def test_what_is_held_lifted_at_the_mark_and_fallen():
    """Each on both sides of its bound."""
    x, y, z = hand_at()
    for fingers, expected in ((0.038, True), (0.025, False), (0.05, False)):
        step = step_of([[x, y + 0.01, z - 0.01], [0.4, -0.2, 0]], fingers)
        assert table.seen(step).held(0, CUBE.width)[0] == expected
        assert table.is_lifted(0, z - 0.05)(step)[0] == expected
        assert not table.is_lifted(0, z)(step)[0]
    for off, expected in ((0.02, True), (0.04, False)):
        step = step_of([[0.5 + off, 0.1, 0.02], [0.4, -0.2, 0]], mark=(0.5, 0.1, 0))
        assert table.is_at_mark(0, 0.03)(step)[0] == expected
    for height, expected in ((-0.05, False), (-0.15, True)):
        assert table.dropped(step_of([[0.5, 0.1, 0.02], [0.4, -0.2, height]]))[0] == expected


def test_rewards_grow_towards_the_end():
    """Reach by its formula; carrying pays by nearness while held; letting go pays only at the goal."""
    x, y, z = hand_at()
    far = step_of([[x, y, z - 0.2], [0.4, -0.2, 0]])
    np.testing.assert_allclose(table.reach(0)(far), 1 - np.tanh(1.0), atol=1e-5)
    assert table.carry(0, table.on_top(0, 1))(far)[0] == 0
    held = step_of([[x, y, z], [0.4, -0.2, 0]], 0.038)
    away = np.linalg.norm(np.array([x, y, z]) - [0.4, -0.2, 0.03])
    np.testing.assert_allclose(table.carry(0, table.on_top(0, 1))(held), 1 + 2 * (1 - np.tanh(5 * away)), atol=1e-5)
    there = step_of([[0.4, -0.2, 0.03], [0.4, -0.2, 0]], 0.06)
    np.testing.assert_allclose(table.release(0, table.on_top(0, 1))(there), 0.75, atol=1e-5)
    assert table.release(0, table.on_top(0, 1))(held)[0] == 0


def make(task: Task, scene: SimScene, count: int, **config: object) -> SceneEnv:
    """Arms that do a task."""
    return SceneEnv(task, [scene], *robot_for(task, "panda"), count, EnvConfig(**{"cameras": (), **config}))


def test_things_lie_in_their_areas(room_scene: SimScene):
    """Apart from each other and from the mark, on the surface, which images show painted; the same seed, the same."""
    env = make(PUSH_TO_MARK, room_scene, 40)
    env.reset(seed=5)
    assert env.now
    now = table.seen(env.now)
    (x, y), (mark_x, mark_y) = ((0.40, 0.54), (0.0, 0.2)), ((0.40, 0.54), (-0.2, 0.0))
    for places, (low_x, high_x), (low_y, high_y) in ((now.place[:, 0], x, y), (now.mark, mark_x, mark_y)):
        assert (places[:, 0] > low_x - 1e-4).all() and (places[:, 0] < high_x + 1e-4).all()
        assert (places[:, 1] > low_y - 1e-4).all() and (places[:, 1] < high_y + 1e-4).all()
        assert np.ptp(places[:, :2], axis=0).min() > 0.08
    assert np.linalg.norm((now.place[:, 0] - now.mark)[:, :2], axis=1).min() > 0.1
    np.testing.assert_allclose(now.place[:, 0, 2], 0.02, atol=2e-3)
    state = env.now.state
    local = np.einsum("nji,nj->ni", state.world_from_base, env.props().patches.center[:, 0] - state.position)
    np.testing.assert_allclose(local, now.mark, atol=1e-5)
    np.testing.assert_allclose(now.hand[:, :3, 2], np.tile([0, 0, -1.0], (40, 1)), atol=0.02)
    before = now.place.copy()
    env.reset(seed=5)
    np.testing.assert_array_equal(table.seen(env.now).place, before)
    env.close()


@pytest.mark.parametrize("task", ARM_TASKS, ids=lambda task: task.name)
def test_experts_do_their_tasks(task: Task, room_scene: SimScene):
    """24 arms in SAPIEN; one may fail."""
    env = make(task, room_scene, 24)
    act = find_driver("auto", env, 0)
    env.reset(seed=2)
    solved, over = np.zeros(24, bool), np.zeros(24, bool)
    while not over.all():
        _, _, terminated, truncated, info = env.step(act())
        ended = (terminated | truncated) & ~over
        solved[ended] = info.get("final_success", over)[ended]
        over |= ended
    env.close()
    assert solved.sum() >= 23


def test_expert_in_mujoco(room_scene: SimScene):
    """The same contract in the other engine."""
    env = make(PUT_CUBE_ON_PLATE, room_scene, 4, engine="mujoco")
    act = find_driver("auto", env, 0)
    env.reset(seed=2)
    solved = np.zeros(4, bool)
    for _ in range(99):
        _, _, _, _, info = env.step(act())
        solved |= info.get("final_success", False)
    env.close()
    assert solved.sum() >= 3


def test_saved_arms_do_the_same_again(room_scene: SimScene):
    """Bit for bit, where hands were sent included; a restored environment asks its expert the same."""
    env = make(PUT_CUBE_ON_PLATE, room_scene, 3, expert=True)
    env.reset(seed=1)
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (12, 3, 5)).astype(np.float32)
    for action in actions[:6]:
        env.step(action)
    state = env.save()
    first = [env.step(action)[0] for action in actions[6:]]
    env.restore(state)
    assert env.now
    second = [env.step(action)[0] for action in actions[6:]]
    for one, other in zip(first, second, strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)
    assert first[0]["expert"].shape == (3, 5)
    assert np.abs(first[0]["expert"] - first[-1]["expert"]).max() > 0
    env.close()


def test_an_action_that_is_no_number_ends_the_episode(room_scene: SimScene):
    """Of that arm only."""
    env = make(PUT_CUBE_ON_PLATE, room_scene, 2)
    env.reset(seed=1)
    action = np.zeros((2, 5), np.float32)
    action[1, 2] = np.nan
    _, _, terminated, _, info = env.step(action)
    np.testing.assert_array_equal(terminated, [False, True])
    np.testing.assert_array_equal(info["invalid_action"], [False, True])
    env.close()


def test_both_cameras_see(room_scene: SimScene):
    """A red cube is in the third camera's image; the wrist's changes as the hand goes down."""
    task = replace(PUT_CUBE_ON_PLATE, scenario=partial(TableScenario, items=(CUBE, PLATE)))
    env = SceneEnv(task, [room_scene], *robot_for(task, "panda"), 2, EnvConfig())
    seen, _ = env.reset(seed=3)
    assert set(seen) >= {"third_rgb", "wrist_rgb"}
    red = (seen["third_rgb"][..., 0] > 110) & (seen["third_rgb"][..., 1] < 90)
    assert (red.sum((1, 2)) > 4).all()
    later, *_ = env.step(np.tile(np.float32([0, 0, -1, 0, 1]), (2, 1)))
    assert np.abs(later["wrist_rgb"].astype(int) - seen["wrist_rgb"]).mean() > 0.5
    env.close()


def test_a_task_without_an_expert_can_not_be_asked(room_scene: SimScene):
    """It says so."""
    with pytest.raises(SimError, match="expert"):
        replace(PUT_CUBE_ON_PLATE, expert=None).with_expert()


def test_arms_are_asked_for(room_scene: SimScene, tmp_path: Path):
    """A rover can't do it."""
    with pytest.raises(SimError, match="panda"):
        robot_for(PUT_CUBE_ON_PLATE, "rover")
