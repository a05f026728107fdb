"""Gravity from an IMU that moves."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pipeline.capture.imu_gravity import (
    ALONE_SIGMA_DEG,
    GRAVITY,
    FrameGravity,
    ImuReadings,
    Up,
    imu_readings,
    up_while_moving,
)
from pipeline.geometry import Pose
from tests.capture.writers.walking import Motion, walk_with_it

SECONDS = 24.0
CAMERA_FROM_IMU = Pose(Rotation.from_euler("xyz", [0.3, 0.1, -2.0]).as_matrix(), np.array([0.02, 0.05, -0.1]))
WORLD_FROM_ROOM = Rotation.from_euler("xyz", [0.4, -0.7, 1.1])
UP = WORLD_FROM_ROOM.apply([0, 0, 1.0])
TIMES = np.arange(0, SECONDS, 0.005)


@pytest.fixture(scope="module")
def motion() -> Motion:
    """A walk round a room, with two steps a second that end on the heel."""
    return walk_with_it(SECONDS, np.random.default_rng(3))


def sensed(motion: Motion, rng: np.random.Generator | None, bias: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Specific force and turn rate at `TIMES`; of a cheap IMU where there is a generator, else of a perfect one."""
    force, rate = motion.imu(TIMES, CAMERA_FROM_IMU)
    if rng is None:
        return force, rate
    force += rng.normal(0, bias, 3) + rng.normal(0, 0.1, force.shape)
    return force, rate + rng.normal(0, 0.01, 3) + rng.normal(0, 0.01, rate.shape)


def track(
    motion: Motion, rng: np.random.Generator | None, every: float = 0.05
) -> tuple[np.ndarray, Rotation, np.ndarray]:
    """Times, rotations and positions of the IMU in a tilted world; of real odometry where there is a generator."""
    times = np.arange(0.01, SECONDS, every)
    rotations, positions = motion.at(times)
    if rng is not None:
        rotations *= Rotation.from_rotvec(np.deg2rad(rng.normal(0, 0.15, (len(times), 3))))
        positions += rng.normal(0, 0.004, positions.shape)
    at = positions + rotations.apply(CAMERA_FROM_IMU.translation)
    turned = WORLD_FROM_ROOM * rotations * Rotation.from_matrix(CAMERA_FROM_IMU.rotation)
    return times, turned, WORLD_FROM_ROOM.apply(at)


def off_deg(up: Up | str | None) -> float:
    assert isinstance(up, Up), up
    return float(np.rad2deg(np.arccos(np.clip(up.direction @ UP, -1, 1))))


@pytest.mark.parametrize("every", [1 / 60, 0.05, 0.1])
@pytest.mark.parametrize("noisy", [False, True])
def test_walking_gives_up_within_a_quarter_degree(motion: Motion, noisy: bool, every: float) -> None:
    """The readings swing by 3 m/s^2 and more; poses come 60 to 10 times a second."""
    rng = np.random.default_rng(1) if noisy else None
    force, rate = sensed(motion, rng)
    assert np.linalg.norm(force, axis=1).std() > 1.5
    up = up_while_moving(imu_readings(TIMES, force, rate), *track(motion, rng, every))
    assert off_deg(up) < 0.25
    assert isinstance(up, Up)
    assert up.sigma_deg < 0.3


def test_straight_walk_leaves_the_bias(motion: Motion) -> None:
    """Where nothing turns, a bias can't be told from gravity: the sigma says so and holds."""
    off, sigma = [], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        straight = walk_with_it(SECONDS, rng, turns=False)
        readings = imu_readings(TIMES, *sensed(straight, rng, bias=0.2))
        up = up_while_moving(readings, *track(straight, rng), bias_sigma=0.2)
        off.append(off_deg(up))
        assert isinstance(up, Up)
        sigma.append(up.sigma_deg)
    assert max(off) < 1
    assert np.median(np.array(off) / sigma) < 1.5
    assert max(np.array(off) / sigma) < 3


