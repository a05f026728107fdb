"""Images that are not used, counted by reason."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.capture.model import (
    MAX_LISTED,
    Capture,
    Dropped,
    Keyframe,
    Selection,
    Skipped,
    image_report,
    left_out_by_reason,
    left_out_lines,
)

SKIPPED = (
    Skipped("a.jpg", "image file is truncated (12 bytes not processed)"),
    Skipped("b.png", "no depth for it"),
    Skipped("c.jpg", "image file is truncated (3 bytes not processed)"),
)
DROPPED = (Dropped("e.jpg", "shows the same as another: d.jpg"), Dropped("f.jpg", "blurred: blur 0.81, at most 0.7"))


def files_of(left_out: Sequence[Skipped | Dropped]) -> dict[str, list[str]]:
    """Files by reason."""
    return {item.reason: item.files for item in left_out_by_reason(left_out)}


def test_files_are_counted_by_reason() -> None:
    """What differs from file to file does not count; the most frequent reason comes first."""
    reasons = {"image file is truncated": ["a.jpg", "c.jpg"], "no depth for it": ["b.png"]}
    assert files_of(SKIPPED) == reasons
    assert [*files_of(SKIPPED[::-1])] == [*reasons]
    assert files_of(DROPPED) == {"shows the same as another": ["e.jpg"], "blurred": ["f.jpg"]}


def test_report_and_lines(tmp_path: Path) -> None:
    """What a bundle keeps, and what it tells; nothing is said where all images are used."""
    capture = Capture(tmp_path, "photos", (), ordered=False, skipped=SKIPPED)
    report = image_report(capture, Selection((Keyframe("d.jpg", held_out=False, sharpness=1.0),), DROPPED))
    assert left_out_lines(report) == [
        ("images left out", "3 of 3: image file is truncated (2), no depth for it (b.png)"),
        ("images not used", "2 of 3: shows the same as another (e.jpg), blurred (f.jpg)"),
    ]
    assert left_out_lines(image_report(Capture(tmp_path, "photos", (), ordered=False), Selection(()))) == []


def test_names_are_bounded() -> None:
    """The count is whole, the list is not."""
    (one,) = left_out_by_reason(Dropped(f"{i}.jpg", "thinned out to 240 keyframes") for i in range(MAX_LISTED + 5))
    assert (one.count, len(one.files)) == (MAX_LISTED + 5, MAX_LISTED)


@pytest.mark.parametrize("report", [{}, [], {"left_out": 3, "images": 1}, {"left_out": [{}]}, {"left_out": [1]}, None])
def test_a_report_of_another_form_tells_nothing(report: Any) -> None:
    """Bundles of others may hold anything there."""
    assert left_out_lines(report) == []
