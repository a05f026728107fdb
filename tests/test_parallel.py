"""Cores that processes share, with kernels that are compiled and kernels that are not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import parallel
from pipeline.parallel import inherited, share_of_cores
from tests.paths import ROOT

KERNEL = """
import sys
from multiprocessing import get_context

import numba

from pipeline import parallel
from pipeline.geometry.jit import njit


@njit(cache=True)
def half(x):
    return x / 2


def compute(whose):
    threads = numba.get_num_threads()  # starts them, as the first kernel with a loop does
    print(whose, threads, half(3), flush=True)


if __name__ == "__main__":
    numba.get_num_threads()
    with parallel.inherited(parallel.share_of_cores(2)):
        child = get_context("spawn").Process(target=compute, args=("child",))
        child.start()
        child.join()
    compute("parent")
    sys.exit(child.exitcode)
"""


def test_kernels_compile_after_threads_have_started(tmp_path: Path):
    """In a process that takes its share and in the one that gave it: the first run on a machine is as every other."""
    (tmp_path / "kernel.py").write_text(KERNEL)
    env = {name: value for name, value in os.environ.items() if name not in parallel.THREADS}
    env |= {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    found = subprocess.run(
        [sys.executable, tmp_path / "kernel.py"], env=env, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    cores = parallel.core_count()
    assert found.stdout.splitlines() == [f"child {max(1, cores // 2)} 1.5", f"parent {cores} 1.5"]


def test_processes_share_the_cores(monkeypatch: pytest.MonkeyPatch):
    """Equally, at least one each; a number that the user has set is that of each process."""
    monkeypatch.setattr(parallel, "core_count", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    assert share_of_cores(4) == {"OMP_NUM_THREADS": "3", "NUMBA_NUM_THREADS": "2"}
    assert share_of_cores(9)["NUMBA_NUM_THREADS"] == "1"


def test_variables_are_inherited_for_a_while(monkeypatch: pytest.MonkeyPatch):
    """Afterwards all are as before, even after an error."""
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    before = dict(os.environ)
    with pytest.raises(KeyError), inherited({"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}):
        assert os.environ["OMP_NUM_THREADS"] == os.environ["NUMBA_NUM_THREADS"] == "1"
        raise KeyError
    assert dict(os.environ) == before
