"""Recordings that cameras cut into files: which files are chapters of one, in which order, and their frames as one.

Sources: GoPro's support pages "File Naming Convention" (GX010042, GX020042 ...; GOPR0042, GP010042 ... until the HERO5)
and names of Insta360 and DJI, which keep the recording's time stamp and count. DJI's drones count all files: there a
chapter begins when the one before it ends.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from pipeline.capture.cameras.gpmf import Telemetry, joined, telemetry_of
from pipeline.capture.reader import natural
from pipeline.capture.source import CaptureSource
from pipeline.capture.videos.movie import GreyFrame, Movie, MovieFrame, describe, greys_of, images_of, opened
from pipeline.io.image_files import MAX_PIXELS

_NAMES = (
    re.compile(r"(?P<kind>G[HXS])(?P<chapter>\d\d)(?P<recording>\d{4})"),
    re.compile(r"(?P<kind>GOPR|GP(?P<chapter>\d\d))(?P<recording>\d{4})"),
    re.compile(r"(?P<kind>\D+)(?P<recording>\d{8}_?\d{6}_(?:\d\d_)?)(?P<chapter>\d{3,4})(?:_\D+)?"),
)
_COUNTED = re.compile(r"(?P<kind>.*?)(?P<chapter>\d+)")
MAX_GAP = 2.0
"""Largest difference between the end of a chapter and the beginning of the next, by headers in whole seconds [s]."""
MAX_VIDEOS = 100
"""Of more videos no headers are compared."""


def recordings_of(source: CaptureSource, videos: Sequence[str]) -> list[list[str]]:
    """Videos of a source by recording, the chapters of each in their order."""
    named: dict[tuple[str, str], list[tuple[int, str]]] = {}
    others: list[str] = []
    for video in videos:
        stem = video.rpartition("/")[2].rpartition(".")[0].upper()
        match = next((match for pattern in _NAMES if (match := pattern.fullmatch(stem))), None)
        if match is None:
            others.append(video)
        else:  # all chapters but the first of an old GoPro's are called GP
            kind = "GOPR" if match["kind"].startswith("GP") else match["kind"]
            named.setdefault((kind, match["recording"]), []).append((int(match["chapter"] or 0), video))
    found = [[video for _, video in sorted(chapters)] for chapters in named.values()]
    for video in sorted(others, key=natural):
        if found and len(others) <= MAX_VIDEOS and _goes_on(source, found[-1][-1], video):
            found[-1].append(video)
        else:
            found.append([video])
    return found


def _goes_on(source: CaptureSource, before: str, after: str) -> bool:
    """Whether names count on and the second begins when the first ends, by their headers."""
    stems = [_COUNTED.fullmatch(video.rpartition("/")[2].rpartition(".")[0]) for video in (before, after)]
    first, second = stems
    if (
        not first
        or not second
        or first["kind"] != second["kind"]
        or int(second["chapter"]) != int(first["chapter"]) + 1
    ):
        return False
    with source.local(before) as one, source.local(after) as other:
        (begin, seconds), (next_begin, _) = _clock(one), _clock(other)
    if begin is None or next_begin is None:
        return False
    return abs((next_begin - begin).total_seconds() - seconds) <= MAX_GAP


def _clock(file: Path) -> tuple[datetime | None, float]:
    """When a video was begun by its header, and how long it is [s]."""
    with opened(file, MAX_PIXELS) as container:
        try:
            begin = datetime.fromisoformat(container.metadata.get("creation_time", ""))
        except ValueError:
            begin = None
        return begin, (container.duration or 0) / 1_000_000


@dataclass(eq=False)
class Recording:
    """The files of a recording in order, whose frames are numbered and timed as of one file.

    `greys` must be exhausted before `images` is called: only decoding tells where a chapter begins.
    """

    files: Sequence[Path]
    _begins: list[tuple[int, float]] = field(default_factory=list)
    """Number of each chapter's first frame, and what is added to its times [s]."""

    def describe(self) -> Movie:
        """As `movie.describe` of the first file, with all frames and the whole duration."""
        movies = [describe(file) for file in self.files]
        return replace(movies[0], frames=sum(m.frames for m in movies), duration=sum(m.duration for m in movies))

    def greys(self, long_side: int) -> Iterator[GreyFrame]:
        """As `movie.greys_of`."""
        number, end, step = 0, 0.0, 0.0
        for file in self.files:
            first, shift = number, None
            for frame in greys_of(file, long_side):
                if shift is None:
                    shift = end + step - frame.time if number else 0.0
                    self._begins.append((first, shift))
                time = frame.time + shift
                number, step, end = first + frame.index + 1, time - end, time
                yield GreyFrame(first + frame.index, time, frame.grey)

    def telemetry(self) -> Telemetry:
        """What the camera recorded beside the chapters that were decoded; as `images`, after `greys`."""
        begun = zip(self.files, self._begins, strict=False)
        return joined([(telemetry_of(file), shift) for file, (_, shift) in begun])

    def images(self, chosen: Container[int]) -> Iterator[MovieFrame]:
        """As `movie.images_of` those of the chosen numbers."""
        for file, (first, shift) in zip(self.files, self._begins, strict=False):  # what comes last may be unused
            for frame in images_of(file, lambda index, first=first: first + index in chosen):
                yield MovieFrame(first + frame.index, frame.time + shift, frame.image)
