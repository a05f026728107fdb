"""What is compressed in a bag, unpacked within bounds."""

from __future__ import annotations

from pathlib import Path

import pytest
from backports import zstd

from pipeline.capture.bags import files
from pipeline.capture.bags.files import TooLargeError, unpack_file, unpack_message, without_compression

CONTENT = bytes(range(256)) * 64


def test_messages_are_unpacked_where_they_are_packed() -> None:
    """CDR begins otherwise than a frame of zstd."""
    plain = b"\0\1\0\0" + CONTENT
    assert unpack_message(plain) == plain
    assert unpack_message(zstd.compress(plain)) == plain


def test_small_message_that_unpacks_to_much_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the memory is filled."""
    monkeypatch.setattr(files, "MAX_UNPACKED", 2**20)
    packed = zstd.compress(bytes(2**20))
    assert len(unpack_message(packed)) == 2**20
    with pytest.raises(TooLargeError, match="at most 1 MiB"):
        unpack_message(zstd.compress(bytes(2**20 + 1)))


def test_cut_off_message_is_no_message() -> None:
    """What decompresses from the rest isn't taken for it."""
    with pytest.raises(EOFError):
        unpack_message(zstd.compress(CONTENT)[:-40])


def test_files_stop_at_what_an_archive_may_unpack_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred times its size, once that is a gigabyte."""
    packed, unpacked = tmp_path / "a.db3.zstd", tmp_path / "a.db3"
    packed.write_bytes(zstd.compress(CONTENT) + zstd.compress(CONTENT))
    unpack_file(packed, unpacked)
    assert unpacked.read_bytes() == CONTENT + CONTENT
    monkeypatch.setattr(files, "BOMB_BYTES", 2**20)
    packed.write_bytes(zstd.compress(bytes(2**24)))
    with pytest.raises(TooLargeError, match=r"a\.db3\.zstd unpacks"):
        unpack_file(packed, unpacked)


def test_metadata_of_unpacked_files() -> None:
    """Names and mode; the rest stays."""
    text = "relative_file_paths:\n- walk_0.db3.zstd\ncompression_format: zstd\ncompression_mode: FILE\nversion: 5\n"
    changed = "relative_file_paths:\n- walk_0.db3\ncompression_format: zstd\ncompression_mode: ''\nversion: 5\n"
    assert without_compression(text) == changed
