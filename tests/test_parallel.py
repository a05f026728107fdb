"""Cores that processes share, with kernels that are compiled and kernels that are not."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import parallel
from pipeline.errors import MachineError
from pipeline.parallel import check_ray, inherited, share_of_cores, unreachable
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


REFUSED = """
raise SystemExit('''Traceback (most recent call last):
ray.exceptions.AuthenticationError: RPC error: InvalidAuthToken: Authentication token is missing or incorrect. Note: x.

The above exception was the direct cause of the following exception:

ConnectionError: Failed to connect to Ray cluster at 10.0.0.1:6379''')
"""
"""What `ray.init` of Ray 2.60 says to an address that asks for a token, in part."""


def test_a_ray_cluster_that_asks_for_its_token(monkeypatch: pytest.MonkeyPatch):
    """The first cause is told and not the last one, and what is missing."""
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.setattr(parallel, "PROBE", REFUSED)
    with pytest.raises(MachineError, match="asks for its token") as caught:
        check_ray("10.0.0.1:6379", MachineError)
    assert (
        "InvalidAuthToken: Authentication token is missing or incorrect; RAY_AUTH_MODE=(not set)" in caught.value.found
    )
    assert "export RAY_AUTH_MODE=token" in caught.value.remedy


def test_another_fault_of_a_ray_cluster(monkeypatch: pytest.MonkeyPatch):
    """Its last error is told."""
    monkeypatch.setattr(parallel, "PROBE", "raise RuntimeError('Version mismatch')")
    with pytest.raises(
        MachineError, match=r"(?s)answers at 10\.0\.0\.1:6379.*RuntimeError: Version mismatch.*ray start"
    ):
        check_ray("10.0.0.1:6379", MachineError)


def test_a_ray_of_this_machine_has_a_token_of_its_own(monkeypatch: pytest.MonkeyPatch):
    """The same each time, as Ray reads it once; none for a cluster elsewhere; what the user has set is kept."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    one, other = (parallel.ray_variables("") for _ in range(2))
    assert len(one["RAY_AUTH_TOKEN"]) == 64
    assert one["RAY_AUTH_TOKEN"] == other["RAY_AUTH_TOKEN"]
    assert one[parallel.ONLY_HERE] == "0"
    assert "RAY_AUTH_MODE" not in one
    assert not parallel.ray_variables("10.0.0.1:6379").keys() & {"RAY_AUTH_TOKEN", "RAY_AUTH_MODE", parallel.ONLY_HERE}


def test_where_nobody_listens_is_told_at_once():
    """Of any way to write an address; what names no port isn't asked."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert unreachable(f"tcp://127.0.0.1:{port}") == ""
    assert "refused" in unreachable(f"127.0.0.1:{port}")
    assert "refused" in unreachable(f"ray://127.0.0.1:{port}")
    assert unreachable("127.0.0.1:99999")
    assert unreachable("no such host:6379")
    assert unreachable("auto") == unreachable("local") == ""
    with pytest.raises(MachineError, match=r"(?s)a Ray cluster answers at.*refused"):
        check_ray(f"127.0.0.1:{port}", MachineError)


LAZY = """
import prefect_ray
from pipeline.parallel import ray_job
job = ray_job()
import ray, ray.client_builder
print(type(job) is ray.client_builder.JobConfig, ray.is_initialized())
"""


@pytest.mark.slow
def test_rays_modules_are_loaded_once():
    """Though prefect_ray leaves one that loads at its first use; whichever test came next failed, far from here."""
    pytest.importorskip("prefect_ray", reason="needs pip install 'splatyard[lab]'")
    done = subprocess.run([sys.executable, "-c", LAZY], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "True False\n", done.stderr
