"""Files written whole, and the room they take."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pipeline.errors import MachineError
from pipeline.io.files import (
    folder_bytes,
    free_bytes,
    machine_errors,
    may_be_written,
    private_folder,
    readable,
    write_whole,
)
from pipeline.scenes.files import cache_folder


def test_a_file_is_whole_at_any_time(tmp_path):
    """A reader next to the writer never finds half of it, and nothing else is left in the folder."""
    file, texts = tmp_path / "deep" / "file.json", ["a" * 100_000, "b" * 200_000]
    write_whole(file, texts[0])
    ended = threading.Event()

    def write() -> None:
        for n in range(100):
            write_whole(file, texts[n % 2], sync=n < 2)
        ended.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not ended.is_set():
        assert file.read_text() in texts
        time.sleep(0.0005)
    writer.join()
    assert list(file.parent.iterdir()) == [file]


def test_what_fails_leaves_the_old_file(tmp_path, monkeypatch):
    """And no half of the new one."""
    file = tmp_path / "file"
    write_whole(file, b"old")

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(OSError, match="No space"):
        write_whole(file, b"new", sync=True)
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_free_room_of_a_folder_to_come(tmp_path):
    """That of the nearest folder that exists."""
    assert abs(free_bytes(tmp_path / "not" / "yet") - free_bytes(tmp_path)) < 2**30
    assert free_bytes(Path("/proc")) == 0


def test_folder_bytes(tmp_path):
    """All files at any depth count, what links point to does not."""
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "a").write_bytes(b"x" * 1000)
    (tmp_path / "b").write_bytes(b"x" * 20)
    assert folder_bytes(tmp_path) == 1020
    assert folder_bytes(tmp_path / "b") == 20
    (tmp_path / "link").symlink_to(tmp_path / "deep")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert folder_bytes(tmp_path) < 2000 + 1000


def test_readable():
    """The unit fits the size, with two to four digits."""
    sizes = {
        0: "0 B",
        512: "512 B",
        1600: "1.6 KiB",
        200 * 2**20: "200 MiB",
        1020 * 2**20: "1.0 GiB",
        1.5 * 2**30: "1.5 GiB",
    }
    sizes |= {2**42: "4.0 TiB", 2000 * 2**40: "2000 TiB"}
    assert {count: readable(count) for count in sizes} == sizes


def test_no_permission_says_what_to_do(tmp_path):
    """A folder that can't be written is one clear error."""
    with pytest.raises(MachineError, match="choose a folder that you may write"), machine_errors(tmp_path):
        raise PermissionError(13, "Permission denied", str(tmp_path))


def test_where_there_is_no_home(tmp_path, monkeypatch):
    """What would lie there lies in a temporary folder; a file is in its place, since root may write anywhere."""
    (tmp_path / "home").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name in ("SPLATYARD_CACHE", "XDG_CACHE_HOME", "PREFECT_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert not may_be_written(Path("~/.prefect"))
    assert may_be_written(tmp_path / "new" / "newer")
    assert cache_folder() == tmp_path / f"splatyard-{os.geteuid()}-cache"
    ask = "import os, flows; print(os.environ.get('PREFECT_HOME'))"
    command = [sys.executable, "-c", ask]
    assert subprocess.check_output(command, text=True).strip() == str(private_folder("prefect"))
    (tmp_path / "home").unlink()
    (tmp_path / "home").mkdir()
    assert cache_folder() == tmp_path / "home" / ".cache" / "splatyard"
    assert subprocess.check_output(command, text=True).strip() == "None"


def test_a_private_folder_is_nobody_elses(tmp_path, monkeypatch):
    """Neither a link to another one, nor one that others may write, nor a file."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    mine = private_folder("things")
    assert mine.stat().st_mode & 0o777 == 0o700
    assert private_folder("things") == mine
    mine.chmod(0o770)
    with pytest.raises(MachineError, match="others may write"):
        private_folder("things")
    mine.rmdir()
    mine.symlink_to(tmp_path)
    with pytest.raises(MachineError, match="others may write"):
        private_folder("things")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(MachineError, match="No such file or directory"):
        private_folder("things")
