"""The rasteriser against the brute-force float64 reference: images, and gradients by finite differences of it."""

from __future__ import annotations

from dataclasses import replace

import numba
import numpy as np
import pytest

from pipeline.geometry import Camera, Pose
from pipeline.raster import Cutoffs, rasterize, rasterize_backward, render, render_batch
from tests.raster.conftest import SMALL_CAMERA, SMALL_POSE, scatter
from tests.raster.reference import as_float64, planes_loss, render_reference

# Small enough that what is cut off rounds to nothing, and above e^-12, where the kernels' exponential ends.
SMOOTH = Cutoffs(alpha=8e-6, transmittance=0.0)
FIELDS = ("means", "log_scales", "quaternions", "opacity_logits", "sh")


@pytest.mark.parametrize("antialiased", [False, True])
@pytest.mark.parametrize(("count", "scale"), [(60, 0.25), (400, 0.08), (30, 1.0), (2000, 0.02)])
def test_image_matches_reference(rng, count, scale, antialiased):
    """Colour and alpha within 2e-3, depth within 2e-3 of the scene's depth; the median depth is the batch's."""
    scene = replace(scatter(count, rng, scale=scale), antialiased=antialiased)
    image = render(scene, SMALL_CAMERA, SMALL_POSE)
    expected = render_reference(scene, SMALL_CAMERA, SMALL_POSE)
    alpha = 1 - expected.transmittance
    assert np.abs(image.rgb - expected.rgb).max() < 2e-3
    assert np.abs(image.alpha - alpha).max() < 2e-3
    solid = alpha > 0.1
    assert np.abs(image.depth - expected.depth_sum / np.maximum(alpha, 1e-9))[solid].max() < 1e-2
    median = render_batch(scene, SMALL_CAMERA, [SMALL_POSE]).median_depth
    assert median is not None
    # where the transmittance passes close to one half, rounding decides which of two Gaussians it is
    assert (np.abs(median[0] - expected.median) < 1e-3).mean() > 0.995


@pytest.mark.parametrize("smaller", [2, 4])
def test_small_images_are_the_mean_of_large_ones(rng, smaller):
    """What pixels as areas are for: a small image shows the mean of a large one; classic ones come out too bold."""
    scene = scatter(300, rng, 1, scale=0.03)
    scene.opacity_logits[:] = 4.0
    large = SMALL_CAMERA.resized(40 * 4, 36 * 4)
    errors = []
    for antialiased in (True, False):
        drawn = replace(scene, antialiased=antialiased)
        fine = render(drawn, large, SMALL_POSE).rgb
        height, width = 36 * 4 // smaller, 40 * 4 // smaller
        mean = fine.reshape(height, smaller, width, smaller, 3).mean((1, 3))
        errors.append(np.abs(render(drawn, large.resized(width, height), SMALL_POSE).rgb.mean() - mean.mean()))
    assert errors[0] < 0.05 * errors[1]


def test_background_shines_through(gaussians):
    """The background gets the light that passes all Gaussians."""
    plain = render(gaussians, SMALL_CAMERA, SMALL_POSE)
    lit = render(gaussians, SMALL_CAMERA, SMALL_POSE, background=(0.2, 0.5, 1.0))
    np.testing.assert_allclose(lit.rgb - plain.rgb, (1 - plain.alpha)[..., None] * [0.2, 0.5, 1.0], atol=1e-6)


def test_depth_is_zero_where_nothing_is(rng):
    """Empty pixels have no depth, no alpha and no colour."""
    scene = scatter(2, rng, scale=0.05)
    image = render(scene, SMALL_CAMERA, SMALL_POSE)
    empty = image.alpha < 0.05
    assert empty.any()
    assert not empty.all()
    assert (image.depth[empty] == 0).all()
    batch = render_batch(scene, SMALL_CAMERA, [SMALL_POSE])
    assert batch.median_depth is not None
    assert (batch.median_depth[0][empty] == 0).all()


