"""What GoPro cameras record beside a video: gravity and positions, in GPMF, a track of keys, lengths and values.

A payload holds devices (DEVC), a device streams (STRM), a stream its values behind what scales them; nothing deeper is
read, and whatever breaks a length ends what holds it. Sources: GoPro's GPMF documentation; gravity (GRAV) in CV axes of
the camera and the rotation of the image against it (IORI: w, x, y, z) by a recording of a walk: with both, the vertical
of neighbouring images differs by 0.1 to 0.4 degrees, with gravity alone by up to 0.9.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.capture.metadata import GPS_SIGMA
from pipeline.capture.videos.movie import opened
from pipeline.io.image_files import MAX_PIXELS
from pipeline.types import F64

MAX_PAYLOAD = 2**20
"""Largest payload [bytes]; those of a second have 5 to 50 kB."""
MAX_READINGS = 2_000_000
"""Readings after which no payload is read: hours at the rate of the fastest frames."""
MAX_COLUMNS = 16
"""Most numbers of a value."""
FIX = 3
"""Kind of a position that has a height."""
MAX_OFF = 0.1
"""Largest difference of a gravity vector's length from 1."""
MAX_HEIGHT = 20_000.0
"""Highest position [m]."""
MAX_DOP, USUAL_DOP = 5.0, 2.0
"""Largest dilution of precision of a usable position ("under 500 is good"), and that of a position of `GPS_SIGMA`."""
_TYPES = {"b": "i1", "B": "u1", "s": ">i2", "S": ">u2", "l": ">i4", "L": ">u4", "f": ">f4", "d": ">f8", "j": ">i8"}
_HEAD = np.dtype([("key", "S4"), ("type", "S1"), ("size", "u1"), ("repeat", ">u2")])


class Entry(NamedTuple):
    """A key's value: the letter of its type, the bytes of one sample, how many samples there are, and all of them."""

    type: str
    size: int
    repeat: int
    content: bytes


@dataclass(frozen=True, eq=False)
class Telemetry:
    """Readings in the order of time [s, by the video's time stamps].

    Attributes:
        gravity: (N, 3) unit directions in CV axes of the image as it is stored, at `gravity_times`.
        positions: (M, 3) latitudes and longitudes [deg], heights [m], at `position_times`.
        sigmas: (M, 2) one sigma of them, horizontal and vertical [m].
    """

    gravity_times: F64
    gravity: F64
    position_times: F64
    positions: F64
    sigmas: F64


def joined(parts: Sequence[tuple[Telemetry, float]]) -> Telemetry:
    """Readings of the chapters of one recording, each with what is added to its times [s]."""
    return Telemetry(
        np.concatenate([part.gravity_times + shift for part, shift in parts]),
        np.concatenate([part.gravity for part, _ in parts]),
        np.concatenate([part.position_times + shift for part, shift in parts]),
        np.concatenate([part.positions for part, _ in parts]),
        np.concatenate([part.sigmas for part, _ in parts]),
    )


def telemetry_of(file: Path) -> Telemetry:
    """The readings in a video file, none in one that has no such track.

    Raises:
        CaptureError: When the file is no video that can be opened.
    """
    gravity, positions, count = [np.zeros((0, 4))], [np.zeros((0, 5))], 0
    for start, seconds, payload in _payloads(file):
        streams = [*streams_of(payload)]
        with np.errstate(all="ignore"):  # numbers of others may be of any size
            found = _gravity(streams), _positions(streams)
        for values, rows in zip(found, (gravity, positions), strict=True):
            times = start + seconds * np.arange(len(values)) / max(len(values), 1)
            rows.append(np.column_stack([times, values])[np.isfinite(values).all(1)])
            count += len(values)
        if count > MAX_READINGS:
            break
    down, at = (_in_time(np.concatenate(rows)) for rows in (gravity, positions))
    sigmas = np.maximum(at[:, 4:] / USUAL_DOP, 1) * GPS_SIGMA
    return Telemetry(down[:, 0], down[:, 1:], at[:, 0], at[:, 1:4], sigmas)


def _in_time(rows: F64) -> F64:
    """Rows (N, C) in the order of their first column."""
    return rows[np.argsort(rows[:, 0], kind="stable")]


def _payloads(file: Path) -> Iterator[tuple[float, float, bytes]]:
    """Time, duration [s] and content of each payload of the track, until the first that can't be read."""
    from av.error import FFmpegError
    from av.stream import Discard

    with opened(file, MAX_PIXELS) as container:
        if not container.streams.data:
            return
        for stream in container.streams:
            stream.discard = Discard.default if stream.type == "data" else Discard.all  # gigabytes, not read again
        try:
            for packet in container.demux(*container.streams.data):
                base = packet.time_base
                if packet.pts is None or base is None or not packet.duration or packet.size > MAX_PAYLOAD:
                    continue
                content = bytes(packet)
                if content.startswith(b"DEVC"):
                    yield float(packet.pts * base), float(packet.duration * base), content
        except FFmpegError:
            return


