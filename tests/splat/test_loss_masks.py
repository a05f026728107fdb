"""Masked pixels in training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.raster import render
from pipeline.splat.loss import NO_GAIN, photometric_loss, psnr
from pipeline.splat.params import SplatParams
from pipeline.splat.train import train
from pipeline.splat.views import TrainingView, ViewDepth, training_view
from tests.raster.conftest import SMALL_POSE
from tests.splat.conftest import TINY, tiny_scene

MASKED = slice(10, 40), slice(12, 40)


def hidden() -> np.ndarray:
    """Ignores a fifth of the 80 x 60 image."""
    mask = np.ones((60, 80), bool)
    mask[MASKED] = False
    return mask


def gradient(planes: np.ndarray, photo: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """Derivative of the photometric loss as training takes it."""
    by_planes = np.zeros_like(planes)
    photometric_loss(planes, photo, 0.2, by_planes, NO_GAIN, mask)
    return by_planes


def test_masked_pixels_pull_nothing(rng):
    """Whatever the photo and the rendering show there: no gradient there, the same gradient everywhere else."""
    planes = rng.random((4, 64, 80)).astype(np.float32)
    photo = rng.integers(0, 255, (3, 60, 80)).astype(np.uint8)
    other_planes, other_photo = planes.copy(), photo.copy()
    other_planes[:3, *MASKED] = rng.random((3, 30, 28))
    other_photo[:, *MASKED] = other_photo[:, *MASKED][:, ::-1]
    first = gradient(planes, photo, hidden())
    assert not first[:, *MASKED].any()
    assert np.abs(first[:3, :60][:, hidden()]).min() > 0
    # windows of the similarity reach into the mask: both times they find the photo there, but not the same photo
    inner = np.abs(gradient(other_planes, photo, hidden()) - first)
    assert inner.max() < 1e-9
    far = hidden()
    far[0:55, 0:55] = False
    np.testing.assert_allclose(gradient(other_planes, other_photo, hidden())[:3, :60][:, far], first[:3, :60][:, far])
    assert np.abs(gradient(other_planes, other_photo, None) - gradient(planes, photo, None)).max() > 1e-6


def test_pyramid_masks_whole_pixels_and_their_depth(rng):
    """A coarse pixel counts only where all its fine ones do; depth under the mask is unknown at every level."""
    photo = rng.integers(0, 255, (60, 80, 3)).astype(np.uint8)
    depth = ViewDepth(np.full((60, 80), 2, np.float32), np.full((60, 80), 0.01, np.float32))
    view = training_view("a", photo, TINY, SMALL_POSE, depth, hidden())
    for level, size in zip(view.levels, (1, 2, 4), strict=True):
        expected = hidden().reshape(60 // size, size, 80 // size, size).all((1, 3))
        assert level.mask is not None
        assert level.depth is not None
        np.testing.assert_array_equal(level.mask, expected)
        np.testing.assert_array_equal(level.depth.depth > 0, expected)


def spoiled(view: TrainingView, *, masked: bool) -> TrainingView:
    """The view with a passer-by in magenta, and the depth of one half a metre before the lens."""
    level = view.levels[0]
    photo = np.moveaxis(level.photo, 0, -1).copy()
    photo[MASKED] = (255, 0, 255)
    assert level.depth is not None
    depth = replace(level.depth, depth=np.where(hidden(), level.depth.depth, np.float32(0.5)))
    return training_view(view.name, photo, level.camera, view.world_from_camera, depth, hidden() if masked else None)


@pytest.mark.slow
def test_training_leaves_out_what_is_masked():
    """Someone stands in every image: with masks the splat shows the room behind, without them the passer-by."""
    views, cloud = tiny_scene()
    metrics = []
    for masked in (True, False):
        images = [spoiled(view, masked=masked) for view in views]
        params = SplatParams(gaussians=4000, iterations=400)
        splat = train(images, cloud, params, np.random.default_rng(0)).gaussians
        clean = [
            psnr(
                render(splat, TINY, view.world_from_camera).rgb.clip(0, 1)[MASKED],
                np.moveaxis(view.levels[0].photo, 0, -1)[MASKED] / 255,
            )
            for view in views
        ]
        metrics.append(float(np.mean(clean)))
    assert metrics[0] > metrics[1] + 6
    assert metrics[0] > 15
