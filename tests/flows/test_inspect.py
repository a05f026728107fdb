"""What `inspect` says of gravity and scale."""

from __future__ import annotations

import pytest

from flows.cli.bundles import reported

SCALE = [{"source": "sensor", "off_the_result": 0.0123}, {"source": "fiducials", "off_the_result": 0.0}]


def test_compared_sources_are_listed():
    """Each with how far it is off the result."""
    assert reported({"align": {"scale": SCALE}}) == [("scale compared", "sensor 1.2 % off, fiducials 0 % off")]


def test_a_single_source_is_compared_with_nothing():
    """The line above says it already; older bundles have no report."""
    assert reported({"align": {"scale": SCALE[:1]}}) == reported({}) == []


@pytest.mark.parametrize(
    "report",
    [
        {"align": []},
        {"align": {"gravity": [{}, {}]}},
        {"align": {"scale": [{"source": "x", "off_the_result": "far"}] * 2}},
        {"capture": 3},
        {"capture": {"assumed": 7}},
        {"poses": {"notes": None}},
    ],
)
def test_a_report_of_another_form_is_named(report):
    """A stranger's bundle may say anything; it is no bug of ours."""
    assert reported(report) == [("report", "of a form that can't be read")]
    assert reported({"capture": {"assumed": ["a lens"]}}) == [("ASSUMED", "a lens")]
