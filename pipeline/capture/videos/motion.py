"""Whether the camera of a video moves through the place: a fixed or only turning one shows no depth.

Two pictures of a camera that turns or zooms are related by a homography, as those of a plane are; pictures of a place
from two positions are not, and only obey the epipolar constraint (Hartley and Zisserman, Multiple View Geometry, 2nd
edition, sections 8.4 and 11.9). Compared are pictures at several distances in time, as a short one proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.progress import track

SIZE = 480
"""Long side of the pictures that are compared [px]."""
GAPS = (1, 2, 4, 8)
"""Distances of the compared pictures, in steps of `STEP`."""
STEP = 1 / 3
"""[s]"""
MAX_ANCHORS = 32
"""Pictures that are compared with later ones."""
MIN_MATCHES = 30
"""Fewest matches by which two pictures are judged."""
STILL = 0.0016
"""Movement of a matched point below which it stands still [share of the long side]: under a pixel of 480."""
MIN_STILL_SHARE, MIN_STILL_SPREAD = 0.3, 0.25
"""Share of the matches that stand still, and of the picture's matched cells they lie in, where the camera is fixed."""
HOMOGRAPHY_TOLERANCE, EPIPOLAR_TOLERANCE = 0.005, 0.0025
"""Errors of matches that fit [share of the long side]; the first is wider, as lenses distort and shutters roll."""
MAX_HOMOGRAPHY_SHARE = 0.85
"""Of the matches that any camera movement explains, those that a homography explains too; above it: no parallax."""
MAX_SWAY = 0.05
"""Median movement that a camera in the hand of somebody who stands does not exceed [share of the long side]."""
MIN_DEPTH_SPREAD, MIN_STRETCH = 0.5, 1.08
"""Of depth in pictures that hardly move, one must be reached: the share of the picture's cells with matches off the
homography, or how far the homography is from that of a mere turn. A passer-by reaches neither."""
MIN_CONSISTENT_SHARE = 0.6
"""Share of matches that one rigid movement must explain where a place holds together."""

Grey = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Features:
    """Points of a picture.

    Attributes:
        points: (N, 2) positions [px].
        descriptors: (N, 128) root-SIFT, of unit length.
        size: (width, height) of the picture [px].
    """

    points: NDArray[np.float32]
    descriptors: NDArray[np.float32]
    size: tuple[int, int]

    @property
    def long_side(self) -> int:
        """Longer side of the picture [px]."""
        return max(self.size)


@dataclass(frozen=True)
class Pair:
    """How two pictures of one video are related.

    Attributes:
        start: Time of the earlier one [s].
        end: Time of the later one [s].
        matches: Points found in both.
        moved: Median movement of them [share of the long side].
        still: Whether points that stand still are spread over the picture.
        homography_share: Share of the matches that fit any movement which fit a homography; 1 = no parallax.
        depth_spread: Share of the cells with matches in which some fit a movement of the camera, but no homography.
        stretch: Ratio of the homography's largest and smallest singular value in rays; 1 for a camera that only turns.
        rigid_share: Share of the matches that fit one movement of the camera.
    """

    start: float
    end: float
    matches: int
    moved: float
    still: bool
    homography_share: float
    depth_spread: float
    stretch: float
    rigid_share: float

    @property
    def judged(self) -> bool:
        """Whether there are enough matches to say anything."""
        return self.matches >= MIN_MATCHES

    @property
    def parallax(self) -> bool:
        """Whether the pair shows depth, or something that moves as if it were nearer than the rest."""
        return self.judged and not self.still and self.homography_share < MAX_HOMOGRAPHY_SHARE

    @property
    def widespread(self) -> bool:
        """Whether what shows depth is more than one thing in one spot."""
        return self.depth_spread >= MIN_DEPTH_SPREAD or self.stretch >= MIN_STRETCH


@dataclass(frozen=True)
class Moment:
    """A picture of the video and what others, mostly later ones, show against it.

    Attributes:
        start: Of the stretch that it stands for [s].
        end: [s]
        pairs: It against other pictures, those with enough matches.
    """

    start: float
    end: float
    pairs: tuple[Pair, ...]

    @property
    def fixed(self) -> bool:
        """Whether the camera stands still."""
        return bool(self.pairs) and all(pair.still for pair in self.pairs)

    @property
    def parallax(self) -> bool:
        """Whether half of the pairs show depth; over the shortest and longest time none need be seen."""
        sways = max((pair.moved for pair in self.pairs), default=0.0) < MAX_SWAY
        deep = sum(pair.parallax and (pair.widespread or not sways) for pair in self.pairs)
        return bool(self.pairs) and 2 * deep >= len(self.pairs)

    @property
    def rigid(self) -> bool:
        """Whether the place holds together as a rigid one does."""
        return bool(self.pairs) and float(np.median([p.rigid_share for p in self.pairs])) >= MIN_CONSISTENT_SHARE


