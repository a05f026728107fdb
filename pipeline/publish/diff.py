"""What differs between two bundles, and what their version numbers must say of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeVar

from pipeline.check.quality import Gate
from pipeline.errors import BundleError
from pipeline.scenes.bundle import Bundle
from pipeline.scenes.manifest import FileEntry, Manifest
from pipeline.scenes.references import Change, Version

GEOMETRY = ("mesh.ply", "collision.ply")
CHANGES: tuple[Change, ...] = ("major", "minor", "patch")
MAX_HEADER_BYTES = 2**20

T = TypeVar("T")


@dataclass(frozen=True)
class Difference:
    """What differs between two bundles, and the `change` that a version number must show because of it.

    Pairs are before and after, None where there is none: files that differ by path, numbers of Gaussians by level of
    detail, vertices and triangles of meshes by file, fields of the frame that differ, all gates by name.
    """

    change: Change
    why: str
    files: dict[str, tuple[FileEntry | None, FileEntry | None]]
    gaussians: dict[str, tuple[int | None, int | None]]
    meshes: dict[str, tuple[tuple[int, int] | None, tuple[int, int] | None]]
    frame: dict[str, tuple[object, object]]
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


def _pairs(before: dict[str, T], after: dict[str, T]) -> dict[str, tuple[T | None, T | None]]:
    return {name: (before.get(name), after.get(name)) for name in [*before, *(after.keys() - before.keys())]}


def _size(bundle: Bundle, name: str) -> tuple[int, int] | None:
    """Vertices and triangles, as the head of the file says; None where there is no such file."""
    if name not in bundle.manifest.files:
        return None
    with bundle.path(name).open("rb") as file:
        head = file.read(MAX_HEADER_BYTES).partition(b"end_header")[0]
    counts = dict(re.findall(rb"element (vertex|face) (\d{1,12})", head))
    return int(counts.get(b"vertex", 0)), int(counts.get(b"face", 0))


def needed_change(before: Manifest, after: Manifest) -> tuple[Change, str]:
    """The change that a new version must be, and why.

    A robot's path depends on mesh and frame: another one is a major change. Another splat changes what cameras see: a
    minor one. Anything else is a patch.
    """
    axes = [(frame.up, frame.unit, frame.camera_axes, frame.gravity) for frame in (before.frame, after.frame)]
    if axes[0] != axes[1]:
        return "major", "the frame changed"
    moved = [name for name in GEOMETRY if before.files.get(name) != after.files.get(name)]
    if moved:
        return "major", f"{' and '.join(moved)} changed"
    levels = sorted(before.splats.keys() | after.splats.keys())
    changed = [level for level in levels if _level(before, level) != _level(after, level)]
    if changed:
        return "minor", f"the splat changed ({', '.join(changed)})"
    return "patch", "mesh, frame and splat are the same"


def made_change(before: Version, after: Version) -> Change:
    """What a newer version says that it is."""
    if after.major != before.major:
        return "major"
    return "minor" if after.minor != before.minor else "patch"


def check_change(before: Manifest, after: Manifest) -> Change:
    """What a newer version is to an older one of the same scene.

    Raises:
        BundleError: When its number says less than what changed.
    """
    needed, why = needed_change(before, after)
    older, newer = Version.parse(before.version), Version.parse(after.version)
    made = made_change(older, newer)
    if CHANGES.index(made) > CHANGES.index(needed):
        raise BundleError(
            "a version's number says what changed: frame or mesh major, splat minor, anything else patch",
            found=f"{after.name}@{after.version} is a {made} version after {before.version}, but {why}",
            remedy=f"build it as --version {older.next(needed)} or later",
        )
    return made


def _level(manifest: Manifest, level: str) -> object:
    splat = manifest.splats.get(level)
    return splat and (splat, manifest.files.get(splat.file))
