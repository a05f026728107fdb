"""Cameras tick for themselves, and images take their time."""

from __future__ import annotations

import numpy as np
import pytest

from sim.sensors.cameras.sensor import CameraClock
from sim.sensors.cameras.settings import CameraSettings

CONTROL = 0.02
SHAPES = {"rgb": ((1, 1, 3), np.uint8)}


def run(settings: CameraSettings, steps: int, count: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """For each step and environment: the number of the step whose image is seen, and its age [s].

    An image holds the step's number as its colour.
    """
    rng = np.random.default_rng(seed)
    clock = CameraClock(settings, SHAPES, count, CONTROL)
    clock.reset(np.arange(count), rng)
    seen, ages = [], []
    for step in range(steps):
        seconds = np.full(count, step * CONTROL)
        due = clock.due(seconds, rng)
        clock.taken(due, {"rgb": np.full((len(due), 1, 1, 3), step, np.uint8)}, seconds)
        frames, age = clock.arrived(seconds)
        seen.append(frames["rgb"][:, 0, 0, 0])
        ages.append(age)
    return np.array(seen, int), np.array(ages)


def test_ideal_camera_shows_now():
    """An image at each step, at once; looking twice at a time takes one."""
    seen, ages = run(CameraSettings(), 20)
    assert (seen == np.arange(20)[:, None]).all()
    assert (ages == 0).all()
    clock, rng = CameraClock(CameraSettings(), SHAPES, 2, CONTROL), np.random.default_rng(0)
    clock.reset(np.arange(2), rng)
    clock.taken(clock.due(np.zeros(2), rng), {"rgb": np.zeros((2, 1, 1, 3), np.uint8)}, np.zeros(2))
    assert not len(clock.due(np.zeros(2), rng))


def test_period_and_phase():
    """Every fifth step, and each environment at another moment."""
    seen, ages = run(CameraSettings(period=(0.1, 0.1)), 100, count=8)
    for env in range(8):
        taken = np.unique(seen[:, env])
        assert (np.diff(taken[1:]) == 5).all()
    assert len({int(np.unique(seen[:, env])[1]) for env in range(8)}) > 2
    assert ages.max() < 0.1


def test_latency():
    """What is seen is as old as the latency, once something can have arrived."""
    seen, ages = run(CameraSettings(latency=(0.06, 0.06)), 50)
    assert (seen[10:] == np.arange(50)[10:, None] - 3).all()
    np.testing.assert_allclose(ages[10:], 0.06, atol=1e-6)
    assert (seen[:3] == 0).all()


def test_latency_differs_between_environments():
    """Drawn from the range; slow cameras still have room for what is under way."""
    _, ages = run(CameraSettings(period=(0.04, 0.08), latency=(0.0, 0.3)), 200, count=40)
    late = ages[50:].mean(0)
    assert late.min() < 0.08
    assert late.max() > 0.25


def test_dropped_images_leave_the_one_before():
    """About a third is missing; the first always arrives."""
    seen, _ = run(CameraSettings(dropped=0.33), 250, count=8)
    fresh = (seen == np.arange(250)[:, None]).mean()
    assert 0.6 < fresh < 0.74
    assert (np.diff(seen, axis=0) >= 0).all()


def test_new_episode_forgets():
    """Nothing of the old one is seen."""
    clock, rng = CameraClock(CameraSettings(latency=(0.1, 0.1)), SHAPES, 2, CONTROL), np.random.default_rng(0)
    clock.reset(np.arange(2), rng)
    clock.taken(clock.due(np.ones(2), rng), {"rgb": np.full((2, 1, 1, 3), 7, np.uint8)}, np.ones(2))
    clock.reset(np.array([1]), rng)
    seconds = np.array([1.0, 0.0])
    clock.taken(clock.due(seconds, rng), {"rgb": np.full((1, 1, 1, 3), 9, np.uint8)}, seconds)
    assert clock.arrived(seconds)[0]["rgb"][:, 0, 0, 0].tolist() == [7, 9]


@pytest.mark.parametrize("wrong", [{"period": (0.2, 0.1)}, {"dropped": 1.0}, {"noise": -1.0}, {"jpeg_quality": 0}])
def test_settings_are_checked(wrong: dict):
    """Each says what it may be."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CameraSettings(**wrong)
