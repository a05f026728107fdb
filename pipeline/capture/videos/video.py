"""Reader of a video: one take of a moving camera as sharp frames with times, and what a GoPro records beside them.

`generated` is the same reader for the output of a video model: nothing in it has a size, and the scene need not be
consistent, so that the capture notes in which seconds it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.capture.frames import ListedFrame, sensor_capture
from pipeline.capture.images import IMAGE_SUFFIXES, DecodedImage
from pipeline.capture.model import Capture, Credentialed, Skipped
from pipeline.capture.params import CaptureParams
from pipeline.capture.reader import FEW_IMAGES, Reader, Survey, suffix_of
from pipeline.capture.source import CaptureSource
from pipeline.capture.videos.chapters import Recording, recordings_of
from pipeline.capture.videos.containers import VIDEO_SUFFIXES, credentials_of
from pipeline.capture.videos.motion import (
    SIZE,
    Measured,
    Samples,
    Segment,
    Take,
    measure,
    segments_of,
    sharpest,
    speed,
    takes_of,
    window_of,
)
from pipeline.capture.videos.movie import GreyFrame, Movie
from pipeline.capture.videos.telemetry import with_telemetry
from pipeline.errors import CaptureError

MIN_USABLE_SHARE = 0.25
"""Smallest share of a take's segments that show depth; moving people look like depth now and then."""
MIN_TAKE = 1.0
"""Shorter takes aren't looked at [s]."""
READ_OUT = 0.02
"""Time in which a phone's shutter rolls over the image, 10 to 30 ms [s]."""
MAX_SKEW = 0.01
"""Movement during that time above which a capture is warned about [share of the long side]."""


@dataclass(frozen=True)
class Judged:
    """A take and its movement: no segments where it is too short; if `generated`, the scene must be consistent."""

    take: Take
    segments: tuple[Segment, ...]
    generated: bool

    @property
    def known(self) -> list[Segment]:
        """Moments with enough detail to judge."""
        return [segment for segment in self.segments if segment.pairs]

    @property
    def good(self) -> list[Segment]:
        """Segments that show depth, and a consistent scene where that is in doubt."""
        return [segment for segment in self.known if segment.parallax and (segment.rigid or not self.generated)]

    @property
    def usable(self) -> bool:
        """Whether enough of it is good, or nothing can be measured."""
        return len(self.good) >= MIN_USABLE_SHARE * len(self.known) and self.take.seconds >= MIN_TAKE


def read_video(source: CaptureSource, out_dir: Path, params: CaptureParams, *, generated: bool) -> Capture:
    """Read the source's only recording; `generated` says whether a video model made it.

    Raises:
        CaptureError: When it can't be decoded, or shows no scene from several positions.
    """
    names = _recording(source)
    name = names[0]
    with ExitStack() as opened:
        recording = Recording([opened.enter_context(source.local(name)) for name in names])
        movie = recording.describe()
        samples = Samples()
        measured = measure(_in_range(recording.greys(SIZE), params), samples)
        takes = sorted(takes_of(measured), key=lambda take: -take.seconds)
        judged = _first_usable(takes, samples, source.where(name), generated=generated)
        take = judged.take
        chosen = sharpest(take.frames, window_of(take.seconds))[:: params.stride]
        if len(chosen) < params.min_frames:
            rule = f"a video must give at least {params.min_frames} different frames"
            raise source.broken(name, rule, f"{len(chosen)}", "use a longer one, or a smaller capture.stride")
        used = f"{take.start:.1f}-{take.end:.1f} s (there is a cut between them)"
        skipped = [
            Skipped(f"{name}, {other.start:.1f}-{other.end:.1f} s", f"another take than the one that is used: {used}")
            for other in takes
            if other is not take
        ]
        notes = _notes(movie, judged, chosen)
        if len(names) > 1:
            notes.append(f"{len(names)} chapters of one recording were joined: {', '.join(names)}")
        credentials = Credentialed.of([credentials_of(file) for file in recording.files])
        if not generated and credentials and credentials.signed:
            notes.append(
                "the video has content credentials that don't call it generated; if it is, set capture.origin=generated"
            )
        capture = sensor_capture(
            GENERATED if generated else READER,
            _listed(recording, chosen),
            source,
            out_dir,
            params,
            skipped=sorted(skipped, key=lambda item: item.file),
            notes=notes,
        )
        capture = replace(capture, credentials=credentials)
        if generated:
            return capture
        return with_telemetry(capture, recording.telemetry(), movie.rotation, keep_gps=params.keep_gps)


