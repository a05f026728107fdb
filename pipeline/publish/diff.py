"""What differs between two bundles: files, Gaussians, meshes, frame and gates."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pipeline.bundle.bundle import Bundle
from pipeline.bundle.manifest import FileEntry
from pipeline.check.quality import Gate
from pipeline.publish.versions import GEOMETRY, Change, needed_change

MAX_HEADER_BYTES = 2**20


@dataclass(frozen=True)
class Difference:
    """What differs between two bundles; each pair is before and after, None where there is none.

    Attributes:
        change: What a version must be that has this difference.
        why: What makes it so.
        files: Those that differ, by path.
        gaussians: By level of detail.
        meshes: Vertices and triangles, by file.
        frame: Fields that differ.
        gates: All, by name.
    """

    change: Change
    why: str
    files: dict[str, tuple[FileEntry | None, FileEntry | None]]
    gaussians: dict[str, tuple[int | None, int | None]]
    meshes: dict[str, tuple[tuple[int, int] | None, tuple[int, int] | None]]
    frame: dict[str, tuple[Any, Any]]
    gates: dict[str, tuple[Gate | None, Gate | None]]


def difference(before: Bundle, after: Bundle) -> Difference:
    """Compare two bundles; of their files only the meshes that differ and the gates are read.

    Raises:
        BundleError: When one is damaged.
    """
    old, new = before.manifest, after.manifest
    change, why = needed_change(old, new)
    frames = old.frame.model_dump(), new.frame.model_dump()
    gates = [{gate.name: gate for gate in bundle.quality.gates} for bundle in (before, after)]
    files = {name: pair for name, pair in _pairs(old.files, new.files).items() if pair[0] != pair[1]}
    return Difference(
        change,
        why,
        files,
        {level: (a and a.gaussians, b and b.gaussians) for level, (a, b) in _pairs(old.splats, new.splats).items()},
        {name: (_size(before, name), _size(after, name)) for name in GEOMETRY if name in files},
        {name: pair for name, pair in _pairs(*frames).items() if pair[0] != pair[1]},
        _pairs(*gates),
    )


def _pairs(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {name: (before.get(name), after.get(name)) for name in [*before, *(after.keys() - before.keys())]}


def _size(bundle: Bundle, name: str) -> tuple[int, int] | None:
    """Vertices and triangles, as the head of the file says; None where there is no such file."""
    if name not in bundle.manifest.files:
        return None
    with bundle.path(name).open("rb") as file:
        head = file.read(MAX_HEADER_BYTES).partition(b"end_header")[0]
    counts = dict(re.findall(rb"element (vertex|face) (\d{1,12})", head))
    return int(counts.get(b"vertex", 0)), int(counts.get(b"face", 0))
