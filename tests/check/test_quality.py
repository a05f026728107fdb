"""Gates and the page that shows them."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from pipeline.check.quality import Gate, Quality, metric_text
from pipeline.check.report import quality_page


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


def test_page_shows_verdicts_and_escapes():
    """The page says which gate fails, and text from outside stays text."""
    views = [("images/view_0.jpg", "a & b")]
    page = quality_page(Quality(gates=(gate(value=9.0),)), "<hall>", views, ["mesh.jpg"], "images/coverage.jpg")
    assert "1 gate fails" in page
    assert "A &lt;gate&gt;" in page
    assert "&lt;hall&gt;" in page
    assert "<gate>" not in page
    assert 'src="images/view_0.jpg"' in page
    assert 'src="images/coverage.jpg"' in page


def test_page_says_what_was_left_out():
    """Which images of the capture were not used, and why; names from outside stay text."""
    left_out = [("images left out", "1 of 24: image file is truncated (<b>.jpg)")]
    page = quality_page(Quality(gates=(gate(),)), "hall", [], [], None, left_out)
    assert "images left out: 1 of 24: image file is truncated (&lt;b&gt;.jpg)" in page


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
        (50, "", "50"),
        (0.0123, "m", "0.012 m"),
        (None, "m", "unknown"),
    ],
)
def test_metrics_are_short_and_honest(value, unit, text):
    """As many digits as matter, none that say nothing."""
    assert metric_text(value, unit) == text
