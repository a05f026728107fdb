"""What the frames of a video show: cuts, repeated and sharp frames, and whether the camera moves through the scene.

A fixed or only rotating camera shows no depth. Two images of a camera that rotates or zooms are related by a
homography, as those of a plane are; images of a scene from two positions are not, and only obey the epipolar constraint
(Hartley and Zisserman, Multiple View Geometry, 2nd edition, sections 8.4 and 11.9). Images are compared at several
distances in time, as a short one proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import cv2
import numpy as np

from pipeline.capture.videos.movie import GreyFrame
from pipeline.io.working_images import shrunk_grey
from pipeline.progress import track
from pipeline.types import F32, F64, U8, Mask

REPEATED = 0.35
"""Mean difference to the frame before, of an image 48 wide, below which it is the same one [grey levels of 255].

What is encoded again differs by a tenth; a hand that holds still moves images by more than 1.
"""
MIN_CHANGE = 8.0
"""Mean difference to the frame before from which on a cut is possible at all [grey levels of 255]."""
CUT_RATIO = 2.5
"""Smallest difference of a cut by the median of its neighbours': fast movement changes all frames, a cut only one."""
MAX_LINKED = 0.2
"""Share of corners that can be followed across a cut by chance, at most."""
RATE = 3.0
"""Number of frames that are kept of a second."""
MIN_FRAMES, MAX_FRAMES = 48, 400
"""Number of frames that are kept of a short and of a long take."""
MIN_WINDOW = 0.08
"""Shortest stretch that one frame is kept of [s]: between neighbours at 24 a second hardly anything moves."""

SAMPLE = 1 / 6
"""Length of the stretches of which one grey image is kept to measure the movement [s]."""
MAX_SAMPLES = 3000
"""Largest number of kept grey images; above, every second is dropped. Packed they have about 50 kB each."""

_NEIGHBOURS = 6
_THUMBNAIL = 48
_FOLLOW_SIZE = 240

SIZE = 480
"""Long side of the images that are compared [px]."""
GAPS = (1, 2, 4, 8)
"""Distances of the compared images, in steps of `STEP`."""
STEP = 1 / 3
"""[s]"""
MAX_ANCHORS = 32
"""Images that are compared with later ones."""
MIN_MATCHES = 30
"""Fewest matches by which two images are judged."""
STILL = 0.0016
"""Largest movement of a matched point that stands still [share of the long side]: under a pixel of 480."""
MIN_STILL_SHARE, MIN_STILL_SPREAD = 0.3, 0.25
"""Share of the matches that stand still, and of the image's matched cells they lie in, where the camera is fixed."""
HOMOGRAPHY_TOLERANCE, EPIPOLAR_TOLERANCE = 0.005, 0.0025
"""Errors of matches that fit [share of the long side]; the first is wider, as lenses distort and shutters roll."""
MAX_HOMOGRAPHY_SHARE = 0.85
"""Share of the matches explained by a homography, of those that any camera movement explains; above, no parallax."""
MAX_SWAY = 0.05
"""Largest median movement of a camera in the hand of a standing person [share of the long side]."""
MIN_DEPTH_SPREAD, MIN_STRETCH = 0.5, 1.08
"""Of depth in images that hardly move, one must be reached: the share of the image's cells with matches off the
homography, or how far the homography is from that of a mere rotation. A passer-by reaches neither."""
MIN_CONSISTENT_SHARE = 0.6
"""Smallest share of matches that one rigid movement explains in a consistent scene."""


@dataclass(frozen=True)
class Measured:
    """A frame compared with its neighbours.

    Attributes:
        sharpness: Variance of the Laplacian.
        change: Mean difference to the frame before [grey levels of 255]; 0 for the first.
        linked: Share of corners of the frame before that are found again; 1 where the change is too small for a cut.
    """

    index: int
    time: float
    sharpness: float
    change: float
    linked: float


