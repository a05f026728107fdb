"""Comparison of depth maps with their neighbours."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.depth.consistency import DepthMapSet


@pytest.fixture
def maps(views):
    return list(views.truth.values())


def test_exact_maps_agree(maps):
    """All that another map sees agrees, nothing is moved, nothing is looked through."""
    packed = DepthMapSet.pack(maps)
    comparison = packed.compare(maps[1], np.array([3]), 3.0)
    np.testing.assert_allclose((comparison.agreeing > 0).mean(), packed.overlaps()[1, 3], atol=0.04)
    assert (comparison.violations > 0).mean() < 0.01
    np.testing.assert_allclose(comparison.depth, maps[1].depth, atol=3e-3)


def test_neighbours_see_through_a_floater(maps):
    """A patch that hangs half way to the wall is contradicted by all who see past it."""
    depth = maps[1].depth.copy()
    depth[100:120, 100:120] *= 0.5
    floating = replace(maps[1], depth=depth)
    comparison = DepthMapSet.pack([maps[0], floating, *maps[2:]]).compare(floating, np.array([2, 3, 4]), 3.0)
    assert (comparison.violations[102:118, 102:118] >= 2).mean() > 0.9
    assert not comparison.agreeing[102:118, 102:118].any()


def test_what_is_hidden_is_no_contradiction(maps):
    """A surface behind what the neighbours see may be real."""
    depth = maps[1].depth.copy()
    depth[100:120, 100:120] *= 1.5
    hidden = replace(maps[1], depth=depth)
    comparison = DepthMapSet.pack([maps[0], hidden, *maps[2:]]).compare(hidden, np.array([2, 3, 4]), 3.0)
    assert not comparison.violations[102:118, 102:118].any()


def test_agreeing_maps_are_averaged(maps):
    """Three maps with noise of 1 cm give less noise, by about the square root of their number."""
    rng = np.random.default_rng(0)
    noisy = [
        replace(
            m,
            depth=(m.depth + rng.normal(0, 0.01, m.depth.shape)).astype(np.float32),
            sigma=np.full(m.depth.shape, 0.01, np.float32),
        )
        for m in maps
    ]
    comparison = DepthMapSet.pack(noisy).compare(noisy[1], np.array([2, 3]), 3.0)
    both = comparison.agreeing == 2
    error = (comparison.depth - maps[1].depth)[both]
    assert both.mean() > 0.3
    assert error.std() < 0.008
    np.testing.assert_allclose(np.median(comparison.sigma[both]), 0.01 / np.sqrt(3), rtol=0.1)


def test_guessed_pixels_are_no_evidence(maps):
    """A guess neither confirms nor contradicts another map."""
    guessed = [replace(m, guessed=np.ones(m.depth.shape, bool)) for m in maps]
    comparison = DepthMapSet.pack(guessed).compare(guessed[1], np.array([2, 3]), 3.0)
    assert not comparison.agreeing.any()
    assert not comparison.violations.any()


def test_neighbours_overlap_and_are_spread(maps):
    """Only overlapping maps are chosen, never the map itself, from the most to the least overlapping."""
    packed = DepthMapSet.pack(maps)
    shares = packed.overlaps()
    for index, chosen in enumerate(packed.neighbours(3)):
        assert index not in chosen
        assert (shares[index, chosen] >= 0.15).all()
        others = np.delete(shares[index], index)
        assert shares[index, chosen[0]] == others.max()
        assert len(chosen) == 3
