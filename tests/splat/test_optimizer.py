"""Sparse Adam against the textbook."""

from __future__ import annotations

import numpy as np

from pipeline.geometry import Gaussians
from pipeline.raster import Gradients
from pipeline.splat.optimizer import SparseAdam
from tests.raster.conftest import scatter

RATES = {
    "means": np.full(3, 0.01, np.float32),
    "log_scales": np.full(3, 0.02, np.float32),
    "quaternions": np.full(4, 0.03, np.float32),
    "opacity_logits": np.full(1, 0.04, np.float32),
    "sh": np.full(12, 0.05, np.float32),
}


def _gradients(scene: Gaussians, visible: list[int], rng) -> Gradients:
    values = {name: rng.normal(size=getattr(scene, name).shape).astype(np.float32) for name in Gaussians.ARRAYS}
    return Gradients(np.array(visible, np.int32), **values, screen=np.zeros(len(scene), np.float32))


def test_steps_match_the_textbook_and_spare_the_unseen(rng):
    """Two steps of Adam in float64 for the visible, nothing for the others."""
    scene = scatter(6, rng, 4)
    before = {name: getattr(scene, name).astype(np.float64) for name in Gaussians.ARRAYS}
    optimizer = SparseAdam(scene)
    steps = [_gradients(scene, [0, 2, 5], rng), _gradients(scene, [0, 2, 5], rng)]
    for gradients in steps:
        optimizer.step(gradients, RATES)
    for name in Gaussians.ARRAYS:
        rate = RATES[name].reshape(before[name].shape[1:])
        first = second = np.zeros_like(before[name])
        expected = before[name]
        for t, gradients in enumerate(steps, 1):
            gradient = getattr(gradients, name).astype(np.float64)
            first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
            expected = expected - rate * (first / (1 - 0.9**t)) / np.sqrt(second / (1 - 0.999**t))
        after = getattr(optimizer.gaussians, name)
        np.testing.assert_allclose(after[[0, 2, 5]], expected[[0, 2, 5]], rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(after[[1, 3, 4]], before[name][[1, 3, 4]].astype(np.float32))


def test_replace_keeps_moments_of_the_kept(rng):
    """A kept Gaussian steps as if nothing had happened; a restarted one as if new."""
    scene, same = scatter(4, rng, 4), scatter(4, np.random.default_rng(12345), 4)
    first, second = _gradients(scene, [0, 1, 2, 3], rng), _gradients(scene, [0, 1], rng)
    undisturbed, changed = SparseAdam(scene), SparseAdam(same)
    for optimizer in (undisturbed, changed):
        optimizer.step(first, RATES)
    changed.replace(same, np.array([0, 1]), np.array([1]), same[np.array([3])])
    assert len(changed.gaussians) == 3
    short = Gradients(
        np.array([0, 1], np.int32),
        **{name: getattr(second, name)[:3].copy() for name in Gaussians.ARRAYS},
        screen=np.zeros(3, np.float32),
    )
    undisturbed.step(second, RATES)
    changed.step(short, RATES)
    np.testing.assert_array_equal(changed.gaussians.means[0], undisturbed.gaussians.means[0])
    assert (changed.gaussians.means[1] != undisturbed.gaussians.means[1]).any()
