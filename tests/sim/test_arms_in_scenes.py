"""Arms as environments: cameras, hands that are sent, things on the table."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import sim
from sim.env import SceneEnv
from sim.robots.catalog import PACKAGE
from sim.scene import SimScene

pytest.importorskip("mujoco")
if not PACKAGE.is_dir():
    pytest.skip("example-robot-data is not installed", allow_module_level=True)


@pytest.fixture(params=["sapien", "mujoco"])
def env(request: pytest.FixtureRequest, room_scene: SimScene) -> Iterator[SceneEnv]:
    """Three arms with their task's cameras."""
    made = sim.make("put_cube_on_plate", [room_scene], 3, robot="panda", engine=request.param, seed=5)
    yield made
    made.close()


def rollout(env: SceneEnv, steps: int, seed: int) -> list[tuple]:
    """Random actions."""
    rng = np.random.default_rng(seed)
    return [env.step(rng.uniform(-1, 1, (3, env.drive.size)).astype(np.float32)) for _ in range(steps)]


def test_what_is_seen_lies_in_the_spaces(env: SceneEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both cameras are there and see different things; contact forces of a fixed base are never asked for."""

    def asked() -> None:
        pytest.fail("it costs SAPIEN a loop over contacts")

    monkeypatch.setattr(env.engine, "contact_forces", asked)
    seen, _ = env.reset(seed=4)
    assert env.observation_space.contains(seen)
    assert {"third_rgb", "wrist_rgb"} < set(seen)
    assert seen["third_rgb"].shape == seen["wrist_rgb"].shape == (3, 64, 64, 3)
    assert all(np.ptp(seen[name][row]) > 50 for name in ("third_rgb", "wrist_rgb") for row in range(3))
    for seen, reward, *_ in rollout(env, 3, 0):
        assert env.observation_space.contains(seen)
        assert np.isfinite(reward).all()


def test_a_saved_arm_has_one_future(env: SceneEnv) -> None:
    """Bit for bit, with where its hands were sent, after other ways and other episodes."""
    env.reset(seed=4)
    rollout(env, 5, 1)
    saved = env.save()
    assert env.now
    assert env.now.arm
    target = env.now.arm.target.copy()
    first = rollout(env, 4, 2)
    rollout(env, 3, 3)
    env.reset(seed=8)
    env.restore(saved)
    assert env.now
    assert env.now.arm
    np.testing.assert_array_equal(env.now.arm.target, target)
    for a, b in zip(first, rollout(env, 4, 2), strict=True):
        for name in a[0]:
            np.testing.assert_array_equal(a[0][name], b[0][name], err_msg=name)
        for x, y in zip(a[1:4], b[1:4], strict=True):
            np.testing.assert_array_equal(x, y)


def test_nan_ends_one_episode(env: SceneEnv) -> None:
    """The hand of the next one begins where it is; the last state of the old one keeps where it was sent."""
    env.reset(seed=2)
    rollout(env, 3, 0)
    assert env.now
    assert env.now.arm
    target = env.now.arm.target.copy()
    actions = np.zeros((3, env.drive.size), np.float32)
    actions[1, 2] = np.nan
    seen, reward, terminated, truncated, info = env.step(actions)
    assert terminated.tolist() == info["invalid_action"].tolist() == [False, True, False]
    assert not truncated.any()
    assert np.isfinite(reward).all()
    assert env.observation_space.contains(seen)
    assert env.last_step
    assert env.last_step.arm
    np.testing.assert_allclose(env.last_step.arm.target[1], target[1], atol=0.02)
    hands = env.now.scenario.arm.hands(env.now.state.joint_position)
    np.testing.assert_allclose(env.now.arm.target[1], hands[1], atol=1e-5)
    assert np.abs(env.last_step.arm.target[1] - env.now.arm.target[1]).max() > 0.02
