"""Intervals against published ones."""

from __future__ import annotations

import pytest

from train.statistics import wilson

NEWCOMBE = [
    (81, 263, 0.2553, 0.3662),
    (15, 148, 0.0624, 0.1605),
    (0, 20, 0.0, 0.1611),
    (1, 29, 0.0061, 0.1718),
]
"""Newcombe, Statistics in Medicine 17, 1998, table I, method 3."""


@pytest.mark.parametrize(("successes", "count", "low", "high"), NEWCOMBE)
def test_wilson_published_examples(successes, count, low, high):
    """The interval is that of the literature, to its four digits."""
    interval = wilson(successes, count)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)
    assert interval.value == successes / count


def test_wilson_all_successes_stay_uncertain():
    """After 200 of 200 the true share may still be below 1, and what fails is the mirror image of what succeeds."""
    sure, never = wilson(200, 200), wilson(0, 200)
    assert sure.high == 1
    assert 0.98 < sure.low < 0.985
    assert never.high == pytest.approx(1 - sure.low)


@pytest.mark.parametrize(("successes", "count"), [(0, 0), (3, 2), (-1, 4)])
def test_wilson_impossible_counts(successes, count):
    """Nothing counted, or more successes than cases, has no interval."""
    with pytest.raises(ValueError, match=r".+"):
        wilson(successes, count)


def test_interval_text():
    """Share and bounds in percent."""
    assert str(wilson(81, 263)) == "30.8 % [25.5, 36.6]"