def entries_of(content: bytes) -> Iterator[tuple[str, Entry]]:
    """Keys and values of one level, up to the first that is longer than what is left."""
    at = 0
    while at + _HEAD.itemsize <= len(content):
        key, kind, size, repeat = np.frombuffer(content, _HEAD, 1, at)[0].item()
        start = at + _HEAD.itemsize
        end = start + size * repeat
        if end > len(content):
            return
        yield key.decode("latin-1"), Entry(kind.decode("latin-1"), size, repeat, content[start:end])
        at = start + -(-size * repeat // 4) * 4


def streams_of(payload: bytes) -> Iterator[Mapping[str, Entry]]:
    """The streams of all devices of a payload; of equal keys the last counts."""
    for device, held in entries_of(payload):
        if device == "DEVC" and held.type == "":
            for stream, values in entries_of(held.content):
                if stream == "STRM" and values.type == "":
                    yield dict(entries_of(values.content))


def values_of(stream: Mapping[str, Entry], key: str) -> F64:
    """A stream's values (N, C) in their unit; (0, 0) where it has none of that key, or what it declares can't be."""
    nothing, entry = np.zeros((0, 0)), stream.get(key)
    if entry is None:
        return nothing
    complex_type = stream["TYPE"].content.decode("latin-1").rstrip("\0") if "TYPE" in stream else ""
    values = _numbers(entry, complex_type)
    divisor = _numbers(stream["SCAL"]).reshape(1, -1) if "SCAL" in stream else np.ones((1, 1))
    if divisor.shape[1] not in (1, values.shape[1]) or not divisor.all():
        return nothing
    return values / divisor


def _numbers(entry: Entry, complex_type: str = "") -> F64:
    """The numbers (N, C) of a value as they are stored; `complex_type` has the letters of one whose type is "?"."""
    letters = complex_type if entry.type == "?" else entry.type
    if entry.type in _TYPES:
        letters *= max(1, entry.size // np.dtype(_TYPES[entry.type]).itemsize)
    if not 0 < len(letters) <= MAX_COLUMNS or not set(letters) <= _TYPES.keys():
        return np.zeros((0, 0))
    sample = np.dtype([(str(number), _TYPES[letter]) for number, letter in enumerate(letters)])
    if sample.itemsize != entry.size or not entry.repeat:
        return np.zeros((0, 0))
    rows = np.frombuffer(entry.content, sample)
    return np.column_stack([rows[name].astype(np.float64) for name in sample.names or ()])


def _first(streams: Sequence[Mapping[str, Entry]], key: str, columns: int) -> F64:
    """The values (N, columns) of the first stream that has such; (0, columns) without one."""
    found = (values_of(stream, key) for stream in streams if key in stream)
    return next((values for values in found if values.shape[1] == columns), np.zeros((0, columns)))


def _gravity(streams: Sequence[Mapping[str, Entry]]) -> F64:
    """Directions (N, 3) in the axes of the images; NaN where there is none, as of cameras that write zeros."""
    down, turn = _first(streams, "GRAV", 3), _first(streams, "IORI", 4)
    if len(turn) == len(down):
        w, axis = turn[:, :1], turn[:, 1:]
        length = np.maximum((turn**2).sum(1, keepdims=True), 1e-9)
        down = down + 2 * np.cross(axis, np.cross(axis, down) + w * down) / length
    length = np.linalg.norm(down, axis=1, keepdims=True)
    return np.where(np.abs(length - 1) < MAX_OFF, down / np.maximum(length, 1e-9), np.nan)


def _positions(streams: Sequence[Mapping[str, Entry]]) -> F64:
    """Latitude, longitude [deg], height [m] and dilution of precision (N, 4) of positions; NaN where it isn't sure."""
    values = _first(streams, "GPS9", 9)
    at, dilution, fix = values[:, :3], values[:, 7:8], values[:, 8:9]
    if not len(values):  # cameras before the HERO11
        stream = next((stream for stream in streams if "GPS5" in stream), {})
        at = _first([stream], "GPS5", 5)[:, :3]
        dilution, fix = (
            np.full((len(at), 1), _numbers(stream[key])[:1, :1].sum() if key in stream else np.nan)
            for key in ("GPSP", "GPSF")
        )
        dilution = dilution / 100
    rows = np.column_stack([at, dilution])
    on_earth = (np.abs(at) <= [90, 180, MAX_HEIGHT]).all(1, keepdims=True)
    return np.where(on_earth & (fix >= FIX) & (dilution > 0) & (dilution <= MAX_DOP), rows, np.nan)