def test_nothing_in_view_gives_the_background(gaussians):
    """A camera that looks away sees the background only."""
    away = SMALL_POSE @ Pose(np.diag([-1.0, 1.0, -1.0]), np.zeros(3))
    image = render(gaussians, SMALL_CAMERA, away, background=(0.1, 0.2, 0.3))
    np.testing.assert_array_equal(image.rgb, np.broadcast_to(np.float32([0.1, 0.2, 0.3]), image.rgb.shape))


def test_huge_gaussian_next_to_the_camera_stays_finite(rng):
    """Gaussians near the camera plane, far outside the image, don't blow up."""
    scene = scatter(5, rng, scale=2.0)
    scene.means[0] = SMALL_POSE.apply([3.0, 0.1, 0.03])
    image = render(scene, SMALL_CAMERA, SMALL_POSE)
    expected = render_reference(scene, SMALL_CAMERA, SMALL_POSE)
    assert np.isfinite(image.rgb).all()
    assert np.abs(image.rgb - expected.rgb).max() < 2e-3


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["means", "log_scales", "quaternions", "opacity_logits"])
def test_broken_gaussians_leave_the_others_alone(rng, name, value):
    """A number that training lost shows nothing, in single images and in batches, and never leaves the image."""
    scene = scatter(50, rng, scale=0.1)
    expected = render(scene[10:], SMALL_CAMERA, SMALL_POSE)
    getattr(scene, name)[:10] = value
    image = render(scene, SMALL_CAMERA, SMALL_POSE)
    batch = render_batch(scene, SMALL_CAMERA, [SMALL_POSE])
    # these two still make sense to a single image: opaque, and a point
    if (name, value) not in (("opacity_logits", np.inf), ("log_scales", -np.inf)):
        np.testing.assert_allclose(image.rgb, expected.rgb, atol=1e-5)
    np.testing.assert_allclose(batch.rgb[0], expected.rgb, atol=1e-4)


def test_distorted_camera_is_refused(gaussians):
    """The message names the remedy."""
    camera = Camera(40, 36, 45, 47, 20, 17, (0.1, 0, 0, 0))
    with pytest.raises(ValueError, match="undistort"):
        render(gaussians, camera, SMALL_POSE)


