"""Fetching: where episodes begin, what counts, spaces, and that the expert does it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest

import sim
from pipeline.errors import SimError
from sim.controlled import find_robot
from sim.env import SceneEnv
from sim.physics.bodies import BodyState
from sim.scene.floors import Floors
from sim.scene.scene import SimScene
from sim.tasks.handling import fetch
from sim.tasks.handling.fetch import TO_HOME, TO_THING, FetchScenario
from sim.tasks.handling.fetch_tasks import FETCH, FLOOR_CUBE, LIFT_VSERL
from sim.tasks.handling.table_state import seen
from sim.tasks.task import EXPERT, StepState
from tests.sim.floors import floor_scene

pytest.importorskip("mujoco")


@pytest.fixture
def env(room_scene: SimScene) -> Iterator[SceneEnv]:
    """Four blind robots in the room."""
    made = sim.make("fetch", [room_scene], 4, robot="fetcher", cameras=(), expert=True)
    yield made
    made.close()


def box(low: float, high: float, shape: tuple[int, ...], kind: type) -> gymnasium.spaces.Box:
    """A space."""
    return gymnasium.spaces.Box(low, high, shape, kind)  # type: ignore[arg-type]


def spaces_of(env: SceneEnv) -> dict[str, gymnasium.Space]:
    """Of one robot's observations."""
    assert isinstance(env.single_observation_space, gymnasium.spaces.Dict)
    return dict(env.single_observation_space.spaces)


def state_of(env: SceneEnv) -> StepState[Any]:
    """Now, after bodies were moved."""
    return env.senses.now(np.zeros((4, 7), np.float32))


def test_spaces(room_scene: SimScene) -> None:
    """Of fetching, and of V-SERL's contract: 128 x 128 pixels from the mast, seven joints, seven steps of joints."""
    image, free = box(0, 255, (128, 128, 3), np.uint8), lambda size: box(-np.inf, np.inf, (size,), np.float32)
    env = sim.make("fetch", [room_scene], 1, robot="fetcher")
    assert env.single_action_space == box(-1, 1, (7,), np.float32)
    assert spaces_of(env) == {
        **{"mast_rgb": image, "wrist_rgb": image, "hand": free(10), "velocity": free(3), "action": free(7)},
        **{"things": free(23), "ways": free(6), "time": free(1)},
    }
    found, _ = env.reset(seed=1)
    assert env.observation_space.contains(found)
    env.close()
    vserl = sim.make("lift_vserl", [room_scene], 1, robot="fetcher")
    assert vserl.single_action_space == box(-1, 1, (7,), np.float32)
    assert spaces_of(vserl) == {"mast_rgb": image, "joints": free(7), "things": free(23)}
    found, _ = vserl.reset(seed=1)
    assert vserl.observation_space.contains(found)
    vserl.close()
    assert round(LIFT_VSERL.seconds / LIFT_VSERL.control_period) == 80
    assert (LIFT_VSERL.control_period, LIFT_VSERL.substeps) == (0.03, 2)
    assert [name for name, seen in LIFT_VSERL.observations.items() if not seen.privileged] == ["joints"]
    assert {name for name, seen in FETCH.observations.items() if seen.privileged} == {"things", "ways", "time"}


def test_the_expert_fetches(env: SceneEnv) -> None:
    """All first episodes, by actions that lie in the action space."""
    found, _ = env.reset(seed=3)
    ended = np.zeros(4, bool)
    for _ in range(round(FETCH.seconds / FETCH.control_period)):
        assert env.single_action_space.contains(found[EXPERT][0])
        found, _, terminated, truncated, info = env.step(found[EXPERT])
        done = (terminated | truncated) & ~ended
        if done.any():
            assert info["final_success"][done].all()
            ended |= done
        if ended.all():
            break
    assert ended.all()


def test_where_episodes_begin(env: SceneEnv, room_scene: SimScene) -> None:
    """Robots on their marks, things on the floor at the end of a path of the right length, both with room around."""
    for seed in range(5):
        env.reset(seed=seed)
        assert env.now
        now, paths, state = seen(env.now), env.now.scenario, env.now.state
        np.testing.assert_allclose(now.mark[:, :2], 0, atol=1e-6)
        np.testing.assert_allclose(paths.length[:, TO_HOME], 0, atol=0.06)
        assert (paths.length[:, TO_THING] > 0.9).all()
        assert (paths.length[:, TO_THING] < 5.1).all()
        assert env.now.bodies
        for xy in (state.position[:, :2], env.now.bodies.position[:, 0, :2]):
            to_edge = env.scenario.floors.to_edge(np.zeros(4, np.int64), xy)  # type: ignore[attr-defined]
            assert (to_edge >= fetch.ROOM - room_scene.regions.cell).all()
        np.testing.assert_allclose(env.now.bodies.position[:, 0, 2], 0.03, atol=0.01)
        assert len(np.unique(now.place[:, 0].round(3), axis=0)) == 4


