"""The select stage: sharp, well-spread keyframes of a canonical capture, and which of them are held out."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np

from pipeline.capture.depth_units import WELL, depth_sample
from pipeline.capture.model import (
    SELECTION_FILE,
    Capture,
    Dropped,
    Frame,
    Keyframe,
    Selection,
    left_out_by_reason,
    left_out_line,
)
from pipeline.capture.params import KEYFRAMES, SelectParams
from pipeline.capture.reader import in_threads
from pipeline.errors import CaptureError
from pipeline.io.working_images import load_written, shrunk_grey
from pipeline.place import by_place, rooms, seen_cells, surface_of
from pipeline.progress import track
from pipeline.types import F32, F64, I64, U8

logger = logging.getLogger(__name__)

MEASURE_SIZE = 640
"""Long side at which sharpness is measured [px]; half of it for movement."""
NEIGHBOURS = 5
"""Frames on each side whose median sharpness a frame of an ordered capture is compared with."""
SOFT = 0.55
"""Blur above which low relative sharpness means blur; below it the frame shows a plain wall."""
REVISITED = 0.25
"""What movement counts where nothing new is seen."""
_MAX_MOVE = 0.25  # movement [share of the long side] above which frames count as equally far apart
_BLACK, _FLAT = 16, 2.0  # 99th percentile of the grey values; their standard deviation


@dataclass(frozen=True, eq=False)
class Quality:
    """Sharpness of an image: variance of the Laplacian at 640 px, `blur_of` (0 sharp, 1 blurred), fault in words.

    `small` is the grey image at 320 px, to follow movement; None for unordered captures.
    """

    laplacian: float
    blur: float
    fault: str | None
    small: U8 | None


def select_keyframes(capture: Capture, params: SelectParams) -> Selection:
    """Drop black, blurred and repeated frames, thin out what is too much and hold out every nth keyframe.

    Photos without an order are only dropped when black or blurred, or above the largest number. In places larger than a
    room that grows with the surface, and frames stay by how much they add to it.

    Raises:
        CaptureError: When too few usable frames are left.
    """

    def measure(image: str) -> Quality:
        return measure_quality(capture.root / image, keep_small=capture.ordered)

    qualities = in_threads(measure, [frame.image for frame in capture.frames], "measuring sharpness")
    cameras = [[*run] for _, run in groupby(range(len(qualities)), lambda i: capture.frames[i].sensor)]
    sharpness = np.concatenate(
        [relative_sharpness([qualities[i].laplacian for i in camera], ordered=capture.ordered) for camera in cameras]
    )
    names = [frame.name for frame in capture.frames]
    reasons = [_fault(q, s, params) for q, s in zip(qualities, sharpness, strict=True)]
    _require_usable(names, reasons, params)
    usable = [i for i, reason in enumerate(reasons) if reason is None]
    moves = np.full(len(usable), _MAX_MOVE)
    if capture.ordered:
        small, left = [quality.small for quality in qualities], set(usable)
        found = [
            _without_repeats(seen, small, names, reasons, params)
            for camera in cameras
            if (seen := [i for i in camera if i in left])
        ]
        usable, moves = [i for kept, _ in found for i in kept], np.concatenate([moved for _, moved in found])
    kept, most = usable, params.max_keyframes or KEYFRAMES
    if len(usable) > most and not params.max_keyframes:
        most, moves = _by_place(capture, usable, moves)
    if len(usable) > most:
        kept = _thinned(usable, moves, sharpness, most)
        for i in set(usable) - set(kept):
            reasons[i] = f"thinned out to {most} keyframes"
    shots = {shot: n for n, shot in enumerate(dict.fromkeys(capture.frames[i].shot for i in kept))}
    hold_out = len(shots) >= params.held_out_every  # those of one shot together: they show the same from one place
    keyframes = tuple(
        Keyframe(
            names[i],
            hold_out and shots[capture.frames[i].shot] % params.held_out_every == 0,
            round(float(sharpness[i]), 4),
        )
        for i in kept
    )
    return Selection(keyframes, tuple(Dropped(names[i], r) for i, r in enumerate(reasons) if r is not None))


def measure_quality(image: Path, *, keep_small: bool) -> Quality:
    """Measure one image of the canonical capture."""
    grey = shrunk_grey(load_written(image, cv2.IMREAD_GRAYSCALE), MEASURE_SIZE)
    fault = "black" if np.percentile(grey, 99) < _BLACK else "without any contrast" if grey.std() < _FLAT else None
    laplacian = float(cv2.Laplacian(grey, cv2.CV_32F).var())
    small = shrunk_grey(grey, MEASURE_SIZE // 2) if keep_small else None
    return Quality(laplacian, blur_of(grey), fault, small)


def blur_of(grey: U8) -> float:
    """Share of the gradients that survive a further blur: 0 for a sharp image, towards 1 for a blurred one.

    Unlike the Laplacian it needs nothing to compare with. Crete et al., "The blur effect: perception and estimation
    with a new no-reference perceptual blur metric", SPIE 6492, 2007.
    """
    image = grey.astype(np.float32)
    shares = []
    for axis, kernel in ((0, (1, 11)), (1, (11, 1))):
        before = np.abs(np.diff(image, axis=axis))
        after = np.abs(np.diff(cv2.blur(image, kernel), axis=axis))
        total = float(before.sum())
        shares.append(1.0 - float(np.maximum(before - after, 0).sum()) / total if total > 0 else 1.0)
    return max(shares)


def relative_sharpness(laplacian: Sequence[float], *, ordered: bool) -> F64:
    """Each value by the median of its neighbours in time, or of all where there is no order."""
    values = np.asarray(laplacian, np.float64)
    if not ordered:
        return values / max(float(np.median(values)), 1e-9)
    padded = np.pad(values, NEIGHBOURS, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * NEIGHBOURS + 1)
    return values / np.maximum(np.nanmedian(windows, axis=1), 1e-9)


def movement(before: U8, after: U8) -> float:
    """Median movement of features between two images [share of the long side], at most 0.25; that where it's lost."""
    followed = follow(before, after)
    if followed is None:
        return _MAX_MOVE
    median = float(np.median(np.linalg.norm(followed[1] - followed[0], axis=1)))
    return min(median / max(before.shape), _MAX_MOVE)


