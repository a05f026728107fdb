"""Learning rates go down as they should."""

from __future__ import annotations

import pytest

from train.settings.schedule import LAST, Schedule, scheduled


@pytest.mark.parametrize(
    ("kind", "middle", "end"),
    [("constant", 2.0, 2.0), ("linear", 1.0, 0.0), ("cosine", 1.0, 0.0), ("exponential", 2.0 * LAST**0.5, 2.0 * LAST)],
)
def test_they_begin_with_the_first_and_end_where_they_end(kind: Schedule, middle: float, end: float):
    """Also beyond the end, where a training goes on for longer than was planned."""
    rates = [scheduled(kind, 2.0, progress) for progress in (0.0, 0.5, 1.0, 1.5)]
    assert rates == pytest.approx([2.0, middle, end, end], abs=1e-12)