def _recording(source: CaptureSource) -> list[str]:
    """The names of the only recording's chapters, in order; usually there is one."""
    recordings = recordings_of(source, _videos(source))
    if len(recordings) > 1:
        videos = [chapters[0] for chapters in recordings]
        found = f"{len(videos)}: {', '.join(videos[:4])}{', ...' if len(videos) > 4 else ''}"
        remedy = "name one of the files, or move one recording into a folder of its own; a scene is filmed in one go"
        raise source.broken("", "one video at a time", found, remedy)
    return recordings[0]


def _videos(source: CaptureSource) -> list[str]:
    return [name for name in source.names if "/" not in name and suffix_of(name) in VIDEO_SUFFIXES]


def _recognise(source: CaptureSource) -> bool:
    images = [name for name in source.names if "/" not in name and suffix_of(name) in IMAGE_SUFFIXES]
    return bool(_videos(source)) and len(images) < FEW_IMAGES


def _says_generated(source: CaptureSource) -> bool:
    videos = _videos(source)
    if not _recognise(source) or len(videos) > 1 or suffix_of(videos[0]) not in (".mp4", ".mov", ".m4v"):
        return False
    with source.local(videos[0]) as file:
        return credentials_of(file) == "generated"


def _survey(source: CaptureSource) -> Survey:
    names = _recording(source)
    with ExitStack() as opened:
        movie = Recording([opened.enter_context(source.local(name)) for name in names]).describe()
    window = window_of(movie.duration)
    frames = min(movie.frames, round(movie.duration / window)) if movie.duration > 0 else movie.frames
    return Survey(names, frames, estimated=True)


def _in_range(frames: Iterator[GreyFrame], params: CaptureParams) -> Iterator[GreyFrame]:
    """Frames of the time range asked for; nothing after it is decoded."""
    first = None
    for frame in frames:
        first = frame.time if first is None else first
        if params.end is not None and frame.time - first > params.end:
            return
        if frame.time - first >= params.start:
            yield frame


def _first_usable(takes: Sequence[Take], samples: Samples, where: str, *, generated: bool) -> Judged:
    """The longest take that shows a scene from several positions."""
    if not takes:
        raise CaptureError(
            "capture.start must lie within the video", found="no frame after it", remedy="lower it", file=where
        )
    judged: list[Judged] = []
    for take in takes:
        times, image = samples.between(take.start, take.end)
        segments = segments_of(image, times) if len(times) > 1 and take.seconds >= MIN_TAKE else []
        judged.append(Judged(take, tuple(segments), generated))
        if judged[-1].usable:
            return judged[-1]
    raise _refused(judged[0], len(takes), where)


def _refused(judged: Judged, takes: int, where: str) -> CaptureError:
    take, known = judged.take, judged.known
    fixed = sum(segment.fixed for segment in known)
    apart = sum(segment.parallax and not segment.rigid for segment in known)
    rule = "a scene can only be seen in depth from several positions"
    if take.seconds < MIN_TAKE:
        rule = f"a take of a video must last {MIN_TAKE:g} s or more"
        found = f"{take.seconds:.1f} s between {take.start:.1f} and {take.end:.1f} s"
        remedy = "use a video without cuts: one slow walk round the scene"
    elif 2 * fixed > len(known):
        found = f"the camera does not move: what is around stands still in {fixed} of {len(known)} segments"
        remedy = "film again while walking round the scene (docs/capture-guide.md)"
    elif 2 * apart > len(known):
        rule = "a generated video must show one consistent scene"
        found = f"points move as in no rigid scene in {apart} of {len(known)} segments"
        remedy = "generate it again with fewer moving objects and a slow camera"
    else:
        flat = f"{len(known) - len(judged.good)} of {len(known)} segments"
        found = f"no parallax: the camera only rotates or zooms, or shows one flat object, in {flat}"
        remedy = (
            "film again while walking sideways or round the scene, not rotating on the spot (docs/capture-guide.md)"
        )
    of_takes = f" (the longest of {takes} takes)" if takes > 1 else ""
    return CaptureError(rule, found=found + of_takes, remedy=remedy, file=where)


