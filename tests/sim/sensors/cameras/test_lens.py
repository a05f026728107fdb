"""Images of bent lenses."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pipeline.capture.lens import Lens
from pipeline.errors import SimError
from pipeline.geometry import Camera
from sim.sensors.cameras.lens import Bend, _straight_way, lens_of

RADIAL = np.array([-0.2, 0.03, 0.002, -0.003])
FISHEYE = np.array([0.05, -0.01, 0.004, 0.0])
LENSES = {
    "radial-tangential": lens_of(Camera(96, 72, 70.0, 72.0, 46.0, 35.5, tuple(RADIAL.tolist()))),
    "fisheye": Lens("OPENCV_FISHEYE", 96, 72, (70.0, 72.0, 46.0, 35.5, *FISHEYE.tolist())),
    "wide fisheye": Lens("OPENCV_FISHEYE", 96, 80, (50.0, 52.0, 46.0, 35.5, *FISHEYE.tolist())),
}


def looked_up(bend: Bend) -> np.ndarray:
    """Of each pixel of the lens, the ray (H, W, 3) in its axes of the place in pinholes' images it was mixed from."""
    rays = np.einsum("fij,hwj->fhwi", bend.camera_from_faces[:, :3, :3], bend.pinhole.rays())
    return bend.colors(rays.astype(np.float32))[0].astype(np.float64)


@pytest.mark.parametrize("kind", list(LENSES))
def test_every_pixel_shows_what_opencv_projects_there(kind: str):
    """The pinhole's rays that a pixel is mixed from come to the pixel's middle through OpenCV's own formulas."""
    lens = LENSES[kind]
    bend = Bend(lens)
    assert len(bend.camera_from_faces) == (4 if kind == "wide fisheye" else 1)  # nothing above
    fx, fy, cx, cy = lens.params[:4]
    matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    rays = looked_up(bend).reshape(-1, 1, 3)
    still = np.zeros(3), np.zeros(3)
    if "fisheye" in kind:
        pixels, _ = cv2.fisheye.projectPoints(rays, *still, matrix, FISHEYE)
    else:
        pixels, _ = cv2.projectPoints(rays, *still, matrix, RADIAL)
    middles = np.stack(np.meshgrid(np.arange(lens.width) + 0.5, np.arange(lens.height) + 0.5), -1).reshape(-1, 2)
    assert np.abs(pixels.reshape(-1, 2) - middles).max() < 0.01
    straight = (middles - matrix[:2, 2]) / [fx, fy]
    assert np.abs(straight - rays[:, 0, :2] / rays[:, 0, 2:]).max() > 0.05


@pytest.mark.parametrize("kind", ["fisheye", "wide fisheye"])
def test_depth_and_normal_are_those_of_the_pixel_that_holds_the_place(kind: str):
    """A sphere around the camera and a plane askew, in whatever pinholes: not more than half a pixel away."""
    bend = Bend(LENSES[kind])
    rays, turns = bend.pinhole.rays(), bend.camera_from_faces[:, :3, :3]
    tilt = np.array([-0.15, -0.2, -1.0]) / np.linalg.norm([0.15, 0.2, 1.0])
    along = np.einsum("fij,hwj,i->fhw", turns, rays, tilt)
    for depth, slack in ((2 / np.linalg.norm(rays, axis=-1) + 0 * along, 0.02), (-0.5 / along, 0.1)):
        seen = looked_up(bend)
        points = bend.depths(depth.astype(np.float32))[0, ..., None] * seen / seen[..., 2:]
        if slack == 0.02:
            np.testing.assert_allclose(np.linalg.norm(points, axis=-1), 2, rtol=slack)
        else:
            ahead = seen @ tilt / np.linalg.norm(seen, axis=-1) < -0.3
            np.testing.assert_allclose((points @ tilt)[ahead], -0.5, rtol=slack)
    normals = np.broadcast_to((turns.swapaxes(1, 2) @ tilt)[:, None, None], (*along.shape, 3))
    np.testing.assert_allclose(
        bend.normals(normals.astype(np.float32))[0], np.tile(tilt, (*seen.shape[:2], 1)), atol=1e-6
    )


def test_beyond_its_radius_a_lens_is_black():
    """A fisheye of more than 180 degrees across, of which only the middle counts."""
    wide = (28.0, 28.0, 48.0, 36.0, 0.0, 0.0, 0.0, 0.0)
    with pytest.raises(SimError, match="radius"):
        Bend(Lens("OPENCV_FISHEYE", 96, 72, wide))
    bend = Bend(Lens("OPENCV_FISHEYE", 96, 72, wide, radius=35.0))
    size = (len(bend.camera_from_faces), bend.pinhole.height, bend.pinhole.width)
    x, y = np.meshgrid(np.arange(96) + 0.5 - 48, np.arange(72) + 0.5 - 36)
    white, flat = bend.colors(np.ones((*size, 3), np.float32))[0, ..., 0], bend.depths(np.ones(size, np.float32))[0]
    np.testing.assert_allclose(white, np.hypot(x, y) <= 35, atol=1e-5)
    np.testing.assert_array_equal(flat > 0, np.hypot(x, y) <= 35)


@pytest.mark.parametrize("k1", [-0.5, -0.9])
def test_lens_that_folds_back_is_refused(k1: float):
    """Where the image's corners have no ray, or one from beyond the fold, which the formula knows but no glass."""
    lens = Lens("OPENCV", 64, 64, (22.0, 22.0, 32.0, 32.0, k1, 0.1, 0.0, 0.0))
    with pytest.raises(SimError, match="pixels that don't"):
        Bend(lens)


def test_ray_from_beyond_the_fold_is_told_from_one_before_it():
    """Both project to pixels within the image, and back."""
    import pycolmap

    camera = pycolmap.Camera(model="OPENCV", width=64, height=64, params=[22, 22, 32, 32, -0.5, 0.1, 0, 0])
    slopes = np.array([[0.3, 0.4], [0.0, 0.0], [1.4, -1.5]])
    pixels = np.asarray(camera.img_from_cam(np.column_stack([slopes, np.ones(3)])))
    assert (np.abs(pixels - 32) < 32).all()
    assert _straight_way(camera, slopes, pixels).tolist() == [True, True, False]
