"""Fusion of depth maps into a cloud."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.depth.maps import subsampled
from pipeline.geometry import PointCloud
from pipeline.points.fusion import VoxelGrid, fuse
from pipeline.points.params import PointsParams
from pipeline.poses.scene import read_image
from tests.depth.conftest import distance_to_room

PARAMS = PointsParams(voxel=0.02)


@pytest.fixture
def color_source(views):
    by_name = {view.name: view for view in views.scene.views}

    def read(name: str):
        view = by_name[name]
        return read_image(views.folder, view), view.camera, view.world_from_camera

    return read


@pytest.fixture
def maps(views):
    return [subsampled(m, 2) for m in views.truth.values() if not m.held_out]


def test_subsampling_keeps_every_point(views):
    """The smaller camera's pixels are the same points in space."""
    whole = views.truth["0001"]
    for stride in (2, 3):
        first = stride // 2
        np.testing.assert_allclose(
            subsampled(whole, stride).points(), whole.points()[first::stride, first::stride], atol=1e-9
        )


def test_points_lie_on_the_room_and_face_the_cameras(views, maps, color_source):
    """Exact maps give points on the surfaces, with the surfaces' normals."""
    cloud = fuse(maps, color_source, PARAMS)[0]
    assert np.percentile(distance_to_room(views.room, cloud.points), 95) < 0.004
    np.testing.assert_allclose(np.linalg.norm(cloud.normals, axis=1), 1, atol=1e-4)
    to_camera = views.scene.views[3].world_from_camera.translation - cloud.points
    assert ((cloud.normals * to_camera).sum(1) > 0).mean() > 0.9


def test_two_maps_of_one_place_merge(maps, color_source):
    """The same map twice, under two names, gives the cells of one, seen by two views."""
    again = replace(maps[0], name=maps[1].name)
    one, one_report = fuse(maps[:1], color_source, PARAMS)
    two, two_report = fuse([maps[0], again], color_source, PARAMS)
    assert len(one) == len(two)
    assert one_report["confirmed_share"] == 0
    assert two_report["confirmed_share"] == 1
    assert (one.views == 1).all()
    assert (two.views == 2).all()


def test_colours_are_the_image_s(views, maps, color_source):
    """A point has the colour of the image where it projects to."""
    cloud = fuse(maps[:1], color_source, PARAMS.changed(voxel=0.001))[0]
    view = next(v for v in views.scene.views if v.name == maps[0].name)
    pixels = np.floor(view.camera.project(view.world_from_camera.inverse().apply(cloud.points))).astype(int)
    image = read_image(views.folder, view)
    difference = np.abs(image[pixels[:, 1], pixels[:, 0]].astype(int) - cloud.colors)
    assert np.median(difference) <= 2


def test_floaters_are_left_out(views, maps, color_source):
    """A patch hanging in free space that other maps look through does not reach the cloud."""
    depth = maps[2].depth.copy()
    depth[50:60, 50:60] *= 0.5
    cloud = fuse([*maps[:2], replace(maps[2], depth=depth), *maps[3:]], color_source, PARAMS)[0]
    assert (distance_to_room(views.room, cloud.points) > 0.1).mean() < 2e-4


def test_guesses_only_fill_gaps(maps, color_source):
    """A guessed map adds points where the measured maps have none, marked, and nothing elsewhere."""
    guess = replace(maps[0], guessed=np.ones(maps[0].depth.shape, bool))
    half = maps[0].depth.copy()
    half[:, 80:] = 0
    measured = replace(maps[0], name=maps[1].name, depth=half)
    cloud = fuse([guess, measured], color_source, PARAMS)[0]
    alone = fuse([measured], color_source, PARAMS)[0]
    assert (~cloud.guessed).sum() == len(alone)
    assert 0.7 < cloud.guessed.sum() / len(alone) < 1.3


def test_the_cap_holds(maps, color_source):
    """Cells grow until the points are few enough."""
    cloud, report = fuse(maps, color_source, PARAMS.changed(max_points=2000))
    assert 500 < len(cloud) <= 2000
    assert report["voxel"] > 0.02


def test_the_number_of_threads_changes_nothing(maps, color_source):
    """One thread gives bit for bit what three give."""
    one, three = (fuse(maps, color_source, PARAMS, threads=n)[0] for n in (1, 3))
    for name in ("points", "normals", "colors", "sigma", "views"):
        np.testing.assert_array_equal(getattr(one, name), getattr(three, name))


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
