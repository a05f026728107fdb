"""Images of the gallery."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pipeline import Bundle
from pipeline.gallery import images
from pipeline.geometry import Camera, Pose
from pipeline.regions.regions import Regions, RobotPose
from pipeline.scenes.images import compared_views, image_of


@pytest.fixture
def bundle(yard) -> Bundle:
    """The room."""
    return Bundle.open(yard / "room" / "1.0.0")


def test_rendered_view_is_what_a_level_camera_sees_from_the_viewpoint(bundle, room):
    """Place, direction and field of view that the 3-D page is given draw the same image of the true room."""
    image, view = images.view_of(bundle)
    forward = np.subtract(view.look_at, view.position)
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    focal = 60 / np.tan(view.field_of_view / 2)
    pose = Pose(np.stack([right, np.cross(forward, right), forward], 1), np.array(view.position))
    truth, _ = room.render(Camera(160, 120, focal, focal, 80, 60), pose)
    assert likeness(image, truth) > 0.7
    assert likeness(image[:, ::-1], truth) < 0.4


def likeness(image: np.ndarray, truth: np.ndarray) -> float:
    """Correlation of two images (H, W, 3) of one shape, seen from far: 1 is equal, 0 unrelated."""
    small = [cv2.resize(one, (40, 30), interpolation=cv2.INTER_AREA).ravel() for one in (image, truth)]
    return float(np.corrcoef(*small)[0, 1])


@pytest.mark.parametrize("name", ["mesh.jpg", "nothing.jpg", "../mesh.ply"])
def test_what_is_no_image_is_not_shown(bundle, name):
    """Whatever its name says."""
    assert image_of(bundle, name) is None


def test_photo_and_rendering_are_the_first_two_panels(bundle):
    """In that order; the depths beside them are for the check's page."""
    ((path, photo, drawn),) = compared_views(bundle)
    assert path == "images/view_0.jpg"
    assert photo.shape == drawn.shape == (60, 80, 3)
    assert (photo.mean().round(), drawn.mean().round()) == (200, 150)


def test_floor_plan_has_x_to_the_right_and_y_up():
    """A corner cell shows where it belongs, and so do poses."""
    walkable = np.zeros((20, 10), bool)
    walkable[2:12, 2:8] = True
    guessed = np.zeros_like(walkable)
    guessed[2, 7] = True  # low x, high y: the upper left
    nothing = np.zeros_like(walkable)
    spawn = RobotPose((1.0, 0.25, 0.0), 0.0, 1.0)  # right, below the middle
    regions = Regions((0.0, 0.0), 0.1, np.zeros((20, 10), np.float32), walkable, nothing, guessed, 0.0, (spawn,), ())
    plan = images.floor_plan(regions)
    assert plan is not None
    pixels = np.asarray(plan)
    upper_left = np.argwhere((pixels == images.GUESSED).all(-1)).mean(0) / pixels.shape[:2]
    arrow = np.argwhere((pixels == images.SPAWN).all(-1)).mean(0) / pixels.shape[:2]
    assert upper_left[0] < 0.4 and upper_left[1] < 0.3
    assert arrow[0] > 0.6 and arrow[1] > 0.6
    assert pixels[0, 0, 3] == 0  # transparent round about


def test_no_floor_no_plan():
    """The page says why instead."""
    assert images.floor_plan(Regions.without_floor(0.05, "nowhere")) is None
