"""Planes of depth images, against planes whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.poses.by_depth.surfels import IS_THERE, NORMAL_X, SIGMA, X, stride_of, surfels_of
from tests.poses.by_depth.walks import LENS

NORMAL = np.array([0.3, -0.2, -0.9]) / np.linalg.norm([0.3, -0.2, -0.9])


def plane_depth(normal: np.ndarray, distance: float) -> np.ndarray:
    """Depth (H, W) [m] of a plane normal . x = -distance."""
    return (-distance / (LENS.rays() @ normal)).astype(np.float32)


def test_a_plane_has_its_normal_and_place_in_every_cell():
    """To 0.03 degrees and a tenth of a millimetre; its sigma is what neighbours share."""
    surfels = surfels_of(plane_depth(NORMAL, 2.0), LENS, 2)
    assert surfels.shape == (48, 64, 8)
    surfels = surfels[1:-1, 1:-1]  # the windows at the border are cut
    assert surfels[..., IS_THERE].all()
    normals = surfels[..., NORMAL_X : NORMAL_X + 3].astype(float)
    assert (normals @ NORMAL).min() > np.cos(np.deg2rad(0.03))
    np.testing.assert_allclose(surfels[..., X : X + 3] @ NORMAL, -2.0, atol=1e-4)
    assert 0.001 < surfels[..., SIGMA].min() < surfels[..., SIGMA].max() < 0.02


def test_noise_is_averaged_and_told(rng: np.random.Generator):
    """Distances from the plane are as large as their sigmas say, what neighbours share apart."""
    depth = plane_depth(NORMAL, 2.0)
    surfels = surfels_of((depth * (1 + rng.normal(0, 0.004, depth.shape))).astype(np.float32), LENS, 2)
    there = surfels[surfels[..., IS_THERE] > 0]
    assert len(there) > 0.9 * 48 * 64
    off = there[:, X : X + 3] @ NORMAL + 2.0
    assert 0.3 < np.sqrt(((off / there[:, SIGMA]) ** 2).mean()) < 1.0


def test_what_is_no_plane_is_left_out(rng: np.random.Generator):
    """Edges, what is seen at a grazing angle, gaps, and depth of noise alone."""
    depth = plane_depth(np.array([0, 0, -1.0]), 2.0)
    depth[:, 64:] = 3.0
    depth[:48, :32] = 0
    there = surfels_of(depth, LENS, 2)[..., IS_THERE]
    assert not there[:20, :12].any()
    assert there[30:-1, 1:28].all()
    grazing = np.array([np.cos(np.deg2rad(4)), 0, -np.sin(np.deg2rad(4))])
    steep = np.maximum(plane_depth(grazing, 0.5), 0)
    assert not surfels_of(steep, LENS, 2)[:, 28:36, IS_THERE].any()
    noise = rng.uniform(1, 3, depth.shape).astype(np.float32)
    assert surfels_of(noise, LENS, 2)[..., IS_THERE].mean() < 0.01
    assert not surfels_of(np.zeros_like(depth), LENS, 2).any()


@pytest.mark.parametrize("size", [(256, 192), (640, 480), (100, 75)])
def test_any_size_gives_about_as_many(size: tuple[int, int]):
    """About 64 across."""
    camera = LENS.resized(*size)
    found = surfels_of(np.full((size[1], size[0]), 2.0, np.float32), camera, stride_of(size[0]))
    assert 45 <= found.shape[1] <= 100
    assert found[..., IS_THERE].mean() > 0.9
