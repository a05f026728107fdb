"""Two images fit best where things are as far away as they are."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.geometry import matrix_from_rotvec
from sim.sensors.ground.eyes import FINE, LENS
from sim.sensors.ground.parallax import FARTHER, MOST, UNSEEN, unlike

SHAPE = FINE.height, FINE.width


def wall(pose: np.ndarray, ahead: float) -> np.ndarray:
    """Greys (2H, 2W) of a striped plane z = ahead [m] by a camera at a pose (4, 4)."""
    rays = FINE.rays() @ pose[:3, :3].T
    far = (ahead - pose[2, 3]) / rays[..., 2]
    x, y = (pose[axis, 3] + far * rays[..., axis] for axis in (0, 1))
    return (np.sin(7 * x) + np.sin(5 * y + 2 * x)).astype(np.float32)


@pytest.mark.parametrize("truth", [1, 3, 5])
def test_the_true_distance_fits_best(truth: int):
    """Of a wall that is nearer than is thought, or farther: by a camera that moved and turned."""
    before = np.eye(4)
    before[:3, :3] = matrix_from_rotvec(np.array([0.02, 0.1, 0.03]))
    before[:3, 3] = -0.1, 0.05, -0.3
    ahead = 1.4 * FARTHER[truth]
    greys, earlier = wall(np.eye(4), ahead)[None], wall(before, ahead)[None]
    pose, thought = np.linalg.inv(before)[None], np.full((1, *SHAPE), 1.4, np.float32)
    found = unlike(greys, earlier, thought, FINE, pose, np.array([True]))[0]
    seen = (found > UNSEEN).all(-1)
    assert seen.shape == (LENS.height, LENS.width)
    assert seen.mean() > 0.5
    off = found[seen].mean(0)
    assert off.argmin() == truth
    assert off[truth] < 0.02
    assert off[[0, -1]].min() > 5 * off[truth]


def test_what_was_not_seen_is_told():
    """Nothing from before, behind the camera, beyond the edge; differences have an end."""
    greys, pose = np.ones((2, *SHAPE), np.float32), np.tile(np.eye(4), (2, 1, 1))
    depth = np.full((2, *SHAPE), 2.0, np.float32)
    found = unlike(greys, -5 * greys, depth, FINE, pose, np.array([True, False]))
    assert (found[1] == UNSEEN).all()
    assert (found[0, 2:-2, 2:-2] == MOST).all()
    pose[0, 2, 3] = -5
    assert (unlike(greys, greys, depth, FINE, pose, np.array([True, False])) == UNSEEN).all()
    pose[0, :3, 3] = 0.5, 0, 0
    near = unlike(greys, greys, depth, FINE, pose, np.array([True, False]))[0]
    assert (near[10, :30] == 0).all()
    assert (near[10, -5:, :4] == UNSEEN).all()
