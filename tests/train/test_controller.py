"""A policy as one network from measurements to targets."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.errors import TrainError
from sim.robots.catalog import find_robot
from sim.robots.drive import DifferentialDrive
from train.controller import linear


def test_a_drive_is_a_gain_and_a_rest():
    """For action (0.5, 1) of wheels of 10 cm, 40 cm apart: 0.5 m/s ahead, 2 rad/s to the left."""
    gain, rest = linear(DifferentialDrive(wheel_radius=0.1, track=0.4, speed=(-0.1, 0.7), turn=2.0))
    np.testing.assert_allclose(gain @ [0.5, 1.0] + rest, [1.0, 9.0], atol=1e-4)
    np.testing.assert_allclose(rest, [3.0, 3.0], atol=1e-5)


def test_the_rovers_drive_is_one():
    """As it drives in the simulation."""
    _, drive = find_robot("rover")
    gain, rest = linear(drive)
    actions = np.array([[0.3, -0.9], [-1.0, 0.2]], np.float32)
    np.testing.assert_allclose(actions @ gain.T + rest, drive.targets(actions), rtol=1e-5)


def test_another_drive_is_refused():
    """Squares are no gain."""

    class Squared:
        size = 2

        def targets(self, actions: np.ndarray) -> np.ndarray:
            return actions**2

    with pytest.raises(TrainError, match="Squared"):
        linear(Squared())
