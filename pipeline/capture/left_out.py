"""Pictures that were left out, told in one line and listed by reason."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.capture.model import Capture, Skipped
from pipeline.capture.selection import Dropped, Selection

MAX_NAMED = 1000
"""Of each reason so many files are listed at most; `capture.json` and `selection.json` name all of them."""


def by_reason(left_out: Iterable[Skipped | Dropped]) -> dict[str, list[str]]:
    """Files by reason, the most frequent reason first.

    What a reason says of its one file, behind a colon or in brackets, is left away.
    """
    files: dict[str, list[str]] = {}
    for one in left_out:
        file = one.file if isinstance(one, Skipped) else one.name
        files.setdefault(re.split(r": | \(", one.reason)[0], []).append(file)
    return dict(sorted(files.items(), key=lambda item: -len(item[1])))


def listed(left_out: Iterable[Skipped | Dropped]) -> list[dict[str, Any]]:
    """The same as JSON has it: reason, count and the first files."""
    found = by_reason(left_out)
    return [{"reason": reason, "count": len(files), "files": files[:MAX_NAMED]} for reason, files in found.items()]


def report_of(capture: Capture, selection: Selection) -> dict[str, Any]:
    """How many pictures there were, and what `listed` says of those that the two stages left out."""
    found = len(capture.frames) + len(capture.skipped)
    return {"pictures": found, "left_out": listed(capture.skipped), "not_used": listed(selection.dropped)}


def lines(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What `report_of` gives for people: which pictures, and `told` of them; nothing where all are used.

    A report of another form, as a stranger's bundle may hold, gives nothing either.
    """
    names = (("left_out", "pictures left out"), ("not_used", "pictures not used"))
    try:
        return [(name, told(report[key], report["pictures"])) for key, name in names if report.get(key)]
    except (AttributeError, IndexError, KeyError, TypeError):
        return []


def told(reasons: Sequence[dict[str, Any]], of: int) -> str:
    """What `listed` gives in one line: "4 of 24: no depth for it (3), image file is truncated (IMG_7.jpg)".

    Args:
        reasons: What `listed` gave.
        of: How many pictures there were.
    """
    counts = [f"{one['reason']} ({one['count'] if one['count'] > 1 else one['files'][0]})" for one in reasons]
    return f"{sum(one['count'] for one in reasons)} of {of}: {', '.join(counts)}"
