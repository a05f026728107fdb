"""Boxes, cylinders and balls of which one side was seen, with the noise of a scan."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pipeline.geometry import Mesh, matrix_from_rotvec
from pipeline.mesh.marching_cubes import zero_crossing
from pipeline.mesh.topology import border_report
from pipeline.objects.shapes import shape_of
from pipeline.types import F64
from tests.objects.furniture import to_box

CELL, SUPPORT = 0.02, 0.31
PLACE = np.array([0.07, -0.04, SUPPORT])
VIEWER = np.array([1.3, -2.1, 1.6])


def seen_of(distances: Callable[[F64], F64], noise: float = 0.002) -> Mesh:
    """The surface at which distances (...) of points (..., 3) from a thing are 0, as far as a viewer faces it."""
    count = 64
    index = (np.arange(count) - count // 2 + 0.5) * CELL
    places = np.stack(np.meshgrid(index, index, index, indexing="ij"), -1) + PLACE
    field = distances(places).astype(np.float32).transpose(2, 1, 0)[None]
    vertices, triangles = zero_crossing(np.zeros((1, 3), np.int32), field, np.ones(field.shape, bool))
    vertices = vertices * CELL + places[0, 0, 0]
    vertices += np.random.default_rng(0).normal(0, noise, vertices.shape)
    mesh = Mesh.from_arrays(vertices, triangles)
    towards = VIEWER - mesh.corners().mean(1)
    return mesh.with_faces(np.einsum("ij,ij->i", mesh.face_normals(), towards) > 0)


def drum(radius: float, height: float) -> Callable[[F64], F64]:
    """A cylinder that stands."""
    return lambda points: np.maximum(
        np.linalg.norm((points - PLACE)[..., :2], axis=-1) - radius,
        np.abs(points[..., 2] - SUPPORT - height / 2) - height / 2,
    )


def test_a_drum_is_a_cylinder_although_its_back_was_not_seen():
    """To a few millimetres, and watertight; its surface faces outward."""
    shape = shape_of(seen_of(drum(0.21, 0.47)), SUPPORT)
    assert shape is not None
    assert (shape.kind, shape.lying) == ("cylinder", False)
    np.testing.assert_allclose(shape.size, [0.42, 0.42, 0.47], atol=0.01)
    np.testing.assert_allclose(shape.world_from_body.translation, PLACE, atol=0.006)
    mesh = shape.mesh()
    assert border_report(mesh)["watertight"]
    a, b, c = np.moveaxis(mesh.corners().astype(np.float64), 1, 0)
    assert np.einsum("ij,ij->", a, np.cross(b, c)) / 6 == pytest.approx(np.pi * 0.21**2 * 0.47, rel=0.05)


def test_a_pipe_lies_along_its_axis():
    """Its foot is on the support, its length is that between its ends."""
    yaw = 0.4
    turn = matrix_from_rotvec([0, 0, yaw])

    def pipe(points: F64) -> F64:
        local = (points - PLACE - [0, 0, 0.11]) @ turn
        return np.maximum(np.hypot(local[..., 1], local[..., 2]) - 0.11, np.abs(local[..., 0]) - 0.29)

    shape = shape_of(seen_of(pipe), SUPPORT)
    assert shape is not None
    assert (shape.kind, shape.lying) == ("cylinder", True)
    np.testing.assert_allclose(shape.size, [0.58, 0.22, 0.22], atol=0.012)
    along = shape.world_from_body.rotation[:, 0]
    assert abs(along @ turn[:, 0]) > np.cos(np.deg2rad(2))
    mesh = shape.mesh()
    assert mesh.vertices[:, 2].min() == pytest.approx(SUPPORT, abs=1e-4)
    assert border_report(mesh)["watertight"]


def test_a_ball_lies_on_its_support():
    """The lower part, which nobody saw, goes down to it."""
    radius = 0.17
    shape = shape_of(seen_of(lambda points: np.linalg.norm(points - PLACE - [0, 0, radius], axis=-1) - radius), SUPPORT)
    assert shape is not None
    assert shape.kind == "ball"
    np.testing.assert_allclose(shape.size, 2 * radius, atol=0.008)
    np.testing.assert_allclose(shape.mesh().vertices.min(0), PLACE - [radius, radius, 0], atol=0.008)


@pytest.mark.parametrize("size", [(0.5, 0.3, 0.35), (0.14, 0.12, 0.2)])
def test_a_box_is_a_box(size: tuple[float, float, float]):
    """A small one isn't taken for a cylinder, which is nowhere far from it."""
    shape = shape_of(seen_of(lambda points: to_box(points, tuple(PLACE), size, 0.3), noise=0.001), SUPPORT)
    assert shape is not None
    assert shape.kind == "box"
    np.testing.assert_allclose(np.sort(shape.size[:2]), np.sort(size[:2]), atol=0.02)


def test_an_l_is_none_of_these():
    """It is carved."""

    def bend(points: F64) -> F64:
        low = to_box(points, tuple(PLACE), (0.5, 0.3, 0.2), 0.3)
        return np.minimum(low, to_box(points, (PLACE[0] - 0.1, PLACE[1], SUPPORT), (0.2, 0.3, 0.5), 0.3))

    assert shape_of(seen_of(bend), SUPPORT) is None
