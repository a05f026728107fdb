"""The noise model and its fit."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.depth.noise import NoiseModel, fit_noise
from pipeline.geometry import Similarity


def noisy(depth_map, model, rng):
    noise = model.sigma(depth_map.depth) * rng.normal(size=depth_map.depth.shape)
    return replace(depth_map, depth=(depth_map.depth + noise).astype(np.float32))


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_known_noise_is_found(views, scale):
    """Maps with noise of a known model give that model back, whatever the scene's unit."""
    rng = np.random.default_rng(0)
    model = NoiseModel(0.006, 0.004)
    maps = [noisy(m, model, rng).transformed(Similarity(scale, np.eye(3), np.zeros(3))) for m in views.truth.values()]
    found, comparisons = fit_noise([(maps[i], maps[i + 2]) for i in range(5)], scale)
    depth = np.array([1.0, 2.0, 3.0], np.float32)
    assert comparisons > 10_000
    np.testing.assert_allclose(found.sigma(depth), model.sigma(depth), rtol=0.15)


def test_without_overlap_the_default_holds():
    """No comparison, no estimate."""
    assert fit_noise([], 1.0) == (NoiseModel(), 0)
