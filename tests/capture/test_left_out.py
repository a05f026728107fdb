"""What became of pictures that are not used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.capture.left_out import MAX_NAMED, by_reason, lines, listed, report_of
from pipeline.capture.model import Capture, Skipped
from pipeline.capture.selection import Dropped, Keyframe, Selection

SKIPPED = (
    Skipped("a.jpg", "image file is truncated (12 bytes not processed)"),
    Skipped("b.png", "no depth for it"),
    Skipped("c.jpg", "image file is truncated (3 bytes not processed)"),
)
DROPPED = (Dropped("e.jpg", "shows the same as another: d.jpg"), Dropped("f.jpg", "blurred: blur 0.81, at most 0.7"))


def test_files_are_counted_by_reason() -> None:
    """What differs from file to file does not count; the most frequent reason comes first."""
    reasons = {"image file is truncated": ["a.jpg", "c.jpg"], "no depth for it": ["b.png"]}
    assert by_reason(SKIPPED) == reasons
    assert [*by_reason(SKIPPED[::-1])] == [*reasons]
    assert by_reason(DROPPED) == {"shows the same as another": ["e.jpg"], "blurred": ["f.jpg"]}


def test_report_and_lines(tmp_path: Path) -> None:
    """What a bundle keeps, and what it tells; nothing is said where all pictures are used."""
    capture = Capture(tmp_path, "photos", (), ordered=False, skipped=SKIPPED)
    report = report_of(capture, Selection((Keyframe("d.jpg", held_out=False, sharpness=1.0),), DROPPED))
    assert lines(report) == [
        ("pictures left out", "3 of 3: image file is truncated (2), no depth for it (b.png)"),
        ("pictures not used", "2 of 3: shows the same as another (e.jpg), blurred (f.jpg)"),
    ]
    assert lines(report_of(Capture(tmp_path, "photos", (), ordered=False), Selection(()))) == []


def test_names_are_bounded() -> None:
    """The count is whole, the list is not."""
    (one,) = listed(Dropped(f"{i}.jpg", "thinned out to 240 keyframes") for i in range(MAX_NAMED + 5))
    assert (one["count"], len(one["files"])) == (MAX_NAMED + 5, MAX_NAMED)


@pytest.mark.parametrize(
    "report", [{}, [], {"left_out": 3, "pictures": 1}, {"left_out": [{}]}, {"left_out": [1]}, None]
)
def test_a_report_of_another_form_tells_nothing(report: Any) -> None:
    """Bundles of others may hold anything there."""
    assert lines(report) == []
