"""Which scene cards are named; nothing of what they say is read."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path

from pipeline.errors import CardError


def find_cards(patterns: Iterable[str]) -> list[Path]:
    """The cards that file names and patterns (`*`, `**`) stand for, each once, sorted.

    Raises:
        CardError: When a pattern stands for none.
    """
    found: set[Path] = set()
    for pattern in patterns:
        expanded = str(Path(pattern).expanduser())
        cards = [Path(name) for name in glob.glob(expanded, recursive=True) if Path(name).is_file()]  # noqa: PTH207
        if not cards:
            raise CardError(
                "a batch needs scene cards",
                found=f"nothing at {pattern!r}",
                remedy="check the pattern, and quote it; `splatyard scene card CAPTURE` writes a card",
            )
        found.update(Path(os.path.abspath(card)) for card in cards)  # noqa: PTH100 (links are kept: paths start there)
    return sorted(found)
