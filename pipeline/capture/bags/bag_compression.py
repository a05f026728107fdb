"""What is compressed in a bag, unpacked within bounds: whole files, chunks and single messages.

`rosbags` unpacks whatever a file asks for; here it gets decompressors that stop.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.capture.source import BOMB_BYTES, COPY_BYTES, MAX_ARCHIVE_BYTES, MAX_RATIO

MAX_UNPACKED = 2**30
"""What one chunk or message may unpack to [bytes]."""
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
"""First bytes of a zstd frame; a message in CDR begins with two zeros, or a zero and a one."""


class TooLargeError(Exception):
    """Raised when something unpacks to more than it may."""

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(f"{what} unpacks to at most {limit / 2**20:g} MiB")


def unpack_message(data: bytes) -> bytes:
    """A message of ROS 2 as it was before rosbag2 compressed it; one that isn't compressed as it is.

    The recording's metadata.yaml says whether messages are compressed, but it is often not copied.

    Raises:
        TooLargeError: When it unpacks to more than `MAX_UNPACKED`.
        Exception: The decompressor's, when it is damaged.
    """
    return _zstd(data) if data[:4] == ZSTD_MAGIC else data


def unpack_file(packed: Path, unpacked: Path) -> None:
    """Unpack a whole file compressed by zstd.

    Raises:
        TooLargeError: When it unpacks to more than an archive may.
        OSError: When the disk is full.
        Exception: The decompressor's, when it is damaged.
    """
    from backports import zstd

    left = limit = min(max(BOMB_BYTES, MAX_RATIO * packed.stat().st_size), MAX_ARCHIVE_BYTES)
    with packed.open("rb") as file, zstd.open(file, "rb") as content, unpacked.open("wb") as out:
        while block := content.read(COPY_BYTES):
            left -= len(block)
            if left < 0:
                raise TooLargeError(packed.name, limit)
            out.write(block)


def without_compression(metadata: str) -> str:
    """metadata.yaml of a recording whose files were compressed, as it is once they are unpacked."""
    return re.sub(r"(compression_mode:).*", r"\1 ''", metadata).replace(".zstd", "")


def bound_decompressors() -> None:
    """Give `rosbags` decompressors of chunks that stop; of ROS 1 and of MCAP."""
    from rosbags.rosbag1 import reader
    from rosbags.rosbag2 import storage_mcap

    reader.decompressors.update(bz2=_bz2, lz4=_lz4)
    storage_mcap.DECOMPRESSORS.update(lz4=lambda data, _: _lz4(data), zstd=lambda data, _: _zstd(data))


def _zstd(data: bytes) -> bytes:
    from backports import zstd

    return _limited(zstd.ZstdDecompressor(), data)


def _bz2(data: bytes) -> bytes:
    import bz2

    return _limited(bz2.BZ2Decompressor(), data)


def _lz4(data: bytes) -> bytes:
    from lz4.frame import LZ4FrameDecompressor

    return _limited(LZ4FrameDecompressor(), data)


def _limited(decompressor: Any, data: bytes) -> bytes:
    decompress: Callable[..., bytes] = decompressor.decompress
    content = decompress(data, max_length=MAX_UNPACKED + 1)
    if len(content) > MAX_UNPACKED:
        raise TooLargeError("a bag's chunk or message", MAX_UNPACKED)
    if not decompressor.eof:
        raise EOFError("compressed data end too early")
    return content