@dataclass(frozen=True)
class Take:
    """Frames between two cuts, from `start` to `end` [s]; those that repeat the one before are only counted."""

    frames: tuple[Measured, ...]
    repeated: int
    start: float
    end: float

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.end - self.start


class Samples:
    """The sharpest grey image of every stretch of a video, packed, to look at its movement later."""

    def __init__(self) -> None:
        self._window = SAMPLE
        self._stretch = -1
        self._kept: list[tuple[float, float, U8]] = []  # time, sharpness, image

    def add(self, frame: GreyFrame, sharpness: float) -> None:
        """Add the next frame."""
        stretch = int(frame.time // self._window)
        if self._kept and stretch == self._stretch:
            if sharpness <= self._kept[-1][1]:
                return
            self._kept.pop()
        elif len(self._kept) >= MAX_SAMPLES:
            self._kept = self._kept[::2]
            self._window *= 2
            stretch = int(frame.time // self._window)
        self._stretch = stretch
        packed = np.asarray(cv2.imencode(".jpg", frame.grey, [cv2.IMWRITE_JPEG_QUALITY, 90])[1], np.uint8)
        self._kept.append((frame.time, sharpness, packed))

    def between(self, start: float, end: float) -> tuple[list[float], Callable[[int], U8]]:
        """Times [s] of the images from `start` to `end`, and a function that gives the image of a number."""
        inside = [item for item in self._kept if start <= item[0] <= end]

        def unpacked(number: int) -> U8:
            return np.asarray(cv2.imdecode(inside[number][2], cv2.IMREAD_GRAYSCALE), np.uint8)

        return [time for time, _, _ in inside], unpacked


def measure(frames: Iterable[GreyFrame], samples: Samples) -> list[Measured]:
    """Measure a video's frames in order and add them to `samples`; one whose time does not increase is left out."""
    measured: list[Measured] = []
    before: U8 | None = None
    small_before = np.zeros((1, 1), np.float32)
    for frame in frames:
        if measured and frame.time <= measured[-1].time:
            continue
        small = shrunk_grey(frame.grey, _THUMBNAIL).astype(np.float32)
        change, linked = 0.0, 1.0
        if before is not None:
            # a change of the image's size is the hardest of cuts
            same_size = before.shape == frame.grey.shape
            change = float(np.abs(small - small_before).mean()) if same_size else 255.0
            linked = 1.0 if change < MIN_CHANGE else linked_share(before, frame.grey) if same_size else 0.0
        sharpness = float(cv2.Laplacian(frame.grey, cv2.CV_32F).var())
        measured.append(Measured(frame.index, frame.time, sharpness, change, linked))
        samples.add(frame, sharpness)
        before, small_before = frame.grey, small
    return measured


def takes_of(measured: Sequence[Measured]) -> list[Take]:
    """Split at cuts."""
    changes = np.array([frame.change for frame in measured])
    groups: list[list[Measured]] = []
    for i, frame in enumerate(measured):
        around = np.r_[changes[max(1, i - _NEIGHBOURS) : i], changes[i + 1 : i + 1 + _NEIGHBOURS]]
        usual = float(np.median(around)) if len(around) else 0.0
        cut = frame.linked < MAX_LINKED and frame.change > max(MIN_CHANGE, CUT_RATIO * usual)
        if i == 0 or cut:
            groups.append([])
        groups[-1].append(frame)
    takes = []
    for group in groups:
        frames = [frame for i, frame in enumerate(group) if i == 0 or frame.change >= REPEATED]
        takes.append(Take(tuple(frames), len(group) - len(frames), group[0].time, group[-1].time))
    return takes


def linked_share(before: U8, after: U8) -> float:
    """Share of corners that are followed to `after` and back to where they came from; 1 where there are too few."""
    # equal brightness and contrast, as a flash or a change of exposure is no cut
    first, second = (cv2.equalizeHist(shrunk_grey(grey, _FOLLOW_SIZE)) for grey in (before, after))
    corners = cv2.goodFeaturesToTrack(first, 150, 0.01, 6)
    if corners is None or len(corners) < 15:
        return 1.0
    moved, tracked, _ = cv2.calcOpticalFlowPyrLK(first, second, corners, np.empty_like(corners), winSize=(15, 15))
    back, returned, _ = cv2.calcOpticalFlowPyrLK(second, first, moved, np.empty_like(corners), winSize=(15, 15))
    same = np.linalg.norm((back - corners)[:, 0], axis=1) < 1.0
    return float(np.mean(same & (tracked[:, 0] > 0) & (returned[:, 0] > 0)))


def window_of(duration: float) -> float:
    """Length of the stretches of which the sharpest frame is kept, for a take of some duration [s]."""
    count = float(np.clip(RATE * duration, MIN_FRAMES, MAX_FRAMES))
    return max(duration / count, MIN_WINDOW)


def sharpest(frames: Sequence[Measured], window: float) -> list[Measured]:
    """The sharpest frame of each stretch of `window` seconds; a stretch without frames gives none."""
    best: dict[int, Measured] = {}
    for frame in frames:
        stretch = int((frame.time - frames[0].time) / window + 1e-6)
        if stretch not in best or frame.sharpness > best[stretch].sharpness:
            best[stretch] = frame
    return [best[stretch] for stretch in sorted(best)]


@dataclass(frozen=True, eq=False)
class Features:
    """Points (N, 2) [px] of an image of `size` (width, height), and their root-SIFT (N, 128) of unit length."""

    points: F32
    descriptors: F32
    size: tuple[int, int]


@dataclass(frozen=True)
class Pair:
    """How two images of one video, of the times `start` and `end` [s], are related.

    Attributes:
        moved: Median movement of points found in both [share of the long side].
        still: Whether points that stand still are spread over the image.
        parallax: Whether it shows depth, or an object that moves as if it were nearer than the rest.
        widespread: Whether more than one object in one spot shows depth.
        rigid_share: Share of the matches that fit one movement of the camera.
    """

    start: float
    end: float
    moved: float
    still: bool
    parallax: bool
    widespread: bool
    rigid_share: float


@dataclass(frozen=True)
class Segment:
    """An image, for the stretch of the video from `start` to `end` [s], compared with others, mostly later ones."""

    start: float
    end: float
    pairs: tuple[Pair, ...]

    @property
    def fixed(self) -> bool:
        """Whether the camera stands still."""
        return bool(self.pairs) and all(pair.still for pair in self.pairs)

    @property
    def parallax(self) -> bool:
        """Whether half of the pairs show depth; those over the shortest and longest time need not."""
        sways = max((pair.moved for pair in self.pairs), default=0.0) < MAX_SWAY
        deep = sum(pair.parallax and (pair.widespread or not sways) for pair in self.pairs)
        return bool(self.pairs) and 2 * deep >= len(self.pairs)

    @property
    def rigid(self) -> bool:
        """Whether the scene is rigid, with no parts that move by themselves."""
        return bool(self.pairs) and float(np.median([p.rigid_share for p in self.pairs])) >= MIN_CONSISTENT_SHARE


def segments_of(greys: Callable[[int], U8], times: Sequence[float]) -> list[Segment]:
    """Compare images of a video, (H, W) with a long side of `SIZE` by their number, with later ones; `times` in [s]."""
    features = lru_cache(maxsize=64)(lambda number: features_of(greys(number)))
    last = len(times) - 1
    step = max(1, round(STEP * last / max(times[-1] - times[0], 1e-9)))
    anchors = sorted({round(i) for i in np.linspace(0, max(0, last - 1), min(MAX_ANCHORS, max(1, last)))})
    borders = [times[0], *((times[a] + times[b]) / 2 for a, b in pairwise(anchors)), times[-1]]
    segments = []
    for n, anchor in enumerate(track(anchors, "measuring how the camera moves")):
        pairs = []
        for gap in GAPS:
            ahead, back = anchor + gap * step, anchor - gap * step
            if ahead <= last:
                pairs.append(compare(features(anchor), features(ahead), times[anchor], times[ahead]))
            elif back >= 0:  # at the end, look back
                pairs.append(compare(features(back), features(anchor), times[back], times[anchor]))
        segments.append(Segment(borders[n], borders[n + 1], tuple(filter(None, pairs))))
    return segments


def compare(first: Features, second: Features, start: float, end: float) -> Pair | None:
    """Match two images' features and fit a homography and an epipolar geometry; None where too few match."""
    before, after = _matched(first, second)
    if len(before) < MIN_MATCHES:
        return None
    long_side = max(first.size)
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
    flat_share = float(planar.sum() / max(explained.sum(), 1))
    depth_spread = len(np.unique(deep, axis=0)) / len(np.unique(cells, axis=0))
    stretched = homography is not None and _stretch(homography, first) >= MIN_STRETCH
    return Pair(
        start,
        end,
        moved=float(np.median(steps)),
        still=still,
        parallax=not still and flat_share < MAX_HOMOGRAPHY_SHARE,
        widespread=depth_spread >= MIN_DEPTH_SPREAD or stretched,
        rigid_share=float(max(planar.mean(), rigid.mean())),
    )


def speed(segments: Sequence[Segment]) -> float:
    """Speed of the image in the faster tenth of the video [share of the long side per second]."""
    nearest = [min(segment.pairs, key=lambda pair: pair.end - pair.start) for segment in segments if segment.pairs]
    rates = [pair.moved / (pair.end - pair.start) for pair in nearest if pair.end > pair.start]
    return float(np.quantile(rates, 0.9)) if rates else 0.0


def features_of(grey: U8) -> Features:
    """Points of an image to be found again."""
    detector = cv2.SIFT.create(nfeatures=700, contrastThreshold=0.02)
    size = (grey.shape[1], grey.shape[0])
    keypoints, descriptors = detector.detectAndCompute(grey, None)
    if descriptors is None:
        return Features(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32), size)
    rooted = np.sqrt(descriptors / np.maximum(descriptors.sum(1, keepdims=True), 1e-9))
    return Features(np.array([point.pt for point in keypoints], np.float32), rooted, size)


def _matched(first: Features, second: Features) -> tuple[F32, F32]:
    """Positions (N, 2) [px] of features that are each other's nearest by far."""
    one, two = first.descriptors, second.descriptors
    if min(len(one), len(two)) < 2:
        return np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32)
    likeness = one @ two.T
    nearest, back = likeness.argmax(1), likeness.argmax(0)
    ordered = np.partition(likeness, -2, axis=1)
    distance, next_distance = np.sqrt(np.maximum(2 - 2 * ordered[:, [-1, -2]], 0)).T
    good = (distance < 0.8 * next_distance) & (back[nearest] == np.arange(len(one)))
    # once: a point may have several orientations
    pairs = np.unique(np.c_[first.points[good], second.points[nearest[good]]], axis=0)
    return pairs[:, :2], pairs[:, 2:]


def _fit(fit: Callable[[], tuple[object, object]], count: int) -> tuple[F64 | None, Mask]:
    """A model, and which of `count` matches fit it; None and none without one, which OpenCV reports in two ways."""
    try:
        model, mask = fit()
    except cv2.error:  # its check of degenerate samples
        model = mask = None
    if model is None or mask is None:
        return None, np.zeros(count, bool)
    return np.asarray(model, np.float64), np.asarray(mask).ravel().astype(bool)


def _stretch(homography: F64, image: Features) -> float:
    """Deviation from a mere rotation, whatever the focal length (Hartley and Zisserman, section 13.4)."""
    ratios = []
    for focal in max(image.size) * np.geomspace(0.5, 2, 9):
        matrix = np.array([[focal, 0, image.size[0] / 2], [0, focal, image.size[1] / 2], [0, 0, 1]])
        values = np.linalg.svd(np.linalg.inv(matrix) @ homography @ matrix, compute_uv=False)
        ratios.append(float(values[0] / max(values[2], 1e-12)))
    return min(ratios)
