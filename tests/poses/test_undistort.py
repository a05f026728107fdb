"""Pinhole images from a lens with distortion."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pipeline.geometry import Camera
from pipeline.poses.keyframes import pinhole_for, undistort
from tests.synthetic import Room, walk

BARREL = Camera(320, 240, 245, 245, 157, 122, (-0.12, 0.02, 0.001, -0.002))
PINCUSHION = Camera(320, 240, 245, 245, 157, 122, (0.08, 0.0, 0.0, 0.0))


@pytest.mark.parametrize("lens", [BARREL, PINCUSHION])
def test_every_pinhole_pixel_has_a_source_and_little_is_lost(lens: Camera):
    """No pixel samples outside the image, and somewhere the edge is reached."""
    pinhole = pinhole_for(lens)
    source = lens.project(pinhole.rays())
    margin = np.minimum(source, np.array([lens.width, lens.height]) - source)
    assert margin.min() > -1e-9
    assert margin.min() < 2
    assert (pinhole.width, pinhole.height) == (lens.width, lens.height)


def test_the_undistorted_image_is_what_a_pinhole_camera_sees(room: Room):
    """An image drawn through the lens, undistorted, equals the room drawn through the pinhole camera."""
    pose = walk(18)[3]
    pinhole = pinhole_for(BARREL)
    wide = Camera(480, 360, 245, 245, 237, 182)
    flat = room.render(wide, pose, samples=3)[0]
    # the lens' image: for each of its pixels, the wide pinhole pixel that its ray meets (fixed-point inversion)
    grid = np.stack(np.meshgrid(np.arange(320) + 0.5, np.arange(240) + 0.5), -1)
    rays = np.concatenate([(grid - [157, 122]) / 245, np.ones((240, 320, 1))], -1)
    for _ in range(30):
        rays[..., :2] += (grid - BARREL.project(rays)) / 245
    seen = wide.project(rays)
    through = cv2.remap(
        flat, (seen[..., 0] - 0.5).astype(np.float32), (seen[..., 1] - 0.5).astype(np.float32), cv2.INTER_CUBIC
    )
    result = undistort(through, BARREL, pinhole).astype(float)
    exact = room.render(pinhole, pose, samples=3)[0].astype(float)
    shifted = np.roll(exact, 2, axis=1)
    error, error_shifted = np.abs(result - exact).mean(), np.abs(result - shifted).mean()
    assert error < 6
    assert error < 0.4 * error_shifted


def test_a_pinhole_image_is_passed_through():
    """Without distortion, or with one below a tenth of a pixel, pixels stay as they are."""
    image = np.random.default_rng(0).integers(0, 255, (240, 320, 3)).astype(np.uint8)
    tiny = Camera(320, 240, 245, 245, 157, 122, (1e-4, 0, 0, 0))
    assert np.array_equal(undistort(image, tiny, pinhole_for(tiny)), image)
    assert pinhole_for(tiny).is_pinhole
    assert pinhole_for(tiny).fx == 245