@pytest.mark.parametrize("late", [-0.35, 0.05])
def test_clock_of_the_imu_is_found_by_its_gyroscope(motion: Motion, late: float) -> None:
    """And said."""
    rng = np.random.default_rng(5)
    force, rate = sensed(motion, rng)
    up = up_while_moving(imu_readings(TIMES - late, force, rate), *track(motion, rng))
    assert off_deg(up) < 0.25
    assert isinstance(up, Up)
    assert f"{1000 * abs(late):.0f} ms {'behind' if late > 0 else 'ahead'}" in up.note


@pytest.mark.parametrize("rate_of", ["missing", "in degrees"])
def test_gyroscope_that_tells_nothing(motion: Motion, rate_of: str) -> None:
    """Zeros are left alone: the poses turn the readings; another unit is refused."""
    rng = np.random.default_rng(2)
    force, rate = sensed(motion, rng)
    readings = imu_readings(TIMES, force, 0 * rate if rate_of == "missing" else np.rad2deg(rate))
    up = up_while_moving(readings, *track(motion, rng))
    if rate_of == "missing":
        assert off_deg(up) < 0.5
    else:
        assert isinstance(up, str)
        assert "another unit" in up


@pytest.mark.parametrize("fault", ["axes", "handed", "force alone", "no gravity"])
def test_wrong_readings_are_refused(motion: Motion, fault: str) -> None:
    """Axes swapped or mirrored, in one or both sensors; linear acceleration under the accelerometer's name."""
    force, rate = sensed(motion, np.random.default_rng(4))
    if fault == "axes":
        force, rate = force[:, [1, 0, 2]], rate[:, [1, 0, 2]]
    elif fault == "handed":
        force, rate = force * [1, 1, -1], rate * [1, 1, -1]
    elif fault == "force alone":
        force = force[:, [2, 1, 0]]
    else:
        rotations, _ = motion.at(TIMES)
        imu = rotations * Rotation.from_matrix(CAMERA_FROM_IMU.rotation)
        force = force - imu.apply([0, 0, GRAVITY], inverse=True)
    up = up_while_moving(imu_readings(TIMES, force, rate), *track(motion, None))
    assert isinstance(up, str)
    assert "IMU not used" in up


def test_gaps_and_bad_readings_are_left_out(motion: Motion) -> None:
    """NaN, repeated and shuffled readings, seconds without any; poses that pause."""
    rng = np.random.default_rng(6)
    force, rate = sensed(motion, rng)
    force[100:140:7], rate[500] = np.nan, np.inf
    kept = np.concatenate([np.arange(0, 1500), np.arange(2100, 3900), np.arange(100, 200), np.arange(4000, len(TIMES))])
    order = rng.permutation(kept)
    times, rotations, positions = track(motion, rng)
    there = (times < 14) | (times > 16)
    readings = imu_readings(TIMES[order], force[order], rate[order])
    assert (np.diff(readings.times) > 0).all()
    up = up_while_moving(readings, times[there], rotations[there], positions[there])
    assert off_deg(up) < 0.4


@pytest.mark.parametrize("few", ["poses", "readings", "overlap", "keyframes"])
def test_too_little_gives_nothing(motion: Motion, few: str) -> None:
    """No opinion, rather than one of a moment."""
    force, rate = sensed(motion, None)
    readings = imu_readings(TIMES, force, rate)
    times, rotations, positions = track(motion, None, every=2.0 if few == "keyframes" else 0.05)
    if few == "poses":
        times, rotations, positions = times[:3], rotations[:3], positions[:3]
    elif few == "readings":
        readings = imu_readings(TIMES[::400], force[::400], rate[::400])
    elif few == "overlap":
        readings = imu_readings(TIMES + 500, force, rate)
    assert up_while_moving(readings, times, rotations, positions) is None


