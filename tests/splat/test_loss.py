"""Losses: values against scipy's filters, derivatives against finite differences."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import correlate1d

from pipeline.splat.loss import depth_loss, photometric_loss, psnr, ssim

HEIGHT, WIDTH = 45, 52


def _images(rng) -> tuple[np.ndarray, np.ndarray]:
    smooth = correlate1d(correlate1d(rng.random((HEIGHT, WIDTH, 3)), np.ones(5) / 5, axis=0), np.ones(5) / 5, axis=1)
    return smooth, (smooth + rng.normal(0, 0.05, smooth.shape)).clip(0, 1)


def _ssim_float64(a: np.ndarray, b: np.ndarray) -> float:
    window = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window /= window.sum()

    def blur(values: np.ndarray) -> np.ndarray:
        return correlate1d(correlate1d(values, window, axis=0, mode="constant"), window, axis=1, mode="constant")

    mean_a, mean_b = blur(a), blur(b)
    variance_a, variance_b, covariance = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2, blur(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
    structure = (2 * covariance + 0.03**2) / (variance_a + variance_b + 0.03**2)
    return float((luminance * structure).mean())


def _photometric_float64(rendered: np.ndarray, photo: np.ndarray, weight: float) -> float:
    a, b = np.moveaxis(rendered, 0, -1), np.moveaxis(photo, 0, -1) / 255
    distance, bound = np.abs(a - b), 0.05
    huber = np.where(distance > bound, distance - bound / 2, distance**2 / (2 * bound))
    return (1 - weight) * float(huber.mean()) + weight * (1 - _ssim_float64(a, b))


def test_psnr_of_a_known_error():
    """An error of 0.1 everywhere is 20 dB."""
    assert abs(psnr(np.zeros((4, 5, 3)), np.full((4, 5, 3), 0.1)) - 20) < 1e-6


def test_ssim_matches_float64_filters(rng):
    """Equal images have 1, others what scipy's filters give."""
    a, b = _images(rng)
    assert abs(ssim(a, a) - 1) < 1e-5
    assert abs(ssim(a, b) - _ssim_float64(a, b)) < 1e-4


def test_photometric_loss_and_derivative(rng):
    """Value within 1e-4, derivative within 1 % of central differences of a float64 version; the image has a gain."""
    rendered, noisy = (np.ascontiguousarray(np.moveaxis(v, -1, 0)) for v in _images(rng))
    photo = (noisy * 255).astype(np.uint8)
    padded = np.zeros((4, 48, 64), np.float32)
    gain = np.array([0.8, 1.25, 1.1], np.float32)
    padded[:3, :HEIGHT, :WIDTH] = rendered / gain[:, None, None]
    by_planes = np.zeros_like(padded)
    value, compared = photometric_loss(padded, photo, 0.2, by_planes, gain)
    np.testing.assert_allclose(compared, rendered, rtol=1e-6)
    assert abs(value - _photometric_float64(rendered, photo, 0.2)) < 1e-4

    numeric, analytic = [], []
    for _ in range(60):
        index = rng.integers(3), rng.integers(HEIGHT), rng.integers(WIDTH)
        kept = rendered[index]
        rendered[index] = kept + 1e-5
        above = _photometric_float64(rendered, photo, 0.2)
        rendered[index] = kept - 1e-5
        numeric.append((above - _photometric_float64(rendered, photo, 0.2)) / 2e-5)
        rendered[index] = kept
        analytic.append(by_planes[index] / gain[index[0]])
    error = np.linalg.norm(np.subtract(numeric, analytic)) / np.linalg.norm(numeric)
    assert error < 1e-2
    assert not by_planes[3].any()
    assert not by_planes[:, HEIGHT:].any()
    assert not by_planes[:, :, WIDTH:].any()


def _depth_float64(depth_sum, transmittance, target, tolerance, weight) -> float:
    expected = depth_sum / (1 - transmittance)
    robust = np.sqrt((expected - target) ** 2 + tolerance**2) - tolerance
    counted = (target > 0) & (1 - transmittance > 0.05)
    return weight * float(np.where(counted, robust / np.where(counted, target, 1), 0).mean())


def test_depth_loss_and_derivative(rng):
    """Derivatives by the depth sum and by the transmittance, unknown and transparent pixels left out."""
    shape = (20, 30)
    transmittance, target = rng.uniform(0, 0.7, shape), rng.uniform(1, 4, shape)
    transmittance[:2] = 0.99
    target[5:8] = 0
    depth_sum = (1 - transmittance) * (np.where(target > 0, target, 2) + rng.normal(0, 0.1, shape))
    tolerance = rng.uniform(0.01, 0.1, shape)
    planes, padded = np.zeros((4, 32, 32), np.float32), np.zeros((32, 32), np.float32)
    planes[3, :20, :30], padded[:20, :30] = depth_sum, transmittance
    by_planes, by_transmittance = np.zeros_like(planes), np.zeros_like(padded)
    arguments = target.astype(np.float32), tolerance.astype(np.float32)
    value = depth_loss(planes, padded, *arguments, 0.7, by_planes, by_transmittance)
    assert abs(value - _depth_float64(depth_sum, transmittance, target, tolerance, 0.7)) < 1e-5
    assert not by_planes[:3].any()
    for values, analytic in ((depth_sum, by_planes[3, :20, :30]), (transmittance, by_transmittance[:20, :30])):
        for index in [(0, 0), (6, 3), (10, 10), (15, 29), (19, 4)]:
            kept = values[index]
            values[index] = kept + 1e-6
            above = _depth_float64(depth_sum, transmittance, target, tolerance, 0.7)
            values[index] = kept - 1e-6
            below = _depth_float64(depth_sum, transmittance, target, tolerance, 0.7)
            values[index] = kept
            assert abs(analytic[index] - (above - below) / 2e-6) < 1e-2 * np.abs(analytic).max()
