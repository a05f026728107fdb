"""Order and choice of points."""

from __future__ import annotations

import numpy as np

from pipeline.geometry import farthest_points


def test_farthest_points_reach_the_corners():
    """From one corner of a square the opposite one comes next, then the other two."""
    points = np.array([[0, 0], [1, 0], [0.5, 0.5], [0, 1.1], [1, 1.2]], float)
    assert farthest_points(points, 4, 0).tolist() == [0, 4, 3, 1]
