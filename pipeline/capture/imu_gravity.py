"""Gravity from an accelerometer, where it is at rest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

GRAVITY = 9.80665
HALF_WINDOW = 0.1
"""Readings so near to a moment are averaged [s]."""
MIN_READINGS = 5
OFF_CENTRE = 0.02
"""How far their mean time may be from the moment [s]: while the camera turns, one side alone would be off."""
OFF_GRAVITY, UNREST, TURNING = 0.3, 0.6, 0.35
"""At rest are windows whose mean is so near to gravity [m/s^2], whose spread [m/s^2] and mean turn rate [rad/s] are so
low. A hand-held camera that walks slowly passes in part, a trotting robot hardly ever."""


class RestingGravity:
    """Readings of an IMU over time.

    Args:
        times: (N,) [s], in any order.
        force: (N, 3) specific force [m/s^2]: points up at rest. Readings in g are noticed and scaled (Livox).
        turn_rate: (N, 3) [rad/s].

    Attributes:
        note: What is special about the readings, or None.
        usable: Whether they are of gravity's size at all.
    """

    def __init__(self, times: NDArray[np.float64], force: NDArray[np.float64], turn_rate: NDArray[np.float64]) -> None:
        order = np.argsort(times, kind="stable")
        size = float(np.median(np.linalg.norm(force, axis=1))) if len(times) else 0.0
        scale = GRAVITY if 0.9 < size < 1.1 else 1.0
        self.usable = bool(8.8 < size * scale < 10.8)
        self.note = None
        if scale != 1.0:
            self.note = "IMU readings are in g: taken times 9.80665"
        elif not self.usable:
            self.note = f"IMU not used: its readings have a median of {size:.3g} m/s^2 instead of 9.8"
        force = np.nan_to_num(force[order] * scale)
        self._times = times[order]
        size_of_turn = np.linalg.norm(np.nan_to_num(turn_rate[order]), axis=1)
        columns = np.column_stack([force, (force**2).sum(1), size_of_turn])
        self._sums = np.concatenate([np.zeros((1, 5)), np.cumsum(columns, axis=0)])

    def at(self, time: float) -> NDArray[np.float64] | None:
        """Unit direction of gravity (3,) in the IMU's axes, or None where it isn't at rest."""
        first, last = np.searchsorted(self._times, [time - HALF_WINDOW, time + HALF_WINDOW])
        count = int(last - first)
        if not self.usable or count < MIN_READINGS or abs(self._times[first:last].mean() - time) > OFF_CENTRE:
            return None
        mean = (self._sums[last] - self._sums[first]) / count
        size = float(np.linalg.norm(mean[:3]))
        spread = np.sqrt(max(float(mean[3]) - size**2, 0.0))
        if abs(size - GRAVITY) > OFF_GRAVITY or spread > UNREST or mean[4] > TURNING:
            return None
        return -mean[:3] / size
