"""A person who walks with a phone or a sensor head: exact poses, and what an IMU on it reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from pipeline.geometry import Pose
from pipeline.types import F64

GRAVITY = 9.80665
STEP = 1e-3
"""Of the grid that the motion is integrated on [s]."""


@dataclass(frozen=True, eq=False)
class Motion:
    """Camera poses over time in an upright world (z up), by `at`; the grid's times are (N,) [s], from 0."""

    times: F64
    positions: F64
    angles: F64

    def at(self, times: F64) -> tuple[Rotation, F64]:
        """World from camera (CV axes): rotations and positions (M, 3) [m] at times (M,)."""
        yaw, pitch, roll = (np.interp(times, self.times, column) for column in self.angles.T)
        positions = np.stack([np.interp(times, self.times, column) for column in self.positions.T], 1)
        level = Rotation.from_matrix([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])  # x ahead, y left, z up from CV axes
        return Rotation.from_euler("ZYX", np.stack([yaw, pitch, roll], 1)) * level, positions

    def poses(self, times: F64) -> list[Pose]:
        """World from camera at times (M,)."""
        rotations, positions = self.at(times)
        return [Pose(matrix, position) for matrix, position in zip(rotations.as_matrix(), positions, strict=True)]

    def imu(self, times: F64, camera_from_imu: Pose) -> tuple[F64, F64]:
        """Specific force [m/s^2] and turn rate [rad/s] (M, 3) of a perfect IMU, in its axes."""
        h = 4e-3

        def there(offset: float) -> tuple[Rotation, F64]:
            rotation, position = self.at(times + offset)
            turned = rotation * Rotation.from_matrix(camera_from_imu.rotation)
            return turned, position + rotation.apply(camera_from_imu.translation)

        (before, p0), (now, p1), (after, p2) = there(-h), there(0.0), there(h)
        force = now.apply((p0 - 2 * p1 + p2) / h**2 + [0, 0, GRAVITY], inverse=True)
        return force, (before.inv() * after).as_rotvec() / (2 * h)


def walk_with_it(seconds: float, rng: np.random.Generator, *, turns: bool = True, start: bool = True) -> Motion:
    """A walk at 0.7 to 1.2 m/s: two steps a second that lift body and hand by 3 to 5 cm and end on the heel.

    Args:
        seconds: Its length.
        rng: For what differs from person to person.
        turns: Whether it goes round a room, or straight on.
        start: Whether it begins and ends standing.
    """
    t = np.arange(-0.1, seconds + 0.1, STEP)
    pace = 2 * np.pi * rng.uniform(1.7, 2.1)
    phase, speed = rng.uniform(0, 2 * np.pi, 12), rng.uniform(0.7, 1.2)
    going = np.clip(np.minimum(t, seconds - t) / 1.5, 0, 1) if start else np.ones_like(t)
    going = going**2 * (3 - 2 * going)
    knots = np.arange(-2, seconds + 6, 4.0)
    heading = np.interp(t, knots, np.cumsum(rng.normal(0, 1.2, len(knots)))) if turns else np.zeros_like(t)
    heading = np.convolve(np.pad(heading, 600, "edge"), np.hanning(1201) / np.hanning(1201).sum(), "valid")
    ahead = np.stack([np.cos(heading), np.sin(heading)], 1)
    left = np.stack([-ahead[:, 1], ahead[:, 0]], 1)
    forward = speed * going * (1 + 0.12 * np.sin(pace * t + phase[0]))
    position = np.cumsum(forward[:, None] * ahead, 0) * STEP
    position += (0.02 * going * np.sin(pace / 2 * t + phase[1]))[:, None] * left
    height = rng.uniform(0.015, 0.025) * np.sin(pace * t + phase[2])
    for k, strike in zip((2, 3, 4), rng.uniform([1, 0.7, 0.4], [2, 1.3, 0.8]), strict=True):
        height += strike / (k * pace) ** 2 * np.sin(k * pace * t + phase[2] * k)
        position += (0.4 * strike / (k * pace) ** 2 * going * np.sin(k * pace * t + phase[k]))[:, None] * ahead
    shake = np.deg2rad(rng.uniform(0.5, 1.5, 3))
    yaw = heading + going * shake[0] * np.sin(pace / 2 * t + phase[5]) + 0.3 * np.sin(0.9 * t + phase[6])
    pitch = np.deg2rad(rng.uniform(5, 25)) + 0.12 * np.sin(0.6 * t + phase[7])
    pitch = pitch + going * shake[1] * np.sin(pace * t + phase[8])
    roll = 0.05 * np.sin(0.4 * t + phase[9]) + going * shake[2] * np.sin(pace / 2 * t + phase[10])
    return Motion(t, np.column_stack([position, 1.45 + going * height]), np.stack([yaw, pitch, roll], 1))
