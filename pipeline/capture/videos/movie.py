"""Images and times of a video file, through PyAV (FFmpeg): upright, 8-bit sRGB, one after the other.

HDR video (HLG, PQ) is mapped to sRGB by one fixed curve, so that no frame is brighter than its neighbours. Sources:
ITU-R BT.2100 (HLG and PQ), BT.2408 (reference white of 203 cd/m2), BT.2087 (BT.2020 to BT.709 primaries).
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageFilter

from pipeline.capture.images import MAX_SIDE
from pipeline.capture.videos.containers import check_container, format_of
from pipeline.errors import CaptureError
from pipeline.io.image_files import MAX_PIXELS
from pipeline.io.working_images import fitting
from pipeline.types import F64, U8

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

HdrTransfer = Literal["hlg", "pq"]

WHITE = 203.0
"""Luminance of a white sheet of paper in HDR video [cd/m2]; it becomes just below the white of sRGB."""
PEAK = 1000.0
"""Luminance that becomes the white of sRGB; brighter highlights are cut [cd/m2]."""
KNEE = 0.7
"""Linear value by `WHITE` up to which the image stays as it is; above it highlights are compressed."""
LATTICE = 65
"""Nodes a side of the table that images are mapped with."""

_HLG_GAMMA = 1.2  # system gamma at a peak of 1000 cd/m2
_LUMA_2020 = np.array([0.2627, 0.6780, 0.0593])
_REC709_FROM_2020 = np.array(
    [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]]
)

logger = logging.getLogger(__name__)
MAX_FRAMES = 1_000_000
"""Frames of one video; above 4 hours at 60 a second."""
MAX_BAD_SHARE = 0.05
"""Largest share of packets that can't be decoded; a lost packet costs images up to the next key frame."""
HD_HEIGHT = 720
"""Height from which on videos without a colour matrix are BT.709 instead of BT.601, as players take them."""
_TRANSFERS: dict[int, HdrTransfer] = {16: "pq", 18: "hlg"}  # H.273 transfer characteristics
_BT709, _BT601, _BT2020, _UNSPECIFIED = 1, 5, 9, 2  # libswscale's SWS_CS_*, and H.273's "unspecified"
_ROTATIONS: dict[tuple[int, ...], Image.Transpose | None] = {
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
_SIDEWAYS = {transpose for matrix, transpose in _ROTATIONS.items() if matrix[0] == 0}


def sdr_of(signal: F64, transfer: HdrTransfer) -> F64:
    """The exact curve: sRGB signal (..., 3), 0..1, of an HDR signal (..., 3), R'G'B' in BT.2020 primaries, 0..1."""
    light = _hlg_light(signal) if transfer == "hlg" else _pq_light(signal)
    linear = np.maximum(light / WHITE @ _REC709_FROM_2020.T, 0)
    brightest = np.maximum(linear.max(-1, keepdims=True), 1e-9)  # one factor for all three keeps the hue
    mapped = np.clip(linear * (_compressed(brightest) / brightest), 0, 1)
    return np.where(mapped <= 0.0031308, 12.92 * mapped, 1.055 * mapped ** (1 / 2.4) - 0.055)


def to_sdr(image: Image.Image, transfer: HdrTransfer) -> Image.Image:
    """An RGB image whose values are an HDR signal, as sRGB: `sdr_of` by a table.

    99 of 100 values are within 2 (HLG) or 6 (PQ) of 255; dark colours at the edge of the gamut are worst.
    """
    return image.filter(_table(transfer))


@lru_cache(maxsize=2)
def _table(transfer: HdrTransfer) -> ImageFilter.Color3DLUT:
    steps = np.linspace(0, 1, LATTICE)
    blue, green, red = np.meshgrid(steps, steps, steps, indexing="ij")  # red varies fastest
    values = sdr_of(np.stack([red, green, blue], -1), transfer)
    return ImageFilter.Color3DLUT(LATTICE, values.astype(np.float32).ravel().tolist())


def _hlg_light(signal: F64) -> F64:
    """Light of a display of `PEAK` [cd/m2]: inverse OETF, then OOTF (BT.2100, table 5)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    luminance = np.maximum(scene @ _LUMA_2020, 1e-9)[..., None]
    return PEAK * luminance ** (_HLG_GAMMA - 1) * scene


def _pq_light(signal: F64) -> F64:
    """Light of the display [cd/m2]: EOTF (BT.2100, table 4)."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = np.maximum(signal, 0) ** (1 / m2)
    return 10_000 * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)


def _compressed(linear: F64) -> F64:
    """Identity up to the knee, then a smooth shoulder that reaches 1 at the peak (Reinhard's extended curve)."""
    over, most = (linear - KNEE) / (1 - KNEE), (PEAK / WHITE - KNEE) / (1 - KNEE)
    over = np.clip(over, 0, most)
    return np.where(linear <= KNEE, linear, KNEE + (1 - KNEE) * over * (1 + over / most**2) / (1 + over))


