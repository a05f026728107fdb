"""Pictures and times of a video file, through PyAV (FFmpeg): upright, 8-bit sRGB, one after the other."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.capture.pictures import MAX_PIXELS, MAX_SIDE, fitting
from pipeline.capture.videos.containers import check_container, format_of
from pipeline.capture.videos.tone import HdrTransfer, to_sdr
from pipeline.errors import CaptureError

logger = logging.getLogger(__name__)

MAX_FRAMES = 1_000_000
"""Frames of one video; above 4 hours at 60 a second."""
MAX_BAD_SHARE = 0.05
"""Largest share of packets that can't be decoded; a lost packet costs pictures up to the next key frame."""
RATE_JITTER = 0.02
"""Relative spread of the time between frames from which on their rate counts as variable."""
HD_HEIGHT = 720
"""Height from which on videos without a colour matrix are BT.709 instead of BT.601, as players take them."""

_TRANSFERS: dict[int, HdrTransfer] = {16: "pq", 18: "hlg"}  # H.273 transfer characteristics
_BT709, _BT601, _BT2020, _UNSPECIFIED = 1, 5, 9, 2  # libswscale's SWS_CS_*, and H.273's "unspecified"
_TURNS: dict[tuple[int, ...], Image.Transpose | None] = {
    (1, 0, 0, 1): None,
    (0, 1, -1, 0): Image.Transpose.ROTATE_270,
    (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
    (0, -1, 1, 0): Image.Transpose.ROTATE_90,
    (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM,
    (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
    (0, -1, -1, 0): Image.Transpose.TRANSVERSE,
}
"""a, b, c, d of the display matrix (ISO 14496-12, section 6.2.2): x' = a x + c y, y' = b x + d y, y down."""
_SIDEWAYS = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270, Image.Transpose.TRANSPOSE)
_DEGREES = {Image.Transpose.ROTATE_270: 90, Image.Transpose.ROTATE_180: 180, Image.Transpose.ROTATE_90: 270}


@dataclass(frozen=True, eq=False)
class MovieFrame:
    """A decoded picture of a video.

    Attributes:
        index: Its number in the order of display, from 0; pictures that were not wanted count.
        time: By the stream's own time stamps [s]; the first frame's need not be 0.
        image: RGB, 8-bit sRGB, upright, at most `MAX_SIDE` long.
    """

    index: int
    time: float
    image: Image.Image


@dataclass(frozen=True, eq=False)
class GreyFrame:
    """A small grey picture of a video, upright.

    Attributes:
        index: As in `MovieFrame`.
        time: As in `MovieFrame` [s].
        grey: (H, W) uint8; the signal's luma, tone-mapped nowhere.
    """

    index: int
    time: float
    grey: NDArray[np.uint8]


@dataclass(frozen=True)
class Movie:
    """What a video's header and first frame say.

    Attributes:
        width: Of the upright picture that `pictures_of` gives [px].
        height: Likewise.
        stored_size: Width and height as they are stored [px].
        rotation: By which stored pictures are turned clockwise to be upright, 0, 90, 180 or 270 [deg].
        frames: Their number, estimated from the header; 0 where it says nothing.
        duration: [s]; 0 where the header says nothing.
        codec: FFmpeg's name: h264, hevc, vp9, av1.
        variable_rate: Whether frames are not evenly spaced in time; None where the header has no list of frames.
        transfer: "sdr", or the HDR curve.
    """

    width: int
    height: int
    stored_size: tuple[int, int]
    rotation: int
    frames: int
    duration: float
    codec: str
    variable_rate: bool | None
    transfer: Literal["sdr", "hlg", "pq"]


def describe(file: Path) -> Movie:
    """Look at a video's header and first frame.

    Raises:
        CaptureError: When it is truncated, encrypted, damaged or no video.
    """
    with _opened(file) as (container, stream):
        for _, _, frame, turn in _decoded(file, container, stream):
            width, height = fitting(frame.width, frame.height, MAX_SIDE)
            sideways = turn in _SIDEWAYS or turn == Image.Transpose.TRANSVERSE
            duration = stream.duration * stream.time_base if stream.duration else (container.duration or 0) / 1_000_000
            rate = stream.average_rate or stream.guessed_rate or 0
            return Movie(
                width=height if sideways else width,
                height=width if sideways else height,
                stored_size=(frame.width, frame.height),
                rotation=_DEGREES.get(turn, 0) if turn is not None else 0,
                frames=stream.frames or len(stream.index_entries) or round(float(duration) * float(rate)),
                duration=float(duration),
                codec=stream.codec_context.name,
                variable_rate=_variable_rate(stream),
                transfer=_TRANSFERS.get(int(frame.color_trc), "sdr"),
            )
    raise AssertionError("a video without a frame is refused while it is decoded")


def pictures_of(file: Path, wanted: Callable[[int], bool] | None = None) -> Iterator[MovieFrame]:
    """Decode a video's pictures in order of display, a few in memory at a time.

    Args:
        file: The video.
        wanted: Whether the picture of some index is to be given; all where None. Others cost no conversion.

    Raises:
        CaptureError: When it is truncated, encrypted, damaged or no video.
    """
    with _opened(file) as (container, stream):
        for index, time, frame, turn in _decoded(file, container, stream):
            if wanted is None or wanted(index):
                yield MovieFrame(index, time, _upright_image(frame, turn))


def greys_of(file: Path, long_side: int) -> Iterator[GreyFrame]:
    """Decode a video's pictures as small grey ones, to measure them.

    Args:
        file: The video.
        long_side: Of the grey pictures [px].

    Raises:
        CaptureError: As `pictures_of`.
    """
    with _opened(file) as (container, stream):
        for index, time, frame, turn in _decoded(file, container, stream):
            size = fitting(frame.width, frame.height, long_side)
            grey = cv2.resize(_luma(frame), size, interpolation=cv2.INTER_AREA)
            if turn is not None:
                grey = np.asarray(Image.fromarray(grey).transpose(turn))
            yield GreyFrame(index, time, np.ascontiguousarray(grey, np.uint8))


@contextmanager
def _opened(file: Path) -> Iterator[tuple[Any, Any]]:
    """The container and its first real video stream (cover pictures are none)."""
    import av
    from av.error import FFmpegError
    from av.stream import Disposition

    check_container(file)
    try:
        # the format by content and a file: address, so that no play list or protocol is ever followed
        container = av.open(f"file:{file.resolve()}", format=format_of(file), metadata_errors="replace")
    except (FFmpegError, OSError, ValueError) as error:
        raise _damaged(file, str(error)) from error
    with container:
        films = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
        streams = [stream for stream in films if stream.codec_context is not None]
        if not streams:
            raise CaptureError(
                "a video must have pictures",
                found="a video track of an unknown codec" if films else "no video track",
                remedy="export it as H.264 MP4" if films else "name the video itself, not its sound",
                file=file,
            )
        stream = max(streams, key=lambda s: (s.codec_context.width * s.codec_context.height, -s.index))
        size = stream.codec_context.width * stream.codec_context.height
        if size > MAX_PIXELS:
            raise CaptureError(
                f"a video's pictures may have at most {MAX_PIXELS // 10**6} million pixels",
                found=f"{stream.codec_context.width} x {stream.codec_context.height}",
                remedy="export it at 4K or less",
                file=file,
            )
        stream.thread_type = "AUTO"
        yield container, stream


def _decoded(file: Path, container: Any, stream: Any) -> Iterator[tuple[int, float, Any, Image.Transpose | None]]:
    """Index, time [s], frame and how it is turned, in the order of display; single damaged packets are passed over."""
    from av.error import FFmpegError

    index = bad = packets = 0
    turn = None
    shift = 0.0 if stream.start_time is None else float(stream.start_time * stream.time_base)
    rate = float(stream.average_rate or stream.guessed_rate or 30)
    try:
        for packet in container.demux(stream):
            packets += 1
            try:
                frames = packet.decode()
            except FFmpegError as error:
                bad += 1
                if bad > max(3, MAX_BAD_SHARE * max(packets, stream.frames)):
                    raise _damaged(file, f"{bad} of the first {packets} packets can't be decoded ({error})") from error
                continue
            for frame in frames:
                if index >= MAX_FRAMES:
                    raise CaptureError(
                        f"a video has at most {MAX_FRAMES} frames",
                        found="more",
                        remedy="cut the part that shows the place",
                        file=file,
                    )
                if index == 0:  # once: a frame that was asked for its side data is only freed by the garbage collector
                    turn = _turn_of(frame, file)
                time = shift + index / rate if frame.pts is None else float(frame.pts * frame.time_base)
                yield index, time, frame, turn
                index += 1
    except FFmpegError as error:
        raise _damaged(file, str(error)) from error
    if index == 0:
        raise _damaged(file, f"no picture in {packets} packets can be decoded")
    if bad:
        logger.warning("%s: %d of %d packets can't be decoded and were passed over", file.name, bad, packets)


def _damaged(file: Path, found: str) -> CaptureError:
    return CaptureError(
        "a video must be complete and readable",
        found=found,
        remedy="copy or download it again, without copy protection; if it plays elsewhere, export it as H.264 MP4",
        file=file,
    )


def _turn_of(frame: Any, file: Path) -> Image.Transpose | None:
    """How the stored picture is turned upright, from the display matrix.

    Raises:
        CaptureError: When the matrix asks for something else than quarter turns and mirroring.
    """
    from av.sidedata.sidedata import Type

    matrix = next((bytes(data) for data in frame.side_data if data.type == Type.DISPLAYMATRIX), None)
    if matrix is None:
        return None
    a, b, _, c, d, *_ = struct.unpack("=9i", matrix[:36])
    key = tuple(int(np.sign(value)) if abs(value) > 655 else 0 for value in (a, b, c, d))  # 0.01 in 16.16 fixed point
    if key not in _TURNS:
        raise CaptureError(
            "a video may be turned by quarter turns and mirrored",
            found=f"a display matrix of {[value / 65536 for value in (a, b, c, d)]}",
            remedy="export the video with the rotation applied",
            file=file,
        )
    return _TURNS[key]


def _upright_image(frame: Any, turn: Image.Transpose | None) -> Image.Image:
    """The frame as an upright sRGB picture, at most `MAX_SIDE` long."""
    transfer = _TRANSFERS.get(int(frame.color_trc))
    matrix = int(frame.colorspace)
    if matrix == _UNSPECIFIED:
        matrix = _BT2020 if transfer else _BT709 if min(frame.width, frame.height) >= HD_HEIGHT else _BT601
    width, height = fitting(frame.width, frame.height, MAX_SIDE)
    pixels = frame.to_ndarray(format="rgb24", width=width, height=height, src_colorspace=matrix, interpolation="AREA")
    image = Image.fromarray(pixels)
    if transfer:
        image = to_sdr(image, transfer)
    return image if turn is None else image.transpose(turn)


def _luma(frame: Any) -> NDArray[np.uint8]:
    """(H, W) luma of a frame."""
    return frame.to_ndarray(format="gray")


def _variable_rate(stream: Any) -> bool | None:
    """Whether the header's list of frames has uneven times; None where there is none."""
    times = sorted(entry.timestamp for entry in stream.index_entries)
    if len(times) < 3 or (stream.frames and len(times) < stream.frames):
        return None
    steps = np.diff(np.array(times, float))
    return bool(steps.std() > RATE_JITTER * steps.mean())
