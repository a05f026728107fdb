"""Cuts and repeated frames of a video, and the sharpest frames of a take."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.capture.videos.movie import GreyFrame

REPEATED = 0.35
"""Mean difference to the frame before, of a picture 48 wide, below which it is the same one [grey levels of 255].

What is encoded anew differs by a tenth; a hand that holds still moves pictures by more than 1.
"""
MIN_CHANGE = 8.0
"""Mean difference to the frame before from which on a cut is possible at all [grey levels of 255]."""
CUT_RATIO = 2.5
"""And by the median of the neighbours' differences: fast movement changes all frames, a cut only one."""
MAX_LINKED = 0.2
"""Share of corners that can be followed across a cut by chance, at most."""
RATE = 3.0
"""Frames that are kept of a second."""
FEWEST, MOST = 48, 400
"""Frames that are kept of a short and of a long take."""
MIN_WINDOW = 0.08
"""Shortest stretch that one frame is kept of [s]: between neighbours at 24 a second hardly anything moves."""

SAMPLE = 1 / 6
"""Stretch of which one grey picture is kept to look at the movement [s]."""
MAX_SAMPLES = 3000
"""Grey pictures kept at most; above it every second goes. Packed they have about 50 kB each."""

_NEIGHBOURS = 6
_THUMBNAIL = 48
_FOLLOW_SIZE = 240


@dataclass(frozen=True)
class Measured:
    """What is known of a frame beside its neighbours.

    Attributes:
        index: In the video.
        time: [s]
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
    """Frames between two cuts; repeated frames are left out.

    Attributes:
        frames: In order of time, at least one.
        repeated: How many repeat the one before.
        start: Time of its first frame [s].
        end: Time of its last frame, a repeated one too [s].
    """

    frames: tuple[Measured, ...]
    repeated: int
    start: float
    end: float

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.end - self.start


class Samples:
    """The sharpest grey picture of every stretch of a video, packed, to look at its movement later."""

    def __init__(self) -> None:
        self._window = SAMPLE
        self._stretch = -1
        self._kept: list[tuple[float, float, NDArray[np.uint8]]] = []  # time, sharpness, picture

    def add(self, frame: GreyFrame, sharpness: float) -> None:
        """Take in the next frame."""
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

    def between(self, start: float, end: float) -> tuple[list[float], Callable[[int], NDArray[np.uint8]]]:
        """Times [s] of the pictures from `start` to `end`, and a function that gives the picture of a number."""
        inside = [item for item in self._kept if start <= item[0] <= end]

        def unpacked(number: int) -> NDArray[np.uint8]:
            return np.asarray(cv2.imdecode(inside[number][2], cv2.IMREAD_GRAYSCALE), np.uint8)

        return [time for time, _, _ in inside], unpacked


def measure(frames: Iterable[GreyFrame], samples: Samples) -> list[Measured]:
    """Measure frames that follow each other; a frame whose time does not increase is left out.

    Args:
        frames: In the order of the video.
        samples: Takes in the same frames.
    """
    measured: list[Measured] = []
    before: NDArray[np.uint8] | None = None
    small_before = np.zeros((1, 1), np.float32)
    for frame in frames:
        if measured and frame.time <= measured[-1].time:
            continue
        small = _shrunk(frame.grey, _THUMBNAIL).astype(np.float32)
        change, linked = 0.0, 1.0
        if before is not None:
            # a change of the picture's size is the hardest of cuts
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


def linked_share(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> float:
    """Share of corners that are followed to `after` and back to where they came from; 1 where there are too few."""
    # equal brightness and contrast, as a flash or a change of exposure is no cut
    first, second = (cv2.equalizeHist(_shrunk(grey, _FOLLOW_SIZE)) for grey in (before, after))
    corners = cv2.goodFeaturesToTrack(first, 150, 0.01, 6)
    if corners is None or len(corners) < 15:
        return 1.0
    there, found, _ = cv2.calcOpticalFlowPyrLK(first, second, corners, np.empty_like(corners), winSize=(15, 15))
    back, returned, _ = cv2.calcOpticalFlowPyrLK(second, first, there, np.empty_like(corners), winSize=(15, 15))
    same = np.linalg.norm((back - corners)[:, 0], axis=1) < 1.0
    return float(np.mean(same & (found[:, 0] > 0) & (returned[:, 0] > 0)))


def window_of(duration: float) -> float:
    """Length of the stretches of which the sharpest frame is kept, for a take of some duration [s]."""
    wanted = float(np.clip(RATE * duration, FEWEST, MOST))
    return max(duration / wanted, MIN_WINDOW)


def sharpest(frames: Sequence[Measured], window: float) -> list[Measured]:
    """The sharpest frame of each stretch of `window` seconds; a stretch without frames gives none."""
    best: dict[int, Measured] = {}
    for frame in frames:
        stretch = int((frame.time - frames[0].time) / window + 1e-6)
        if stretch not in best or frame.sharpness > best[stretch].sharpness:
            best[stretch] = frame
    return [best[stretch] for stretch in sorted(best)]


def _shrunk(grey: NDArray[np.uint8], long_side: int) -> NDArray[np.uint8]:
    scale = min(1.0, long_side / max(grey.shape))
    size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)