def _loss_weights(what: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Derivatives by the planes (4, H, W) and by the transmittance (H, W) of a loss on some of them."""
    height, width = SMALL_CAMERA.height, SMALL_CAMERA.width
    by_planes, by_transmittance = rng.normal(size=(4, height, width)), rng.normal(size=(height, width))
    by_planes[:3] *= what in ("all", "color")
    by_planes[3] *= 0.3 * (what in ("all", "depth"))
    by_transmittance *= what in ("all", "alpha")
    return by_planes, by_transmittance


@pytest.mark.parametrize(
    ("seed", "sh_count", "what", "scale", "antialiased"),
    [
        (0, 1, "all", 0.25, False),
        (1, 4, "all", 0.25, False),
        (2, 9, "all", 0.25, False),
        (3, 16, "all", 0.25, False),
        (4, 16, "color", 0.25, False),
        (5, 4, "depth", 0.25, False),
        (6, 1, "alpha", 0.25, False),
        (7, 4, "all", 0.25, True),
        (8, 1, "all", 0.05, True),
        (9, 1, "alpha", 0.01, True),
    ],
)
def test_gradients_match_finite_differences(seed, sh_count, what, scale, antialiased):
    """Every parameter within 0.2 %, by colour, depth and alpha; clipped slopes and view directions included.

    Anti-aliased ones of a pixel and of a fifth of it, thin ones among them: opacity depends on size and position there.
    """
    rng = np.random.default_rng(seed)
    scene = replace(scatter(40, rng, scale=scale), antialiased=antialiased)
    if antialiased:
        scene.log_scales[::3, 2] -= 2
    exact = as_float64(scene)
    height, width = SMALL_CAMERA.height, SMALL_CAMERA.width
    by_planes, by_transmittance = _loss_weights(what, rng)
    raster = rasterize(scene, SMALL_CAMERA, SMALL_POSE, sh_count=sh_count, cutoffs=SMOOTH)
    padded_planes, padded = np.zeros_like(raster.planes), np.zeros_like(raster.transmittance)
    padded_planes[:, :height, :width], padded[:height, :width] = by_planes, by_transmittance
    gradients = rasterize_backward(raster, scene, padded_planes, padded)

    def loss() -> float:
        reference = render_reference(exact, SMALL_CAMERA, SMALL_POSE, alpha_cutoff=0.0, sh_count=sh_count)
        return planes_loss(reference, by_planes, by_transmittance)

    step = 1e-6
    for name in FIELDS:
        values, analytic = getattr(exact, name), getattr(gradients, name)
        if name == "sh":
            analytic = np.pad(analytic, ((0, 0), (0, 16 - sh_count), (0, 0)))
        values, analytic = values.reshape(-1), analytic.reshape(-1)
        if name == "sh" and what in ("depth", "alpha"):
            assert not gradients.sh[gradients.visible].any()
            continue
        candidates = np.arange(len(values)).reshape(len(scene), -1)[gradients.visible].ravel()
        if name == "sh":
            candidates = candidates.reshape(-1, 16, 3)[:, :sh_count].ravel()
        chosen = rng.choice(candidates, min(24, len(candidates)), replace=False)
        numeric = np.empty(len(chosen))
        for k, index in enumerate(chosen):
            kept = values[index]
            values[index] = kept + step
            above = loss()
            values[index] = kept - step
            numeric[k] = (above - loss()) / (2 * step)
            values[index] = kept
        error = np.linalg.norm(analytic[chosen] - numeric) / np.linalg.norm(numeric)
        assert error < 2e-3, f"{name}: relative error {error:.4f}"


def test_position_gradient_comes_through_the_view_direction(rng):
    """With an opaque wall of one colour function, moving Gaussians sideways changes colour through SH alone."""
    scene = scatter(40, rng)
    raster = rasterize(scene, SMALL_CAMERA, SMALL_POSE, cutoffs=SMOOTH)
    ones, zeros = np.zeros_like(raster.planes), np.zeros_like(raster.transmittance)
    ones[:3] = 1
    with_sh = rasterize_backward(raster, scene, ones, zeros).means
    flat = rasterize(scene, SMALL_CAMERA, SMALL_POSE, sh_count=1, cutoffs=SMOOTH)
    without = rasterize_backward(flat, scene, ones, zeros).means
    assert np.linalg.norm(with_sh - without) > 0.01 * np.linalg.norm(with_sh)


def test_unused_coefficients_get_no_gradient(gaussians):
    """Coefficients above the degree in use stay where they are."""
    raster = rasterize(gaussians, SMALL_CAMERA, SMALL_POSE, sh_count=4)
    gradients = rasterize_backward(raster, gaussians, np.ones_like(raster.planes), np.zeros_like(raster.transmittance))
    assert gradients.sh.shape == (len(gaussians), 4, 3)
    assert (gradients.sh[gradients.visible] != 0).any()


def test_any_number_of_threads_gives_the_same_bits(rng):
    """Images and gradients are bit-identical with one thread and with all."""
    scene = scatter(500, rng, scale=0.1)
    camera = SMALL_CAMERA.resized(120, 108)
    results = []
    threads = numba.get_num_threads()
    try:
        for count in (1, threads):
            numba.set_num_threads(count)
            raster = rasterize(scene, camera, SMALL_POSE)
            gradients = rasterize_backward(
                raster, scene, raster.planes - np.float32(0.3), np.ones_like(raster.transmittance)
            )
            results.append((raster.planes, *(getattr(gradients, name)[gradients.visible] for name in FIELDS)))
    finally:
        numba.set_num_threads(threads)
    for one, many in zip(*results, strict=True):
        np.testing.assert_array_equal(one, many)
