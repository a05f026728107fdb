"""LZFSE streams, Apple's compression: how much they unpack to is read from their blocks before anything is unpacked.

Source: github.com/lzfse/lzfse, src/lzfse_internal.h (block headers) and src/lzfse_decode_base.c.
"""

from __future__ import annotations

import struct
import threading

from pipeline.errors import CaptureError
from pipeline.image_files import BadImageError

_END = b"bvx$"
_BYTES_PER_MATCH = 3
"""Smallest number of bytes of a match: it bounds a stream of blocks whose declared sizes are false."""
_one_at_a_time = threading.Lock()  # so that the bound holds for all threads together; real streams take milliseconds


def unpacked_size(data: bytes) -> int:
    """Unpacked size of a complete stream [bytes], as its blocks declare.

    Raises:
        BadImageError: When it is truncated or no LZFSE stream.
    """
    return sum(raw for raw, _ in _blocks(data))


def unpacked(data: bytes, size: int, file: str) -> bytes:
    """Unpack a stream of a known size.

    Raises:
        BadImageError: When it is truncated, damaged or no LZFSE stream.
        CaptureError: When it unpacks to something else than `size` bytes.
    """
    import lzfse

    blocks = _blocks(data)
    declared = sum(raw for raw, _ in blocks)
    if declared != size or sum(matches for _, matches in blocks) * _BYTES_PER_MATCH > size:
        raise _other_size(declared, size, file)
    try:
        with _one_at_a_time:
            content = lzfse.decompress(data)
    except lzfse.error as error:
        raise BadImageError(f"damaged LZFSE data {error}".rstrip()) from error
    if len(content) != size:
        raise _other_size(len(content), size, file)
    return content


def _blocks(data: bytes) -> list[tuple[int, int]]:
    """Unpacked bytes and matches of each block; stored and LZVN blocks can't exceed what they say: no matches."""
    blocks = []
    at = 0
    try:
        while (magic := data[at : at + 4]) != _END:
            (raw,) = struct.unpack_from("<I", data, at + 4)
            matches = 0
            if magic == b"bvx-":
                at += 8 + raw
            elif magic == b"bvxn":
                at += 12 + struct.unpack_from("<I", data, at + 8)[0]
            elif magic == b"bvx2":
                literals, states, header = struct.unpack_from("<3Q", data, at + 8)
                matches = literals >> 40 & 0xFFFFF
                at += (header & 0xFFFFFFFF) + (literals >> 20 & 0xFFFFF) + (states >> 40 & 0xFFFFF)
            else:
                raise BadImageError(f"truncated or no LZFSE data: a block that begins with {magic!r}")
            if raw == 0:
                raise BadImageError("damaged LZFSE data: an empty block")
            blocks.append((raw, matches))
    except struct.error as error:
        raise BadImageError(f"truncated LZFSE data: {error}") from error
    if not blocks:
        raise BadImageError("LZFSE data of no content")
    return blocks


def _other_size(found: int, size: int, file: str) -> CaptureError:
    return CaptureError(
        f"the file must unpack to {size} bytes, by the size that the recording declares for its depth",
        found=f"{found} bytes",
        remedy="use the recording as the app exported it",
        file=file,
    )
