"""Batches of images against single ones."""

from __future__ import annotations

from dataclasses import replace

import numba
import numpy as np
import pytest

from pipeline.geometry import Camera, Pose, matrix_from_rotvec
from pipeline.raster import Cutoffs, pack, render, render_batch
from tests.raster.conftest import SMALL_CAMERA, SMALL_POSE, scatter
from tests.raster.reference import render_reference

METRICS = ("rgb", "depth", "alpha", "median_depth")
BACKGROUND = (0.2, 0.4, 0.9)
TO_THE_END = Cutoffs(transmittance=0.0)
"""Tiles are not finished at the same Gaussian."""


def _poses(count: int, rng: np.random.Generator) -> list[Pose]:
    steps = rng.normal(0, 0.2, (count, 6))
    return [SMALL_POSE @ Pose(matrix_from_rotvec(step[:3]), step[3:]) for step in steps]


@pytest.mark.parametrize("antialiased", [False, True])
@pytest.mark.parametrize(("coefficients", "scale"), [(1, 0.02), (1, 0.1), (4, 0.25), (16, 0.6)])
def test_batch_shows_what_single_images_show(rng, coefficients, scale, antialiased):
    """Colour, depth, alpha and median depth of cameras of their own, Gaussians at and behind the camera included."""
    scene = replace(scatter(203, rng, coefficients, scale), antialiased=antialiased)
    scene.means[:20] = SMALL_POSE.translation + rng.normal(0, 0.5, (20, 3)).astype(np.float32)
    scene.opacity_logits[20:40] = -8.0
    poses = _poses(5, rng)
    cameras = [Camera(40, 36, 45.0 + k, 47.0 - k, 19.2 + k, 17.3) for k in range(5)]
    batch = render_batch(scene, cameras, poses, BACKGROUND, cutoffs=TO_THE_END)
    for k, (camera, pose) in enumerate(zip(cameras, poses, strict=True)):
        single = render(scene, camera, pose, BACKGROUND, cutoffs=TO_THE_END)
        median = render_reference(scene, camera, pose).median
        for name in METRICS:
            expected = median if name == "median_depth" else getattr(single, name)
            difference = np.abs(getattr(batch, name)[k] - expected)
            # rounding decides at the cutoff and where the transmittance passes one half
            assert np.quantile(difference, 0.99) < 1e-4, name
            assert difference.mean() < 2e-3, name


@pytest.mark.parametrize("antialiased", [False, True])
def test_nothing_in_sight_is_left_out(rng, antialiased):
    """Gaussians all around the camera, small and large, most of them behind it or next to the image."""
    scene = replace(scatter(5000, rng, 1, 0.1), antialiased=antialiased)
    scene.means[:] = rng.uniform(-6, 6, (5000, 3)) * (1, 0.5, 1)
    scene.log_scales[:] = rng.normal(-3, 0.3, (5000, 3))
    scene.log_scales[::50] = rng.normal(-0.5, 0.3, (100, 3))
    camera = Camera(84, 52, 40.0, 43.0, 30.2, 27.3)
    poses = [Pose(matrix_from_rotvec(turn), at) for turn, at in rng.uniform(-2, 2, (6, 2, 3))]
    batch = render_batch(scene, camera, poses, BACKGROUND, cutoffs=TO_THE_END)
    for k, pose in enumerate(poses):
        single = render(scene, camera, pose, BACKGROUND, cutoffs=TO_THE_END)
        for name in ("rgb", "alpha"):
            difference = np.abs(getattr(batch, name)[k] - getattr(single, name))
            assert np.quantile(difference, 0.99) < 2e-4, name
            assert difference.max() < 0.02, name


