"""What controllers know of the ground: by the truth, with errors, and by the map of a depth camera."""

from __future__ import annotations

import numpy as np
import pytest

import sim
from pipeline.errors import SimError
from sim.env import SceneEnv
from sim.robots.state import RobotState
from sim.sensors.ground.odometry import Odometry
from sim.sensors.ground.settings import MapSettings
from tests.sim.tasks.walking.test_walk import assert_repeats

pytest.importorskip("mujoco")
IDEAL = MapSettings(noise=None, drift=0, latency=(0, 0))


def walkers(ground: MapSettings | None = None, **settings) -> SceneEnv:
    """Robots on high stairs."""
    return sim.make(
        "walk",
        ["terrain:0:stairs:6"],
        8,
        robot="go2",
        engine="mujoco-worlds",
        cameras=(),
        ground=ground,
        **settings,
    )


def steps(env: SceneEnv, count: int) -> tuple[np.ndarray, np.ndarray]:
    """What is believed of the ground, and the truth, step by step (T, N, K)."""
    env.reset(seed=3)
    believed, true = [], []
    for _ in range(count):
        seen = env.step(np.zeros((8, 12), np.float32))[0]
        believed.append(seen["height_scan"])
        true.append(env.senses.ground.true(env.now.state, env.scene_of))
    env.close()
    return np.array(believed), np.array(true)


def test_a_map_is_near_the_truth():
    """Under and before the robots, after their first images; the last row but hidden ground."""
    believed, true = steps(walkers(IDEAL), 60)
    off = np.abs(believed - true)[20:].reshape(40, 8, 13, 7)
    assert np.median(off) < 0.01
    assert off[:, :, :11].mean() < 0.03


def test_a_map_without_images_is_level():
    """A camera that sees nothing leaves what the feet stand on."""
    blind = MapSettings(noise=None, drift=0, latency=(5, 5), period=(5, 5))
    believed, true = steps(walkers(blind), 40)
    level = believed.reshape(40, 8, 13, 7)[5:]
    assert np.abs(true).std() > 0.02
    assert np.abs(level - level[..., 4:5, 3:4]).mean() < 0.03


def test_errors_are_held_and_drawn_anew():
    """In training: of the size that the task says, the same from step to step, other ones each second in the mean."""
    env = walkers(observation_noise=True)
    env.reset(seed=0)
    found = []
    for _ in range(400):
        env.step(np.zeros((8, 12), np.float32))
        found.append(env.senses.ground.errors.copy())
    env.close()
    errors, task = np.array(found), env.task.scan_errors
    assert task
    changed = (np.diff(errors, axis=0) != 0).any(-1).mean()
    assert changed == pytest.approx(env.controller.period / task.hold, rel=0.5)
    np.testing.assert_allclose(errors.std((0, 1)), [task.shift, task.shift, task.rise], rtol=0.5)


def test_a_map_is_saved():
    """Saved and restored, the same actions give the same beliefs."""
    assert_repeats(walkers(MapSettings()), "height_scan")


def test_odometry_that_jumps_begins_a_map_anew():
    """Of the robot that it is about; late images from before are left out, and soon it knows as much as the others."""
    env = walkers(MapSettings(noise=None, drift=0))
    env.reset(seed=3)
    for step in range(60):
        if step == 30:
            ground = env.senses.ground.mapped
            assert ground
            known = np.isfinite(ground.map.maps.variance).sum((1, 2))
            ground.odometry.place[2] += [3.0, -2.0, 0.5]
        env.step(np.zeros((8, 12), np.float32))
        if step == 30:
            left = np.isfinite(ground.map.maps.variance).sum((1, 2))
            assert left[2] < known[2] / 2
            assert (np.delete(left, 2) > np.delete(known, 2) * 0.9).all()
            assert ground.map.begun[2] == env.now.seconds[2]
    assert np.flatnonzero(ground.map.begun).tolist() == [2]
    believed, true = (
        env.senses.ground.read(env.now.state, env.scene_of),
        env.senses.ground.true(env.now.state, env.scene_of),
    )
    off = np.abs(believed - true).reshape(8, 13, 7)[2, 2:10]
    env.close()
    assert np.median(off) < 0.02


def test_wheels_have_no_map(room_scene):
    """They don't look at the ground."""
    with pytest.raises(SimError, match="walk by a gait"):
        sim.make("navigate", [room_scene], 1, cameras=(), ground=IDEAL)


def test_odometry_drifts_by_its_share_of_the_way():
    """Without drift it is the motion in a frame that is turned; with it positions are off by a share of the way."""
    count, rng = 200, np.random.default_rng(1)
    exact, drifting = Odometry(count, 0, 0), Odometry(count, 0.05, 0.01)
    joints = np.zeros((count, 0), np.float32)
    for step in range(101):
        yaw = np.full(count, 0.01 * step)
        quaternion = np.column_stack([np.cos(yaw / 2), np.zeros((count, 2)), np.sin(yaw / 2)])
        state = RobotState.at_rest(np.tile([0.05 * step, 0.01 * step, 0.3], (count, 1)), quaternion, joints)
        for odometry in (exact, drifting):
            if step:
                odometry.update(state, rng)
            else:
                odometry.reset(np.arange(count), state, rng)
    np.testing.assert_allclose(np.linalg.norm(exact.place, axis=1), np.hypot(5, 1), atol=1e-5)
    inside = np.einsum("nji,nj->ni", exact.rotation, exact.place)
    turned = np.array([[np.cos(1), np.sin(1)], [-np.sin(1), np.cos(1)]]) @ [5, 1]
    np.testing.assert_allclose(inside[:, :2], np.tile(turned, (count, 1)), atol=1e-5)
    length = np.linalg.norm(drifting.place[:, :2], axis=1) / np.hypot(5, 1)
    assert 0.02 < length.std() < 0.1
