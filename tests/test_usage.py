"""What stages use: memory and bytes."""

from __future__ import annotations

import subprocess
import sys

import psutil

from pipeline import usage
from pipeline.usage import PeakMemory, folder_bytes, memory_of, readable

EATER = "import sys; eaten = b'x' * 200 * 2**20; print(flush=True); sys.stdin.read()"


def test_memory_of_a_family():
    """A child's memory counts; a process that is gone has none."""
    before = memory_of(psutil.Process())
    with subprocess.Popen([sys.executable, "-c", EATER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout
        child.stdout.readline()
        eater = psutil.Process(child.pid)
        assert memory_of(eater) > 200 * 2**20
        assert memory_of(psutil.Process()) > before + 150 * 2**20
        child.kill()
    assert memory_of(eater) == 0


def test_the_peak_is_kept(monkeypatch):
    """What was resident for a while and is given back counts; what comes afterwards doesn't."""
    monkeypatch.setattr(usage, "LOOK_SECONDS", 0.01)
    before = memory_of(psutil.Process())
    with PeakMemory() as memory:
        eaten = bytearray(b"x" * (200 * 2**20))
        while memory.bytes < before + 150 * 2**20:  # until it was looked at
            pass
        del eaten
    assert memory.bytes > before + 150 * 2**20


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
    """The unit fits the size."""
    assert [readable(n) for n in (512, 200 * 2**20, 1.5 * 2**30)] == ["0.5 KiB", "200 MiB", "1.5 GiB"]
