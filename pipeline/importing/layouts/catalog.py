"""All layouts of collections that are read, and which one a folder has."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from pipeline.importing.forms import Layout
from pipeline.importing.layouts.gaussgym_kinds import GAUSSGYM
from pipeline.importing.layouts.splats_alone import SPLATS_ALONE

LAYOUTS = {layout.form: layout for layout in (*GAUSSGYM, *SPLATS_ALONE)}
DEEP = 2
"""Folders, one in another, within a scene's own that its files may lie in."""
MAX_NAMES = 100_000


def laid_out(names: Collection[str]) -> tuple[Layout, tuple[str, ...]] | None:
    """The layout of a folder by its files' names, and those that it reads."""
    return next(((layout, files) for layout in LAYOUTS.values() if (files := layout.files(names))), None)


def layout_of(folder: Path) -> tuple[Layout, tuple[Path, ...]] | None:
    """As `laid_out`, of a folder that is there."""
    found = laid_out(set(_names(folder)))
    return None if found is None else (found[0], tuple(folder / name for name in found[1]))


def _names(folder: Path) -> Iterator[str]:
    """The files below it, as far as a scene's may lie, by their paths from it."""
    count = 0
    for root, folders, files in os.walk(folder):
        place = Path(root).relative_to(folder)
        if len(place.parts) >= DEEP:
            folders.clear()
        for name in files:
            count += 1
            if count > MAX_NAMES:
                return
            yield (place / name).as_posix()
