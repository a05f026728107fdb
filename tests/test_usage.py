"""What stages use: memory and bytes."""

from __future__ import annotations

import subprocess
import sys

import psutil

from pipeline import usage
from pipeline.usage import PeakMemory, memory_of

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
