"""Every task as an environment that gymnasium knows."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils import env_checker
from gymnasium.vector import AutoresetMode

from pipeline.errors import SimError
from sim.drivers import find_driver
from sim.env import SceneEnv
from sim.episodes import Episodes
from sim.registration import version_name
from sim.scene.floors import held_out
from sim.scene.scene import SimScene
from sim.tasks.catalog import TASKS
from sim.tasks.task import Curriculum

Make = Callable[..., SceneEnv]
ANY_SCENE = [name for name, task in TASKS.items() if task.controller is None and not task.scenes]
"""Tasks for wheels, in any scene."""
ALL_OVER = [name for name in ANY_SCENE if name != "levels"]
"""Those that begin all over the floor: landings have few places; these are not split for training."""


@pytest.fixture
def make(room_scene: SimScene, hall_scene: SimScene, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Through gymnasium's registry, in the room, or in the hall where stairs are needed; closed at the end."""
    made: list[gymnasium.vector.VectorEnv] = []
    scenes = {"room": room_scene, "hall": hall_scene}
    monkeypatch.setattr("sim.scene.opening.open_scene", lambda reference, **_: scenes[reference])

    def build(task: str, count: int, **arguments: Any) -> SceneEnv:
        name = f"splatyard/{version_name(task)}-v0"
        scene = "hall" if task in ("stairs", "levels") else "room"
        made.append(gymnasium.make_vec(name, num_envs=count, scenes=[scene], **arguments))
        return made[-1]  # type: ignore[return-value]

    yield build
    for env in made:
        env.close()


def rollout(env: SceneEnv, steps: int, seed: int) -> list[tuple]:
    """Random actions, the same for the same seed."""
    rng = np.random.default_rng(seed)
    return [env.step(rng.uniform(-1, 1, (env.num_envs, env.controller.size)).astype(np.float32)) for _ in range(steps)]


