"""Fusion of depth maps into a cloud."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.depth.fusion import fuse, subsampled
from pipeline.depth.params import PointsParams
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
    cloud = fuse(maps, color_source, PARAMS).cloud
    assert np.percentile(distance_to_room(views.room, cloud.points), 95) < 0.004
    np.testing.assert_allclose(np.linalg.norm(cloud.normals, axis=1), 1, atol=1e-4)
    to_camera = views.scene.views[3].world_from_camera.translation - cloud.points
    assert ((cloud.normals * to_camera).sum(1) > 0).mean() > 0.9


def test_two_maps_of_one_place_merge(maps, color_source):
    """The same map twice, under two names, gives the cells of one, seen by two views."""
    again = replace(maps[0], name=maps[1].name)
    one, two = fuse(maps[:1], color_source, PARAMS), fuse([maps[0], again], color_source, PARAMS)
    assert len(one.cloud) == len(two.cloud)
    assert one.confirmed == 0
    assert two.confirmed == two.kept
    assert (one.cloud.views == 1).all()
    assert (two.cloud.views == 2).all()


def test_colours_are_the_picture_s(views, maps, color_source):
    """A point has the colour of the picture where it projects to."""
    cloud = fuse(maps[:1], color_source, replace(PARAMS, voxel=0.001)).cloud
    view = next(v for v in views.scene.views if v.name == maps[0].name)
    pixels = np.floor(view.camera.project(view.world_from_camera.inverse().apply(cloud.points))).astype(int)
    picture = read_image(views.folder, view)
    difference = np.abs(picture[pixels[:, 1], pixels[:, 0]].astype(int) - cloud.colors)
    assert np.median(difference) <= 2


def test_floaters_are_left_out(views, maps, color_source):
    """A patch hanging in free space that other maps look through does not reach the cloud."""
    depth = maps[2].depth.copy()
    depth[50:60, 50:60] *= 0.5
    cloud = fuse([*maps[:2], replace(maps[2], depth=depth), *maps[3:]], color_source, PARAMS).cloud
    assert (distance_to_room(views.room, cloud.points) > 0.1).mean() < 2e-4


def test_guesses_only_fill_gaps(maps, color_source):
    """A guessed map adds points where the measured maps have none, marked, and nothing elsewhere."""
    guess = replace(maps[0], guessed=np.ones(maps[0].depth.shape, bool))
    half = maps[0].depth.copy()
    half[:, 80:] = 0
    measured = replace(maps[0], name=maps[1].name, depth=half)
    cloud = fuse([guess, measured], color_source, PARAMS).cloud
    alone = fuse([measured], color_source, PARAMS).cloud
    assert (~cloud.guessed).sum() == len(alone)
    assert 0.7 < cloud.guessed.sum() / len(alone) < 1.3


def test_the_cap_holds(maps, color_source):
    """Cells grow until the points are few enough."""
    fused = fuse(maps, color_source, replace(PARAMS, max_points=2000))
    assert 500 < len(fused.cloud) <= 2000
    assert fused.voxel > 0.02


def test_the_number_of_threads_changes_nothing(maps, color_source):
    """One thread gives bit for bit what three give."""
    one, three = (fuse(maps, color_source, PARAMS, threads=n).cloud for n in (1, 3))
    for name in ("points", "normals", "colors", "sigma", "views"):
        np.testing.assert_array_equal(getattr(one, name), getattr(three, name))
