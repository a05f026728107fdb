"""Training sizes and pyramids."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.geometry import Camera, Pose
from pipeline.splat.views import ViewDepth, training_camera, training_view


@pytest.mark.parametrize(
    ("size", "image_size", "expected"),
    [
        ((640, 480), 0, (320, 240)),
        ((528, 944), 0, (264, 472)),
        ((1600, 1200), 0, (480, 360)),
        ((640, 480), 160, (160, 120)),
        ((200, 100), 4000, (200, 100)),
    ],
)
def test_training_size(size, image_size, expected):
    """Half, at most 480 px by itself; as requested, never larger than the image."""
    camera = training_camera(Camera(*size, 500.0, 510.0, size[0] / 2 + 3, size[1] / 2), image_size)
    assert (camera.width, camera.height) == expected
    assert abs(camera.fx / expected[0] - 500 / size[0]) < 1e-9


def test_pyramid_halves_photo_depth_and_camera(rng):
    """Three levels whose pixels nest."""
    photo = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
    depth = ViewDepth(np.full((48, 64), 2.0, np.float32), np.full((48, 64), 0.01, np.float32))
    view = training_view("a", photo, Camera(64, 48, 60.0, 61.0, 31.0, 25.0), Pose.identity(), depth)
    assert [level.photo.shape for level in view.levels] == [(3, 48, 64), (3, 24, 32), (3, 12, 16)]
    assert [level.depth.depth.shape for level in view.levels if level.depth] == [(48, 64), (24, 32), (12, 16)]
    assert view.levels[2].camera.fx == 15.0
    block = photo[:4, :4].astype(float).mean((0, 1))
    assert np.abs(view.levels[2].photo[:, 0, 0] - block).max() <= 1.5


def test_photo_of_another_size_is_refused():
    """Intrinsics of another resolution would give a wrong splat silently."""
    with pytest.raises(ValueError, match="view a"):
        training_view("a", np.zeros((48, 64, 3), np.uint8), Camera(60, 48, 60, 60, 30, 24), Pose.identity(), None)
