"""What the readers of finished poses share: names, notes, missing images, and poses without a metric scale."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from pipeline.capture.frames import Size
from pipeline.capture.lens import Lens
from pipeline.geometry import Camera, Pose

NEAREST, FARTHEST = 0.05, 10.0
"""Median distances of the cameras from their centre for which poses of unknown scale stay as they are [units]."""
NO_FILE = "no such file"
"""Why an image that is listed is skipped: instant-ngp's own sample lists some that are missing."""
UNKNOWN_SCALE = "the poses have no metric scale: give one with --known-length, --tag-size or --camera-height"


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


def room_sized(poses: Sequence[Pose]) -> tuple[list[Pose], float, tuple[str, ...]]:
    """Poses of unknown scale, multiplied where they are far from a room's size, by which power of ten, and notes on it.

    Later stages have thresholds in metres (a camera that did not move, priors of positions). An arbitrary scale must
    not trip them; it stays unknown.
    """
    positions = np.array([pose.translation for pose in poses]).reshape(-1, 3)
    away = np.linalg.norm(positions - np.median(positions, axis=0), axis=1) if len(poses) else np.zeros(1)
    spread = float(np.median(away)) or float(away.max())
    if spread == 0 or NEAREST <= spread <= FARTHEST:
        return list(poses), 1.0, (UNKNOWN_SCALE,)
    factor = 10.0 ** round(-np.log10(spread))
    scaled = [Pose(pose.rotation, factor * pose.translation) for pose in poses]
    return scaled, factor, (UNKNOWN_SCALE, f"positions were multiplied by {factor:g} to be of a room's size")
