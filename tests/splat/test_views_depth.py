"""Depth maps drawn into colour views."""

from __future__ import annotations

import numpy as np

from pipeline.depth.maps import DepthMap
from pipeline.geometry import Camera, Pose, matrix_from_rotvec
from pipeline.splat.views import ViewDepth, depth_in_view
from tests.synthetic import walk

DEPTH_CAMERA = Camera(120, 90, 95.0, 94.0, 61.0, 44.0)
VIEW_CAMERA = Camera(160, 120, 122.0, 121.0, 78.0, 61.5)
VIEW_FROM_DEPTH = Pose(matrix_from_rotvec([0.02, -0.04, 0.01]), np.array([0.03, -0.01, 0.005]))


def _map(camera: Camera, pose: Pose, depth: np.ndarray, sigma: float = 0.02, guessed: bool = False) -> DepthMap:
    return DepthMap(
        "0000",
        False,
        camera,
        pose,
        depth.astype(np.float32),
        np.full(depth.shape, sigma, np.float32),
        np.zeros((*depth.shape, 3), np.float32),
        np.full(depth.shape, guessed),
    )


def test_depth_of_a_room_arrives_in_another_camera(room):
    """From a coarser map next to the colour camera: within 1 cm nearly everywhere, edges and covered parts unknown."""
    for world_from_view in walk(5):
        world_from_depth = world_from_view @ VIEW_FROM_DEPTH
        truth = room.cast(VIEW_CAMERA, world_from_view)[1]
        drawn = depth_in_view(
            _map(DEPTH_CAMERA, world_from_depth, room.cast(DEPTH_CAMERA, world_from_depth)[1]),
            VIEW_CAMERA,
            world_from_view,
        )
        known = drawn.depth > 0
        assert known.mean() > 0.8
        error = np.abs(drawn.depth - truth)[known]
        assert np.median(error) < 1e-3
        assert (error < 0.01).mean() > 0.985


def test_same_camera_keeps_the_depth(room):
    """Without a change of camera the map comes back, but for the last pixels at the border and jumps."""
    pose = walk(3)[1]
    depth = room.cast(DEPTH_CAMERA, pose)[1]
    drawn = depth_in_view(_map(DEPTH_CAMERA, pose, depth), DEPTH_CAMERA, pose)
    known = drawn.depth > 0
    assert known.mean() > 0.85
    np.testing.assert_allclose(drawn.depth[known], depth[known], rtol=1e-4)


def test_nearer_surface_hides_what_it_covers():
    """A box seen by the depth camera from aside covers the wall in the view."""
    depth = np.full((90, 120), 4.0)
    depth[:, 60:] = 1.0
    moved = Pose(np.eye(3), np.array([0.5, 0, 0]))  # the view is 0.5 m to the left of the depth camera
    drawn = depth_in_view(_map(DEPTH_CAMERA, moved, depth), DEPTH_CAMERA, Pose.identity())
    row = drawn.depth[45]
    assert set(np.unique(row.round(3))) <= {0.0, 1.0, 4.0}
    near = np.flatnonzero(row == row[row > 0].min())
    assert near.min() > 60 + 0.4 * 95  # shifted by f * 0.5 m / 1 m, up to the image's border


def test_unknown_stays_unknown_and_guessed_pulls_less():
    """Zero depth draws nothing; guessed depth has a wider tolerance."""
    depth = np.full((90, 120), 2.0)
    depth[30:40] = 0
    sure = depth_in_view(_map(DEPTH_CAMERA, Pose.identity(), depth), DEPTH_CAMERA, Pose.identity())
    vague = depth_in_view(_map(DEPTH_CAMERA, Pose.identity(), depth, guessed=True), DEPTH_CAMERA, Pose.identity())
    assert not sure.depth[30:40].any()
    assert sure.depth[50, 60] == 2.0
    np.testing.assert_allclose(sure.tolerance[50, 60], 0.02, rtol=1e-4)
    assert vague.tolerance[50, 60] > 3 * sure.tolerance[50, 60]


def test_halving_averages_within_surfaces_only():
    """Blocks across a jump or with an unknown pixel become unknown."""
    depth = np.full((4, 6), 2.0, np.float32)
    depth[0, 0], depth[2, 2], depth[3, 5] = 2.02, 0, 3.0
    half = ViewDepth(depth, np.full((4, 6), 0.1, np.float32)).halved()
    np.testing.assert_allclose(half.depth, [[2.005, 2, 2], [2, 0, 0]], rtol=1e-5)