@dataclass(frozen=True, eq=False)
class MovieFrame:
    """A decoded image of a video.

    Attributes:
        index: Index in the order of display, from 0; images that were left out count.
        time: Time by the stream's own time stamps [s]; the first frame's need not be 0.
        image: 8-bit sRGB, upright, at most `MAX_SIDE` long.
    """

    index: int
    time: float
    image: Image.Image


@dataclass(frozen=True, eq=False)
class GreyFrame:
    """As `MovieFrame`, with a small grey image (H, W): the signal's luma, not tone-mapped."""

    index: int
    time: float
    grey: U8


@dataclass(frozen=True)
class Movie:
    """Properties of a video, by its header and first frame.

    Attributes:
        width: Width of the upright images that `images_of` gives [px].
        stored_size: Width and height as they are stored [px].
        frames: Number of frames by the header, else that of the stream's packets.
        duration: Duration [s] by the header, else by the packets' times.
        codec: FFmpeg's name of it: h264, hevc, vp9, av1.
        rotation: What makes the stored images upright, or None.
    """

    width: int
    height: int
    stored_size: tuple[int, int]
    frames: int
    duration: float
    codec: str
    transfer: Literal["sdr", "hlg", "pq"]
    rotation: Image.Transpose | None


def describe(file: Path) -> Movie:
    """Look at a video's header and first frame.

    Raises:
        CaptureError: When it is truncated, encrypted, damaged or no video.
    """
    for _, _, frame, rotation, stream, duration in _decoded(file):
        width, height = fitting(frame.width, frame.height, MAX_SIDE)
        # only MP4 and AVI count frames; Matroska's index lists key frames, of which there may be one
        packets, end = (stream.frames, 0.0) if stream.frames and duration else _packets_of(file, stream.index)
        return Movie(
            width=height if rotation in _SIDEWAYS else width,
            height=width if rotation in _SIDEWAYS else height,
            stored_size=(frame.width, frame.height),
            frames=stream.frames or packets,
            duration=duration or end,
            codec=stream.codec_context.name,
            transfer=_TRANSFERS.get(int(frame.color_trc), "sdr"),
            rotation=rotation,
        )
    raise AssertionError("a video without a frame is refused while it is decoded")


def _packets_of(file: Path, index: int) -> tuple[int, float]:
    """Number of a stream's packets, and the time of the last [s], undecoded; it ends where the file is damaged."""
    from av.error import FFmpegError

    count, end = 0, 0.0
    with opened(file, MAX_PIXELS) as container:
        try:
            for packet in container.demux(container.streams[index]):
                count += packet.size > 0
                end = max(end, float((packet.pts or 0) * (packet.time_base or 0)))
        except FFmpegError:  # whoever decodes it says so
            pass
    return count, end


def images_of(file: Path, chosen: Callable[[int], bool] | None = None) -> Iterator[MovieFrame]:
    """Decode a video's images in order of display, a few in memory at a time: those of the `chosen` indices, or all.

    Raises:
        CaptureError: When it is truncated, encrypted, damaged or no video.
    """
    for index, time, frame, rotation, *_ in _decoded(file):
        if chosen is None or chosen(index):
            yield MovieFrame(index, time, _upright_image(frame, rotation))


def greys_of(file: Path, long_side: int) -> Iterator[GreyFrame]:
    """Decode a video's images as grey ones with a longer side of `long_side` [px], to measure them.

    Raises:
        CaptureError: As `images_of`.
    """
    for index, time, frame, rotation, *_ in _decoded(file):
        size = fitting(frame.width, frame.height, long_side)
        luma = np.asarray(frame.to_ndarray(format="gray"), np.uint8)
        grey = np.asarray(cv2.resize(luma, size, interpolation=cv2.INTER_AREA))
        if rotation is not None:
            grey = np.asarray(Image.fromarray(grey).transpose(rotation))
        yield GreyFrame(index, time, np.ascontiguousarray(grey, np.uint8))


class _Decoded(NamedTuple):
    """A frame in the order of display, its time [s] and rotation, its stream, and the video's duration [s] or 0."""

    number: int
    time: float
    frame: VideoFrame
    rotation: Image.Transpose | None
    stream: VideoStream
    duration: float


