"""Gravity from an accelerometer."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.capture.imu_gravity import GRAVITY, RestingGravity

UP = np.array([0.36, -0.48, 0.8])
TIMES = np.arange(0, 4, 0.005)


def readings(force: np.ndarray, turn: float = 0.02) -> RestingGravity:
    """An IMU at 200 Hz with noise."""
    rng = np.random.default_rng(3)
    noisy = force + rng.normal(0, 0.05, (len(TIMES), 3))
    return RestingGravity(TIMES, noisy, np.full((len(TIMES), 3), turn))


def test_specific_force_points_up() -> None:
    """At rest the reading is opposite to gravity."""
    down = readings(GRAVITY * UP).at(2.0)
    assert down is not None
    assert np.rad2deg(np.arccos(down @ -UP)) < 0.3


def test_readings_in_g_are_scaled() -> None:
    """As Livox' drivers give them, and said."""
    gravity = RestingGravity(TIMES, np.tile(UP, (len(TIMES), 1)), np.zeros((len(TIMES), 3)))
    assert gravity.note is not None
    assert "in g" in gravity.note
    down = gravity.at(1.0)
    assert down is not None
    assert np.allclose(down, -UP)


def test_readings_of_another_size_are_not_used() -> None:
    """Gravity removed, or an unknown unit."""
    gravity = readings(0.2 * UP)
    assert not gravity.usable
    assert gravity.note is not None
    assert gravity.at(2.0) is None


@pytest.mark.parametrize("unrest", ["pushed", "shaken", "turning"])
def test_unrest_gives_nothing(unrest: str) -> None:
    """A steady push, a trot, or a fast turn."""
    shaking = 3 * np.sin(2 * np.pi * 12 * TIMES)[:, None] * UP
    extra = {"pushed": 0.6 * UP, "shaken": shaking, "turning": 0 * UP}[unrest]
    gravity = readings(GRAVITY * UP + extra, turn=0.5 if unrest == "turning" else 0.02)
    assert gravity.at(2.0) is None


def test_one_side_alone_gives_nothing() -> None:
    """Before, at the very start and after the readings."""
    gravity = readings(GRAVITY * UP)
    assert [gravity.at(time) for time in (-1.0, 0.0, 5.0)] == [None, None, None]
