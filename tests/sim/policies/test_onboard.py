"""Over stairs by what a robot measures: the simulator is the robot, and tells nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import sim
from pipeline.errors import SimError
from pipeline.geometry import Camera, matrix_from_quaternion, matrix_from_rotvec
from sim.env import SceneEnv
from sim.policies.onboard import Commanded, Measured, OnBoard, resampled
from sim.robots.legs import Legs
from sim.sensors.ground.camera import ground_camera
from sim.sensors.ground.eyes import FINE, LENS
from sim.sensors.ground.settings import MapSettings
from sim.tasks.walking.flights import FlightState

pytest.importorskip("mujoco")
WIDE = Camera(424, 240, 212.0, 212.0, 212.0, 120.0)


def robot(lens: Camera = LENS) -> SceneEnv:
    """One before a staircase with steps of 12 cm."""
    scenes = ["terrain:0:flights:12"]
    plain = sim.make("flights", scenes, 1, robot="go2", engine="mujoco-worlds", cameras=())
    camera = replace(ground_camera(plain.robot, MapSettings())[0], lens=lens)
    plain.close()
    return sim.make("flights", scenes, 1, robot="go2", engine="mujoco-worlds", cameras=(camera,))


def image(env: SceneEnv) -> np.ndarray:
    """What its camera sees now."""
    return env.cameras[0].shoot(np.array([0]), env.engine.read(), env.scene_of, env.props())["depth"][0]


def measured(env: SceneEnv, stairs: OnBoard, seconds: float) -> Measured:
    """What it measures, in the order that is asked for."""
    state, feet = env.engine.read()[:1], [foot.link for foot in Legs(env.robot).feet]
    inside = state.world_from_base[0].T
    order = [env.robot.joint_names.index(name) for name in stairs.joints]
    return Measured(
        seconds,
        state.position[0],
        state.quaternion[0],
        inside @ state.linear_velocity[0],
        inside @ state.angular_velocity[0],
        state.joint_position[0, order],
        state.joint_velocity[0, order],
        np.linalg.norm(env.engine.foot_forces(feet)[0], axis=-1) > 15,
    )


def way(env: SceneEnv) -> FlightState:
    """How far it is over the stairs."""
    return env.scenario.state()  # type: ignore[return-value]


def walked(env: SceneEnv, stairs: OnBoard, steps: int) -> list[Commanded]:
    """What it is told in each step, until it is over the stairs."""
    told, up, driven = list[Commanded](), bool(way(env).up[0]), [one.joint for one in env.robot.actuators]
    stairs.begin()
    for step in range(steps):
        if step % 3 == 0:
            stairs.see(image(env), step * stairs.period)
        told.append(stairs.step(measured(env, stairs, step * stairs.period), up=up))
        targets = told[-1].joint_position[[stairs.joints.index(name) for name in driven]]
        env.randomiser.step(targets[None], np.random.default_rng(0))
        env.scenario.update(env.engine.read(), np.random.default_rng(0))
        if way(env).over[0]:
            break
    return told


@pytest.mark.parametrize(("seed", "up", "lens"), [(0, False, LENS), (1, True, WIDE)])
def test_it_gets_over_stairs(seed: int, up: bool, lens: Camera):
    """Up and down, by cameras of two kinds, its joints in the order of the maker's SDK."""
    env = robot(lens)
    env.reset(seed=seed)
    assert way(env).up[0] == up
    stairs = OnBoard("go2", lens=lens)
    told = walked(env, stairs, 1000)
    assert way(env).over[0]
    assert stairs.joints[:3] == ("FR_hip_joint", "FR_thigh_joint", "FR_calf_joint")
    assert {"stairs", "the way beyond stairs"} <= {one.goes_by for one in told}
    env.close()


