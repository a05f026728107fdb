"""GoPro's metadata (GPMF) as its cameras write it, put into an MP4 as a track of its own."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.types import F64


def entry(key: str, kind: str, size: int, repeat: int, content: bytes) -> bytes:
    """A key, its length and its content, padded to four bytes."""
    head = struct.pack(">4sBBH", key.encode(), ord(kind), size, repeat)
    return head + content + bytes(-len(content) % 4)


def nested(key: str, *inside: bytes) -> bytes:
    """A device or a stream."""
    content = b"".join(inside)
    return entry(key, "\0", 1, len(content), content)


def integers(key: str, values: F64, scales: Sequence[int], kind: str) -> bytes:
    """Values (N, C) as integers, behind their scales."""
    code, size = {"s": (">i2", 2), "l": (">i4", 4)}[kind]
    stored = np.round(values * np.asarray(scales)).astype(code)
    scale = entry("SCAL", kind, size, len(scales), np.asarray(scales, code).tobytes())
    return scale + entry(key, kind, size * values.shape[1], len(values), stored.tobytes())


def payload(
    gravity: F64 | None = None,
    image_turn: F64 | None = None,
    gps5: F64 | None = None,
    gps9: F64 | None = None,
    *,
    dop: float = 1.6,
    fix: int = 3,
) -> bytes:
    """One second: gravity (N, 3), rotations of the image (N, 4), positions (N, 5) or (N, 9)."""
    streams = [nested("STRM", entry("STNM", "c", 1, 5, b"other"), entry("ACCL", "s", 6, 1, bytes(6)))]
    if gps5 is not None:
        quality = entry("GPSF", "L", 4, 1, struct.pack(">L", fix)) + entry(
            "GPSP", "S", 2, 1, struct.pack(">H", round(100 * dop))
        )
        streams.append(nested("STRM", quality, integers("GPS5", gps5, (10**7, 10**7, 1000, 1000, 100), "l")))
    if gps9 is not None:
        scales = (10**7, 10**7, 1000, 1000, 100, 1, 1000, 100, 1)
        rows = b"".join(
            struct.pack(">7lHH", *(round(value * scale) for value, scale in zip(row, scales, strict=True)))
            for row in gps9.tolist()
        )
        scale = entry("SCAL", "l", 4, 9, struct.pack(">9l", *scales))
        kind = entry("TYPE", "c", 1, 9, b"lllllllSS")
        streams.append(nested("STRM", kind, scale, entry("GPS9", "?", 32, len(gps9), rows)))
    if image_turn is not None:
        streams.append(nested("STRM", integers("IORI", image_turn, (32767,), "s")))
    if gravity is not None:
        streams.append(nested("STRM", integers("GRAV", gravity, (32767,), "s")))
    return nested("DEVC", entry("DVID", "L", 4, 1, b"\0\0\0\1"), entry("DVNM", "c", 1, 5, b"HERO9"), *streams)


def add_track(path: Path, payloads: Sequence[bytes], seconds: float = 1.0) -> None:
    """Append a track of payloads, one each so many seconds, to an MP4 whose moov box is its last."""
    data = path.read_bytes()
    at = data.rindex(b"moov") - 4
    before, moov = data[:at], data[at + 8 :]
    mdat = struct.pack(">I4s", 8 + sum(map(len, payloads)), b"mdat") + b"".join(payloads)
    offsets = np.cumsum([len(before) + 8, *map(len, payloads)])[:-1].tolist()
    count, ticks = len(payloads), round(1000 * seconds)

    def box(kind: str, *content: bytes) -> bytes:
        inside = b"".join(content)
        return struct.pack(">I4s", 8 + len(inside), kind.encode()) + inside

    def table(kind: str, *words: int) -> bytes:
        return box(kind, struct.pack(f">{len(words) + 1}I", 0, *words))

    matrix = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    header = box("tkhd", struct.pack(">6I", 7, 0, 0, 9, 0, count * ticks) + bytes(16) + matrix + bytes(8))
    handler = box("hdlr", bytes(8), b"meta", bytes(12), b"GoPro MET\0")
    described = box("stsd", struct.pack(">II", 0, 1), box("gpmd", bytes(6), b"\0\1", bytes(4)))
    sample_table = box(
        "stbl",
        described,
        table("stts", 1, count, ticks),
        table("stsc", 1, 1, 1, 1),
        table("stsz", 0, count, *map(len, payloads)),
        table("stco", count, *offsets),
    )
    references = box("dinf", box("dref", struct.pack(">II", 0, 1), box("url ", b"\0\0\0\1")))
    info = box("minf", box("gmhd", box("gmin", bytes(16))), references, sample_table)
    media = box("mdia", box("mdhd", struct.pack(">6I", 0, 0, 0, 1000, count * ticks, 0)), handler, info)
    track = box("trak", header, media)
    path.write_bytes(before + mdat + struct.pack(">I4s", 8 + len(moov) + len(track), b"moov") + moov + track)
