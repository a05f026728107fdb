"""Pictures without what they say besides their pixels: no EXIF, place, time, comment or second picture is copied."""

from __future__ import annotations

import re
import struct

_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""Ends entropy-coded data: neither a stuffed 0xFF nor a restart marker (ITU-T T.81, section B.1.1)."""
_START, _END, _SCAN, _COMMENT = 0xD8, 0xD9, 0xDA, 0xFE
_KEPT_SEGMENTS = {0xE0: b"JFIF\0", 0xE2: b"ICC_PROFILE\0", 0xEE: b"Adobe"}
"""Application segments that say what the pixels mean, by how they begin."""
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KEPT_CHUNKS = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"cHRM", b"gAMA", b"iCCP", b"sBIT", b"sRGB", b"cICP")


def without_metadata(data: bytes) -> bytes | None:
    """The file's bytes that make up the picture itself, its colour profile included; the pixels stay as coded.

    What follows the picture (the second one of an MPO, the film of a motion photo) is left out as well.

    Args:
        data: A JPEG or PNG file that can be decoded.

    Returns:
        The same picture's file, or None where its structure isn't understood.
    """
    parts = _png_parts(data) if data.startswith(_PNG_SIGNATURE) else _jpeg_parts(data)
    return None if parts is None else b"".join(parts)


def _jpeg_parts(data: bytes) -> list[bytes] | None:
    """Marker segments (ITU-T T.81, annex B) but for application data and comments, with the scans between them."""
    parts, at = [data[:2]], 2
    if data[:2] != bytes((0xFF, _START)):
        return None
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill bytes
            at += 1
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        kept, told = _KEPT_SEGMENTS.get(marker), 0xE0 <= marker <= 0xEF or marker == _COMMENT
        if not told or (kept and data.startswith(kept, at + 4)):
            parts.append(data[at:end])
        at = end
        if marker == _SCAN:
            ended = _MARKER.search(data, at)
            if ended is None:
                return None
            parts.append(data[at : ended.start()])
            at = ended.start()
        if data[at : at + 2] == bytes((0xFF, _END)):
            return [*parts, data[at : at + 2]]
    return None


def _png_parts(data: bytes) -> list[bytes] | None:
    """Chunks that pixels and colours need."""
    parts, at = [_PNG_SIGNATURE], len(_PNG_SIGNATURE)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind in _KEPT_CHUNKS:
            parts.append(data[at : at + 12 + length])
        at += 12 + length
        if kind == b"IEND":
            return parts
    return None
