"""Parameters that make no sense are refused with the field's name."""

from __future__ import annotations

import pytest

from pipeline.coverage.params import CoverageParams


@pytest.mark.parametrize(
    "wrong", [{"cell": 0.0}, {"places": 0}, {"headings": 2}, {"camera_height": -0.1}, {"field_of_view": 180.0}]
)
def test_nonsense_is_refused(wrong):
    """At once, not in the middle of a build."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CoverageParams(**wrong)
