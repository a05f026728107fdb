"""Many robots as one environment."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import sim
from pipeline.errors import SimError
from sim.config import EnvConfig
from sim.controlled import find_robot
from sim.drivers import find_driver
from sim.env import SceneEnv
from sim.scene.scene import SimScene
from sim.sensors.cameras.settings import CameraSettings
from sim.tasks.driving.driving_tasks import NAVIGATE
from sim.tasks.task import StepState, Task
from tests.bundles import make_bundle
from tests.synthetic import Room

Make = Callable[..., SceneEnv]


@pytest.fixture
def make(room_scene: SimScene) -> Iterator[Make]:
    """Environments in the room; closed at the end."""
    made: list[SceneEnv] = []
    robot, drive = find_robot("rover")

    def build(count: int, scenes: int = 1, task: Task = NAVIGATE, **arguments: object) -> SceneEnv:
        made.append(SceneEnv(task, [room_scene] * scenes, robot, drive, count, EnvConfig(**arguments)))  # type: ignore[arg-type]
        return made[-1]

    yield build
    for env in made:
        env.close()


def rollout(env: SceneEnv, steps: int, seed: int) -> list[tuple]:
    """Random actions, the same for the same seed."""
    rng = np.random.default_rng(seed)
    shape = env.action_space.shape or ()
    return [env.step(rng.uniform(-1, 1, shape).astype(np.float32)) for _ in range(steps)]


def test_spaces_are_exact(make: Make):
    """What comes out lies in the spaces, with their shapes and types."""
    env = make(3)
    seen, _ = env.reset(seed=4)
    assert env.observation_space.contains(seen)
    for seen, reward, terminated, truncated, _ in rollout(env, 5, 0):
        assert env.observation_space.contains(seen)
        assert reward.shape == terminated.shape == truncated.shape == (3,)
        assert reward.dtype == np.float32
        assert terminated.dtype == truncated.dtype == bool
    assert env.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    assert isinstance(env, gymnasium.vector.VectorEnv)


def test_gymnasium_makes_it_by_name(tmp_path: Path, room: Room):
    """From a bundle on disk, through gymnasium's registry; a task it doesn't know is an error with a remedy."""
    bundle = make_bundle(tmp_path, room)
    env = gymnasium.make_vec("sim.registration:splatyard/Navigate-v0", num_envs=2, scenes=[bundle], seed=3)
    seen, _ = env.reset(seed=3)
    assert env.observation_space.contains(seen)
    env.close()
    with pytest.raises(SimError, match="navigate"):
        sim.make("fly", [bundle], 1)


def test_bundles_that_failed_are_refused_unless_asked_for(tmp_path: Path, room: Room):
    """And the record says which gates."""
    bundle = make_bundle(tmp_path, room, failing=True)
    with pytest.raises(SimError, match="scale"):
        sim.make("navigate", [bundle], 1)
    env = sim.make("navigate", [bundle], 1, allow_failed=True)
    lock = env.scenes[0].lock
    assert (lock.reference, lock.failed_gates) == ("room@1.0.0", ("scale",))
    assert lock.sha256 == hashlib.sha256((bundle / "bundle.json").read_bytes()).hexdigest()
    env.close()


def test_same_seed_same_everything(make: Make):
    """Bit for bit, with flaws that are left to chance and scenes that change."""
    flawed = CameraSettings(period=(0.2, 0.5), latency=(0.0, 0.3), noise=0.02, mount_rotation=0.05)
    one, two = (make(4, scenes=2, camera_settings=flawed) for _ in range(2))
    np.testing.assert_array_equal(one.reset(seed=7)[0]["rgb"], two.reset(seed=7)[0]["rgb"])
    for a, b in zip(rollout(one, 40, 1), rollout(two, 40, 1), strict=True):
        for name in a[0]:
            np.testing.assert_array_equal(a[0][name], b[0][name])
        for x, y in zip(a[1:4], b[1:4], strict=True):
            np.testing.assert_array_equal(x, y)
    other = two.reset(seed=8)[0]["rgb"]
    assert (other != one.reset(seed=7)[0]["rgb"]).any()


def test_driving_to_the_goal_is_rewarded(make: Make):
    """A driver who follows the way that is left gets there, and is paid for the way."""
    env = make(6)
    env.reset(seed=3)
    driver, total, reached = find_driver("auto", env, 0), np.zeros(6), 0
    for _ in range(200):
        _, reward, _, _, info = env.step(driver())
        total += reward
        reached += int(info["ended_by_goal"].sum())
        assert np.isfinite(reward).all()
    assert reached >= 6
    assert total.mean() > 5


def test_episode_that_ends_is_reset_in_the_same_step(make: Make):
    """The last image of the old one is in the info; the new one stands at rest elsewhere."""
    env = make(4)
    env.reset(seed=1)
    for seen, _, terminated, truncated, info in rollout(env, 120, 2):
        done = terminated | truncated
        if done.any():
            row = int(np.flatnonzero(done)[0])
            assert (info["_final_obs"] == done).all()
            assert env.single_observation_space.contains(info["final_obs"][row])
            assert (info["final_obs"][row]["rgb"] != seen["rgb"][row]).any()
            np.testing.assert_allclose(seen["velocity"][row], 0, atol=1e-6)
            assert (seen["action"][row] == 0).all()
            return
    pytest.fail("no episode ended")


def test_nan_ends_one_episode_with_a_reason(make: Make):
    """The others go on."""
    env = make(3)
    env.reset(seed=2)
    action = np.zeros((3, 2), np.float32)
    action[1, 0] = np.nan
    _, reward, terminated, _, info = env.step(action)
    assert terminated.tolist() == [False, True, False]
    assert info["invalid_action"].tolist() == [False, True, False]
    assert np.isfinite(reward).all()


def test_episodes_are_cut_off(make: Make):
    """Standing still until the time is over: truncated, not terminated."""
    env = make(2)
    env.reset(seed=5)
    still = np.tile(np.array([-0.54, 0], np.float32), (2, 1))  # forward speed 0 of -0.24 .. 0.8
    for _ in range(79):
        _, _, terminated, truncated, _ = env.step(still)
        assert not (terminated | truncated).any()
    _, _, terminated, truncated, _ = env.step(still)
    assert truncated.all()
    assert not terminated.any()


def test_an_episode_has_as_many_steps_as_its_time_limit(make: Make):
    """Steps are counted: a sum of 450 tenths of a second in single precision is less than 45."""
    slow = replace(NAVIGATE, control_period=0.1, time_step=0.05, terminations={})
    env = make(2, task=slow, cameras=(), seconds=45.0)
    env.reset(seed=2)
    still = np.tile(np.array([-0.54, 0], np.float32), (2, 1))
    for _ in range(449):
        *_, truncated, _ = env.step(still)
        assert not truncated.any()
    assert env.last_step
    assert env.last_step.seconds.tolist() == [449 * 0.1] * 2
    *_, truncated, _ = env.step(still)
    assert truncated.all()
    assert env.longest == 450


def test_every_start_stands_free(make: Make):
    """200 starts: after a step at rest each robot stands upright on the floor where it began."""
    env = make(200)
    env.reset(seed=9)
    begun = env.engine.read()
    env.engine.step(150)
    state = env.engine.read()
    assert np.linalg.norm(state.position[:, :2] - begun.position[:, :2], axis=1).max() < 0.02
    assert np.abs(state.position[:, 2]).max() < 0.01


def test_a_robot_without_cameras_is_blind(make: Make):
    """No image is drawn and none is in the spaces; by default there is one."""
    blind, seeing = make(2, cameras=()), make(2)
    seen, _ = blind.reset(seed=3)
    assert set(seen) == set(blind.observation_space) == set(NAVIGATE.observations)  # type: ignore[call-overload]
    assert blind.observation_space.contains(rollout(blind, 2, 0)[-1][0])
    assert set(seeing.reset(seed=3)[0]) == {"rgb", *NAVIGATE.observations}


def test_scenes_come_up_as_often_as_their_weights(make: Make):
    """Those with none never; `save` keeps the weights, and what are no weights is refused."""
    env = make(200, scenes=3, cameras=())
    assert env.scene_weights.tolist() == [1, 1, 1]
    env.reset(seed=4)
    assert np.bincount(env.scene_of, minlength=3).min() > 40
    saved = env.save()
    env.scene_weights = np.array([0, 3, 1])
    env.reset(seed=4)
    assert np.bincount(env.scene_of, minlength=3) == pytest.approx([0, 150, 50], abs=25)
    weighted = env.save()
    env.restore(saved)
    assert env.scene_weights.tolist() == [1, 1, 1]
    env.restore(weighted)
    assert env.scene_weights.tolist() == [0, 3, 1]
    for wrong in ([1, 1], [0, 0, 0], [1, -1, 1], [np.nan, 1, 1], [np.inf, 1, 1]):
        with pytest.raises(ValueError, match="3 scenes"):
            env.scene_weights = np.array(wrong)


def test_a_step_tells_the_scene_that_its_episodes_ran_in(make: Make):
    """Not the one of the episode that began in it."""
    env = make(60, scenes=2, cameras=())
    env.reset(seed=1)
    before = env.scene_of.copy()
    *_, info = env.step(np.full((60, 2), np.nan, np.float32))
    assert (info["scene"] == before).all()
    assert (env.scene_of != before).any()


def test_outcomes_are_those_of_the_last_moment(make: Make):
    """False where no episode ended; without an end there are none."""

    def always(step: object) -> np.ndarray:
        return np.ones(3, bool)

    def to_the_left(step: StepState) -> np.ndarray:
        return step.action[:, 1] > 0

    outcomes = {"always": always, "left": to_the_left}
    env = make(3, task=replace(NAVIGATE, success=to_the_left, outcomes=outcomes), cameras=())
    env.reset(seed=2)
    action = np.array([[-0.54, 0.5], [-0.54, -0.5], [-0.54, 0.5]], np.float32)
    assert "final_outcomes" not in env.step(action)[-1]
    env.episodes.steps[:2] = env.longest
    info = env.step(action)[-1]
    assert info["final_success"].tolist() == [True, False, False]
    outcomes = info["final_outcomes"]
    assert {name: values.tolist() for name, values in outcomes.items()} == {
        "always": [True, True, False],
        "left": [True, False, False],
    }


def test_critics_know_where_robots_are_and_when(make: Make, room_scene: SimScene):
    """In the scene's frame; how near the floor's edge is, and how much of the time is gone."""
    env = make(5, cameras=())
    seen, _ = env.reset(seed=3)
    state = env.engine.read()
    yaw = 2 * np.arctan2(state.quaternion[:, 3], state.quaternion[:, 0])
    np.testing.assert_allclose(seen["pose"], np.c_[state.position[:, :2], np.cos(yaw), np.sin(yaw)], atol=1e-6)
    regions = room_scene.regions
    shut = regions.centres()[~regions.drivable]
    away = np.linalg.norm(state.position[:, None, :2] - shut, axis=-1).min(1)
    np.testing.assert_allclose(seen["edges"][:, 0], away - regions.cell / 2, atol=regions.cell)
    assert np.ptp(seen["edges"][:, 0]) > 0.1
    assert (seen["time"] == 0).all()
    still = np.tile(np.array([-0.54, 0], np.float32), (5, 1))
    for _ in range(4):
        seen, *_ = env.step(still)
    np.testing.assert_allclose(seen["time"], 0.8 / NAVIGATE.seconds, rtol=1e-5)
    assert all(NAVIGATE.observations[name].privileged for name in ("pose", "edges", "detours", "time"))