@pytest.mark.parametrize(
    "task", [pytest.param(task, marks=() if task == "navigate" else pytest.mark.slow) for task in ANY_SCENE]
)
def test_gymnasiums_own_checks(make: Make, task: str):
    """Those of its checker that make sense for many environments, all of them for one; without a warning."""
    env = make(task, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env_checker.check_seed_deprecation(env)  # type: ignore[arg-type]
        env_checker.check_reset_return_info_deprecation(env)  # type: ignore[arg-type]
        env_checker.check_reset_return_type(env)  # type: ignore[arg-type]
        env_checker.check_reset_options(env)  # type: ignore[arg-type]
        env_checker.check_reset_seed_determinism(env)  # type: ignore[arg-type]
        env_checker.check_returned_data_not_reused(env)  # type: ignore[arg-type]
        env_checker.check_space_limit(env.action_space, "action")


@pytest.mark.parametrize("task", ANY_SCENE)
def test_spaces_are_exact(make: Make, task: str):
    """What comes out lies in the spaces, with their shapes and types; what is declared is what there is."""
    env = make(task, 3)
    seen, _ = env.reset(seed=4)
    assert env.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    images = {camera.key(output) for camera in TASKS[task].cameras_of(env.robot) for output in camera.outputs}
    assert images
    assert set(seen) == {*images, *TASKS[task].observations}
    assert env.action_space.shape == (3, 2)
    for seen, reward, terminated, truncated, _ in rollout(env, 4, 0):
        for name, space in env.observation_space.spaces.items():  # type: ignore[attr-defined]
            assert seen[name].shape == space.shape, name
            assert seen[name].dtype == space.dtype, name
            assert np.isfinite(seen[name]).all(), name
        assert env.observation_space.contains(seen)
        assert reward.shape == terminated.shape == truncated.shape == (3,)
        assert reward.dtype == np.float32
        assert terminated.dtype == truncated.dtype == bool


@pytest.mark.parametrize("task", ANY_SCENE)
def test_same_seed_same_bits(make: Make, task: str):
    """Over many steps and some resets; and others for another seed."""
    one, two = (make(task, 3) for _ in range(2))
    first = [one.reset(seed=7)[0], two.reset(seed=7)[0]]
    for name in first[0]:
        np.testing.assert_array_equal(first[0][name], first[1][name])
    broken = np.full((3, 2), np.nan, np.float32)
    for a, b in zip(
        [*rollout(one, 12, 1), one.step(broken), *rollout(one, 6, 2)],
        [*rollout(two, 12, 1), two.step(broken), *rollout(two, 6, 2)],
        strict=True,
    ):
        for name in a[0]:
            np.testing.assert_array_equal(a[0][name], b[0][name])
        for x, y in zip(a[1:4], b[1:4], strict=True):
            np.testing.assert_array_equal(x, y)
    other = two.reset(seed=8)[0]["rgb"]
    assert (other != first[0]["rgb"]).any()


@pytest.mark.parametrize("task", ALL_OVER)
def test_nan_ends_one_episode_with_a_reason(make: Make, task: str):
    """The others go on; what was last seen is in the info, and the new episode stands at rest."""
    env = make(task, 3)
    env.reset(seed=2)
    action = find_driver("still", env, 0)().copy()
    env.step(action)
    action[1, 0] = np.nan
    before = env.engine.read().position[1]
    seen, reward, terminated, truncated, info = env.step(action)
    assert terminated.tolist() == [False, True, False]
    assert not truncated.any()
    assert info["invalid_action"].tolist() == [False, True, False]
    assert info["_final_obs"].tolist() == [False, True, False]
    assert env.single_observation_space.contains(info["final_obs"][1])
    assert info["final_obs"][0] is None
    assert (info["final_obs"][1]["rgb"] != seen["rgb"][1]).any()
    assert np.linalg.norm(env.engine.read().position[1] - before) > 0.05
    np.testing.assert_allclose(seen["velocity"][1], 0, atol=1e-6)
    assert np.isfinite(reward).all()


def test_the_last_observation_is_that_of_the_old_episode(make: Make):
    """Its action too: the new one begins with zeros."""
    env = make("navigate", 2)
    env.reset(seed=2)
    action = np.array([[0.4, np.nan], [0.2, -0.3]], np.float32)
    env.step(np.array([[0.5, 0.6], [0.1, 0.1]], np.float32))
    seen, *_, info = env.step(action)
    assert info["final_obs"][0]["action"].tolist() == [0, 0]  # what was done instead of NaN
    env.episodes.steps[:] = env.longest
    seen, *_, info = env.step(np.array([[0.5, 0.6], [0.1, -0.2]], np.float32))
    np.testing.assert_allclose(info["final_obs"][1]["action"], [0.1, -0.2])
    assert (seen["action"] == 0).all()


@pytest.mark.parametrize(
    ("task", "reason", "seconds"), [("weave", "goal", 16), ("avoid", "goal", 20), ("explore", "explored", 50)]
)
def test_who_knows_the_way_can_do_it(make: Make, task: str, reason: str, seconds: float):
    """A driver on wheels succeeds most of the time, and is paid more than one who stands still."""
    results = {}
    for name in ("auto", "still"):
        env = make(task, 6)
        no_images(env)
        env.reset(seed=3)
        driver, total, done, failed = find_driver(name, env, 0), 0.0, 0, 0  # type: ignore[arg-type]
        for _ in range(round(seconds / env.task.control_period)):
            _, reward, terminated, _, info = env.step(driver())
            total += float(reward.sum())
            done += int(info[f"ended_by_{reason}"].sum())
            failed += int((terminated & ~info[f"ended_by_{reason}"]).sum())
            if "final_success" in info:
                assert info["final_success"].tolist() == info[f"ended_by_{reason}"].tolist()
        results[name] = total, done, failed
    assert results["auto"][0] > results["still"][0] + 10
    assert results["auto"][1] >= 6
    assert results["auto"][1] > 3 * results["auto"][2]
    assert results["still"][1] == 0


def no_images(env: SceneEnv) -> None:
    """The camera shows nothing, which is faster."""
    lens = env.task.camera
    black = np.zeros((env.num_envs, lens.height, lens.width, 3), np.uint8)
    env.cameras[0].observe = lambda *_: {"rgb": black}  # type: ignore[method-assign]


def test_a_post_ends_the_episode(make: Make):
    """By geometry alone, as a crash that is paid for."""
    env = make("weave", 2)
    env.reset(seed=1)
    still = find_driver("still", env, 0)()
    env.step(still)
    env.scenario._post[1, 0, :2] = env.engine.read().position[1, :2] + [0.2, 0.1]  # type: ignore[attr-defined]
    env.scenario._post_radius[1, 0] = 0.05  # type: ignore[attr-defined]
    _, reward, terminated, _, info = env.step(still)
    assert terminated.tolist() == info["ended_by_crash"].tolist() == [False, True]
    assert reward[1] < -4 < reward[0]


def test_costly_floor_costs_by_the_second(make: Make):
    """And doesn't end the episode."""
    env = make("weave", 2)
    env.reset(seed=1)
    env.scenario._patch_radius[:] = 0  # type: ignore[attr-defined]
    still = find_driver("still", env, 0)()
    without = env.step(still)[1]
    env.scenario._patch[1, 0, :2] = env.engine.read().position[1, :2]  # type: ignore[attr-defined]
    env.scenario._patch_radius[1, 0] = 0.3  # type: ignore[attr-defined]
    _, reward, terminated, _, _ = env.step(still)
    assert not terminated.any()
    np.testing.assert_allclose(reward - without, [0, -0.2], atol=0.02)


def test_a_patch_costs_and_is_remembered(make: Make):
    """Most when it is entered, some while the robot stays, nothing after; it counts at the episode's end."""
    env = make("avoid", 3, cameras=())
    env.reset(seed=1)
    env.scenario._radius[:] = 0  # type: ignore[attr-defined]
    still = find_driver("still", env, 0)()
    env.step(still)  # robots come to rest
    without = env.step(still)[1]
    xy = env.engine.read().position[:, :2]
    env.scenario._patch[1:, :2], env.scenario._radius[1:] = xy[1:], 0.3  # type: ignore[attr-defined]
    rewards = []
    for _ in range(2):
        _, reward, terminated, _, _ = env.step(still)
        rewards.append(reward - without)
        assert not terminated.any()
    env.scenario._radius[2] = 0  # type: ignore[attr-defined]
    rewards.append(env.step(still)[1] - without)
    expected = [[0, -4.25, -4.25], [0, -0.25, -0.25], [0, -0.25, 0]]
    np.testing.assert_allclose(rewards, expected, atol=0.02)
    env.episodes.steps[:] = env.longest
    outcomes = env.step(still)[-1]["final_outcomes"]
    assert outcomes["entered"].tolist() == [False, True, True]


def test_who_drives_straight_enters_the_patch(make: Make):
    """As one who is blind does, to where odometry says; the goal is often reached."""
    env = make("avoid", 12, cameras=(), starts="held_out")
    seen, _ = env.reset(seed=3)
    entered, reached = np.zeros(0, bool), np.zeros(0, bool)
    for _ in range(110):
        bearing = np.arctan2(seen["odometry"][:, 2], seen["odometry"][:, 1])
        speed = np.where(np.abs(bearing) < 0.4, 0.5, 0.0)
        seen, *_, info = env.step(env.controller.velocities.actions(speed, 3 * bearing))  # type: ignore[union-attr]
        if "final_outcomes" in info:
            ended = info["_final_obs"]
            entered = np.concatenate([entered, info["final_outcomes"]["entered"][ended]])
            reached = np.concatenate([reached, info["ended_by_goal"][ended]])
    assert len(entered) > 20
    assert entered.mean() > 0.8
    assert reached.mean() > 0.6


@pytest.mark.parametrize("task", ALL_OVER)
def test_episodes_begin_where_they_may(make: Make, task: str):
    """At places that are held out, or off these; after ends too."""
    for starts, expected in (("held_out", True), ("train", False)):
        env = make(task, 30, cameras=(), starts=starts)
        env.reset(seed=6)
        for _ in range(2):
            assert (held_out(env.engine.read().position[:, :2]) == expected).all()
            env.step(np.full((30, 2), np.nan, np.float32))


def test_climbing_gets_harder_for_those_who_can(make: Make):
    """One who arrives goes up a level, those who stand still go down, and the lowest stays."""
    env = make("climb-joints", 3, robot="go2")
    no_images(env)
    env.reset(seed=5)
    env.level[:] = [0, 2, 0]
    driver = find_driver("auto", env, 0)
    solved, first = np.zeros(3, bool), np.ones(3, bool)
    for _ in range(round(env.task.seconds / env.task.control_period)):
        action = driver()
        action[1:] = 0
        levels = env.level.copy()
        *_, terminated, truncated, info = env.step(action)
        assert info["level"].tolist() == levels.tolist()  # of the episode that this step belongs to
        done = first & (terminated | truncated)
        solved[done] = info["final_success"][done] if done.any() else False
        if done[0]:
            assert env.level[0] == 1
        first &= ~done
    assert solved.tolist() == [True, False, False]
    assert env.level[1:].tolist() == [1, 0]


def test_who_does_the_hardest_level_begins_again_at_any(make: Make):
    """If the curriculum says so; otherwise it stays there. Nobody gets below the lowest."""
    env = make("navigate", 200)
    no_images(env)
    env.reset(seed=5)
    change = np.where(np.arange(200) < 100, 1, -1)
    done = np.arange(200)
    for again, levels in ((True, {0, 1, 2}), (False, {2})):
        curriculum = Curriculum(lambda step, failed: change, 3, again)
        episodes = Episodes(replace(env.task, curriculum=curriculum), 200, 1, 2, 0)
        episodes.level[:100] = 2
        assert env.last_step
        episodes.change_levels(env.last_step, np.zeros(200, bool), done, env.np_random)
        assert set(episodes.level[:100].tolist()) == levels
        assert not episodes.level[100:].any()


def test_legs_step_on_the_ground_that_is_believed(make: Make):
    """With the true one a robot gets up the steps; a robot that believes in a level floor looks at no step."""
    env = make("climb", 2, robot="go2", level=1)
    no_images(env)
    env.reset(seed=5)
    driver, arrived = find_driver("auto", env, 0), np.zeros(2, bool)
    lifts = list[np.ndarray]()
    for _ in range(50):
        action = driver()
        action[1] = 0
        _, _, terminated, _, info = env.step(action)
        arrived |= terminated & info["ended_by_arrived"]
        assert env.last_step
        assert env.last_step.legs
        lifts.append(env.last_step.legs.stepping.swing.max(1))
    assert arrived[0]
    highest = np.max(lifts, 0)
    assert highest[0] > 1.2
    assert highest[1] <= 1.01


def test_who_climbs_gets_a_image_now_and_then(make: Make):
    """Ten a second, while control runs at fifty."""
    env = make("climb-joints", 2, robot="go2")
    env.reset(seed=1)
    before = env.cameras[0].images_taken
    rollout(env, 50, 0)
    assert env.cameras[0].images_taken - before == pytest.approx(20, abs=2)


def test_climbing_by_sight_needs_a_gait(make: Make):
    """None comes with splatyard for the biped."""
    with pytest.raises(SimError, match=r"needs a gait\n.*none for bolt"):
        make("climb", 2, robot="bolt")


def test_legs_can_climb_too(make: Make):
    """A biped at rest: joints are observed around their rest."""
    env = make("climb-joints", 2, robot="bolt")
    no_images(env)
    seen, _ = env.reset(seed=1)
    assert seen["joint_positions"].shape == (2, 6)
    np.testing.assert_allclose(seen["joint_positions"], 0, atol=1e-6)
    np.testing.assert_allclose(seen["projected_gravity"], np.tile([0, 0, -1], (2, 1)), atol=1e-6)


def test_names_in_gymnasium():
    """Words of a task's name are joined, each with a capital; those with a hyphen stay as they were."""
    names = {task: version_name(task) for task in TASKS}
    assert names["put_cube_on_plate"] == "PutCubeOnPlate"
    assert (names["navigate"], names["climb-joints"]) == ("Navigate", "Climb-joints")
    assert len(set(names.values())) == len(TASKS)