@pytest.mark.parametrize(("angle", "steps", "most"), [(0, 150, 0.01), (np.pi / 2, 30, 0.05)])
def test_odometry_may_begin_anywhere(angle: float, steps: int, most: float):
    """Elsewhere it is told the same; turned, too, but for where the edges of cells lie."""
    env, here, there = robot(), OnBoard("go2"), OnBoard("go2")
    env.reset(seed=1)
    turn, half = matrix_from_rotvec(np.array([0, 0, angle])), np.array([np.cos(angle / 2), np.sin(angle / 2)])
    for step in range(steps):
        now = measured(env, here, 0.02 * step)
        w, x, y, z = now.quaternion
        turned = np.array([[w, -z], [x, -y], [y, x], [z, w]]) @ half
        np.testing.assert_allclose(
            matrix_from_quaternion(turned), turn @ matrix_from_quaternion(now.quaternion), atol=1e-6
        )
        moved = replace(now, position=turn @ now.position + [8.0, -4.0, 1.5], quaternion=turned)
        for one in (here, there):
            if step % 3 == 0:
                one.see(image(env), 0.02 * step)
        told = here.step(now)
        assert np.abs(told.joint_position - there.step(moved).joint_position).mean() < most
        assert np.abs(here.map.heights() - there.map.heights()).mean() < 0.005
        driven = [here.joints.index(one.joint) for one in env.robot.actuators]
        env.randomiser.step(told.joint_position[driven][None], np.random.default_rng(0))
    assert np.isfinite(here.map.maps.variance).sum() > 2000
    env.close()


def test_images_of_other_cameras():
    """What both cameras see is the same; beyond the edge of one there is nothing."""
    near = resampled(np.tile(np.array([1, np.nan, 5, 0.1], np.float32), (48, 16)), LENS, LENS)
    assert near[0, :4].tolist() == [1, 0, 0, 0]
    places = np.random.default_rng(0).uniform(0.5, 2, (12, 16)).astype(np.float32)
    large, small = (np.kron(places, np.ones((size, size), np.float32)) for size in (8, 4))
    np.testing.assert_array_equal(resampled(large, FINE, LENS), small)
    colors = np.random.default_rng(1).integers(0, 255, (96, 128, 3)).astype(np.uint8)
    mean = colors.reshape(48, 2, 64, 2, 3).mean((1, 3))
    np.testing.assert_allclose(resampled(colors, FINE, LENS), mean, atol=0.51)
    narrow = Camera(64, 48, 2 * LENS.fx, 2 * LENS.fy, 32.0, 24.0)
    seen = resampled(np.ones((48, 64), np.float32), narrow, LENS)
    assert seen[13:35, 17:47].min() == 1
    assert seen.sum() == 24 * 32


def test_what_it_is_not_given_as_agreed_is_refused():
    """The wrong size, no number, no unit quaternion, a clock that goes back, another camera's image, no gait."""
    env, stairs = robot(), OnBoard("go2")
    env.reset(seed=0)
    now = measured(env, stairs, 1.0)
    for wrong in (
        {"position": np.array([0, np.nan, 0])},
        {"joint_position": np.zeros(11)},
        {"quaternion": np.array([1.0, 1, 0, 0])},
        {"feet_down": np.ones(3, bool)},
        {"seconds": np.inf},
    ):
        with pytest.raises(SimError, match=next(iter(wrong))):
            stairs.step(replace(now, **wrong))
    assert np.isfinite(stairs.step(now).joint_position).all()
    with pytest.raises(SimError, match=r"begin\(\)"):
        stairs.step(now)
    stairs.begin()
    stairs.step(now)
    with pytest.raises(SimError, match=r"\(48, 64\)"):
        stairs.see(np.zeros((240, 424), np.float32), 1.0)
    with pytest.raises(SimError, match="rover, which has none"):
        OnBoard("rover")
    with pytest.raises(SimError, match="rectify"):
        OnBoard("go2", lens=replace(LENS, distortion=(0.1, 0, 0, 0)))
    env.close()


def test_who_sees_nothing_stops():
    """Without images it stands, and goes on when there are some."""
    env, stairs = robot(), OnBoard("go2")
    env.reset(seed=0)
    told = [stairs.step(measured(env, stairs, 0.02 * step)) for step in range(40)]
    assert told[-1].forward == told[-1].turn == 0
    stairs.see(image(env), 0.8)
    told = [stairs.step(measured(env, stairs, 0.8 + 0.02 * step)) for step in range(1, 10)]
    assert abs(told[-1].forward) + abs(told[-1].turn) > 0.1
    env.close()
