"""The video of a Stray Scanner recording: which of its pictures belongs to which line of odometry.csv.

The app stamps its n-th picture, of every d-th of 60 a second, with (n d - 1) / 60 s (VideoEncoder.swift), and starts
the video at 0. So the first one is stored, but hidden by an edit list: what players and decoders show begins with
frame 1. The n-th stored time is frame n's, shown or not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from PIL import Image

from pipeline.capture.videos.containers import check_container, format_of
from pipeline.capture.videos.movie import pictures_of
from pipeline.errors import CaptureError


def numbered_pictures(file: Path, wanted: Collection[int], frames: int) -> Iterator[tuple[int, Image.Image]]:
    """The wanted frames' numbers and pictures as they are decoded; hidden and damaged ones are missing.

    Args:
        file: The video.
        wanted: Numbers of the frames to give.
        frames: How many odometry.csv has; the video may have one more or less.

    Raises:
        CaptureError: When it has another number of pictures, or is truncated, damaged or no video.
    """
    stored = _stored(file)
    if abs(len(stored) - frames) > 1:
        raise CaptureError(
            "rgb.mp4 must have one picture for each line of odometry.csv",
            found=f"{len(stored)} pictures, {frames} poses",
            remedy="use the video as the app wrote it; edited ones have other frames",
            file=file,
        )
    number_of = {_microseconds(time): number for number, (time, _) in enumerate(stored)}
    shown = [number for number, (_, hidden) in enumerate(stored) if not hidden]
    last = max(wanted, default=-1)
    for frame in pictures_of(file, lambda index: index >= len(shown) or shown[index] in wanted):
        # by time, not by index: a damaged packet makes all later indices one less
        number = number_of.get(_microseconds(frame.time), -1)
        if number in wanted:
            yield number, frame.image
        if number >= last:
            return


def _stored(file: Path) -> list[tuple[float, bool]]:
    """Time [s] of every stored picture, in order, and whether players hide it."""
    import av
    from av.error import FFmpegError

    check_container(file)
    try:
        with av.open(f"file:{file.resolve()}", format=format_of(file), metadata_errors="replace") as container:
            stream = container.streams.best("video")
            packets = [] if stream is None else container.demux(stream)
            return sorted(
                (float(packet.pts * packet.time_base), packet.is_discard)
                for packet in packets
                if packet.size and packet.pts is not None and packet.time_base is not None
            )
    except FFmpegError as error:
        raise CaptureError(
            "rgb.mp4 must be a complete video", found=str(error), remedy="copy it from the phone again", file=file
        ) from error


def _microseconds(time: float) -> int:
    return round(time * 1e6)
