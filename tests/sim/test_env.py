"""Many robots as one environment."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import sim
from pipeline.errors import SimError
from sim.cameras.settings import CameraSettings
from sim.driver import find_driver
from sim.env import SceneEnv
from sim.registration import register
from sim.robots.catalog import find_robot
from sim.scene import SimScene
from sim.tasks.navigate import NAVIGATE
from tests.bundles import make_bundle
from tests.synthetic import Room

Make = Callable[..., SceneEnv]


@pytest.fixture
def make(room_scene: SimScene) -> Iterator[Make]:
    """Environments in the room; closed at the end."""
    made: list[SceneEnv] = []
    robot, drive = find_robot("rover")

    def build(count: int, scenes: int = 1, **arguments: object) -> SceneEnv:
        made.append(SceneEnv(NAVIGATE, [room_scene] * scenes, robot, drive, count, **arguments))  # type: ignore[arg-type]
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
    register()
    bundle = make_bundle(tmp_path, room)
    env = gymnasium.make_vec("Navigate-v0", num_envs=2, scenes=[bundle], seed=3)
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
    flawed = CameraSettings(period=(0.2, 0.5), latency=(0.0, 0.3), noise=0.02, mount_turn=0.05)
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
        _, reward, _, _, info = env.step(driver.act())
        total += reward
        reached += int(info["ended_by_goal"].sum())
        assert np.isfinite(reward).all()
    assert reached >= 6
    assert total.mean() > 5


def test_episode_that_ends_begins_anew_in_the_same_step(make: Make):
    """The last picture of the old one is in the info; the new one stands at rest elsewhere."""
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


def test_every_start_stands_free(make: Make):
    """200 starts: after a moment at rest each robot stands upright on the floor where it began."""
    env = make(200)
    env.reset(seed=9)
    begun = env.engine.read()
    env.engine.step(150)
    state = env.engine.read()
    assert np.linalg.norm(state.position[:, :2] - begun.position[:, :2], axis=1).max() < 0.02
    assert np.abs(state.position[:, 2]).max() < 0.01
