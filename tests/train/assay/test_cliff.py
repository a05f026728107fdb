"""Cliffs of responses that are known."""

from __future__ import annotations

import numpy as np
import pytest

from train.assay.cliff import find_cliff


def outcomes(errors: np.ndarray, bears: np.ndarray) -> np.ndarray:
    """Whether episodes that bear so much (N,) succeed at errors (K,)."""
    return errors[:, None] < bears


def test_half_of_the_episodes():
    """The cliff is the median of what episodes bear, interpolated between what was tried."""
    errors = np.array([0.0, 5, 10, 20, 40])
    bears = np.random.default_rng(0).normal(15, 4, 400)
    found = find_cliff(errors, outcomes(errors, bears))
    assert found and abs(found.value - 15) < 1
    assert found.between == (10, 20) and found.low == 10 and found.high == 20


def test_half_of_those_that_succeed_at_all():
    """With success of 60 % it lies where 30 % are left."""
    errors = np.linspace(0, 10, 101)
    bears = np.where(np.arange(1000) < 400, -1, np.linspace(0, 10, 1000)[::-1])
    shares = outcomes(errors, bears).mean(1)
    found = find_cliff(errors, outcomes(errors, bears))
    assert found and shares[0] == pytest.approx(0.6, abs=0.01)
    assert np.interp(found.value, errors, shares) == pytest.approx(shares[0] / 2, abs=0.01)


def test_the_interval_covers_as_often_as_it_says():
    """Of 100 samples of few episodes, few miss the truth, and the interval isn't just everything."""
    errors = np.arange(0.0, 31, 1)
    found = [find_cliff(errors, outcomes(errors, np.random.default_rng(seed).normal(15, 4, 30))) for seed in range(40)]
    inside = [one is not None and one.low <= 15 <= one.high for one in found]
    assert np.mean(inside) > 0.9
    assert np.median([one.high - one.low for one in found if one]) < 6


def test_noise_makes_no_cliff():
    """What rises again is pooled with what fell."""
    successes = np.ones((4, 10), bool)
    successes[1, :6] = False
    assert find_cliff(np.arange(4.0), successes) is None


def test_beyond_what_was_tried():
    """Where resamplings bear everything, no end is known."""
    errors = np.array([0.0, 10])
    successes = np.array([np.ones(10, bool), np.arange(10) < 5])
    found = find_cliff(errors, successes)
    assert found and found.value == 10 and np.isinf(found.high)
    assert find_cliff(errors, np.ones((2, 10), bool)) is None


def test_nothing_to_lose():
    """Without success there is no cliff."""
    with pytest.raises(ValueError, match="success"):
        find_cliff(np.array([0.0, 1]), np.zeros((2, 5), bool))