def moments_of(greys: Callable[[int], Grey], times: Sequence[float]) -> list[Moment]:
    """Compare pictures of a video with later ones.

    Args:
        greys: Pictures by their number, in the order of time, each (H, W) with a long side of `SIZE`.
        times: [s]
    """
    known: dict[int, Features] = {}
    last = len(times) - 1
    step = max(1, round(STEP * last / max(times[-1] - times[0], 1e-9)))
    anchors = sorted({round(i) for i in np.linspace(0, max(0, last - 1), min(MAX_ANCHORS, max(1, last)))})
    borders = [times[0], *((times[a] + times[b]) / 2 for a, b in pairwise(anchors)), times[-1]]
    moments = []
    for n, anchor in enumerate(track(anchors, "looking how the camera moves")):
        for old in [i for i in known if i < anchor - GAPS[-1] * step]:
            del known[old]
        pairs = []
        for gap in GAPS:
            other = anchor + gap * step
            if other > last:  # at the end, look back
                other = anchor - gap * step
            if other < 0:
                continue
            first, second = sorted((anchor, other))
            for i in (first, second):
                if i not in known:
                    known[i] = features_of(greys(i))
            pair = compare(known[first], known[second], times[first], times[second])
            if pair.judged:
                pairs.append(pair)
        moments.append(Moment(borders[n], borders[n + 1], tuple(pairs)))
    return moments


def compare(first: Features, second: Features, start: float, end: float) -> Pair:
    """Match two pictures' features and fit a homography and an epipolar geometry."""
    before, after = _matched(first, second)
    if len(before) < MIN_MATCHES:
        return Pair(start, end, len(before), 0.0, False, 1.0, 0.0, 1.0, 0.0)
    long_side = first.long_side
    steps = np.linalg.norm(after - before, axis=1) / long_side
    cells = np.floor(before / (long_side / 8)).astype(int)
    still_at = steps < STILL
    spread = len(np.unique(cells[still_at], axis=0)) / len(np.unique(cells, axis=0))
    still = bool(still_at.mean() >= MIN_STILL_SHARE and spread >= MIN_STILL_SPREAD)
    homography, planar = _fit(
        lambda: cv2.findHomography(before, after, cv2.USAC_MAGSAC, HOMOGRAPHY_TOLERANCE * long_side), len(before)
    )
    tolerance = EPIPOLAR_TOLERANCE * long_side
    _, rigid = _fit(lambda: cv2.findFundamentalMat(before, after, cv2.USAC_MAGSAC, tolerance, 0.999, 2000), len(before))
    explained = planar | rigid  # where nothing has depth the epipolar geometry may be any
    deep = cells[rigid & ~planar]
    return Pair(
        start,
        end,
        len(before),
        moved=float(np.median(steps)),
        still=still,
        homography_share=float(planar.sum() / max(explained.sum(), 1)),
        depth_spread=len(np.unique(deep, axis=0)) / len(np.unique(cells, axis=0)),
        stretch=1.0 if homography is None else _stretch(homography, first),
        rigid_share=float(max(planar.mean(), rigid.mean())),
    )


def speed(moments: Sequence[Moment]) -> float:
    """How fast the picture moves in the faster tenth of the video [share of the long side a second]."""
    nearest = [min(moment.pairs, key=lambda pair: pair.end - pair.start) for moment in moments if moment.pairs]
    rates = [pair.moved / (pair.end - pair.start) for pair in nearest if pair.end > pair.start]
    return float(np.quantile(rates, 0.9)) if rates else 0.0


def features_of(grey: Grey) -> Features:
    """Points of a picture to be found again."""
    detector: Any = cv2.SIFT.create(nfeatures=700, contrastThreshold=0.02)
    size = (grey.shape[1], grey.shape[0])
    found, descriptors = detector.detectAndCompute(grey, None)
    if descriptors is None:
        return Features(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32), size)
    rooted = np.sqrt(descriptors / np.maximum(descriptors.sum(1, keepdims=True), 1e-9))
    return Features(np.array([point.pt for point in found], np.float32), rooted, size)


def _matched(first: Features, second: Features) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Positions (N, 2) [px] of features that are each other's nearest by far."""
    one, two = first.descriptors, second.descriptors
    if min(len(one), len(two)) < 2:
        return np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32)
    likeness = one @ two.T
    nearest, back = likeness.argmax(1), likeness.argmax(0)
    ordered = np.partition(likeness, -2, axis=1)
    distance, next_distance = np.sqrt(np.maximum(2 - 2 * ordered[:, [-1, -2]], 0)).T
    good = (distance < 0.8 * next_distance) & (back[nearest] == np.arange(len(one)))
    pairs = np.unique(
        np.c_[first.points[good], second.points[nearest[good]]], axis=0
    )  # several orientations of one point
    return pairs[:, :2], pairs[:, 2:]


def _fit(fit: Callable[[], Any], count: int) -> tuple[NDArray[np.float64] | None, NDArray[np.bool_]]:
    """A model and which of `count` matches fit it; None and none where there is none, which OpenCV says in two ways."""
    try:
        model, mask = fit()
    except cv2.error:  # its check of degenerate samples
        model = mask = None
    if model is None or mask is None:
        return None, np.zeros(count, bool)
    return np.asarray(model, np.float64), np.asarray(mask).ravel().astype(bool)


def _stretch(homography: NDArray[np.float64], picture: Features) -> float:
    """How far it is from a turn, whatever the focal length (Hartley and Zisserman, section 13.4)."""
    ratios = []
    for focal in picture.long_side * np.geomspace(0.5, 2, 9):
        matrix = np.array([[focal, 0, picture.size[0] / 2], [0, focal, picture.size[1] / 2], [0, 0, 1]])
        values = np.linalg.svd(np.linalg.inv(matrix) @ homography @ matrix, compute_uv=False)
        ratios.append(float(values[0] / max(values[2], 1e-12)))
    return min(ratios)
