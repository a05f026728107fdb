"""Arms as environments: cameras, hands that are sent, things on the table."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import sim
from sim.env import SceneEnv
from sim.randomisation import Randomisation
from sim.robots.catalog import PACKAGE
from sim.scene.scene import SimScene
from sim.sensors.cameras.settings import CameraSettings

pytest.importorskip("mujoco")
if not PACKAGE.is_dir():
    pytest.skip("example-robot-data is not installed", allow_module_level=True)


@pytest.fixture(params=["sapien", "mujoco"])
def env(request: pytest.FixtureRequest, room_scene: SimScene) -> Iterator[SceneEnv]:
    """Three arms with their task's cameras."""
    made = sim.make("put_cube_on_plate", [room_scene], 3, robot="panda", engine=request.param, seed=5)
    yield made
    made.close()


VARIED = {
    "randomisation": Randomisation(
        friction=(0.7, 1.2), mass=(0.9, 1.1), strength=(0.7, 1.2), latency=(0.0, 0.06), base_height=0.03, distractors=2
    ),
    "camera_settings": CameraSettings(gain=(0.6, 1.0), white_balance=(0.8, 1.0)),
}


def rollout(env: SceneEnv, steps: int, seed: int) -> list[tuple]:
    """Random actions."""
    rng = np.random.default_rng(seed)
    return [env.step(rng.uniform(-1, 1, (3, env.controller.size)).astype(np.float32)) for _ in range(steps)]


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
    actions = np.zeros((3, env.controller.size), np.float32)
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


@pytest.mark.parametrize("engine", ["sapien", "mujoco"])
def test_what_varies_repeats(room_scene: SimScene, engine: str) -> None:
    """Bit for bit from the seed, through the end of episodes; from a saved state as well, to rounding in SAPIEN."""
    runs = []
    for settings in (VARIED, VARIED, {}):
        env = sim.make("put_cube_on_plate", [room_scene], 3, robot="panda", engine=engine, **settings)
        first, _ = env.reset(seed=7)
        runs.append([first, *(step[0] for step in rollout(env, 3, 0))])
        actions = np.zeros((3, env.controller.size), np.float32)
        actions[2] = np.nan
        runs[-1].append(env.step(actions)[0])
        saved = env.save()
        future = [step[0] for step in rollout(env, 3, 1)]
        rollout(env, 1, 2)
        env.reset(seed=9)
        env.restore(saved)
        for one, two in zip(future, [step[0] for step in rollout(env, 3, 1)], strict=True):
            for name in one:
                off = np.abs(one[name].astype(float) - two[name])
                assert off.mean() < (0.01 if one[name].dtype == np.uint8 else 1e-5), name
        runs[-1] += future
        env.close()
    for one, two, plain in zip(*runs, strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], two[name], err_msg=name)
        assert (one["third_rgb"] != plain["third_rgb"]).any((1, 2, 3)).all()
        assert one["things"].shape == plain["things"].shape


def test_both_cameras_keep_their_gains_for_an_episode(room_scene: SimScene) -> None:
    """What is seen is what is there, times factors of each camera that stay until the arm begins anew."""
    env = sim.make("lift", [room_scene], 4, robot="panda", camera_settings=CameraSettings(gain=(0.3, 0.9)))
    seen, _ = env.reset(seed=1)
    gains, rows = [], np.arange(4)
    for step in range(4):
        assert env.now
        for rig in env.cameras:
            ideal = rig.shoot(rows, env.now.state, env.scene_of, env.props())["rgb"] * 255
            clear, found = ideal > 60, seen[rig.camera.key("rgb")]
            gains.append([np.median(found[row][clear[row]] / ideal[row][clear[row]]) for row in rows])
        actions = np.zeros((4, env.controller.size), np.float32)
        if step == 2:
            actions[1] = np.nan
        seen, *_ = env.step(actions)
    env.close()
    found = np.array(gains).reshape(4, 2, 4)  # step, camera, environment
    assert ((found > 0.28) & (found < 0.92)).all()
    assert np.ptp(found[0], axis=1).min() > 0.1
    np.testing.assert_allclose(found[1:3], np.tile(found[0], (2, 1, 1)), atol=0.01)
    others = [0, 2, 3]
    np.testing.assert_allclose(found[3][:, others], found[0][:, others], atol=0.01)
    assert (np.abs(found[3][:, 1] - found[0][:, 1]) > 0.02).all()
