"""Depth images of meshes."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.geometry import Camera, Mesh, matrix_from_rotvec
from pipeline.geometry.rays import RayCaster
from pipeline.raster.mesh_depth import mesh_depths
from pipeline.types import F32, F64

WIDE = Camera(37, 21, 15, 17, 18, 11)
"""Of no whole number of tiles, with directions along each axis."""
DOT = Camera(1, 1, 5, 5, 0.5, 0.5)


def soup(rng: np.random.Generator, count: int, size: float) -> Mesh:
    """Triangles anywhere, of any size up to that [m]."""
    middle = rng.uniform(-3, 3, (count, 1, 3))
    corners = middle + rng.normal(size=(count, 3, 3)) * rng.uniform(0, size, (count, 1, 1))
    corners[::5, :, 2] = -0.5  # level, some of them in one plane
    return Mesh.from_arrays(corners.reshape(-1, 3), np.arange(3 * count).reshape(-1, 3))


def views(rng: np.random.Generator, count: int, far: float = 2.0) -> F64:
    """Poses (count, 4, 4) in any direction."""
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, :3, :3] = matrix_from_rotvec(rng.normal(size=(count, 3)) * 2)
    poses[:, :3, 3] = rng.uniform(-far, far, (count, 3))
    return poses


def ray_by_ray(mesh: RayCaster, camera: Camera, pose: F64) -> F32:
    """The same by a caster."""
    directions = np.einsum("ij,hwj->hwi", pose[:3, :3], camera.rays()).reshape(-1, 3)
    found = mesh.cast(np.tile(pose[:3, 3], (len(directions), 1)), directions).distance
    return found.reshape(camera.height, camera.width)


@pytest.mark.parametrize("camera", [WIDE, DOT, Camera(96, 48, 48, 48, 48, 24)], ids=["wide", "a pixel", "a robot's"])
@pytest.mark.parametrize(("count", "size"), [(1, 3.0), (60, 1.5), (3000, 0.2), (20000, 0.02)])
def test_depths_are_those_of_single_rays(camera: Camera, count: int, size: float):
    """To the bit: of few large triangles and of many that are smaller than a pixel."""
    rng = np.random.default_rng(count)
    mesh, poses = RayCaster(soup(rng, count, size)), views(rng, 12)
    found = mesh_depths([mesh], np.zeros(12, np.int64), camera, poses)
    assert found.shape == (12, camera.height, camera.width)
    for image, pose in zip(found, poses, strict=True):
        np.testing.assert_array_equal(image, ray_by_ray(mesh, camera, pose))
    if camera is WIDE and count > 1:
        assert np.isfinite(found).mean() > 0.01


def test_far_from_the_origin():
    """Where numbers are coarse, no triangle gets lost either."""
    rng = np.random.default_rng(1)
    away, poses = np.array([3e4, -2e4, 50.0]), views(rng, 8)
    near = soup(rng, 400, 1.0)
    mesh = RayCaster(Mesh.from_arrays(near.vertices + away, near.triangles))
    poses[:, :3, 3] += away
    found = mesh_depths([mesh], np.zeros(8, np.int64), WIDE, poses)
    for image, pose in zip(found, poses, strict=True):
        np.testing.assert_array_equal(image, ray_by_ray(mesh, WIDE, pose))


def test_each_camera_sees_its_own_mesh():
    """In any order, an empty one among them."""
    rng = np.random.default_rng(2)
    meshes = [RayCaster(soup(rng, count, 1.0)) for count in (50, 300)]
    meshes.insert(1, RayCaster(Mesh.from_arrays(np.zeros((0, 3)), np.zeros((0, 3), int))))
    of, poses = np.array([2, 0, 1, 2, 0]), views(rng, 5)
    found = mesh_depths(meshes, of, WIDE, poses)
    for image, number, pose in zip(found, of, poses, strict=True):
        np.testing.assert_array_equal(image, ray_by_ray(meshes[number], WIDE, pose))
    assert np.isinf(found[2]).all()


def test_lenses_are_pinholes():
    """Others have no such rays."""
    with pytest.raises(ValueError, match="pinhole"):
        mesh_depths([], np.zeros(0, np.int64), Camera(8, 8, 5, 5, 4, 4, (0.1, 0, 0, 0)), np.zeros((0, 4, 4)))
