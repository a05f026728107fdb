"""The up direction of a world in which an IMU moved and its poses are known."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

MIN_SIGMA_DEG = 0.2
"""What averaging can't remove: the accelerometer's own misalignment and the bias left."""
_PARTS = 6
"""Parts of a recording whose up directions are compared."""
_LEAST = 20  # readings a part


def up_while_moving(
    times: NDArray[np.float64],
    force: NDArray[np.float64],
    world_from_imu: Rotation,
    velocity: NDArray[np.float64],
) -> tuple[NDArray[np.float64], float] | None:
    """Unit up direction (3,) in the world and its sigma [deg], or None where there are too few readings.

    Turned into the world and averaged over a while, specific force is gravity's counter-force plus what the velocity
    changed by. The sigma is from how far the parts of the recording differ.

    Args:
        times: (N,) increasing [s].
        force: (N, 3) specific force in the IMU's axes, bias removed as far as known [m/s^2]; points up at rest.
        world_from_imu: N rotations.
        velocity: (N, 3) in the world [m/s].
    """
    if len(times) < _LEAST * _PARTS:
        return None
    turned = world_from_imu.apply(force)
    edges = np.linspace(0, len(times) - 1, _PARTS + 1).astype(int)
    parts = []
    for first, last in pairwise(edges):
        part = slice(first, last + 1)
        impulse = np.trapezoid(turned[part], times[part], axis=0) - (velocity[last] - velocity[first])
        parts.append(impulse / np.linalg.norm(impulse))
    up = np.mean(parts, axis=0)
    up /= np.linalg.norm(up)
    if not np.isfinite(up).all():
        return None
    spread = float(np.sqrt(np.mean(np.sum((np.array(parts) - up) ** 2, 1))))
    return up, float(np.hypot(np.rad2deg(spread) / np.sqrt(_PARTS), MIN_SIGMA_DEG))