def follow(before: U8, after: U8) -> tuple[F32, F32] | None:
    """Positions (N, 2) [px] of features in two images by pyramidal Lucas-Kanade.

    None where sizes differ, there are too few features, or most are lost: then the images are far apart.
    """
    if before.shape != after.shape:
        return None
    corners = cv2.goodFeaturesToTrack(before, 200, 0.01, 8)
    if corners is None or len(corners) < 10:
        return None
    moved, found, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, np.empty_like(corners), winSize=(15, 15))
    good = found[:, 0] > 0
    if good.mean() < 0.3:
        return None
    return np.asarray(corners[good, 0], np.float32), np.asarray(moved[good, 0], np.float32)


def _fault(quality: Quality, sharpness: float, params: SelectParams) -> str | None:
    if quality.fault:
        return quality.fault
    if quality.blur > params.max_blur:
        return f"blurred: blur {quality.blur:.2f}, at most {params.max_blur:g}"
    if sharpness < params.min_sharpness and quality.blur > SOFT:
        return f"blurred: {sharpness:.2f} of its neighbours' sharpness, at least {params.min_sharpness:g}"
    return None


def _require_usable(names: Sequence[str], reasons: Sequence[str | None], params: SelectParams) -> None:
    faulty = [(name, reason) for name, reason in zip(names, reasons, strict=True) if reason]
    usable = len(names) - len(faulty)
    if usable < max(3, params.min_usable_share * len(names)):
        examples = "; ".join(f"{name}: {reason}" for name, reason in faulty[:3])
        raise CaptureError(
            f"at least 3 images and {params.min_usable_share:.0%} of all must be neither black nor blurred",
            found=f"{usable} of {len(names)} ({examples})",
            remedy="capture again with more light and slower movement (docs/capture-guide.md)",
        )