def opened(file: Path, max_pixels: int) -> InputContainer:
    """A video's container, of its format by content and a file: address: no play list or protocol is ever followed.

    Its decoders refuse images of much more than `max_pixels`, whatever the container says of them.

    Raises:
        CaptureError: When it is truncated, encrypted, no video or no plain file, or its images are larger.
    """
    import av
    from av.error import FFmpegError

    check_container(file)
    try:
        container = av.open(f"file:{file.resolve()}", format=format_of(file), metadata_errors="replace")
    except (FFmpegError, OSError, ValueError) as error:
        raise _damaged(file, str(error)) from error
    for stream in container.streams.video:
        if (decoder := stream.codec_context) is None:  # of an unknown codec
            continue
        if decoder.width * decoder.height > max_pixels:
            container.close()
            raise CaptureError(
                f"a video's images may have at most {max_pixels / 10**6:.3g} million pixels",
                found=f"{decoder.width} x {decoder.height}",
                remedy="export it at 4K or less",
                file=file,
            )
        decoder.options = {"max_pixels": str(2 * max_pixels + 2**16)}  # images are coded in blocks
    return container


def _decoded(file: Path) -> Iterator[_Decoded]:
    """Frames of the first real video stream (cover images are none); single damaged packets are skipped."""
    from av.error import FFmpegError
    from av.stream import Disposition

    with opened(file, MAX_PIXELS) as container:
        videos = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
        streams = [stream for stream in videos if stream.codec_context is not None]
        if not streams:
            raise CaptureError(
                "a video must have images",
                found="a video track of an unknown codec" if videos else "no video track",
                remedy="export it as H.264 MP4" if videos else "name the video itself, not its sound",
                file=file,
            )
        stream = max(streams, key=lambda s: (s.codec_context.width * s.codec_context.height, -s.index))
        stream.thread_type = "AUTO"
        base = stream.time_base or 0
        duration = float(stream.duration * base) if stream.duration else (container.duration or 0) / 1_000_000
        shift = float((stream.start_time or 0) * base)
        rate = float(stream.average_rate or stream.guessed_rate or 30)
        index = bad = packets = 0
        rotation = None
        try:
            for packet in container.demux(stream):
                packets += 1
                try:
                    frames = packet.decode()
                except FFmpegError as error:
                    bad += 1
                    if bad > max(3, MAX_BAD_SHARE * max(packets, stream.frames)):
                        found = f"{bad} of the first {packets} packets can't be decoded ({error})"
                        raise _damaged(file, found) from error
                    continue
                for frame in frames:
                    if index >= MAX_FRAMES:
                        raise CaptureError(
                            f"a video has at most {MAX_FRAMES} frames",
                            found="more",
                            remedy="cut the part that shows the scene",
                            file=file,
                        )
                    if index == 0:  # once: a frame that was asked for its side data is freed by the garbage collector
                        rotation = _rotation_of(frame, file)
                    time = shift + index / rate
                    if frame.pts is not None and frame.time_base is not None:
                        time = float(frame.pts * frame.time_base)
                    yield _Decoded(index, time, frame, rotation, stream, duration)
                    index += 1
        except FFmpegError as error:
            raise _damaged(file, str(error)) from error
    if index == 0:
        raise _damaged(file, f"no image in {packets} packets can be decoded")
    if bad:
        logger.warning("%s: %d of %d packets can't be decoded and were skipped", file.name, bad, packets)


def _damaged(file: Path, found: str) -> CaptureError:
    return CaptureError(
        "a video must be complete and readable",
        found=found,
        remedy="copy or download it again, without copy protection; if it plays elsewhere, export it as H.264 MP4",
        file=file,
    )


def _rotation_of(frame: VideoFrame, file: Path) -> Image.Transpose | None:
    """Rotation that makes the stored image upright, from the display matrix."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return None
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(matrix)[:36])
    key = tuple(int(np.sign(value)) if abs(value) > 655 else 0 for value in (a, b, c, d))  # 0.01 in 16.16 fixed point
    if key not in _ROTATIONS:
        raise CaptureError(
            "a video may be rotated by multiples of 90 degrees and mirrored",
            found=f"a display matrix of {[value / 65536 for value in (a, b, c, d)]}",
            remedy="export the video with the rotation applied",
            file=file,
        )
    return _ROTATIONS[key]


def _upright_image(frame: VideoFrame, rotation: Image.Transpose | None) -> Image.Image:
    """The frame as an upright sRGB image, at most `MAX_SIDE` long."""
    transfer = _TRANSFERS.get(int(frame.color_trc))
    matrix = int(frame.colorspace)
    if matrix == _UNSPECIFIED:
        matrix = _BT2020 if transfer else _BT709 if min(frame.width, frame.height) >= HD_HEIGHT else _BT601
    width, height = fitting(frame.width, frame.height, MAX_SIDE)
    pixels = frame.to_ndarray(format="rgb24", width=width, height=height, src_colorspace=matrix, interpolation="AREA")
    image = Image.fromarray(pixels)
    if transfer:
        image = to_sdr(image, transfer)
    return image if rotation is None else image.transpose(rotation)
