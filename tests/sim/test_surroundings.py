"""Places round robots."""

from __future__ import annotations

import numpy as np

from sim.surroundings import HERE_AND_NEAR, NEXT, SPOKES, places_around


def test_places_turn_with_the_robot():
    """Ahead of one that looks along +y is +y, to its left is -x."""
    pose = np.array([[3.0, -1.0, 0.0], [3.0, -1.0, np.pi / 2], [0.5, 2.0, np.deg2rad(30)]])
    found = places_around(pose, np.array([[0.2, 0.0], [0.1, 0.4]]))
    np.testing.assert_allclose(found[0], [[3.2, -1.0], [3.1, -0.6]])
    np.testing.assert_allclose(found[1], [[3.0, -0.8], [2.6, -0.9]])
    cos, sin = np.cos(np.pi / 6), 0.5
    np.testing.assert_allclose(found[2], [[0.5 + 0.2 * cos, 2.1], [0.5 + 0.1 * cos - 0.4 * sin, 2 + 0.05 + 0.4 * cos]])


def test_rings_begin_ahead_and_go_to_the_left():
    """The robot's own place comes before three rings."""
    assert NEXT.shape == (SPOKES, 2)
    np.testing.assert_allclose(NEXT[[0, 2]], [[0.35, 0], [0, 0.35]], atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(HERE_AND_NEAR[[0, 1, 9, 17, 24]], axis=1), [0, 0.15, 0.35, 0.6, 0.6])
