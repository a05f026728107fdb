"""The line on what lies in a capture and is not used, by kind and count."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from pipeline.capture.beside.images import kind_of_folder, kind_of_stem, what_pixels_are
from pipeline.capture.beside.programs import PROGRAMS
from pipeline.capture.images import IMAGE_SUFFIXES
from pipeline.capture.reader import suffix_of
from pipeline.capture.source import CaptureSource
from pipeline.capture.videos.containers import VIDEO_SUFFIXES

MAX_KINDS = 6
"""Number of kinds that a line on unused files names."""
_HARMLESS = re.compile(r"readme.*|licen[cs]e.*|copying.*|.*\.md|.*\.url|.*\.md5|.*\.sha\d+|desktop\.ini|ehthumbs.*\.db")
_SUFFIXES = {
    "videos": (*VIDEO_SUFFIXES, ".insv", ".360", ".lrv"),
    "recordings": (".bag", ".mcap", ".db3"),
    "point clouds or meshes": (
        ".ply",
        ".obj",
        ".glb",
        ".gltf",
        ".las",
        ".laz",
        ".pcd",
        ".e57",
        ".xyz",
        ".stl",
        ".usdz",
    ),
    "panoramas that aren't stitched": (".insp",),
    "raw photos": (".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".rw2", ".orf"),
}
"""What files are by their suffix, for people."""


def unused(source: CaptureSource, used: Iterable[str], spare: str = "") -> tuple[str, ...]:
    """One line on the files of a capture that its reader doesn't use, by kind and count; none where there is no such.

    Left out are those that tell nothing (README, licence) and those whose whole name matches `spare`: of the format,
    and of no use to a build.
    """
    taken = frozenset(used)
    left = [name for name in source.names if name not in taken and not (spare and re.fullmatch(spare, name))]
    files = [*source.beside, *(source.prefix + name for name in left)]
    told = [name for name in files if not _HARMLESS.fullmatch(name.rpartition("/")[2].lower())]
    return (f"not used: {listed(source, told)}",) if told else ()


def listed(source: CaptureSource, files: Sequence[str]) -> str:
    """Files of a source's path by kind and count: "12 depth images (depth/0001.png ...), 1 *.json (a.json)"."""
    kinds = _Kinds(source)
    found: dict[str, list[str]] = {}
    for name in files:
        found.setdefault(kinds.of(name), []).append(name)
    ranked = sorted(
        found.items(), key=lambda item: (item[0].startswith("*"), " with " not in item[0], -len(item[1]), item[0])
    )
    parts = [f"{len(names)} {kind} ({names[0]}{' ...' if len(names) > 1 else ''})" for kind, names in ranked]
    more = sum(len(names) for _, names in ranked[MAX_KINDS:])
    hints = [each.export for each in PROGRAMS if any(kind.endswith(f"with poses of {each.name}") for kind in found)]
    hint = f"; poses that place too few of the images can be read as a COLMAP project: {hints[0]}" if hints else ""
    return f"{', '.join(parts[:MAX_KINDS])}{f' and {more} more files' if more else ''}{hint}" or "no files"


class _Kinds:
    """What files are, for people; of those whose names differ in numbers only, one is opened."""

    def __init__(self, source: CaptureSource) -> None:
        self._source = replace(source, prefix="")
        self._opened: dict[str, str | None] = {}

    def of(self, name: str) -> str:
        """The kind of a file of that name, relative to the source's path."""
        suffix = suffix_of(name)
        known = next((kind for kind, suffixes in _SUFFIXES.items() if suffix in suffixes), None)
        if suffix in IMAGE_SUFFIXES:
            known = kind_of_folder(name.rpartition("/")[0]) or kind_of_stem(name) or "other images"
        if known and (known, suffix) != ("other images", ".png"):
            return known
        like = re.sub(r"\d+", "0", name)
        if like not in self._opened:
            self._opened[like] = self._by_content(name, suffix)
        return self._opened[like] or known or (f"*{suffix}" if suffix else "files without suffix")

    def _by_content(self, name: str, suffix: str) -> str | None:
        if suffix == ".png":
            return what_pixels_are(self._source, name)
        program = next((each for each in PROGRAMS if each.wrote(self._source, name)), None)
        return f"*{suffix} with poses of {program.name}" if program else None
