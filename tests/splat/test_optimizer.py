"""Sparse Adam against the textbook."""

from __future__ import annotations

from dataclasses import replace

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
PULLS = {"sh": np.linspace(0, 2, 12, dtype=np.float32)}


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
        optimizer.step(gradients, RATES, PULLS)
    for name in Gaussians.ARRAYS:
        rate = RATES[name].reshape(before[name].shape[1:])
        pull = PULLS.get(name, 0 * RATES[name]).reshape(rate.shape)
        first = second = np.zeros_like(before[name])
        expected = before[name]
        for t, gradients in enumerate(steps, 1):
            gradient = getattr(gradients, name).astype(np.float64) + pull * expected
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
        optimizer.step(first, RATES, {})
    changed.replace(same, np.array([0, 1]), np.array([1]), same[np.array([3])])
    assert len(changed.gaussians) == 3
    short = Gradients(
        np.array([0, 1], np.int32),
        **{name: getattr(second, name)[:3].copy() for name in Gaussians.ARRAYS},
        screen=np.zeros(3, np.float32),
    )
    undisturbed.step(second, RATES, {})
    changed.step(short, RATES, {})
    np.testing.assert_array_equal(changed.gaussians.means[0], undisturbed.gaussians.means[0])
    assert (changed.gaussians.means[1] != undisturbed.gaussians.means[1]).any()


def test_numbers_without_a_rate_stay(rng):
    """SH coefficients that are not in use yet have no gradient."""
    scene = scatter(4, rng, 4)
    before = scene.sh.copy()
    optimizer = SparseAdam(scene)
    gradients = _gradients(scene, [0, 1, 2, 3], rng)
    gradients = replace(gradients, sh=gradients.sh[:, :1].copy())
    optimizer.step(gradients, RATES | {"sh": RATES["sh"][:3]}, {})
    assert (optimizer.gaussians.sh[:, 0] != before[:, 0]).all()
    np.testing.assert_array_equal(optimizer.gaussians.sh[:, 1:], before[:, 1:])


def test_sorted_gaussians_lie_near_their_neighbours_and_keep_their_moments(rng):
    """The order alone changes, the fixed ones stay where they are, and the next step is the same."""
    scene = scatter(500, rng, 4)
    scene.means[:, 0] *= 3
    first, second = (_gradients(scene, list(range(500)), rng) for _ in range(2))
    sorted_one, plain = SparseAdam(scene[np.arange(500)]), SparseAdam(scene[np.arange(500)])
    for optimizer in (sorted_one, plain):
        optimizer.step(first, RATES, {})
    sorted_one.sort(fixed=20)
    order = (sorted_one.gaussians.means[:, None] == plain.gaussians.means).all(-1).argmax(1)
    np.testing.assert_array_equal(np.sort(order), np.arange(500))
    np.testing.assert_array_equal(order[:20], np.arange(20))
    step = np.linalg.norm(np.diff(sorted_one.gaussians.means[20:], axis=0), axis=1).mean()
    assert step < 0.4 * np.linalg.norm(np.diff(plain.gaussians.means[20:], axis=0), axis=1).mean()
    permuted = {name: getattr(second, name)[order] for name in Gaussians.ARRAYS}
    sorted_one.step(Gradients(second.visible, **permuted, screen=second.screen), RATES, {})
    plain.step(second, RATES, {})
    np.testing.assert_array_equal(sorted_one.gaussians.sh, plain.gaussians.sh[order])
