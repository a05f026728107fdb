"""What every sensor does: readings with noise, late or rare, and the truth beside them."""

from __future__ import annotations

import numpy as np
import pytest

import sim
from sim.env import FINAL_TRUTH, TRUTH, SceneEnv
from sim.scene.scene import SimScene
from sim.sensors.cameras.props import Props
from sim.sensors.cameras.settings import CameraSettings, DepthNoise, RobotCamera
from sim.sensors.sensor import Moment, Sensor, VectorSensor
from sim.tasks.driving.driving_tasks import NAVIGATE


def now_of(env: SceneEnv) -> Moment:
    """The moment that the last observations show."""
    assert env.now
    return Moment(env.now.state, env.scene_of, env.props(), env.now.seconds, env.now)


def test_a_vector_has_noise_and_its_truth_has_none():
    """In the vector's own units; without noise nothing is drawn."""
    moment = Moment(None, np.zeros(500, int), Props.none(500), np.zeros(500), np.full((500, 2), 7, np.float32))  # type: ignore[arg-type]
    noisy, exact = (VectorSensor("speed", lambda step: step, 2, noise) for noise in (0.5, 0.0))
    read = noisy.read(moment, np.random.default_rng(0))["speed"]
    assert read.std() == pytest.approx(0.5, rel=0.1) and read.mean() == pytest.approx(7, abs=0.05)
    assert read.dtype == np.float32
    rng = np.random.default_rng(3)
    np.testing.assert_array_equal(exact.read(moment, rng)["speed"], noisy.read_ground_truth(moment)["speed"])
    assert rng.random() == np.random.default_rng(3).random()
    assert noisy.due(moment.seconds, rng).tolist() == list(range(500))


def test_a_camera_reads_noise_and_knows_the_truth(room_scene: SimScene):
    """By one protocol with the vectors: the truth is neither noisy nor late."""
    camera = RobotCamera(NAVIGATE.camera, outputs=("rgb", "depth"))
    settings = CameraSettings(noise=0.1, depth_noise=DepthNoise(), latency=(0.5, 0.5))
    env = sim.make("navigate", [room_scene], 2, camera_settings=settings, cameras=[camera])
    env.reset(seed=1)
    before = now_of(env)
    env.step(np.ones((2, 2), np.float32))
    read, *_ = env.step(np.ones((2, 2), np.float32))
    sensors: list[Sensor] = [*env.cameras]
    (seen,) = (sensor.read_ground_truth(now_of(env)) for sensor in sensors)
    (first,) = (sensor.read_ground_truth(before) for sensor in sensors)
    assert seen.keys() == sensors[0].spaces().keys() == {"rgb", "depth"}
    late, now = (np.abs(read["rgb"] / 255 - image).mean() for image in (first["rgb"], seen["rgb"]))
    assert 0.04 < late < now
    assert (read["depth"] == 0).mean() > (first["depth"] == 0).mean() + 0.01
    assert env.cameras[0].images_taken == 2 * 3  # the truth is asked for beside the camera's clock


def test_info_says_what_is_true_where_observations_have_noise():
    """At the begin, in a step and at the end of episodes; nothing is said twice."""
    env = sim.make("walk", ["terrain:0"], 3, robot="go2", engine="mujoco-worlds", cameras=(), observation_noise=True)
    noisy = {name for name, term in env.task.observations.items() if term.noise}
    assert noisy >= {"velocity", "height_scan", "joint_velocities"}
    seen, info = env.reset(seed=0)
    assert env.now and info[TRUTH].keys() == noisy
    for name in noisy:
        np.testing.assert_array_equal(info[TRUTH][name], env.task.observations[name].function(env.now))
        assert np.abs(info[TRUTH][name] - seen[name]).max() > 0
    env.episodes.steps[1] = env.longest
    *_, info = env.step(np.zeros((3, env.controller.size), np.float32))
    assert env.last_step
    true = env.task.observations["joint_velocities"].function(env.last_step)
    np.testing.assert_array_equal(info[FINAL_TRUTH]["joint_velocities"], true)
    assert np.abs(info["final_obs"][1]["joint_velocities"] - true[1]).max() > 0
    clean = sim.make("walk", ["terrain:0"], 3, robot="go2", engine="mujoco-worlds", cameras=())
    assert clean.reset(seed=0)[1][TRUTH] == {}