def _without_repeats(
    usable: Sequence[int],
    small: Sequence[U8 | None],
    names: Sequence[str],
    reasons: list[str | None],
    params: SelectParams,
) -> tuple[list[int], F64]:
    """Frames that moved against the last kept one, and by how much; the reasons of the others are filled in."""
    kept, moves = [usable[0]], [0.0]
    for i in track(usable[1:], "following movement"):
        before, after = small[kept[-1]], small[i]
        assert before is not None and after is not None
        move = movement(before, after)
        if move < params.min_parallax:
            reasons[i] = f"shows the same as another: {names[kept[-1]]}"
        else:
            kept.append(i)
            moves.append(move)
    return kept, np.array(moves)


def _by_place(capture: Capture, usable: Sequence[int], moves: F64) -> tuple[int, F64]:
    """How many keyframes the place gets, and by how much each frame counts as farther on than the one before.

    Without depth and poses nothing tells its size. A room's frames count by movement; those of larger places by the
    share of what they show that is new, so that what is filmed twice gets fewer.
    """
    if not (capture.has_depth and capture.has_poses):
        logger.info("keyframes of a room: without depth and poses nothing tells the size of the place")
        return KEYFRAMES, moves
    views = in_threads(lambda i: _seen(capture, capture.frames[i]), usable, "measuring the place")
    surface = surface_of(views)
    if rooms(surface) == 1:
        return KEYFRAMES, moves
    known = np.unique(np.concatenate(views))
    seen, new = np.zeros(len(known), bool), []
    for view in views:
        at = np.searchsorted(known, view)
        new.append(float(np.mean(~seen[at])) if len(at) else 0.0)
        seen[at] = True
    return by_place(KEYFRAMES, surface, "keyframes"), np.array(new) + REVISITED * moves


def _seen(capture: Capture, frame: Frame) -> I64:
    """The `seen_cells` of a frame, by some of its depth."""
    sample = depth_sample(capture.root, frame, 1000 * capture.depth_range if capture.depth_range else WELL)
    return seen_cells(sample.pose.apply(sample.points / 1000), sample.pose.translation)


def _thinned(usable: Sequence[int], moves: F64, sharpness: F64, count: int) -> list[int]:
    """The sharpest frame of each of `count` stretches of equal movement; for empty ones the sharpest of the others."""
    path = np.cumsum(moves)
    stretch = np.minimum((path - path[0]) / max(path[-1] - path[0], 1e-9) * count, count - 1).astype(int)
    best: dict[int, int] = {}
    for at, i in enumerate(usable):
        known = best.get(stretch[at])
        if known is None or sharpness[i] > sharpness[known]:
            best[int(stretch[at])] = i
    kept = set(best.values())
    left = sorted((i for i in usable if i not in kept), key=lambda i: (-sharpness[i], i))
    return sorted([*kept, *left[: count - len(kept)]])


def run(inputs: Mapping[str, Path], params: SelectParams, out_dir: Path) -> None:
    """Read the capture folder `inputs["capture"]` and write selection.json.

    Raises:
        CaptureError: When too few usable frames are left.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    selection = select_keyframes(Capture.load(inputs["capture"]), params)
    selection.save(out_dir)
    if selection.dropped:
        line = left_out_line(left_out_by_reason(selection.dropped), len(selection.keyframes) + len(selection.dropped))
        logger.info("not used %s; %s names each", line, SELECTION_FILE)
    logger.info("%d keyframes, %d of them held out", len(selection.keyframes), len(selection.held_out))
