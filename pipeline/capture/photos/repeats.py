"""Photos that show nothing new: exact copies under another name, bursts, images from one spot."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from pipeline.capture.cameras.xmp import StatedGravity
from pipeline.capture.metadata import Credentials, GpsPosition
from pipeline.capture.select import Quality, follow, measure_quality
from pipeline.types import F32

BURST_SECONDS = 1.0
"""Photos of one camera that lie no further apart in time may be a burst."""
BURST_MOVEMENT = 0.02
"""Movement within a burst [share of the long side]: hands tremble."""
SAME = 0.0015
"""Movement below which images show the same whenever they were taken, and parallax below which those of a burst do
[share of the long side]. Neighbours of a walk have 0.002 and more of parallax even where they move by as little."""
MAX = 90
"""Percent of the features that must agree; the others may lie on what moves."""
ALIKE = 0.9
"""Correlation of two thumbnails from which on the images themselves are compared."""
_SIDE = 32
_BURST_NAME = re.compile(r"(?P<before>.*?)burst[ _-]*(?P<digits>[0-9]+)", re.IGNORECASE)
_STAMP_DIGITS = 8


@dataclass(frozen=True, eq=False)
class Shot:
    """Features of a photo by which repetitions are found, and what else its file states.

    Attributes:
        file: Name at the source.
        image: The image as it was written.
        taken: Time by its camera's clock [s], or None.
        digest: Digest of the pixels.
        thumbnail: (1024,) float32, of zero mean and unit length; zero where the image has no contrast.
    """

    file: str
    image: Path
    camera: str
    taken: float | None
    pixels: int
    digest: bytes
    thumbnail: F32
    position: GpsPosition | None = None
    credentials: Credentials | None = None
    gravity: StatedGravity | None = None


def shot_of(decoded: Image.Image, file: str, image: Path, camera: str, taken: float | None) -> Shot:
    """A photo's shot from its pixels."""
    small = np.asarray(decoded.resize((_SIDE, _SIDE), Image.Resampling.BOX).convert("L"), np.float32).ravel()
    small -= small.mean()
    length = float(np.linalg.norm(small))
    digest = hashlib.blake2b(decoded.tobytes(), digest_size=16, key=repr(decoded.size).encode()).digest()
    unit = small / length if length > 1 else 0 * small
    return Shot(file, image, camera, taken, decoded.width * decoded.height, digest, unit)


def find_repeats(shots: Sequence[Shot]) -> dict[int, str]:
    """Which photos are left out, and why; of each group one stays: of known camera, the largest, the sharpest.

    A photo joins the group of the first photo that it repeats. It is compared with that one, never with the one before
    it, so that photos of a walk are not drawn together step by step.
    """

    @lru_cache(maxsize=64)
    def measured(shot: Shot) -> Quality:
        return measure_quality(shot.image, keep_small=True)

    thumbnails = np.array([shot.thumbnail for shot in shots])
    groups: dict[int, list[int]] = {}
    for index, shot in enumerate(shots):
        for first in np.flatnonzero(thumbnails[:index] @ shot.thumbnail >= ALIKE).tolist():
            if first in groups and _repeats(shot, shots[first], measured):
                groups[first].append(index)
                break
        else:
            groups[index] = [index]

    def worth(index: int) -> tuple[bool, int, float, int, int]:
        shot = shots[index]
        return bool(shot.camera), shot.pixels, measured(shot).laplacian, -len(shot.file), -index

    left_out: dict[int, str] = {}
    for group in groups.values():
        kept = max(group, key=worth) if len(group) > 1 else group[0]
        left_out |= {index: _reason(shots[index], shots[kept]) for index in group if index != kept}
    return left_out


def _repeats(shot: Shot, first: Shot, measured: Callable[[Shot], Quality]) -> bool:
    if shot.digest == first.digest:
        return True
    before, after = measured(first).small, measured(shot).small
    assert before is not None and after is not None
    followed = follow(before, after)
    if followed is None:
        return False
    long_side = max(before.shape)
    steps = np.linalg.norm(followed[1] - followed[0], axis=1) / long_side
    if np.percentile(steps, MAX) < SAME:
        return True
    return (
        _of_one_burst(shot, first)
        and float(np.median(steps)) < BURST_MOVEMENT
        and _parallax(*followed, SAME * long_side) < SAME * long_side
    )


def _parallax(before: F32, after: F32, tolerance: float) -> float:
    """Distance [px] of points (N, 2) from where a camera that only rotated would see them: from their homography."""
    homography, _ = cv2.findHomography(before, after, cv2.RANSAC, tolerance)
    if homography is None:
        return np.inf
    seen = cv2.perspectiveTransform(before[None], homography)[0]
    return float(np.percentile(np.linalg.norm(seen - after, axis=1), MAX))


def _reason(shot: Shot, kept: Shot) -> str:
    if shot.digest == kept.digest:
        return f"the same image as another: {kept.file}"
    if _of_one_burst(shot, kept):
        return f"of one burst with a sharper one: {kept.file}"
    return f"shows the same as another: {kept.file}"


def _of_one_burst(a: Shot, b: Shot) -> bool:
    if a.camera != b.camera:
        return False
    if a.taken is not None and b.taken is not None:
        return abs(a.taken - b.taken) <= BURST_SECONDS
    name = _burst_name(a.file)
    return name is not None and name == _burst_name(b.file)


def _burst_name(file: str) -> str | None:
    """Common part of the names of a burst's photos: a time stamp behind "burst", else what comes before it."""
    match = _BURST_NAME.match(file.rpartition("/")[2])
    if match is None:
        return None
    return match["digits"] if len(match["digits"]) >= _STAMP_DIGITS else match["before"]
