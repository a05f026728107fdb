"""Simple drivers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sim.control.joints import JointOffsets
from sim.controlled import find_robot
from sim.drivers import find_driver
from sim.robots.model import Robot
from sim.tasks.driving.experts import who_knows
from tests.sim.floors import standing

ROVER, DRIVE = find_robot("rover")


class ToPoint:
    """The way left is the distance to a point."""

    has_paths, commands = True, False

    def __init__(self, place: tuple[float, float]) -> None:
        self.place = np.array(place)

    def path_length(self, xy: np.ndarray, envs: np.ndarray) -> np.ndarray:
        """Straight on."""
        assert len(xy) == len(envs)
        return np.linalg.norm(xy - self.place, axis=1).astype(np.float32)

    def to_edge(self, xy: np.ndarray, envs: np.ndarray) -> np.ndarray:
        """A corridor of 6 m along x, in whose middle y is 0."""
        assert len(xy) == len(envs)
        return np.clip(3 - np.abs(xy[:, 1]), 0, None).astype(np.float32)


NOWHERE = SimpleNamespace(has_paths=False, commands=False)


def world(xy: np.ndarray, yaw: np.ndarray, drive: Any = DRIVE, scenario: Any = NOWHERE) -> Any:
    """What drivers look at of an environment."""
    names = {
        "robot": SimpleNamespace(name="r"),
        "task": SimpleNamespace(name="t", observations={}),
        "num_envs": len(xy),
    }
    now, expert = SimpleNamespace(state=standing(xy, yaw)), who_knows(scenario, drive)
    return SimpleNamespace(now=now, expert=expert, controller=drive, scenario=scenario, **names)


def speeds(action: np.ndarray) -> np.ndarray:
    """Forward [m/s] and turning [rad/s] of actions (N, 2)."""
    wheels = DRIVE.command(action) * ROVER.wheels.radius
    return np.stack([wheels.mean(1), (wheels[:, 1] - wheels[:, 0]) / ROVER.wheels.track], 1)


def test_it_turns_to_the_way_first_and_drives_then():
    """Seen from the robot the point lies ahead, to the left, to the right, and out of sight on either side."""
    xy, yaw = np.tile([2.0, -1.0], (5, 1)), np.array([0.3, 0.3 - 0.75, 0.3 + 0.75, 0.3 - 2.6, 0.3 + 2.6])
    point = ToPoint((2 + 3 * np.cos(0.3), -1 + 3 * np.sin(0.3)))
    forward, turn = speeds(find_driver("auto", world(xy, yaw, scenario=point), 0)()).T
    assert forward[0] == pytest.approx(0.8, abs=1e-3)
    assert abs(turn[0]) < 0.4
    np.testing.assert_allclose(forward[1:], 0, atol=1e-3)
    assert turn[1] > 1
    assert turn[2] < -1
    assert turn[3] > 1
    assert turn[4] > 1  # not the shorter way round, which nobody can learn who doesn't see it


def test_it_keeps_off_the_floors_edge():
    """Where the straight way leads along it; 20 cm from it, it goes straight on."""
    xy, point = np.array([[0.0, -2.98], [0.0, -2.8]]), ToPoint((3.0, -2.98))
    forward, turn = speeds(find_driver("auto", world(xy, np.zeros(2), scenario=point), 0)()).T
    assert turn[0] > 0.7
    assert abs(turn[1]) < 0.4
    np.testing.assert_allclose(forward, [0.5, 0.65], atol=1e-3)  # faster where there is room


def test_near_the_end_it_only_turns():
    """So that it doesn't run into what is behind."""
    xy, point = np.array([[1.65, 0.0], [1.75, 0.0]]), ToPoint((2.0, 0.0))
    forward, _ = speeds(find_driver("auto", world(xy, np.zeros(2), scenario=point), 0)()).T
    np.testing.assert_allclose(forward, [0.8, 0], atol=1e-3)
    _, turn = speeds(find_driver("auto", world(xy + np.array([0.4, 0.12]), np.zeros(2), scenario=point), 0)()).T
    assert (turn > 1).all()


def test_standing_still_is_no_speed():
    """Which for wheels isn't an action of zero."""
    env = world(np.zeros((3, 2)), np.zeros(3))
    np.testing.assert_allclose(speeds(find_driver("still", env, 0)()), 0, atol=1e-6)


def test_drivers_by_name(rover: Robot):
    """Legs that nobody can drive stand still; what is left to chance comes from the seed."""
    xy, yaw = np.zeros((2, 2)), np.zeros(2)
    legs = JointOffsets(rover)
    scenario = ToPoint((1.0, 0.0))
    assert (speeds(find_driver("auto", world(xy, yaw, scenario=scenario), 0)()) != 0).any()
    assert (find_driver("auto", world(xy, yaw, legs, scenario), 0)() == 0).all()
    one, two, other = (find_driver("random", world(xy, yaw, legs), seed)() for seed in (1, 1, 2))
    assert (one == two).all()
    assert (one != other).any()
