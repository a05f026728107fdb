"""What small networks are given, and how they convolve."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from pipeline.geometry import Camera, matrix_from_rotvec
from sim.sensors.networks import convolved, flat_floor, whitened


@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2)])
def test_convolutions_are_torchs(rng: np.random.Generator, stride: int, dilation: int):
    """Zeros beyond the borders, too."""
    x, weight = rng.normal(size=(2, 12, 16, 3)), rng.normal(size=(3, 3, 3, 5))
    expected = functional.conv2d(
        torch.from_numpy(x.transpose(0, 3, 1, 2)),
        torch.from_numpy(weight.transpose(3, 2, 0, 1)),
        stride=stride,
        padding=dilation,
        dilation=dilation,
    )
    found = convolved(x, weight, stride, dilation)
    np.testing.assert_allclose(found, expected.numpy().transpose(0, 2, 3, 1), atol=1e-9)


def test_a_flat_floor_is_where_rays_meet_it(rng: np.random.Generator):
    """Each pixel's point lies at height 0; there is none above the horizon."""
    lens = Camera(20, 16, 15.0, 17.0, 9.0, 8.5)
    poses = np.tile(np.eye(4), (3, 1, 1))
    down = np.array([[0, 0, 1.0], [-1, 0, 0], [0, -1, 0]])  # x to the right, y down, z ahead
    poses[:, :3, :3] = matrix_from_rotvec(rng.normal(0, 0.3, (3, 3))) @ down
    poses[:, 2, 3] = [0.3, 0.5, 1.0]
    depth = flat_floor(lens, poses)
    points = np.einsum("nij,nhwj->nhwi", poses[:, :3, :3], lens.rays() * depth[..., None]) + poses[:, None, None, :3, 3]
    seen = depth > 0
    assert seen.any()
    assert not seen.all()
    assert np.abs(points[..., 2][seen & (depth < 50)]).max() < 1e-4
    upward = np.einsum("nj,hwj->nhw", poses[:, 2, :3], lens.rays()) > 0
    assert not (seen & upward).any()


def test_what_is_given_is_about_nothing():
    """Colours and nearness, the unknown far away."""
    given = whitened(np.array([[[[0, 128, 255]]]], np.uint8), np.array([[[0.0]]], np.float32))
    np.testing.assert_allclose(given[0, 0, 0], [-0.5, 128 / 255 - 0.5, 0.5, -0.5], atol=1e-6)
    assert whitened(np.zeros((1, 1, 1, 3), np.uint8), np.ones((1, 1, 1), np.float32))[0, 0, 0, 3] == 0
