"""Objects cut out of a splat: a box on a floor with a post beside it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.geometry import Gaussians, Mesh, Pose, matrix_from_rotvec, quaternions_from_z
from pipeline.objects.close import Body, _box_mesh
from pipeline.objects.cut import cut_splat
from pipeline.types import F64

FRAME = Pose(matrix_from_rotvec([0, 0, 0.5]), np.array([0.6, -0.2, 0.1]))
SIZE = np.array([0.4, 0.24, 0.3])
FLOOR = 0.1
POST = np.array([0.6, 0.14])


def on_surface(mesh: Mesh, color: tuple[float, float, float]) -> Gaussians:
    """A flat Gaussian at each vertex, with the normal of its nearest triangle."""
    middle, normals = mesh.corners().astype(np.float64).mean(1), mesh.face_normals()
    return flat(middle, normals, color)


def flat(places: F64, normals: F64, color: tuple[float, float, float]) -> Gaussians:
    """Thin Gaussians (N, 3) that face along normals (N, 3)."""
    scales = np.tile([0.02, 0.02, 0.002], (len(places), 1))
    quaternions = quaternions_from_z(normals)
    return Gaussians.from_colors(places, scales, quaternions, np.tile(color, (len(places), 1)), 0.9, 1)


@pytest.fixture()
def body() -> Body:
    """A box on the floor."""
    return Body("box", FRAME, SIZE, _box_mesh(FRAME, SIZE))


@pytest.fixture()
def scene() -> tuple[Gaussians, Gaussians, Gaussians, Mesh]:
    """Floor without what the box hides, box without its foot, a post beside it; and the mesh of floor and post."""
    x, y = np.meshgrid(np.arange(-1, 2, 0.025), np.arange(-1.5, 1, 0.025), indexing="ij")
    places = np.column_stack([x.ravel(), y.ravel(), np.full(x.size, FLOOR)])
    local = FRAME.inverse().apply(places)
    seen = (np.abs(local[:, :2]) > SIZE[:2] / 2).any(1)
    floor = flat(places[seen], np.tile([0, 0, 1.0], (seen.sum(), 1)), (0.2, 0.5, 0.2))
    box = _box_mesh(FRAME, SIZE)
    box = on_surface(box.with_faces(box.face_normals()[:, 2] > -0.5), (0.8, 0.1, 0.1))
    post_mesh = _box_mesh(Pose(np.eye(3), np.array([*POST, FLOOR])), np.array([0.06, 0.06, 0.5]))
    post = on_surface(post_mesh, (0.1, 0.1, 0.8))
    ground = Mesh.from_arrays(
        np.array([[-1, -1.5, FLOOR], [2, -1.5, FLOOR], [2, 1, FLOOR], [-1, 1, FLOOR]]), np.array([[0, 1, 2], [0, 2, 3]])
    )
    return floor, box, post, ground.joined(post_mesh)


def test_it_takes_its_own_and_nothing_else(body: Body, scene: tuple[Gaussians, Gaussians, Gaussians, Mesh]):
    """The box's Gaussians but the lowest, which may be either's; all of the post and the floor stay."""
    floor, box, post, mesh = scene
    cut = cut_splat(Gaussians.concatenate([floor, box, post]), body, mesh)
    red = cut.own.sh[:, 0, 0] > 0.5
    assert red.all()
    assert len(cut.own) > 0.85 * len(box)
    assert len(cut.rest) >= len(floor) + len(post)
    left = cut.rest[cut.rest.sh[:, 0, 0] > 0.5]
    assert (left.means[:, 2] < FLOOR + 0.03).all()


def test_what_is_deep_inside_goes_along(body: Body, scene: tuple[Gaussians, Gaussians, Gaussians, Mesh]):
    """A Gaussian 12 cm from every side, farther than any lies outside."""
    floor, _, _, mesh = scene
    middle = FRAME.apply(np.array([[0.0, 0.0, 0.15]]))
    inside = flat(middle, np.array([[1.0, 0, 0]]), (0.8, 0.1, 0.1))
    assert len(cut_splat(Gaussians.concatenate([floor, inside]), body, mesh).own) == 1


def test_the_hole_is_filled_from_a_bare_place(body: Body, scene: tuple[Gaussians, Gaussians, Gaussians, Mesh]):
    """With the floor's Gaussians, level with it, and none of the post's."""
    floor, box, post, mesh = scene
    cut = cut_splat(Gaussians.concatenate([floor, box, post]), body, mesh)
    assert cut.filled > 0.9  # cells on the rim count, too
    local = FRAME.inverse().apply(cut.rest.means)
    inside = (np.abs(local[:, :2]) < SIZE[:2] / 2 - 0.03).all(1)
    assert inside.sum() > 0.8 * np.prod(SIZE[:2] - 0.06) / 0.025**2
    filling = cut.rest[inside]
    np.testing.assert_allclose(filling.means[:, 2], FLOOR, atol=1e-6)
    assert (filling.sh[:, 0, 1] > filling.sh[:, 0, 2]).all(), "green is the floor"


def test_nothing_near_fills_nothing(body: Body):
    """A box in the air."""
    box = on_surface(body.mesh, (0.8, 0.1, 0.1))
    far = Mesh.from_arrays(np.array([[9.0, 9, 9], [9, 9.5, 9], [9.5, 9, 9]]), np.array([[0, 1, 2]]))
    cut = cut_splat(box[body.mesh.face_normals()[:, 2] > -0.5], body, far)
    assert cut.filled < 0.2


def test_a_body_without_a_foot_leaves_no_hole(body: Body, scene: tuple[Gaussians, Gaussians, Gaussians, Mesh]):
    """As one that hangs; nothing is copied."""
    floor, box, post, mesh = scene
    hanging = replace(body, world_from_body=Pose(FRAME.rotation, FRAME.translation - [0, 0, 0.5]))
    cut = cut_splat(Gaussians.concatenate([floor, box, post]), hanging, mesh)
    assert len(cut.own) + len(cut.rest) == len(floor) + len(box) + len(post)
