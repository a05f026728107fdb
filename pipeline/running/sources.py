"""The captures that a build is made of: where they lie, what they hold, and what they are called."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import chain, combinations, count
from pathlib import Path

from pipeline.capture.params import CaptureParams
from pipeline.errors import CaptureError
from pipeline.running.card import name_from
from pipeline.stage import Traits


def capture_at(path: Path) -> Path:
    """The capture's root, which must be there."""
    from pipeline.capture.detect import capture_root

    source = capture_root(path.expanduser())
    CaptureError.unless_there(source)
    return source


def probed_capture(source: Path, params: CaptureParams) -> tuple[Traits, str]:
    """What a capture holds, and the hash of its files.

    Raises:
        CaptureError: When its format is unknown or it holds too few images.
    """
    from pipeline.capture.detect import probe_and_digest
    from pipeline.capture.reader import require_images

    traits, digest = probe_and_digest(source)
    if not traits.estimated:
        require_images(traits.frames, traits.missing, params, source)
    if traits.kind == "video" and params.origin == "generated":
        traits = replace(traits, kind="generated")
    return traits, digest


def names_of(sources: Sequence[Path], taken: Collection[str] = ()) -> list[str]:
    """A name for each source, by its folder or file; of equal or taken ones the later ones have a number."""
    names = list[str]()
    for source in sources:
        own = re.sub("-{2,}", "-", name_from(source.resolve().stem))  # two part it from a frame's name
        numbered = (f"{own}-{number}" for number in count(2))
        names.append(next(one for one in chain([own], numbered) if one not in (*taken, *names)))
    return names


def refuse_copies(sources: Sequence[Path], digests: Sequence[str]) -> None:
    """A CaptureError where two captures have the same files: joined, they would count twice."""
    for (one, digest), (other, same) in combinations(zip(sources, digests, strict=True), 2):
        if digest == same:
            raise CaptureError(
                "each capture of a place is named once",
                found=f"it has the same files as {one}",
                remedy="leave one of them out",
                file=other,
            )
