"""Which seconds of a generated video show a place that holds together.

What drifts slowly obeys some epipolar geometry between any two pictures, but not that of the poses that explain the
rest: matches that two pictures agree on leave their epipolar lines as soon as all pictures must agree.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ReconstructionError
from pipeline.geometry import Camera
from pipeline.poses.keyframes import Keyframe
from pipeline.poses.reconstruct import Workbench
from pipeline.poses.sparse_map import SparseMap

logger = logging.getLogger(__name__)

OFF, LEAST_OFF = 0.004, 2.0
"""A match is off its epipolar line from this share of the picture's long side, and this many pixels, on."""
DRIFTS = 0.2
"""A second drifts where so large a share of its matches is off: 0.00 in a rigid place, a third in one that flows."""
LEAST_USABLE = 0.5
"""Share of the seconds that must hold together."""


@dataclass(frozen=True)
class Steadiness:
    """What was found.

    Attributes:
        usable: Seconds of the video, as (start, end), that hold together.
        drifting: Those that don't.
        frames: Image ids of all keyframes in drifting seconds.
        off: By second, the share of matches off their epipolar lines.
    """

    usable: tuple[tuple[int, int], ...]
    drifting: tuple[tuple[int, int], ...]
    frames: frozenset[int]
    off: dict[int, float]

    def report(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "usable_seconds": [list(part) for part in self.usable],
            "drifting_seconds": [list(part) for part in self.drifting],
            "matches_off": {str(second): share for second, share in self.off.items()},
        }


def steadiness(bench: Workbench, found: SparseMap) -> Steadiness:
    """Hold the verified matches of a video's training keyframes against the map's poses, second by second.

    Raises:
        ReconstructionError: When less than `LEAST_USABLE` of the seconds hold together.
    """
    total: dict[int, int] = {}
    off: dict[int, int] = {}
    for m in bench.matches:
        first, second = bench.keyframes[m.i], bench.keyframes[m.j]
        if first.image_id not in found.poses or second.image_id not in found.poses:
            continue
        pixels = [bench.features[k].pixels[m.features[:, side]] for side, k in enumerate((m.i, m.j))]
        error = _epipolar_error(found, (first, second), pixels)
        wrong = int((error > max(LEAST_OFF, OFF * max(first.camera.width, first.camera.height))).sum())
        for at in {_second(first), _second(second)}:
            total[at] = total.get(at, 0) + len(error)
            off[at] = off.get(at, 0) + wrong
    share = {at: off[at] / total[at] for at in sorted(total)}
    bad = [at for at, value in share.items() if value > DRIFTS]
    good = [at for at in share if at not in bad]
    frames = frozenset(k.image_id for k in bench.keyframes if _second(k) in bad)
    result = Steadiness(_stretches(good), _stretches(bad), frames, share)
    if len(good) < LEAST_USABLE * len(share):
        raise ReconstructionError(
            "a generated video must show one place that holds together",
            found=f"the place drifts in {len(bad)} of {len(share)} seconds: {_text(result.drifting)} s"
            + (f"; usable: {_text(result.usable)} s" if good else ""),
            remedy="choose the usable ones (--set capture.start=... --set capture.end=...), or generate it again",
            file=bench.root,
        )
    if bad:
        logger.warning(
            "the place drifts at %s s of the video, which is left out; usable: %s s",
            _text(result.drifting),
            _text(result.usable),
        )
    return result


def _second(keyframe: Keyframe) -> int:
    return int(keyframe.frame.source_time or 0)


def _epipolar_error(
    found: SparseMap, pair: tuple[Keyframe, Keyframe], pixels: Sequence[NDArray[np.float32]]
) -> NDArray[np.float64]:
    """Sampson distances (M,) [px] of matches under the map's poses.

    Source: R. Hartley and A. Zisserman, Multiple View Geometry, 2nd edition, section 11.4.3.
    """
    lenses = [found.cameras[k.camera_id] for k in pair]
    before, after = (_rays(lens, points) for lens, points in zip(lenses, pixels, strict=True))
    move = found.poses[pair[1].image_id].inverse() @ found.poses[pair[0].image_id]
    x, y, z = move.translation
    essential = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ move.rotation
    there, back = before @ essential.T, after @ essential
    length = np.sqrt((there[:, :2] ** 2).sum(1) + (back[:, :2] ** 2).sum(1))
    return np.abs((after * there).sum(1)) / np.maximum(length, 1e-12) * lenses[0].fx


def _rays(lens: Camera, pixels: NDArray[np.float32]) -> NDArray[np.float64]:
    """Camera-frame directions (M, 3) with z = 1."""
    points = pixels.astype(np.float64).reshape(-1, 1, 2)
    plane = cv2.undistortPoints(points, lens.matrix, np.array(lens.distortion)).reshape(-1, 2)
    return np.c_[plane, np.ones(len(plane))]


def _stretches(seconds: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Seconds that follow each other, joined: (start, end)."""
    joined: list[tuple[int, int]] = []
    for second in seconds:
        if joined and joined[-1][1] == second:
            joined[-1] = joined[-1][0], second + 1
        else:
            joined.append((second, second + 1))
    return tuple(joined)


def _text(stretches: Sequence[tuple[int, int]]) -> str:
    return ", ".join(f"{start}-{end}" for start, end in stretches)