def _notes(movie: Movie, judged: Judged, chosen: Sequence[Measured]) -> list[str]:
    take, generated = judged.take, judged.generated
    notes = [
        f"{len(chosen)} frames of {take.seconds:.1f} s of {movie.codec} video, the sharpest of every "
        f"{window_of(take.seconds):.2f} s; their focal length is guessed"
    ]
    if generated:
        notes.append("generated: a video model made this scene, it has no true size and no true gravity")
    if judged.known and len(judged.good) < len(judged.known):
        shown = "depth and a consistent scene" if generated else "depth"
        notes.append(f"only these seconds show {shown}: {_seconds(judged)}")
    elif generated:
        notes.append(f"usable seconds: {take.start:.1f}-{take.end:.1f}")
    if not judged.known:
        notes.append("too little detail to measure whether the camera moves through the scene")
    if take.repeated:
        notes.append(f"{take.repeated} frames that repeat the one before were left out")
    if max(movie.stored_size) > max(movie.width, movie.height):
        stored, given = "x".join(map(str, movie.stored_size)), f"{movie.width}x{movie.height}"
        notes.append(f"frames of {stored} were shrunk to {given}: nothing gains from more")
    if movie.transfer != "sdr":
        notes.append(f"HDR ({movie.transfer.upper()}) was brought to sRGB by one curve for all frames")
    skew = READ_OUT * speed(judged.segments)
    if skew > MAX_SKEW and not generated:
        notes.append(
            f"fast movement: a rolling shutter bends images by up to {100 * skew:.1f} % of their width, which no "
            "camera model explains; film slower"
        )
    return notes


def _seconds(judged: Judged) -> str:
    """Stretches of good segments, those that touch joined: "0.0-3.2, 5.0-8.0"."""
    stretches: list[list[float]] = []
    for segment in judged.good:
        if stretches and segment.start <= stretches[-1][1] + 1e-6:
            stretches[-1][1] = segment.end
        else:
            stretches.append([segment.start, segment.end])
    return ", ".join(f"{start:.1f}-{end:.1f}" for start, end in stretches)


def _listed(recording: Recording, chosen: Sequence[Measured]) -> Iterator[ListedFrame]:
    """The chosen frames as they are decoded."""
    indices = {frame.index for frame in chosen}
    for frame in recording.images(indices):
        image = DecodedImage(frame.image)
        yield ListedFrame(
            key=f"{frame.index:06d}",
            name=f"{frame.index:06d}.jpg",
            image=lambda image=image: image,
            time=frame.time,
            source_time=frame.time,
            focal_source="guessed",
        )
        if frame.index == chosen[-1].index:
            return


READER = Reader(
    kind="video",
    form="a video of a camera that moves through a scene: *.mp4, *.mov, *.mkv, *.webm, *.avi, *.mts",
    yields="frame times; a GoPro's gravity, its scale by GPS outdoors",
    recognise=_recognise,
    survey=_survey,
    read=lambda source, out_dir, params: read_video(source, out_dir, params, generated=params.origin == "generated"),
)

GENERATED = Reader(
    kind="generated",
    form="a video made by a video model, whose content credentials say so: *.mp4, *.mov",
    yields="frame times, usable seconds",
    recognise=_says_generated,
    survey=_survey,
    read=lambda source, out_dir, params: read_video(
        source, out_dir, params, generated=params.origin in ("auto", "generated")
    ),
)
