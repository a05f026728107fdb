"""Surfels: evenly over the area, flat on it, closed, and in its colours."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.geometry import SH_C0, Camera, Gaussians, Mesh, Pose, matrix_from_quaternion
from pipeline.geometry.surfels import REACH, flat_gaussians, surfels, triangle_pieces
from pipeline.raster import contiguous, render
from pipeline.types import F64, I64

DOWN = Pose(np.diag([1.0, -1, -1]), np.array([1.0, 0.5, 2.0]))
"""A camera over the middle of the plate that looks down; x stays x."""


def plate(cells: int) -> Mesh:
    """A level plate of 2 m x 1 m at z = 0, of cells x cells squares; red grows with x."""
    x, y = (line.ravel() for line in np.meshgrid(*[np.linspace(0, 1, cells + 1)] * 2, indexing="ij"))
    number = np.arange((cells + 1) ** 2).reshape(cells + 1, -1)
    a, b, c, d = (part.ravel() for part in (number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]))
    grey = Mesh.from_arrays(np.column_stack([2 * x, y, 0 * x]), np.concatenate([np.c_[a, b, c], np.c_[a, c, d]]))
    colors = np.column_stack([255 * x, 0 * x + 128, 0 * x]).astype(np.uint8)
    return Mesh(grey.vertices, grey.triangles, colors, grey.guessed)


def shown_colors(splat: Gaussians) -> F64:
    """Colours (N, 3) in 0..1."""
    return 0.5 + SH_C0 * splat.sh[:, 0].astype(np.float64)


@pytest.mark.parametrize("cells", [1, 12, 80])
def test_a_plate_is_covered_evenly_and_flat(cells: int):
    """Of two triangles, of about as many as there are Gaussians, and of many more."""
    splat = surfels(plate(cells), 800)
    assert 500 < len(splat) < 1300
    np.testing.assert_allclose(splat.means[:, 2], 0, atol=1e-6)
    quarters = np.histogram2d(*splat.means.T[:2], bins=(4, 2), range=((0, 2), (0, 1)))[0]
    assert quarters.min() > 0.7 * quarters.max()
    normals = matrix_from_quaternion(splat.quaternions)[np.arange(len(splat)), :, splat.log_scales.argmin(1)]
    np.testing.assert_allclose(np.abs(normals[:, 2]), 1, atol=1e-4)
    np.testing.assert_allclose(shown_colors(splat)[:, 0], splat.means[:, 0] / 2, atol=0.03)
    camera = Camera(120, 60, 100.0, 100.0, 60.0, 30.0)  # sees 2.4 m x 1.2 m
    rendering = render(contiguous(splat), camera, DOWN)
    inside = rendering.alpha[10:-10, 15:-15]
    assert inside.mean() > 0.93
    assert inside.min() > 0.5
    np.testing.assert_allclose(rendering.depth[10:-10, 15:-15], 2.0, atol=0.01)
    assert rendering.alpha[:2].max() < 0.5


def test_colors_may_come_from_elsewhere():
    """Such as a texture: by triangle and place in it."""
    asked: list[I64] = []

    def at(triangle: I64, weights: F64) -> F64:
        asked.append(triangle)
        np.testing.assert_allclose(weights.sum(1), 1)
        return np.tile([0.2, 0.4, 0.6], (len(triangle), 1))

    splat = surfels(plate(1), 100, at)
    assert set(asked[0]) == {0, 1}
    np.testing.assert_allclose(shown_colors(splat), np.tile([0.2, 0.4, 0.6], (len(splat), 1)), atol=1e-6)


def test_conjugate_axes_give_the_ellipse():
    """The covariance in the plane is that of the two vectors, however they lie."""
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(2, 50, 3))
    splat = flat_gaussians(np.zeros((50, 3)), first, second, np.full((50, 3), 0.5))
    turns = matrix_from_quaternion(splat.quaternions.astype(np.float64))
    scales = np.exp(splat.log_scales.astype(np.float64))
    scales[np.arange(50), scales.argmin(1)] = 0
    slim = np.sort(scales, 1)[:, 1] < 0.13 * scales.max(1)  # needles are made wider
    covariance = np.einsum("nij,nj,nkj->nik", turns, scales**2, turns)
    wanted = np.einsum("ni,nj->nij", first, first) + np.einsum("ni,nj->nij", second, second)
    np.testing.assert_allclose(covariance[~slim], wanted[~slim], atol=1e-4)
    assert slim.sum() < 10


def test_pieces_keep_the_area():
    """And are as small as asked for."""
    corners = np.array([[[0, 0, 0], [3.0, 0, 0], [0, 1, 0]], [[0, 0, 1], [0.1, 0, 1], [0, 0.1, 1]]])
    pieces, owner = triangle_pieces(corners, 0.05)
    areas = np.linalg.norm(np.cross(pieces[:, 1] - pieces[:, 0], pieces[:, 2] - pieces[:, 0]), axis=1) / 2
    np.testing.assert_allclose(np.bincount(owner, areas), [1.5, 0.005])
    assert areas.max() <= 0.05
    assert (owner == 1).sum() == 1


def test_cells_of_a_row_overlap_as_told():
    """One standard deviation is `REACH` of the cell's side."""
    first, second = np.array([[0.2 * REACH, 0, 0]]), np.array([[0, 0.1 * REACH, 0]])
    splat = flat_gaussians(np.zeros((1, 3)), first, second, np.ones((1, 3)))
    np.testing.assert_allclose(np.sort(np.exp(splat.log_scales[0]))[1:], [0.1 * REACH, 0.2 * REACH], rtol=1e-5)
