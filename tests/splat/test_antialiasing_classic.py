"""Anti-aliased splats in classic viewers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipeline.geometry import Camera, Gaussians, Pose
from pipeline.raster import render
from pipeline.splat.antialiasing import for_classic_viewers
from tests.raster.conftest import SMALL_POSE, scatter

PHOTO = Camera(160, 144, 180.0, 188.0, 76.8, 69.2)
NEARER = SMALL_POSE @ Pose(np.eye(3), np.array([0.1, -0.05, 0.4]))


def blocks(scene: Gaussians, camera: Camera) -> np.ndarray:
    """Means of 4x4 pixels: a classic viewer's blur is wider and stays so, how much is shown is what counts."""
    rgb = render(scene, camera, NEARER).rgb
    return rgb.reshape(camera.height // 4, 4, camera.width // 4, 4, 3).mean((1, 3))


def test_classic_viewers_show_about_what_was_trained(rng):
    """At the training size, of Gaussians thinner than a pixel: less than half of the error without, no bias."""
    scene = replace(scatter(600, rng, 1, 0.02), antialiased=True)
    scene.opacity_logits[:] = 3
    drawn = for_classic_viewers(scene, [PHOTO] * 2, [SMALL_POSE, NEARER])
    assert not drawn.antialiased
    camera = PHOTO.resized(80, 72)
    wanted = blocks(scene, camera)
    apart, before = (blocks(s, camera) - wanted for s in (drawn, replace(scene, antialiased=False)))
    assert np.abs(apart).mean() < 0.5 * np.abs(before).mean()
    assert np.abs(apart.mean()) < 0.3 * before.mean()


def test_classic_splats_stay_as_they_are(rng):
    """Others' files are shown as their owners see them."""
    scene = scatter(10, rng)
    assert for_classic_viewers(scene, [PHOTO], [SMALL_POSE]) is scene
