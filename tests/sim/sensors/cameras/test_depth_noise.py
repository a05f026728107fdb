"""Depths as a depth camera measures them."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from sim.sensors.cameras.depth_noise import noisy_depths
from sim.sensors.cameras.sensor import SensorEffects
from sim.sensors.cameras.settings import CameraSettings, DepthNoise

IDEAL = DepthNoise(noise=0, step=0, range=(0.0, 100.0), edge_loss=0, gloss=0)


def wall(depth: float, count: int = 4) -> np.ndarray:
    """Images of a wall across the view."""
    return np.full((count, 48, 64), depth, np.float32)


def measured(depth: np.ndarray, **changes: object) -> np.ndarray:
    """By a camera with these faults only."""
    return noisy_depths(depth, IDEAL.changed(**changes), np.random.default_rng(0))


def test_without_faults_depths_are_true():
    """To float32."""
    depth = np.random.default_rng(1).uniform(0.3, 9, (3, 48, 64)).astype(np.float32)
    np.testing.assert_allclose(measured(depth), depth, rtol=1e-6)


@pytest.mark.parametrize("depth", [0.5, 1.0, 4.0])
def test_noise_grows_with_the_square_of_the_depth(depth: float):
    """As the noise of a disparity does."""
    error = measured(wall(depth), noise=0.004) - depth
    assert error.std() == pytest.approx(0.004 * depth**2, rel=0.05)
    assert abs(error.mean()) < 0.1 * error.std() + 0.004**2 * depth**3


def test_steps_are_those_of_the_disparity():
    """Along a ramp few different depths are left, the farther the coarser."""
    ramp = np.broadcast_to(np.linspace(1, 5, 64, dtype=np.float32), (1, 48, 64)).copy()
    found = np.unique(measured(ramp, step=0.02))
    np.testing.assert_allclose(np.rint(1 / found / 0.02), 1 / found / 0.02, atol=1e-4)
    assert np.diff(found)[-1] > 5 * np.diff(found)[0]


def test_nothing_is_measured_out_of_range_or_where_nothing_is():
    """Also where noise would bring it back."""
    depth = np.concatenate([wall(0.1, 1), wall(2.0, 1), wall(9.0, 1), wall(0.0, 1)])
    found = measured(depth, range=(0.2, 6.0), noise=0.004)
    assert [(one > 0).all() for one in found] == [False, True, False, False]
    assert [(one > 0).any() for one in found] == [False, True, False, False]


def test_depth_is_lost_beside_jumps_alone():
    """In the two columns at a step of 1 m, as often as asked; a steep wall loses nothing."""
    step = wall(2.0, 40)
    step[:, :, 32:] = 3.0
    lost = measured(step, edge_loss=0.6) == 0
    assert lost[:, :, [31, 32]].mean() == pytest.approx(0.6, abs=0.05)
    assert not lost[:, :, :31].any()
    assert not lost[:, :, 33:].any()
    slope = np.broadcast_to(1 / np.linspace(1, 0.5, 64, dtype=np.float32), (4, 48, 64)).copy()
    assert (measured(slope, edge_loss=1.0) > 0).all()


def test_gloss_takes_patches():
    """As much as asked, in pieces larger than noise."""
    lost = measured(wall(2.0, 60), gloss=0.1) == 0
    assert lost.mean() == pytest.approx(0.1, abs=0.01)
    assert (lost[:, 1:] == lost[:, :-1]).mean() > 0.97


def test_the_sensor_reads_depths_with_noise_and_leaves_normals():
    """Only if asked; colours as before."""
    ideal = {"depth": wall(2.0), "normals": np.ones((4, 48, 64, 3), np.float32)}
    read = SensorEffects(CameraSettings(), 4).read_out(np.arange(4), ideal, np.random.default_rng(0))
    assert read["depth"] is ideal["depth"]
    noisy = CameraSettings(depth_noise=DepthNoise())
    read = SensorEffects(noisy, 4).read_out(np.arange(4), ideal, np.random.default_rng(0))
    assert 0.005 < (read["depth"][read["depth"] > 0] - 2).std() < 0.03
    assert read["normals"] is ideal["normals"]


@pytest.mark.parametrize("wrong", [{"noise": -1}, {"gloss": 1.0}, {"range": (3, 1)}, {"haze": 1}])
def test_settings_are_checked(wrong: dict):
    """When they are made."""
    with pytest.raises(ValidationError):
        DepthNoise(**wrong)
