"""The skybox: a sky where there is one."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.geometry import SH_C0, Camera, PointCloud
from pipeline.raster import render
from pipeline.splat.initialization import SKYBOX_DISTANCE, SKYBOX_MAX_SIZE, discs_on, skybox
from pipeline.splat.params import SplatParams
from pipeline.splat.train import train
from pipeline.splat.views import TrainingView, ViewDepth, training_view
from tests.splat.conftest import tiny_scene
from tests.synthetic import look_at

CAMERA = Camera(80, 60, 60.0, 60.0, 40.0, 30.0)
SIDE = 3.0


def sky(directions: np.ndarray) -> np.ndarray:
    """Colour (..., 3) of the sky: bluer to the zenith, a red sunset in +x."""
    up, east = directions[..., 2], directions[..., 0]
    return np.stack([0.5 + 0.4 * east, 0.6 - 0.2 * up, 0.7 + 0.25 * up], -1).clip(0, 1)


@pytest.fixture(scope="module")
def meadow() -> tuple[list[TrainingView], PointCloud]:
    """Eight views of a green ground of 6 x 6 m under an open sky; depth on the ground only."""
    views = []
    for angle in np.linspace(0, 2 * np.pi, 8, endpoint=False):
        eye = np.array([1.2 * np.cos(angle), 1.2 * np.sin(angle), 1.2])
        pose = look_at(eye, eye + np.array([-np.cos(angle + 0.5), -np.sin(angle + 0.5), -0.1]))
        directions = pose.rotate(CAMERA.rays())
        with np.errstate(divide="ignore"):
            depth = -eye[2] / directions[..., 2]
        at = eye + depth[..., None] * directions
        ground = (depth > 0) & (np.abs(at[..., :2]) < SIDE).all(-1)
        unit = directions / np.linalg.norm(directions, axis=-1, keepdims=True)
        photo = np.where(ground[..., None], np.array([0.2, 0.6, 0.2]), sky(unit))
        known = np.where(ground, depth, 0).astype(np.float32)
        view_depth = ViewDepth(known, np.full_like(known, 0.01))
        views.append(training_view("v", (photo * 255).round().astype(np.uint8), CAMERA, pose, view_depth))
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.uniform(-SIDE, SIDE, (6000, 2)), np.zeros((6000, 1))], 1)
    cloud = PointCloud(
        points.astype(np.float32),
        np.tile(np.array([0, 0, 1], np.float32), (6000, 1)),
        np.tile(np.array([51, 153, 51], np.uint8), (6000, 1)),
        np.full(6000, 0.01, np.float32),
        np.full(6000, 3, np.int32),
        np.zeros(6000, bool),
    )
    return views, cloud


def test_open_sky_gets_a_skybox_in_its_colours(meadow):
    """All far away, above the ground, no more than requested, each in the colour of its direction."""
    views, cloud = meadow
    start = discs_on(cloud, 1000, 4, np.random.default_rng(0), opacity=0.9, flatness=0.1)
    box = skybox(start, views, 3.0, 150, 3.0)
    assert 100 < len(box) <= 150
    middle = np.mean([view.world_from_camera.translation for view in views], 0)
    offsets = box.means - middle
    distances = np.linalg.norm(offsets, axis=1)
    np.testing.assert_allclose(distances, distances[0], rtol=1e-4)
    assert 3.0 * 2 < distances[0] <= 3.0 * SKYBOX_DISTANCE * 1.001
    directions = offsets / distances[:, None]
    assert directions[:, 2].min() > -0.6
    assert np.abs(box.sh[:, 0] * SH_C0 + 0.5 - sky(directions)).mean() < 0.04
    assert box.sh.shape[1] == 4


def test_a_large_place_gets_one_that_is_not_pruned(meadow):
    """Its Gaussians are smaller than what is pruned in a room of it, however large the whole is."""
    views, cloud = meadow
    start = discs_on(cloud, 1000, 4, np.random.default_rng(0), opacity=0.9, flatness=0.1)
    for room in (3.0, 1.0):
        assert np.exp(skybox(start, views, 3.0, 150, room).log_scales).max() <= 1.001 * SKYBOX_MAX_SIZE * room


def test_room_gets_none():
    """Indoors hardly a pixel is open."""
    views, cloud = tiny_scene()
    start = discs_on(cloud, 1500, 1, np.random.default_rng(0), opacity=0.9, flatness=0.1)
    assert len(skybox(start, views, 2.0, 150, 2.0)) == 0


@pytest.mark.slow
def test_sky_stays_far_when_the_camera_moves(meadow):
    """Trained with the skybox, the sky has the right colours from a position that no photo was taken from."""
    views, cloud = meadow
    trained = train(views, cloud, SplatParams(gaussians=3000, iterations=400, sh_degree=0), np.random.default_rng(0))
    assert trained.background > 20
    pose = look_at(np.array([2.4, -2.2, 0.4]), np.array([-2.0, 1.0, 1.4]))
    image = render(trained.gaussians, CAMERA, pose)
    directions = pose.rotate(CAMERA.rays())
    unit = directions / np.linalg.norm(directions, axis=-1, keepdims=True)
    above = (unit[..., 2] > 0.12) & (unit[..., 2] < 0.3)
    assert (image.alpha[above] > 0.8).mean() > 0.9
    assert np.abs(image.rgb[above] - sky(unit[above])).mean() < 0.08
