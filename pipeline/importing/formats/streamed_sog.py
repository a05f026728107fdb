"""Streamed SOG: lod-meta.json names a SOG for each part of each level of detail; the finest level is read.

Source: github.com/playcanvas/splat-transform, commit 8d6b801, src/lib/readers/read-lod.ts and writers/write-lod.ts.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.geometry import Gaussians
from pipeline.importing.splat_values import counted
from pipeline.io.files import read_plain
from pipeline.splat.sog import META_FILE, load_sog

LOD_FILE = "lod-meta.json"
MAX_LOD_BYTES, MAX_NODES, MAX_FILES = 64 * 2**20, 1_000_000, 10_000
MAX_META_BYTES, MAX_PART_BYTES = 2**20, 2**30


def parts_of(path: Path) -> list[Path]:
    """The meta.json of each part of the finest level, within the folder of a lod-meta.json.

    Raises:
        ValueError: When it is damaged, as other errors of what it isn't, or names a file elsewhere.
    """
    content = json.loads(read_plain(path, MAX_LOD_BYTES))
    if content.get("version", 1) != 1:
        raise ValueError(f"version {content['version']}")
    names = content["filenames"]
    if not 0 < len(names) <= MAX_FILES:
        raise ValueError(f"{len(names)} files")
    counts = dict[int, int]()
    for reference in _finest(content["tree"]):
        number, count = int(reference["file"]), int(reference["count"])
        if count < 0 or not 0 <= number < len(names):
            raise ValueError(f"file {number} of {len(names)}, {count} Gaussians")
        counts[number] = counts.get(number, 0) + count
    counted(sum(counts.values()))
    return [_within(path.parent, str(names[number])) for number in sorted(counts)]


def read_streamed_sog(path: Path) -> Gaussians:
    """All Gaussians of the finest level; the surroundings, which have a SOG of their own, are left out.

    Raises:
        BundleError: When a part is damaged.
        ValueError: As `parts_of`.
    """
    splats = list[Gaussians]()
    for part in parts_of(path):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(META_FILE, read_plain(part, MAX_META_BYTES))
            for image in sorted(part.parent.glob("*.webp")):
                archive.writestr(image.name, read_plain(image, MAX_PART_BYTES))
        splats.append(load_sog(part, packed))
        counted(sum(map(len, splats)))
    return Gaussians.concatenate(sorted(splats, key=lambda one: -one.sh.shape[1]))


def _finest(tree: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """References of the leaves to the finest level that each has, which is the first."""
    waiting, visited = [tree], 0
    while waiting:
        node = waiting.pop()
        visited += 1
        if visited + len(waiting) > MAX_NODES:
            raise ValueError(f"more than {MAX_NODES} nodes")
        levels = node.get("lods") or {}
        if levels:
            yield levels[min(levels, key=int)]
        waiting.extend(node.get("children") or [])


def _within(folder: Path, name: str) -> Path:
    """A file of a folder or below it.

    Raises:
        ValueError: When the name leads elsewhere, or isn't a part's.
    """
    place = PurePosixPath(name)
    if place.is_absolute() or ".." in place.parts or place.name != META_FILE or len(place.parts) < 2:
        raise ValueError(f"a part named {name[:100]!r}")
    return folder / place
