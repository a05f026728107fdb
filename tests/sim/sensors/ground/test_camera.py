"""Which images from before eyes are given."""

from __future__ import annotations

import numpy as np

from sim.sensors.ground.camera import APART, ColorSight
from sim.sensors.ground.eyes import FINE, LENS, GroundEyes
from sim.sensors.ground.parallax import Before

LEVEL = np.full(1, 0.5)


class Noting(GroundEyes):
    """Notes what it is given, and says 1 m everywhere."""

    def __init__(self) -> None:
        self.given: list[tuple[np.ndarray, Before]] = []

    def look(self, rgb: np.ndarray, level_from_camera: np.ndarray, before: Before) -> tuple[np.ndarray, np.ndarray]:
        """Depths and errors."""
        self.given.append((level_from_camera, before))
        return np.ones((len(rgb), LENS.height, LENS.width), np.float32), np.ones((1, 1, 1), np.float32)


def frames(value: int) -> dict:
    """Images of two robots, of which the second is not asked for."""
    return {"rgb": np.full((2, FINE.height, FINE.width, 3), value, np.uint8)}


def at(x: float) -> np.ndarray:
    """The pose of one camera (1, 4, 4)."""
    pose = np.eye(4)[None].copy()
    pose[0, :3, 3] = x, 2, 0.9
    return pose


def test_the_image_before_is_from_a_little_while_ago():
    """None at first; later that of 0.2 to 0.4 m ago, where it was seen from there; none again after a reset."""
    eyes = Noting()
    sight, robot, values = ColorSight(eyes, 2), np.array([0]), list[int]()
    for step in range(60):
        x = 0.024 * step
        sight.look(frames(100 + step), robot, at(x), LEVEL)
        over, before = eyes.given[-1]
        assert over[0, 2, 3] == 0.4
        then = int(before.colors[0, 0, 0, 0]) - 100
        values.append(then)
        apart = 0.024 * (step - then)
        np.testing.assert_allclose(before.before_from_camera[0, :3, 3], [apart, 0, 0], atol=1e-9)
        assert before.known[0] == (apart > 0.03)
        if step > 20:
            assert APART - 0.03 < apart < 2 * APART + 0.05
    assert values[:9] == [0] * 9
    sight.reset(robot)
    sight.look(frames(7), robot, at(9), LEVEL)
    assert not eyes.given[-1][1].known[0]
    assert eyes.given[-1][1].colors.max() == 7


def test_what_is_dark_says_nothing():
    """A covered camera."""
    depth, _ = ColorSight(Noting(), 2).look(frames(3), np.array([0]), at(0), LEVEL)
    assert not depth.any()
