"""Densification: who is split, where the halves go, who is pruned."""

from __future__ import annotations

import numpy as np

from pipeline.geometry import matrix_from_quaternion
from pipeline.raster import Gradients
from pipeline.splat.optimizer import SPLIT_SHRINK, Densification, SparseAdam, split
from tests.raster.conftest import scatter


def test_halves_lie_along_the_longest_axis(rng):
    """Symmetric about the old centre, on the axis, narrower along it only."""
    before_split = scatter(10, rng)
    chosen = np.array([2, 7])
    before = before_split[chosen]
    scene, other = split(before_split, chosen)
    longest = before.log_scales.argmax(1)
    axes = matrix_from_quaternion(before.quaternions)[np.arange(2), :, longest]
    np.testing.assert_allclose((scene.means[chosen] + other.means) / 2, before.means, atol=1e-6)
    apart = other.means - scene.means[chosen]
    np.testing.assert_allclose(np.abs((apart * axes).sum(1)), np.linalg.norm(apart, axis=1), rtol=1e-4)
    shrink = before.log_scales - scene.log_scales[chosen]
    expected = np.zeros((2, 3))
    expected[np.arange(2), longest] = np.log(SPLIT_SHRINK)
    np.testing.assert_allclose(shrink, expected, atol=1e-6)
    np.testing.assert_array_equal(other.log_scales, scene.log_scales[chosen])


def _observed(scene, pull: np.ndarray) -> Densification:
    densification = Densification(len(scene))
    zeros = {name: np.zeros_like(getattr(scene, name)) for name in scene.ARRAYS}
    visible = np.arange(len(scene), dtype=np.int32)
    densification.observe(Gradients(visible, **zeros, screen=pull.astype(np.float32)), 100)
    return densification


def test_most_pulled_are_split_up_to_the_target(rng):
    """Exactly as many as requested, those with the largest gradient."""
    scene = scatter(40, rng)
    scene.opacity_logits[:] = 1
    pull = rng.permutation(40) + 1.0
    optimizer = SparseAdam(scene)
    before = scene.means.copy()
    _observed(scene, pull).densify(optimizer, target=45, max_scale=100)
    assert len(optimizer.gaussians) == 45
    gone = ~(before[:, None] == optimizer.gaussians.means).all(-1).any(1)
    assert set(np.flatnonzero(gone)) == set(np.argsort(-pull)[:5])


def test_transparent_and_huge_ones_are_pruned(rng):
    """Pruned Gaussians are neither kept nor split."""
    scene = scatter(20, rng)
    scene.opacity_logits[:] = 1
    scene.opacity_logits[3] = -9
    scene.log_scales[5, 1] = 4
    optimizer = SparseAdam(scene)
    kept = np.delete(scene.means.copy(), [3, 5], axis=0)
    _observed(scene, np.zeros(20)).densify(optimizer, target=40, max_scale=2)
    np.testing.assert_array_equal(np.unique(optimizer.gaussians.means, axis=0), np.unique(kept, axis=0))
