"""Gates and their metrics."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from pipeline.check.quality import Gate, Quality, metric_text


def gate(**changes) -> Gate:
    values = {
        "name": "g",
        "title": "A <gate>",
        "value": 1.0,
        "unit": "cm",
        "threshold": 2.0,
        "comparison": "<=",
        "how": "h",
    }
    return Gate.model_validate({**values, **changes})


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, True),
        ({"value": 2.0}, True),
        ({"value": 2.1}, False),
        ({"comparison": ">="}, False),
        ({"comparison": ">=", "value": 3.0}, True),
        ({"value": None}, False),
        ({"value": None, "applies": False}, None),
    ],
)
def test_verdict_follows_the_metric(changes, verdict):
    """At most, at least, unknown (fails) and not applicable (neither)."""
    assert gate(**changes).passed is verdict


def test_quality_passes_only_without_failures():
    """One failing gate fails the bundle; one that doesn't apply doesn't."""
    assert Quality(gates=(gate(), gate(name="n", value=None, applies=False))).passed
    failing = Quality(gates=(gate(), gate(name="bad", value=9.0)))
    assert not failing.passed
    assert failing.failed == ("bad",)


def test_file_round_trip(tmp_path):
    """quality.json holds everything."""
    quality = Quality(gates=(gate(detail={"p90": 3.5}),), metrics={"flatness": {"floor_rms_m": 0.004}})
    quality.save(tmp_path)
    assert Quality.load(tmp_path) == quality


def test_nan_is_no_metric():
    """A metric that isn't a number can't be written down as one."""
    with pytest.raises(ValidationError):
        gate(value=float("nan"))


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (34.98, "dB", "34.98 dB"),
        (24.0, "dB", "24 dB"),
        (0.0, "m2", "0 m²"),
        (0.00063, "m2", "6.3 cm²"),
        (0.25, "m2", "0.25 m²"),
        (0.00853, "m", "8.5 mm"),
        (0.0301, "m", "30 mm"),
        (-0.1, "m", "-0.1 m"),
        (1.0, "degrees", "1°"),
        (1200.0, "", "1200"),
        (50, "", "50"),
        (0.0123, "", "0.012"),
        (None, "m", "unknown"),
    ],
)
def test_metrics_are_short_and_honest(value, unit, text):
    """As many digits as matter, none that say nothing; small lengths and areas in units that people read."""
    assert metric_text(value, unit) == text
