"""Colours of one camera where another sees the same wall, and far away, where no depth is."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.joining.looking import look_far, look_for_colours
from pipeline.poses.by_depth.pairs import Frames
from pipeline.poses.by_depth.surfels import IS_THERE, NORMAL_Z, X, Z
from pipeline.types import F32, F64, Mask

LENS, SIZE, DEPTH = (48.0, 48.0, 32.0, 24.0), (48, 64), 2.0
PAIRS = np.array([[0, 1], [1, 0]])


def wall(*, measured: bool) -> tuple[Frames, F32, F64]:
    """Two cameras 0.1 m beside each other before a wall: their frames, its colours in both, and their poses."""
    fx, fy, cx, cy = LENS
    columns, rows = np.meshgrid(np.arange(SIZE[1]) + 0.5, np.arange(SIZE[0]) + 0.5)
    surfels, colours, poses = np.zeros((2, *SIZE, 8), np.float32), [], np.tile(np.eye(4), (2, 1, 1))
    poses[1, 0, 3] = 0.1
    depth = DEPTH if measured else 5.5
    for surfel, pose in zip(surfels, poses, strict=True):
        rays = np.stack([(columns - cx) / fx, (rows - cy) / fy, np.ones(SIZE)], 2)
        if measured:
            surfel[..., X : Z + 1], surfel[..., NORMAL_Z], surfel[..., IS_THERE] = depth * rays, -1, 1
        x, y, _ = np.moveaxis(depth * rays + pose[:3, 3], 2, 0)
        colours.append(0.3 * np.stack([np.sin(5 * x), np.cos(7 * y), np.sin(3 * (x + y))], 2))
    return Frames(surfels, np.array([LENS, LENS]), 1, np.zeros((0, 2), np.int64)), np.array(colours, np.float32), poses


def otherwise(frames: Frames, colours: F32, poses: F64, *, measured: bool) -> Mask:
    """Surfels of both frames that the other one mostly sees in another colour."""
    if not measured:
        return look_far(frames, colours, poses, PAIRS)
    compared, other, _ = look_for_colours(frames, colours, poses, PAIRS)
    assert compared.mean() > 0.5
    return np.asarray(other > compared / 2)


@pytest.mark.parametrize("measured", [True, False], ids=["near", "far"])
def test_a_picture_in_one_capture_is_another_colour(measured: bool):
    """In both frames; more light, or another white balance, is none."""
    frames, colours, poses = wall(measured=measured)
    assert otherwise(frames, colours, poses, measured=measured).sum() == 0
    colours[1] += np.array([0.5, -0.1, 0.2], np.float32)
    assert otherwise(frames, colours, poses, measured=measured).sum() == 0
    colours[1, 16:32, 24:40] += np.array([0, 1, 1], np.float32)
    found = otherwise(frames, colours, poses, measured=measured)
    assert min(found.sum((1, 2))) > 50
    assert not found[:, :8].any()


def test_a_plain_wall_tells_nothing():
    """It would look the same elsewhere; one with a pattern wouldn't."""
    frames, colours, poses = wall(measured=True)
    for image, least, most in ((colours, 0.4, 1.0), (np.zeros_like(colours), 0.0, 0.0)):
        compared, _, telling = look_for_colours(frames, image, poses, PAIRS)
        assert least <= telling.sum() / compared.sum() <= most
