"""Choice of views and depth range from sparse points."""

import numpy as np

from pipeline.depth.view_selection import _pick, select_views
from pipeline.geometry import Camera, Pose
from pipeline.poses.scene import SparsePoints

CAMERA = Camera(320, 240, 250.0, 252.0, 158.0, 122.0)


def scene(offsets: list[float]) -> tuple[list[Pose], SparsePoints]:
    """Cameras side by side that all see the same 50 points 2 m ahead; one more sees only its own."""
    rng = np.random.default_rng(0)
    xyz = np.concatenate([rng.uniform([-0.3, -0.2, 1.9], [0.3, 0.2, 2.1], (50, 3)), rng.uniform(5, 6, (50, 3))])
    views = [np.full(50, i) for i in range(len(offsets))] + [np.full(50, len(offsets))]
    points = [np.arange(50)] * len(offsets) + [np.arange(50, 100)]
    sparse = SparsePoints(
        xyz,
        np.zeros((100, 3), np.uint8),
        np.zeros(100),
        np.concatenate(views).astype(np.int32),
        np.concatenate(points).astype(np.int32),
    )
    return [Pose(np.eye(3), np.array([x, 0, 0])) for x in [*offsets, 9.0]], sparse


def test_the_best_neighbour_is_seen_under_the_wanted_angle():
    """0.42 m at 2 m are 12 degrees: better than nearly the same place and than far apart."""
    poses, sparse = scene([0.0, 0.02, 0.42, 1.4])
    found = select_views([CAMERA] * len(poses), poses, sparse, [0, 1, 2, 3, 4], 3)
    assert found[0] is not None
    assert found[0].neighbours[0] == 2


def test_a_view_alone_has_no_surroundings():
    """A view that shares no point can't be matched."""
    poses, sparse = scene([0.0, 0.2])
    assert select_views([CAMERA] * len(poses), poses, sparse, [0, 1, 2], 3)[2] is None


def test_views_left_out_are_nobodys_neighbours():
    """Indices count the given views, not the scene's; a held-out view's observations don't count."""
    poses, sparse = scene([0.0, 0.28, 0.3])
    found = select_views([CAMERA] * 2, [poses[0], poses[2]], sparse, [0, 2], 3)
    assert found[0] is not None
    np.testing.assert_array_equal(found[0].neighbours, [1])


def test_the_depth_range_holds_the_points():
    """Nearest and farthest point lie inside, with room on both sides, but not without end."""
    poses, sparse = scene([0.0, 0.2])
    found = select_views([CAMERA] * len(poses), poses, sparse, [0, 1, 2], 3)[0]
    assert found is not None
    low, high = found.inverse_depth
    assert 1 / 4 < low < 1 / 2.1
    assert 1 / 1.9 < high < 1 / 0.9


def test_neighbours_cover_the_image_before_they_repeat_themselves():
    """Of three twins that see most of it and one view that sees the rest, the second choice is the rest."""
    weights = np.zeros((10, 4))
    weights[:7, :3] = [0.8, 1.0, 0.8]
    weights[7:, 3] = 1.0
    np.testing.assert_array_equal(_pick(weights, 4), [1, 3, 0, 2])
    np.testing.assert_array_equal(_pick(weights, 2), [1, 3])


def test_what_stands_close_without_points_of_its_own_is_within_range():
    """A pillar whose points only the other view saw, 0.8 m before this one."""
    poses, sparse = scene([0.0, 0.2])
    pillar = np.random.default_rng(2).uniform([-0.1, -0.1, 0.79], [0.1, 0.1, 0.81], (20, 3))
    count = len(sparse.xyz)
    sparse = SparsePoints(
        np.concatenate([sparse.xyz, pillar]),
        np.zeros((count + 20, 3), np.uint8),
        np.zeros(count + 20),
        np.concatenate([sparse.view_index, np.full(20, 1)]).astype(np.int32),
        np.concatenate([sparse.point_index, np.arange(count, count + 20)]).astype(np.int32),
    )
    found = select_views([CAMERA] * 3, poses, sparse, [0, 1, 2], 3)[0]
    assert found is not None
    assert found.inverse_depth[1] > 1 / 0.79


def test_the_parallax_is_that_of_the_widest_neighbour():
    """0.42 m at 2 m are 12 degrees; a camera that only turned has none."""
    poses, sparse = scene([0.0, 0.02, 0.42])
    found = select_views([CAMERA] * 4, poses, sparse, [0, 1, 2, 3], 3)[0]
    assert found is not None
    np.testing.assert_allclose(found.parallax_deg, 12, atol=1.5)
    poses, sparse = scene([0.0, 0.0])
    still = select_views([CAMERA] * 3, poses, sparse, [0, 1, 2], 3)[0]
    assert still is None or still.parallax_deg < 0.01
