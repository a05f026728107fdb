"""What robots do that are told up or down, on maps that are known: points that go as fast as they are told."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.types import F32
from sim.climbing.climber import BACK, BACKWARD, NOTHING, PLACE, RIM, STAIRS, STILL, TURN, Climber, Orders, towards
from sim.climbing.surroundings import CELL
from sim.sensors.ground import elevation
from sim.sensors.ground.elevation import Elevation
from tests.sim.climbing.conftest import RISER, STEPS, TREAD, staircase

PERIOD = 0.1
SIDE = elevation.SIDE // 2


def maps_of(height: F32) -> Elevation:
    """A map with heights (SIDE, SIDE); unknown where these are NaN. Its middle is the origin."""
    maps = Elevation(1)
    fine = np.repeat(np.repeat(height, 2, 0), 2, 1)
    maps.height[0] = np.nan_to_num(fine)
    maps.variance[0] = np.where(np.isnan(fine), np.inf, 1e-4)
    return maps


def ground(maps: Elevation, xy: np.ndarray) -> float:
    """Height at a position."""
    return float(maps.at(xy[None, None])[0, 0])


def walked(maps: Elevation, pose: np.ndarray, sign: float, seconds: float) -> tuple[np.ndarray, list[int]]:
    """Poses (T, 3) of a point that does as it is told, and what it goes by."""
    climber, poses, by = Climber(1, PERIOD), [pose], []
    for _ in range(round(seconds / PERIOD)):
        forward, turn = climber.speeds(
            maps, pose[None], np.array([ground(maps, pose[:2])]), Orders.only(np.array([sign]))
        )
        pose = pose + PERIOD * np.array([forward[0] * np.cos(pose[2]), forward[0] * np.sin(pose[2]), turn[0]])
        poses.append(pose)
        by.append(int(climber.goes_by[0]))
    return np.array(poses), by


@pytest.mark.parametrize("heading", [-0.6, 0.0, 0.6])
@pytest.mark.parametrize("aside", [-0.5, 0.3])
def test_up_square_over_the_edges(heading: float, aside: float):
    """From before an open flight to its top: near the middle, and in its direction at the first edge."""
    first = SIDE * CELL / 2
    maps = maps_of(staircase(SIDE, first))
    poses, _ = walked(maps, np.array([-1.6, aside, heading]), 1, 14)
    heights = np.array([ground(maps, pose[:2]) for pose in poses])
    assert heights[-1] == pytest.approx(STEPS * RISER)
    on = (poses[:, 0] > -0.1) & (poses[:, 0] < (STEPS - 1) * TREAD)
    assert np.abs(poses[on, 1]).max() < 0.35
    assert np.abs(poses[on, 2]).max() < 0.25
    assert poses[-1, 0] > (STEPS - 1) * TREAD + 0.45


def test_down():
    """From the top of it, whose end is a drop on the sides."""
    maps = maps_of(staircase(SIDE, 2.0))
    start = 2.0 + STEPS * TREAD + 0.6 - SIDE * CELL / 2
    poses, _ = walked(maps, np.array([start, 0.2, np.pi + 0.5]), -1, 14)
    assert ground(maps, poses[-1, :2]) == 0
    assert (np.abs(poses[:, 1]) < 0.5).all()


def test_platforms_are_not_left():
    """With drops all round, which hide what is behind them: robots look there, turn, and stay."""
    height = np.full((SIDE, SIDE), np.nan, np.float32)
    height[36:60, 40:56] = 0.8
    height[20:30, :] = 0
    maps = maps_of(height)
    poses, by = walked(maps, np.zeros(3), -1, 40)
    assert STAIRS not in by
    assert RIM in by
    cells = np.floor(poses[:, :2] / CELL + SIDE / 2).astype(int)
    assert ((cells >= [37, 41]) & (cells < [59, 55])).all()
    assert by[-1] == NOTHING
    assert np.ptp(poses[-20:], axis=0).max() < 1e-6


def test_what_begins_forgets():
    """An episode that begins knows no rims of the one before."""
    maps = maps_of(np.where(np.indices((SIDE, SIDE)).max(0) < 60, 0, np.nan).astype(np.float32))
    climber = Climber(1, PERIOD)
    climber.speeds(maps, np.zeros((1, 3)), np.zeros(1), Orders.only(np.ones(1)))
    assert np.isfinite(climber.rim).all()
    climber.reset(np.array([0]))
    assert np.isnan(climber.rim).all()
    assert climber.goes_by[0] == NOTHING


def test_towards():
    """Straight on at full speed, on the spot when it is aside; turns are limited."""
    forward, turn = towards(np.array([0.0, 0.2, 1.0, -3.0]))
    assert forward.tolist() == pytest.approx([0.4, 0.352, 0, 0])
    assert turn.tolist() == pytest.approx([0, 0.36, TURN, -TURN])


@pytest.mark.parametrize("known", [True, False])
def test_who_gets_no_farther_goes_back(known: bool):
    """For a while, then on as told; who knows no ground behind turns on the spot."""
    height = np.zeros((SIDE, SIDE), np.float32)
    if not known:
        height[: SIDE // 2 - 3] = np.nan
    maps, climber = maps_of(height), Climber(1, PERIOD)
    orders = Orders(np.zeros(1), np.full((1, 2), np.nan), np.array([[1.0, 0.0]]))
    told = [climber.speeds(maps, np.zeros((1, 3)), np.zeros(1), orders) for _ in range(round(2 * STILL / PERIOD))]
    forward, turn = (np.array([one[number][0] for one in told]) for number in (0, 1))
    before, back = round(STILL / PERIOD) - 1, round((STILL + BACK / 2) / PERIOD)
    assert (forward[:before] > 0.1).all()
    assert (forward[back], turn[back]) == ((-BACKWARD, 0) if known else (0, TURN))
    assert forward[-1] > 0.1
    assert climber.goes_by[0] == PLACE
