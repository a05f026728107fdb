"""Where robots believe they are."""

from __future__ import annotations

import numpy as np
import pytest

from sim.tasks import odometry
from sim.tasks.odometry import MAX_DISTANCE, SCALE, YAW_NOISE, DeadReckoning

PERIOD = 0.1


def drive(reckoning: DeadReckoning, count: int, steps: int, step: float, turn: float) -> tuple[np.ndarray, np.ndarray]:
    """Robots that all go along the same arc from (1, -2), 0.4 rad; where they get, and with which heading."""
    rng = np.random.default_rng(5)
    xy, yaw = np.tile([1.0, -2.0], (count, 1)), np.full(count, 0.4)
    reckoning.reset(np.arange(count), xy, yaw, rng)
    for _ in range(steps):
        middle = yaw + turn / 2
        xy = xy + step * np.stack([np.cos(middle), np.sin(middle)], 1)
        yaw = (yaw + turn + np.pi) % (2 * np.pi) - np.pi
        reckoning.update(xy, yaw, rng)
    return xy, yaw


def test_without_errors_it_is_the_truth(monkeypatch: pytest.MonkeyPatch):
    """Along an arc that turns more than once, so that headings wrap."""
    monkeypatch.setattr(odometry, "SCALE", 0.0)
    monkeypatch.setattr(odometry, "YAW_NOISE", 0.0)
    reckoning = DeadReckoning(2, PERIOD)
    xy, yaw = drive(reckoning, 2, 90, 0.05, 0.11)
    np.testing.assert_allclose(reckoning.xy, xy, atol=1e-9)
    np.testing.assert_allclose(np.exp(1j * reckoning.yaw), np.exp(1j * yaw), atol=1e-9)


def test_it_drifts_as_much_as_it_says():
    """Straight on for 2 m the distance by its scale, turning on the spot the heading by scale and noise; mean right."""
    reckoning = DeadReckoning(4000, PERIOD)
    xy, _ = drive(reckoning, 4000, 1, 2.0, 0.0)
    gone = np.linalg.norm(reckoning.xy - [1, -2], axis=1)
    assert gone.mean() == pytest.approx(2, abs=0.005)
    assert gone.std() == pytest.approx(2 * SCALE, rel=0.05)
    drive(reckoning, 4000, 50, 0.0, 0.06)
    assert reckoning.yaw.mean() == pytest.approx(0.4 + 3, abs=0.01)
    assert reckoning.yaw.std() == pytest.approx(np.hypot(3 * SCALE, YAW_NOISE * np.sqrt(50 * PERIOD)), rel=0.05)
    drive(reckoning, 4000, 1, 2.0, 3.0)
    gone = np.linalg.norm(reckoning.xy - [1, -2], axis=1)
    assert abs(np.corrcoef(gone, reckoning.yaw)[0, 1]) < 0.1  # two errors, not one
    drive(reckoning, 4000, 1, 0.0, 0.0)
    assert np.abs(reckoning.xy - xy[0]).max() > 1  # an episode begins where the robot is, exactly
    np.testing.assert_allclose(reckoning.xy, np.tile([1, -2], (4000, 1)), atol=1e-12)


def test_errors_of_the_heading_bend_the_way(monkeypatch: pytest.MonkeyPatch):
    """Who believes to have turned by 0.2 rad goes 1 m on at that angle."""
    monkeypatch.setattr(odometry, "SCALE", 0.0)
    monkeypatch.setattr(odometry, "YAW_NOISE", 0.0)
    reckoning, rng = DeadReckoning(1, PERIOD), np.random.default_rng(0)
    reckoning.reset(np.zeros(1, int), np.array([[3.0, 1.0]]), np.array([2.0]), rng)
    reckoning.yaw = reckoning.yaw + 0.2
    reckoning.update(np.array([[3.0 + np.cos(2.0), 1.0 + np.sin(2.0)]]), np.array([2.0]), rng)
    np.testing.assert_allclose(reckoning.xy, [[3 + np.cos(2.2), 1 + np.sin(2.2)]], atol=1e-9)


def test_goals_as_they_seem():
    """To the left of one that looks along -x, behind another; far ones at most so far."""
    reckoning = DeadReckoning(3, PERIOD)
    xy, yaw = np.array([[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]), np.array([np.pi, 0.5, -3.0])
    reckoning.reset(np.arange(3), xy, yaw, np.random.default_rng(0))
    behind, far = -3 * np.array([np.cos(0.5), np.sin(0.5)]), 9 * np.array([np.cos(-2.6), np.sin(-2.6)])
    found = reckoning.towards(np.array([[1.0, -1.0], behind, far]))
    expected = [[2, 0, 1], [3, -1, 0], [MAX_DISTANCE, np.cos(0.4), np.sin(0.4)]]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_an_episode_begins_for_one_robot_only():
    """The other's belief stays, with its errors."""
    reckoning = DeadReckoning(2, PERIOD)
    drive(reckoning, 2, 20, 0.1, 0.05)
    believed = reckoning.xy.copy()
    reckoning.reset(np.array([1]), np.array([[7.0, 8.0]]), np.array([1.0]), np.random.default_rng(1))
    np.testing.assert_array_equal(reckoning.xy[0], believed[0])
    assert reckoning.xy[1].tolist() == [7, 8]
