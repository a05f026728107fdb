"""Fusion of depth maps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.f_score import f_scores
from pipeline.depth.maps import DepthMap
from pipeline.errors import ReconstructionError
from pipeline.geometry import Camera, Pose
from pipeline.geometry.rays import RayCaster
from pipeline.mesh.params import MeshParams
from pipeline.mesh.tsdf import COARSER, BlockGrid, automatic_voxel_size, fuse, reconstruct
from tests.mesh.scenes import VOXEL, maps, room, same

CAMERA = Camera(120, 90, 100.0, 98.0, 61.0, 43.0)


def wall_map(distance: float, sigma: float = 0.01, x: float = 0.0) -> DepthMap:
    """A camera looking along +z at a wall, with normals."""
    shape = (CAMERA.height, CAMERA.width)
    normals = np.zeros((*shape, 3), np.float32)
    normals[..., 2] = -1
    return DepthMap(
        "wall",
        False,
        CAMERA,
        Pose(np.eye(3), np.array([x, 0.0, 0.0])),
        np.full(shape, distance, np.float32),
        np.full(shape, sigma, np.float32),
        normals,
        np.zeros(shape, bool),
    )


def test_the_room_comes_back():
    """F-score at 5 cm of at least 0.95 against the exact mesh, inside what was seen."""
    mesh = fuse(maps(), VOXEL, 4, 2)
    score = f_scores(mesh, room().mesh, maps(), (0.05,), np.random.default_rng(0))[0]
    assert score.f > 0.98
    assert score.precision > 0.98


def test_two_runs_give_equal_bytes():
    """Whatever the order of Open3D's hash map."""
    assert same(fuse(maps()[:6], VOXEL, 4, 1), fuse(maps()[:6], VOXEL, 4, 1))


def test_triangles_face_the_camera():
    """The wall at z = 2 looks towards -z."""
    mesh = fuse([wall_map(2.0)], 0.04, 4, 1)
    assert (mesh.face_normals()[:, 2] < -0.99).all()
    assert mesh.vertices[:, 2] == pytest.approx(2.0, abs=1e-3)


def test_certain_depth_outweighs_uncertain():
    """Of 2.00 m with 5 mm and 2.04 m with 20 mm the mean by inverse variance is 2.0024 m."""
    mesh = fuse([wall_map(2.0, 0.005), wall_map(2.04, 0.02)], 0.04, 4, 2)
    assert np.median(mesh.vertices[:, 2]) == pytest.approx(2.0 + 0.04 / 17, abs=1e-3)


def test_one_view_is_too_few_when_two_are_asked():
    """Only where the two maps overlap is a surface drawn."""
    both = fuse([wall_map(2.0), wall_map(2.0, x=1.0)], 0.04, 4, 2)
    left = -CAMERA.cx / CAMERA.fx * 2 + 1.0  # the second camera's left border
    right = (CAMERA.width - CAMERA.cx) / CAMERA.fx * 2
    assert both.vertices[:, 0].min() > left - 0.05
    assert both.vertices[:, 0].max() < right + 0.05


def test_a_partition_is_as_thick_as_it_is():
    """A wall of 12 cm that five views see from one side and one from the other, in voxels of 4.8 cm."""
    behind = Pose(np.diag([-1.0, 1.0, -1.0]), np.array([0, 0, 4.12]))  # looks along -z
    views = [wall_map(2.0), *(replace(wall_map(2.0), world_from_camera=behind) for _ in range(5))]
    heights = fuse(views, 0.048, 4, 1).vertices[:, 2]
    assert heights.min() == pytest.approx(2.0, abs=0.01)
    assert heights.max() == pytest.approx(2.12, abs=0.01)


def test_slanted_floor_is_unbiased():
    """A floor seen at a grazing angle lies within 2 mm of the truth: normals make the distance perpendicular."""
    mesh = fuse(maps(), VOXEL, 4, 2)
    centre = mesh.corners().mean(1)
    floor = (np.abs(centre[:, 2]) < 0.05) & (mesh.face_normals()[:, 2] > 0.8)
    inner = floor & (centre[:, 0] > 1) & (centre[:, 0] < 3) & (centre[:, 1] > 0.5) & (centre[:, 1] < 1.7)
    assert abs(np.median(centre[inner, 2])) < 0.002


def test_a_rim_grows_no_skirt():
    """Nothing stands behind the table's edges in the air: 99.9 % of the vertices lie within 5 cm of the truth."""
    mesh = fuse(maps(), VOXEL, 4, 2)
    assert np.percentile(RayCaster(room().mesh).distances(mesh.vertices), 99.9) < 0.05


def test_no_common_surface_is_an_error():
    """Two cameras that look at different places, two views wanted."""
    with pytest.raises(ReconstructionError, match="must share a surface"):
        fuse([wall_map(2.0), wall_map(2.0, x=50.0)], 0.04, 4, 2)


def test_too_many_voxels_name_the_remedy(monkeypatch):
    """A scene beyond the block limit says which option helps."""
    monkeypatch.setattr("pipeline.mesh.tsdf.MAX_BLOCKS", 10)
    with pytest.raises(ReconstructionError, match=r"mesh\.voxel_size"):
        BlockGrid(0.02, 0.08).integrate(wall_map(2.0))


def test_automatic_voxels_grow_until_the_scene_fits(monkeypatch):
    """By steps; what was asked for is kept or refused."""
    views = [wall_map(2.0), wall_map(2.0, x=0.1)]
    monkeypatch.setattr("pipeline.mesh.tsdf.automatic_voxel_size", lambda _: 0.02)
    needed = BlockGrid(0.02, 0.08)
    for view in views:
        needed.integrate(view)
    assert reconstruct(views, None, MeshParams(min_views=1))[1] == 0.02
    monkeypatch.setattr("pipeline.mesh.tsdf.MAX_BLOCKS", len(needed.keys) // 3)
    mesh, size = reconstruct(views, None, MeshParams(min_views=1))
    assert np.log(size / 0.02) / np.log(COARSER) == pytest.approx(round(np.log(size / 0.02) / np.log(COARSER)))
    assert 0.02 < size < 0.1
    assert len(mesh.triangles)
    with pytest.raises(ReconstructionError, match=r"mesh\.voxel_size"):
        reconstruct(views, None, MeshParams(voxel_size=0.02, min_views=1))


def test_memory_is_never_reserved_beyond_the_limit(monkeypatch):
    """Room for blocks doubles, but not past the limit."""
    grid = BlockGrid(0.02, 0.08)
    grid.integrate(wall_map(2.0))
    monkeypatch.setattr("pipeline.mesh.tsdf.MAX_BLOCKS", len(grid.tsdf) + 1)
    grid.slots(grid.keys.max() + np.array([1]))
    assert len(grid.tsdf) == len(grid.weight) == len(grid.count) == len(grid.keys)


def test_voxels_follow_small_scenes_and_noise():
    """2 cm in a room and in a hall of 40 m; never below the noise."""
    assert automatic_voxel_size(maps()) == pytest.approx(0.02)
    small, large = ([replace(m, depth=m.depth * factor) for m in maps()] for factor in (0.1, 10))
    assert automatic_voxel_size(small) < 0.015
    assert automatic_voxel_size(large) == pytest.approx(0.02)
    noisy = [replace(m, sigma=np.full_like(m.sigma, 0.05)) for m in maps()]
    assert automatic_voxel_size(noisy) == pytest.approx(0.05)
