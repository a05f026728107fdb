"""The zero crossing of fields in blocks."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.geometry import Mesh
from pipeline.mesh.marching_cubes import zero_crossing
from pipeline.mesh.topology import border_report

BLOCKS = np.stack(np.meshgrid(*[np.arange(-1, 2)] * 3, indexing="ij"), -1).reshape(-1, 3).astype(np.int32)
SIZE = 4  # voxels of a block's edge


def sampled(function) -> np.ndarray:
    """A function of points (..., 3) [voxels] at the voxels of all blocks."""
    z, y, x = np.meshgrid(*[np.arange(SIZE)] * 3, indexing="ij")
    return function(BLOCKS[:, None, None, None] * SIZE + np.stack([x, y, z], -1)).astype(np.float32)


def surface(field, known=None) -> Mesh:
    """The zero crossing, as a mesh in voxels."""
    vertices, triangles = zero_crossing(BLOCKS, field, np.ones(field.shape, bool) if known is None else known)
    return Mesh.from_arrays(vertices, triangles)


def test_a_ball_is_closed_round_and_faces_outward():
    """Across the borders of 27 blocks: each vertex near the radius, the volume that of the ball."""
    centre = np.array([1.3, 1.4, 1.6])
    ball = surface(sampled(lambda at: np.linalg.norm(at - centre, axis=-1) - 4))
    report = border_report(ball)
    assert report["watertight"] and report["edges_of_opposite_winding"] == 0 and report["components"] == 1
    assert np.linalg.norm(ball.vertices - centre, axis=1) == pytest.approx(4, abs=0.05)
    volume = np.linalg.det(ball.corners() - centre).sum() / 6
    assert volume == pytest.approx(4 / 3 * np.pi * 4**3, rel=0.05)  # its facets lie within


def test_a_plane_is_exact():
    """A linear field crosses zero at its plane, and the surface faces where it is positive."""
    normal = np.array([0.6, 0.0, 0.8])
    plane = surface(sampled(lambda at: at @ normal - 0.3))
    assert plane.vertices @ normal == pytest.approx(0.3, abs=1e-5)
    areas = plane.face_areas() > 1e-6
    assert plane.face_normals()[areas] @ normal == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("seed", range(20))
def test_noise_has_neither_holes_nor_fins(seed):
    """All cases of neighbouring cubes, ambiguous ones too: within a rim of positive values the surface is closed."""
    rng = np.random.default_rng(seed)
    field = sampled(lambda at: np.where((np.abs(at - 1.5) < 5).all(-1), rng.normal(size=at.shape[:-1]), 1.0))
    report = border_report(surface(field))
    assert report["watertight"] and report["non_manifold_edges"] == 0 and report["edges_of_opposite_winding"] == 0


def test_cubes_with_unknown_corners_have_no_surface():
    """One unknown voxel takes the eight cubes round it, and only those."""
    field = sampled(lambda at: at[..., 2] - 0.5)
    known = sampled(lambda at: ~(at == 0).all(-1)).astype(bool)
    whole, part = surface(field), surface(field, known)
    gone = len(whole.triangles) - len(part.triangles)
    assert gone == 8  # two triangles in each of the four cubes that the plane crosses
    assert not ((np.abs(part.corners().mean(1)[:, :2]) < 1).all(1)).any()


def test_a_block_without_neighbours_ends_at_its_last_voxels():
    """Its last cubes need the next block."""
    block = np.zeros((1, 3), np.int32)
    field = sampled(lambda at: at[..., 2] - 0.5)[13:14]
    vertices, triangles = zero_crossing(block, field, np.ones(field.shape, bool))
    assert vertices.min(0) == pytest.approx([0, 0, 0.5]) and vertices.max(0) == pytest.approx([3, 3, 0.5])
    assert len(triangles) == 2 * 3 * 3


def test_no_blocks_have_no_surface():
    """Nothing in, nothing out."""
    vertices, triangles = zero_crossing(
        np.zeros((0, 3), np.int32), np.zeros((0, 8, 8, 8), np.float32), np.zeros((0, 8, 8, 8), bool)
    )
    assert vertices.shape == (0, 3) and triangles.shape == (0, 3)
