"""Files that are whole or not there, on a full disk too."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.errors import TrainError
from train.files import write_atomically


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """While it lasts, no file of this process may become larger [bytes]: the system's own way of a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_is_replaced_as_a_whole(tmp_path: Path):
    """The new content, and nothing else in the folder."""
    path = tmp_path / "state"
    write_atomically(path, b"first")
    write_atomically(path, b"second")
    assert path.read_bytes() == b"second"
    assert list(tmp_path.iterdir()) == [path]


def test_without_room_the_old_file_stays(tmp_path: Path):
    """The error names what is missing and how to go on; nothing half-written is left."""
    path = tmp_path / "state"
    write_atomically(path, b"old")
    with room_for(1000), pytest.raises(TrainError, match=r"(?s)File too large.*MiB free.*--resume") as raised:
        write_atomically(path, bytes(5000))
    assert raised.value.file == str(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
