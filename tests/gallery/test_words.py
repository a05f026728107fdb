"""Metrics and gates in words."""

from __future__ import annotations

import pytest

from pipeline.check.quality import Gate
from pipeline.gallery import words


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (34.98, "dB", "34.98 dB"),
        (24.0, "dB", "24 dB"),
        (0.0, "m2", "0 m²"),
        (0.00853, "m", "0.0085 m"),
        (0.0301, "m", "0.03 m"),
        (1.0, "degrees", "1°"),
        (1200.0, "", "1200"),
        (None, "m", "unknown"),
    ],
)
def test_metrics_are_short_and_honest(value, unit, text):
    """As many digits as matter, none that say nothing."""
    assert words.metric(value, unit) == text


def test_threshold_says_its_direction():
    """At least, or at most."""
    gate = Gate(name="a", title="a", value=1, unit="m2", threshold=1, comparison=">=", how="")
    assert words.must_be(gate) == "at least 1 m²"
    assert words.must_be(gate.model_copy(update={"comparison": "<="})) == "at most 1 m²"
