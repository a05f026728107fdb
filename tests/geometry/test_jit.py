"""Compiled kernels that several processes save at the same time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

SLOW = """
import sys, time
from pipeline.geometry.jit import caching

written = caching.IndexDataCacheFile._save_index

def late(self, overloads):
    time.sleep(0.5)  # the other process reads the index that this one is about to replace
    written(self, overloads)

caching.IndexDataCacheFile._save_index = late
import kernel
print(kernel.half(eval(sys.argv[1])))
"""
KERNEL = """
from pipeline.geometry.jit import njit

@njit(cache=True)
def half(x):
    return x / 2
"""


def test_two_processes_save_a_kernel_for_different_arguments(tmp_path: Path):
    """Each signature keeps its machine code: both are loaded afterwards, and right."""
    (tmp_path / "kernel.py").write_text(KERNEL)
    (tmp_path / "slow.py").write_text(SLOW)
    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    first, second = (
        subprocess.Popen([sys.executable, tmp_path / "slow.py", value], env=env, stdout=subprocess.PIPE)
        for value in ("7", "2.5")
    )
    assert first.communicate()[0] == b"3.5\n"
    assert second.communicate()[0] == b"1.25\n"
    check = "import kernel; print(kernel.half(7), kernel.half(2.5), sum(kernel.half.stats.cache_hits.values()))"
    found = subprocess.run([sys.executable, "-c", check], env=env, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["3.5", "1.25", "2"], found.stderr