def test_finished_tiles_hide_what_is_behind(rng):
    """Whatever is left out beyond a transmittance could not have added more than that."""
    scene = scatter(4000, rng, 1, 0.5)
    scene.opacity_logits[:] = -4.0
    whole = render_batch(scene, SMALL_CAMERA, [SMALL_POSE], cutoffs=TO_THE_END)
    least = 0.05
    some = render_batch(scene, SMALL_CAMERA, [SMALL_POSE], cutoffs=Cutoffs(transmittance=least))
    assert np.abs(some.rgb - whole.rgb).max() > 0
    assert np.abs(some.alpha - whole.alpha).max() < least


def test_image_is_the_same_alone_and_in_any_batch(rng):
    """Bit for bit, with any number of threads, more images than shares of the work."""
    packed = pack(scatter(120, rng, 4))
    poses = _poses(70, rng)
    camera = Camera(20, 18, 22.0, 23.0, 9.5, 8.8)
    results, before = [], numba.get_num_threads()
    try:
        for threads in (1, numba.config.NUMBA_NUM_THREADS):
            numba.set_num_threads(threads)
            results.append(render_batch(packed, camera, poses))
    finally:
        numba.set_num_threads(before)
    alone = render_batch(packed, camera, poses[69:])
    for name in METRICS:
        np.testing.assert_array_equal(getattr(results[0], name), getattr(results[1], name))
        np.testing.assert_array_equal(getattr(results[0], name)[69:], getattr(alone, name))


def test_each_camera_sees_its_own_set(rng):
    """Bit for bit as alone, in any order, of any size and kind."""
    sets = [
        pack(replace(scatter(count, rng, terms), antialiased=areas))
        for count, terms, areas in ((300, 4, True), (1, 1, False), (40, 1, False))
    ]
    of, poses = np.array([2, 0, 1, 2, 0, 0]), _poses(6, rng)
    together = render_batch(sets, SMALL_CAMERA, poses, BACKGROUND, of=of)
    for image, (one, pose) in enumerate(zip(of, poses, strict=True)):
        alone = render_batch(sets[one], SMALL_CAMERA, [pose], BACKGROUND)
        for name in METRICS:
            np.testing.assert_array_equal(getattr(together, name)[image], getattr(alone, name)[0])


def test_fewer_coefficients_drop_the_view_dependence(rng):
    """With one coefficient the image is that of SH degree 0."""
    scene = scatter(100, rng, 9)
    flat = pack(scene)
    plain = type(scene)(
        *(getattr(scene, name) for name in ("means", "log_scales", "quaternions", "opacity_logits")), scene.sh[:, :1]
    )
    one, other = (render_batch(s, SMALL_CAMERA, [SMALL_POSE], sh_count=1) for s in (flat, plain))
    np.testing.assert_array_equal(one.rgb, other.rgb)
    assert np.abs(one.rgb - render_batch(flat, SMALL_CAMERA, [SMALL_POSE]).rgb).max() > 0.01


def test_nothing_in_view_gives_the_background(gaussians):
    """A camera that looks away sees the background only."""
    away = SMALL_POSE @ Pose(np.diag([-1.0, 1.0, -1.0]), np.zeros(3))
    batch = render_batch(gaussians, SMALL_CAMERA, [away], BACKGROUND)
    np.testing.assert_array_equal(batch.rgb[0], np.broadcast_to(np.float32(BACKGROUND), (36, 40, 3)))
    assert not batch.depth.any()
    assert not batch.alpha.any()


def test_cameras_must_fit_the_poses(gaussians):
    """Sizes that differ, missing poses and lens distortion are refused."""
    with pytest.raises(ValueError, match="one size"):
        render_batch(gaussians, [SMALL_CAMERA, SMALL_CAMERA.resized(20, 18)], [SMALL_POSE] * 2)
    with pytest.raises(ValueError, match="one size"):
        render_batch(gaussians, [SMALL_CAMERA], [])
    with pytest.raises(ValueError, match="undistort"):
        render_batch(gaussians, Camera(40, 36, 45, 47, 20, 17, (0.1, 0, 0, 0)), [SMALL_POSE])
