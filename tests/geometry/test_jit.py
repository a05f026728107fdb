"""Compiled kernels that several processes save at the same time, and where none can be saved."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline.geometry.jit import put
from tests.running_yard import wait_for

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
ONCE = """
import sys, time
from pathlib import Path
from pipeline.geometry import jit

saved, folder = jit.caching.IndexDataCacheFile.save, Path(sys.argv[1])

def late(self, key, data):
    (folder / "compiled").touch()
    while sys.argv[2] == "first" and not (folder / "go").exists():
        time.sleep(0.02)
    saved(self, key, data)

jit.caching.IndexDataCacheFile.save, jit.LONGEST = late, float(sys.argv[3])
import kernel
(folder / sys.argv[2]).touch()
kernel.half(7)
print(sum(kernel.half.stats.cache_hits.values()))
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


@pytest.mark.parametrize(("patience", "loaded"), [("60", b"1"), ("0.2", b"0")])
def test_processes_that_begin_together_compile_a_kernel_once(tmp_path: Path, patience: str, loaded: bytes):
    """The second waits for what the first saves, but not for ever: the first may be stopped."""
    (tmp_path / "kernel.py").write_text(KERNEL)
    (tmp_path / "once.py").write_text(ONCE)
    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    command = [sys.executable, tmp_path / "once.py", tmp_path]
    with subprocess.Popen([*command, "first", patience], env=env, stdout=subprocess.PIPE) as first:
        wait_for((tmp_path / "compiled").exists)
        with subprocess.Popen([*command, "second", patience], env=env, stdout=subprocess.PIPE) as second:
            wait_for((tmp_path / "second").exists)
            if patience == "60":
                time.sleep(1)  # it waits by now, or begins later
                (tmp_path / "go").touch()
            assert second.communicate()[0].strip() == loaded
        (tmp_path / "go").touch()
        assert first.communicate()[0].strip() == b"0"


def computed(tmp_path: Path, **variables: str) -> tuple[str, str, int]:
    """What a kernel computes, where its machine code is, and how often that was loaded, in a process without a home.

    Neither that nor the folder of its module can be written: files are in their places.
    """
    for name in ("home", "__pycache__"):
        (tmp_path / name).touch()
    (tmp_path / "kernel.py").write_text(KERNEL)
    env = {name: value for name, value in os.environ.items() if name not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")}
    env |= {"HOME": str(tmp_path / "home"), "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    env |= {"TMPDIR": str(tmp_path / "tmp"), **variables}
    (tmp_path / "tmp").mkdir(exist_ok=True)
    ask = (
        "import kernel; print(kernel.half(7), kernel.half.stats.cache_path, sum(kernel.half.stats.cache_hits.values()))"
    )
    found = subprocess.run([sys.executable, "-c", ask], env=env, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    value, folder, hits = found.stdout.split()
    return value, folder, int(hits)


def test_without_a_home_kernels_are_kept_in_a_temporary_folder(tmp_path: Path):
    """One that nobody else may write; what a power failure leaves of them is compiled again."""
    value, folder, hits = computed(tmp_path)
    assert (value, hits) == ("3.5", 0)
    mine = tmp_path / "tmp" / f"splatyard-{os.geteuid()}-kernels"
    assert Path(folder).parent == mine
    assert mine.stat().st_mode & 0o777 == 0o700
    for kept in Path(folder).glob("*.nb?"):
        kept.write_bytes(b"")
    assert computed(tmp_path) == ("3.5", folder, 0)
    assert computed(tmp_path) == ("3.5", folder, 1)


def test_where_nothing_can_be_kept_kernels_are_compiled(tmp_path: Path):
    """Somebody else may write into the temporary folder that should be ours alone: nothing of it is loaded."""
    mine = tmp_path / "tmp" / f"splatyard-{os.geteuid()}-kernels"
    mine.mkdir(parents=True)
    mine.chmod(0o777)
    value, folder, hits = computed(tmp_path, NUMBA_CACHE_DIR=str(tmp_path / "kernel.py"))
    assert (value, hits) == ("3.5", 0)
    assert not Path(folder).exists()
    assert list(mine.iterdir()) == []


def test_values_are_put_into_a_part_of_an_array():
    """And nowhere else, whatever its dimensions."""
    into = np.zeros((2, 3, 4))
    put(into[1, 1:], np.arange(8.0).reshape(2, 4))
    assert into[1, 1:].ravel().tolist() == [*range(8)]
    assert into.sum() == sum(range(8))
    put(into[0, 0, ::2], np.array([5.0, 6.0]))
    assert into[0, 0].tolist() == [5, 0, 6, 0]
