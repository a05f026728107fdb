"""What the readers of finished poses share: names, notes, missing images, and poses without a metric scale."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from pipeline.capture.frames import Size
from pipeline.capture.lens import Lens
from pipeline.geometry import Camera, Pose

NEAREST, FARTHEST = 0.05, 10.0
"""Median distances of the cameras from their centre for which poses of unknown scale stay as they are [units]."""
NO_FILE = "no such file"
"""Why an image that is listed is skipped: instant-ngp's own sample lists some that are missing."""
MAX_PARTS = 8
"""Number of parts of a listed path that files are searched by."""
UNKNOWN_SCALE = "the poses have no metric scale: give one with --known-length, --tag-size or --camera-height"


def plain(path: str) -> str:
    """A path as a program listed it, with "/" between its parts and none of them superfluous."""
    return posixpath.normpath(path.replace("\\", "/"))


def found_by_ends(listed: Iterable[str], names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Files by listed path, for each folder ("" or ending in "/") in which files of these names lie.

    Paths of another machine are found by their ends, of as many parts as possible: D:/scan/images/0001.jpg by
    images/0001.jpg if there is any such file, else by 0001.jpg. Ends that two paths share don't count.
    """
    parts, files = {path: path.split("/")[-MAX_PARTS:] for path in listed}, [name.split("/") for name in names]
    for kept in range(max(map(len, parts.values()), default=0), 0, -1):
        ends = {path: "/".join(of[-kept:]) for path, of in parts.items()}
        counts = Counter(ends.values())
        single = {end: path for path, end in ends.items() if counts[end] == 1}
        found: dict[str, dict[str, str]] = {}
        for pieces in files:
            for at in range(max(0, len(pieces) - kept), len(pieces)):
                if path := single.get("/".join(pieces[at:])):
                    found.setdefault("".join(f"{piece}/" for piece in pieces[:at]), {})[path] = "/".join(pieces)
        if found:
            return found
    return {}


def keys_and_names(files: Sequence[str]) -> list[tuple[str, str]]:
    """A unique key and name for each image: its stem and name, joined with its folders where two cameras' repeat."""
    for parts in (1, 2, 3):
        names = ["_".join(file.split("/")[-parts:]) for file in files]
        stems = [name.rpartition(".")[0] or name for name in names]
        if len(set(stems)) == len(files):
            return list(zip(stems, files if parts == 1 else names, strict=True))
    return [(f"{number:06d}", f"{number:06d}_{name}") for number, name in enumerate(names)]


def notes_on(optics: Iterable[Lens | Callable[[Size], Camera]], *, depth: bool) -> tuple[str, ...]:
    """Notes on images and depth that were undistorted."""
    lenses = [lens for lens in optics if isinstance(lens, Lens)]
    notes = []
    if undistorted := sum(not lens.canonical for lens in lenses):
        notes.append(f"{undistorted} images were undistorted here: no later stage knows their lens")
    if depth and (images := sum(not lens.is_pinhole for lens in lenses)):
        notes.append(f"{images} depth images were undistorted")
    return tuple(notes)


def room_sized(poses: Sequence[Pose]) -> tuple[list[Pose], tuple[str, ...]]:
    """Poses of unknown scale, multiplied by a power of ten where they are far from a room's size, and notes on that.

    Later stages have thresholds in metres (a camera that did not move, priors of positions). An arbitrary scale must
    not trip them; it stays unknown.
    """
    positions = np.array([pose.translation for pose in poses]).reshape(-1, 3)
    away = np.linalg.norm(positions - np.median(positions, axis=0), axis=1) if len(poses) else np.zeros(1)
    spread = float(np.median(away)) or float(away.max())
    if spread == 0 or NEAREST <= spread <= FARTHEST:
        return list(poses), (UNKNOWN_SCALE,)
    factor = 10.0 ** round(-np.log10(spread))
    scaled = [Pose(pose.rotation, factor * pose.translation) for pose in poses]
    return scaled, (UNKNOWN_SCALE, f"positions were multiplied by {factor:g} to be of a room's size")