def test_places_are_in_the_base(env: SceneEnv) -> None:
    """The mark stays in the world while the robot drives; paths say how far to turn."""
    env.reset(seed=1)
    assert env.now
    begin = env.now.state.position.copy()
    actions = np.tile(np.array([0.4, 0.5, 0, 0, 0, 0, 1], np.float32), (4, 1))
    for _ in range(8):
        env.step(actions)
    step = env.last_step
    assert step
    back = step.state.position + np.einsum("nij,nj->ni", step.state.world_from_base, step.scenario.mark)
    np.testing.assert_allclose(back[:, :2], begin[:, :2], atol=1e-4)
    assert (np.linalg.norm(step.scenario.mark[:, :2], axis=1) > 0.1).all()
    things, now = fetch.things(step), seen(step)
    np.testing.assert_allclose(things[:, :2], now.place[:, 0, :2], rtol=1e-5)
    np.testing.assert_allclose(things[:, 2:4], now.mark[:, :2], rtol=1e-5)
    np.testing.assert_allclose(fetch.ways(step)[:, :2], step.scenario.length)


def test_what_counts_as_brought_home(env: SceneEnv) -> None:
    """On the floor within 15 cm of the mark, let go and at rest; held above it, or beside it, or moving, it isn't."""
    env.reset(seed=2)
    assert env.now
    home = env.now.state.position.astype(np.float64) - [0, 0, 0.01]
    place = home + np.array([[0.14, 0, 0.02], [0.16, 0, 0.02], [0, 0.1, 0.12], [0, -0.1, 0.02]])
    bodies = BodyState.at_rest(place[:, None], np.tile([1.0, 0, 0, 0], (4, 1, 1)))
    bodies.linear_velocity[3] = [0.3, 0, 0]
    env.engine.place_bodies(np.arange(4), bodies)
    step = state_of(env)
    assert fetch.brought_home(step, within=0.15).tolist() == [True, False, False, False]
    assert fetch.carried_home(step, within=0.15).tolist() == [True, False, True, True]
    assert fetch.is_raised(step, height=0.05).tolist() == [False, False, True, False]
    assert not fetch.dropped(step).any()
    bodies.position[0, 0, 2] -= 0.2
    env.engine.place_bodies(np.arange(4), bodies)
    step = state_of(env)
    assert fetch.dropped(step).tolist() == [True, False, False, False]


def test_a_saved_episode_has_one_future(env: SceneEnv) -> None:
    """Paths, marks and hands included."""
    found, _ = env.reset(seed=5)
    for _ in range(10):
        found, *_ = env.step(found[EXPERT])
    saved, futures = env.save(), []
    for _ in range(2):
        env.restore(saved)
        assert env.now
        assert env.task.expert
        found = {EXPERT: env.task.expert(env.now)}
        for _ in range(5):
            found, *_ = env.step(found[EXPERT])
        futures.append(found)
        env.reset(seed=9)
    for name in futures[0]:
        np.testing.assert_array_equal(futures[0][name], futures[1][name], err_msg=name)


def test_vserl_things_lie_in_a_disc(room_scene: SimScene) -> None:
    """Of 10 cm, before the base, which stands."""
    env = sim.make("lift_vserl", [room_scene], 8, robot="fetcher", cameras=())
    env.reset(seed=1)
    assert env.now
    begin, place = env.now.state.position.copy(), seen(env.now).place[:, 0]
    assert (np.linalg.norm(place[:, :2] - [0.32, 0], axis=1) < 0.101).all()
    assert np.ptp(place[:, :2], axis=0).min() > 0.05
    found, *_ = env.step(np.zeros((8, 7), np.float32))
    np.testing.assert_allclose(found["joints"], env.now.state.joint_position[:, env.robot.driven[2:9]])
    np.testing.assert_allclose(env.now.state.position[:, :2], begin[:, :2], atol=5e-3)
    env.close()


@pytest.mark.parametrize("task", ["fetch", "lift_vserl"])
def test_what_cannot_fetch_is_refused(room_scene: SimScene, task: str) -> None:
    """A rover has no arm."""
    with pytest.raises(SimError, match=r"(?s)an arm on wheels.*--robot fetcher"):
        sim.make(task, [room_scene], 1, robot="rover")


def test_a_scene_without_paths_is_refused() -> None:
    """On a small floor nothing is a metre away."""
    robot, _ = find_robot("fetcher")
    scene = floor_scene(np.ones((8, 8), bool), measured_for=(0.3, 0.6))
    with pytest.raises(SimError, match=r"(?s)along which things can be fetched.*1 to 5 m"):
        FetchScenario(Floors([scene], robot), 2, 0.1, items=(FLOOR_CUBE,))
