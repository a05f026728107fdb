"""Depth images of LiDAR points."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.capture.slam.lidar_depth import (
    Spacing,
    depth_camera_for,
    point_spacing,
    project_cloud,
    shrunk_pinhole,
)
from pipeline.geometry import Camera, Pose
from tests.synthetic import look_at

CAMERA = Camera(160, 120, 122.5, 121.5, 79.25, 60.75)
HERE = Pose.identity()


def _wall(z: float, spacing: float, width: float = 4.0) -> np.ndarray:
    """Points (N, 3) on a plane before the camera."""
    x, y = np.meshgrid(np.arange(-width, width, spacing), np.arange(-width, width, spacing))
    return np.column_stack([x.ravel(), y.ravel(), np.full(x.size, z)])


def test_points_land_in_their_pixels() -> None:
    """One point a pixel, through a pose: the pixel that holds its projection, planar depth in millimetres."""
    pose = look_at(np.array([1.0, 2.0, 1.5]), np.array([3.0, 1.0, 0.5]), 10)
    local = np.array([[0.31, -0.22, 2.5], [-0.7, 0.4, 3.0004], [5.0, 0, 1.0], [0, 0, -2.0], [0, 0, 70.0]])
    depth = project_cloud(pose.apply(local), pose.inverse(), CAMERA, Spacing())
    column, row = np.floor(CAMERA.project(local[:2])).astype(int).T
    assert depth[row[0], column[0]] == 2500
    assert depth[row[1], column[1]] == 3000
    assert np.count_nonzero(depth) == 2
    assert depth.dtype == np.uint16


def test_nearest_point_of_a_pixel_counts() -> None:
    """In either order."""
    points = np.array([[0.0, 0, 2], [0, 0, 3], [0, 0, 1.5]])
    for order in ([0, 1, 2], [2, 1, 0]):
        assert project_cloud(points[order], HERE, CAMERA, Spacing()).max() == 1500


def test_a_wall_hides_what_shines_through_its_gaps() -> None:
    """Points 5 cm apart at 1 m are 6 px apart: a dense wall behind must not fill the gaps."""
    points = np.concatenate([_wall(1.0, 0.05), _wall(3.0, 0.01)])
    depth = project_cloud(points, HERE, CAMERA, Spacing(metres=0.05))
    seen = depth[depth > 0]
    assert len(seen) > 300
    assert (seen == 1000).all()


def test_without_a_spacing_the_gaps_would_leak() -> None:
    """The wall behind shows: that the test above tells something."""
    points = np.concatenate([_wall(1.0, 0.05), _wall(3.0, 0.01)])
    assert (project_cloud(points, HERE, CAMERA, Spacing()) == 3000).sum() > 1000


def test_what_is_beside_the_near_surface_stays() -> None:
    """A half wall hides its half, but for a seam as wide as its spacing."""
    near = _wall(1.0, 0.05)
    depth = project_cloud(np.concatenate([near[near[:, 0] < 0], _wall(3.0, 0.01)]), HERE, CAMERA, Spacing(metres=0.05))
    assert (depth[:, :70][depth[:, :70] > 0] == 1000).all()
    assert (depth[:, 90:] == 3000).all()


def test_a_floor_seen_at_a_flat_angle_stays_whole() -> None:
    """Each row of it lies far behind the one below, and none is hidden."""
    x, y = np.meshgrid(np.arange(-3, 3, 0.01), np.arange(0.5, 5, 0.005))
    floor = np.column_stack([x.ravel(), y.ravel(), np.zeros(x.size)])
    pose = look_at(np.array([0.0, 0, 0.6]), np.array([0.0, 2.0, 0.0]))
    depth = project_cloud(floor, pose.inverse(), CAMERA, Spacing(metres=0.01))
    rays = pose.rotate(CAMERA.rays())
    truth = np.where(rays[..., 2] < 0, -0.6 / np.minimum(rays[..., 2], -1e-9), 0)
    inside = (truth > 1.3) & (truth < 3.0)  # nearer, the points are farther apart than pixels
    assert (depth[inside] > 0).mean() > 0.97
    assert np.abs(depth[inside] / 1000 - truth[inside])[depth[inside] > 0].max() < 0.002


@pytest.mark.parametrize("strewn", [True, False])
def test_spacing_of_a_map(strewn: bool) -> None:
    """Points 3 cm apart: on a grid, or as many at random."""
    points = _wall(2.0, 0.03, 3.0)
    if strewn:
        points[:, :2] = np.random.default_rng(0).uniform(-3, 3, (len(points), 2))
    assert point_spacing(points).metres == pytest.approx(0.03, rel=0.15)


def test_depth_images_are_as_fine_as_the_map() -> None:
    """A map with points 4 cm apart at 2 m fills most pixels of its depth camera; a finer one gives larger images."""
    sizes = []
    for spacing in (0.04, 0.03):
        points = _wall(2.0, spacing)
        camera = depth_camera_for(CAMERA, points, [HERE], Spacing(metres=spacing))
        depth = project_cloud(points, HERE, camera, Spacing(metres=spacing))
        assert (depth > 0).mean() > 0.9
        assert camera.fx / camera.width == pytest.approx(CAMERA.fx / CAMERA.width, rel=1e-6)
        sizes.append(camera.width)
    assert sizes == pytest.approx([1.3 * 2.0 / spacing * 160 / 122.5 for spacing in (0.04, 0.03)], abs=2)


def test_depth_camera_has_no_distortion_and_is_no_larger() -> None:
    """The image's lens, made plain."""
    lens = Camera(160, 120, 122.5, 121.5, 79.25, 60.75, (-0.2, 0.05, 0.001, 0.0))
    assert shrunk_pinhole(lens, 1000) == CAMERA
    assert shrunk_pinhole(lens, 80) == CAMERA.resized(80, 60)


def test_depth_is_that_of_the_pixel_centre() -> None:
    """On a slanted wall, samples anywhere in their pixels: exact to the millimetre, with noise of 1 cm about that."""
    rng = np.random.default_rng(4)
    x, y = rng.uniform(-2, 2, (2, 60_000))
    for noise, limit in ((0.0, 0.6), (0.01, 11.0)):
        points = np.column_stack([x, y, 2.0 + 0.8 * x + 0.3 * y])
        points[:, 2] += rng.normal(0, noise, len(points))
        camera = CAMERA.resized(80, 60)
        depth = project_cloud(points, HERE, camera, Spacing(metres=0.016))
        rays = camera.rays()
        truth = 2000 / (1 - 0.8 * rays[..., 0] - 0.3 * rays[..., 1])
        inside = (depth > 0) & (np.abs(truth * rays[..., 0]) < 1500) & (np.abs(truth * rays[..., 1]) < 1500)
        assert inside.sum() > 1000
        assert np.sqrt(np.mean((depth - truth)[inside] ** 2)) < limit


def test_edges_are_not_bridged() -> None:
    """Between a near board and the wall behind it nothing is made up."""
    near = _wall(1.0, 0.01, 0.3)
    depth = project_cloud(np.concatenate([near, _wall(3.0, 0.03)]), HERE, CAMERA, Spacing(metres=0.02))
    assert set(np.unique(depth)) <= {0, 1000, 3000}
    assert (depth == 1000).sum() > 3000
    assert (depth == 3000).sum() > 3000
