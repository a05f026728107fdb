"""Merging of points by cells against a slow reference."""

import numpy as np
import pytest

from pipeline.depth.voxel_grid import VoxelGrid
from pipeline.geometry import PointCloud


def random_cloud(count: int, seed: int) -> PointCloud:
    rng = np.random.default_rng(seed)
    normals = rng.normal([0, 0, 3], 1, (count, 3))
    return PointCloud(
        rng.uniform(-1, 1, (count, 3)).astype(np.float32),
        (normals / np.linalg.norm(normals, axis=1, keepdims=True)).astype(np.float32),
        rng.integers(0, 256, (count, 3)).astype(np.uint8),
        rng.uniform(0.001, 0.01, count).astype(np.float32),
        rng.integers(1, 5, count).astype(np.int32),
        np.zeros(count, bool),
    )


def test_means_are_those_of_a_slow_reference():
    """Position, colour and sigma of each cell are the weighted means of its points, from two views."""
    grid, size = VoxelGrid(0.5), 0.5
    clouds = [random_cloud(500, seed) for seed in (0, 1)]
    rng = np.random.default_rng(2)
    weights = [rng.uniform(0.5, 2, 500).astype(np.float32) for _ in clouds]
    for view, (cloud, weight) in enumerate(zip(clouds, weights, strict=True)):
        grid.add(cloud, weight, np.ones(500, bool), view)
    merged = grid.cloud()
    points = np.concatenate([c.points for c in clouds])
    cells, index = np.unique(np.floor(points / size), axis=0, return_inverse=True)
    assert len(merged) == len(grid) == len(cells)
    weight = np.concatenate(weights)
    for cell in range(len(cells)):
        inside = index.ravel() == cell
        share = weight[inside] / weight[inside].sum()
        np.testing.assert_allclose(merged.points[cell], share @ points[inside], atol=1e-5)
        colors = np.concatenate([c.colors for c in clouds])[inside]
        np.testing.assert_allclose(merged.colors[cell], share @ colors, atol=0.51)
        np.testing.assert_allclose(
            merged.sigma[cell], share @ np.concatenate([c.sigma for c in clouds])[inside], rtol=1e-4
        )
    np.testing.assert_allclose(np.linalg.norm(merged.normals, axis=1), 1, atol=1e-5)


def test_views_are_counted_once_each():
    """Two points of one view in a cell are one view; what the points' own comparisons say counts if it is more."""
    cloud = random_cloud(1, 0)
    twice = cloud[np.array([0, 0])]
    alone = PointCloud(twice.points, twice.normals, twice.colors, twice.sigma, np.ones(2, np.int32), twice.guessed)
    grid = VoxelGrid(0.1)
    grid.add(alone, np.ones(2, np.float32), np.ones(2, bool), 0)
    assert grid.cloud().views[0] == 1
    grid.add(alone, np.ones(2, np.float32), np.ones(2, bool), 1)
    assert grid.cloud().views[0] == 2


def test_points_without_colour_don_t_darken():
    """Only known colours are averaged; a cell without any is grey."""
    cloud = random_cloud(1, 0)[np.array([0, 0])]
    grid = VoxelGrid(0.1)
    grid.add(cloud, np.ones(2, np.float32), np.array([True, False]), 0)
    np.testing.assert_array_equal(grid.cloud().colors[0], cloud.colors[0])
    grey = VoxelGrid(0.1)
    grey.add(cloud, np.ones(2, np.float32), np.zeros(2, bool), 0)
    np.testing.assert_array_equal(grey.cloud().colors[0], 128)


def test_growth_loses_nothing():
    """Far more points than the first table holds, all in cells of their own."""
    grid = VoxelGrid(1e-4)
    for view in range(3):
        cloud = random_cloud(60_000, view)
        grid.add(cloud, np.ones(60_000, np.float32), np.ones(60_000, bool), view)
    assert len(grid.cloud()) == len(grid) > 179_900


def test_touching_means_same_or_next_cell():
    """One cell off touches, two cells off does not."""
    cloud = random_cloud(1, 0)
    grid = VoxelGrid(0.1)
    grid.add(cloud, np.ones(1, np.float32), np.ones(1, bool), 0)
    offsets = np.array([[0, 0, 0], [0.1, -0.1, 0.1], [0.21, 0, 0]], np.float32)
    np.testing.assert_array_equal(grid.touches(cloud.points + offsets), [True, True, False])


def test_points_beyond_the_grid_are_refused():
    """The numbering of cells has an end, and says so."""
    cloud = random_cloud(1, 0)
    far = PointCloud(cloud.points + 2e4, cloud.normals, cloud.colors, cloud.sigma, cloud.views, cloud.guessed)
    with pytest.raises(ValueError, match="within 10486 m"):
        VoxelGrid(0.01).add(far, np.ones(1, np.float32), np.ones(1, bool), 0)