def test_world_that_tilts_is_less_sure(motion: Motion) -> None:
    """Odometry whose roll drifts by two degrees and back: the windows differ for long."""
    readings = imu_readings(TIMES, *sensed(motion, np.random.default_rng(7)))
    times, rotations, positions = track(motion, None)
    drift = Rotation.from_rotvec(np.deg2rad(2) * np.sin(2 * np.pi * times / SECONDS)[:, None] * [1.0, 0, 0])
    tilted = up_while_moving(readings, times, drift * rotations, drift.apply(positions))
    straight = up_while_moving(readings, times, rotations, positions)
    assert isinstance(tilted, Up)
    assert isinstance(straight, Up)
    assert off_deg(tilted) < 3 * tilted.sigma_deg
    assert tilted.sigma_deg > 2 * straight.sigma_deg


def test_readings_in_g_are_scaled(motion: Motion) -> None:
    """As Livox' drivers and phones give them, and said."""
    force, rate = sensed(motion, None)
    readings = imu_readings(TIMES, force / GRAVITY, rate)
    assert np.allclose(readings.force, force)
    assert readings.note is not None
    assert "in g" in readings.note


def test_readings_of_another_size_are_not_used() -> None:
    """Gravity removed, or an unknown unit."""
    readings = imu_readings(TIMES, np.tile([0.0, 0.1, 0.2], (len(TIMES), 1)), np.zeros((len(TIMES), 3)))
    assert not readings.usable
    gravity = FrameGravity(readings, None)
    assert (gravity.usable, gravity.sigma_deg, gravity.at(2.0, None)) == (False, None, None)
    assert "0.224 m/s^2 instead of 9.8" in gravity.note


def camera_readings(motion: Motion, rng: np.random.Generator | None) -> ImuReadings:
    """In the camera's axes."""
    return imu_readings(TIMES, *sensed(motion, rng)).rotated(CAMERA_FROM_IMU.rotation)


def test_frames_have_gravity_by_their_poses(motion: Motion) -> None:
    """One up for all, at any time that has a pose, in the camera's axes."""
    readings = camera_readings(motion, np.random.default_rng(8))
    gravity = FrameGravity(readings, Up(np.array([0, 0, 1.0]), 0.2, "measured"))
    assert (gravity.sigma_deg, gravity.note) == (0.2, "measured")
    pose = motion.poses(np.array([9.3]))[0]
    found = gravity.at(9.3, pose)
    assert found is not None
    assert np.allclose(found, pose.rotation.T @ [0, 0, -1.0])
    assert gravity.at(9.3, None) is None
    assert not FrameGravity(readings, "IMU not used: its axes are others").usable


def test_without_trajectory_the_gyroscope_holds_averages_together(motion: Motion) -> None:
    """Degrees while walking, and together less than a sigma and a half; nothing at the ends."""
    gravity = FrameGravity(camera_readings(motion, np.random.default_rng(9)), None)
    times = np.arange(0, SECONDS, 0.5)
    pairs = [(pose, gravity.at(at, None)) for at, pose in zip(times, motion.poses(times), strict=True)]
    downs = np.array([pose.rotate(found) for pose, found in pairs if found is not None])
    off = np.rad2deg(np.arccos(downs @ [0, 0, -1.0]))
    assert gravity.sigma_deg == ALONE_SIGMA_DEG
    assert len(downs) > 0.6 * len(times)
    assert np.median(off) < 2.5
    mean = downs.mean(0) / np.linalg.norm(downs.mean(0))
    assert np.rad2deg(np.arccos(mean @ [0, 0, -1.0])) < 2 * ALONE_SIGMA_DEG
    assert [gravity.at(time, None) for time in (-3.0, SECONDS + 3)] == [None, None]


def test_rest_is_exact_without_trajectory() -> None:
    """Nothing moves: the reading is gravity's counter-force."""
    up = np.array([0.36, -0.48, 0.8])
    readings = imu_readings(TIMES, np.tile(GRAVITY * up, (len(TIMES), 1)), np.zeros((len(TIMES), 3)))
    found = FrameGravity(readings, None).at(8.0, None)
    assert found is not None
    assert np.allclose(found, -up)
