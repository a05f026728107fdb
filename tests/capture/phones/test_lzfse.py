"""LZFSE streams of known size."""

from __future__ import annotations

import struct

import lzfse
import numpy as np
import pytest

from pipeline.capture.phones.lzfse import unpacked, unpacked_size
from pipeline.errors import CaptureError
from pipeline.image_files import BadImageError

RAMP = (1 + 0.003 * np.arange(192) + 0.001 * np.arange(256)[:, None]).astype("<f4").tobytes()


@pytest.mark.parametrize(
    ("content", "magic"),
    [(RAMP, b"bvx2"), (bytes(2000), b"bvxn"), (b"depth", b"bvx-")],
    ids=["lzfse", "lzvn", "stored"],
)
def test_every_kind_of_block_round_trips(content: bytes, magic: bytes) -> None:
    """The encoder picks the kind by size."""
    packed = lzfse.compress(content)
    assert packed[:4] == magic
    assert unpacked_size(packed) == len(content)
    assert unpacked(packed, len(content), "0.depth") == content


def test_noise_of_several_blocks_round_trips(rng: np.random.Generator) -> None:
    """Blocks hold 40000 literals at most."""
    noise = rng.integers(0, 256, 150_000, np.uint8).tobytes()
    assert unpacked(lzfse.compress(noise), len(noise), "0.depth") == noise


@pytest.mark.parametrize("length", [0, 3, 4, 7, 12, 31, 32, 100, -5, -1])
def test_truncated_data_are_bad(length: int) -> None:
    """However much is left."""
    with pytest.raises(BadImageError, match="LZFSE"):
        unpacked(lzfse.compress(RAMP)[:length], len(RAMP), "0.depth")


@pytest.mark.parametrize("data", [b"garbage of some length", b"bvx$", b"bvx-\0\0\0\0bvx$", b"PK\x03\x04" * 9])
def test_garbage_is_bad(data: bytes) -> None:
    """Neither a crash nor an empty image."""
    with pytest.raises(BadImageError):
        unpacked(data, 4, "0.depth")


def test_damaged_content_is_bad() -> None:
    """Blocks of the right size whose codes are broken."""
    packed = bytearray(lzfse.compress(RAMP))
    packed[40:200] = bytes(255 - value for value in packed[40:200])
    with pytest.raises((BadImageError, CaptureError)):
        unpacked(bytes(packed), len(RAMP), "0.depth")


def test_other_size_is_refused_and_named() -> None:
    """Before anything is unpacked."""
    with pytest.raises(CaptureError, match="100 bytes") as error:
        unpacked(lzfse.compress(bytes(2000)), 100, "0.depth")
    assert error.value.found == "2000 bytes"
    assert error.value.file == "0.depth"


def test_block_that_lies_about_its_size_is_refused() -> None:
    """It claims one byte a pixel and unpacks to four."""
    packed = bytearray(lzfse.compress(RAMP))
    struct.pack_into("<I", packed, 4, len(RAMP) // 4)
    with pytest.raises((CaptureError, BadImageError)):
        unpacked(bytes(packed), len(RAMP) // 4, "0.depth")


def test_block_of_too_many_matches_is_refused_unopened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each may stand for 2 kB: their number bounds what is unpacked."""
    monkeypatch.setattr(lzfse, "decompress", lambda data: pytest.fail("unpacked"))
    packed = bytearray(lzfse.compress(RAMP[:6000]))
    assert packed[:4] == b"bvx2"
    (fields,) = struct.unpack_from("<Q", packed, 8)
    struct.pack_into("<Q", packed, 8, fields & ~(0xFFFFF << 40) | 9999 << 40)
    with pytest.raises(CaptureError, match="6000 bytes"):
        unpacked(bytes(packed), 6000, "0.depth")
