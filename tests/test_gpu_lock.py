"""One process at a time on a GPU."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading

import pytest

from pipeline.machine import gpu_lock
from tests.fake_stages import FakeParams, plan_chain
from tests.paths import ROOT

HOLD = "from pipeline.machine import gpu_lock\nwith gpu_lock():\n    print('mine', flush=True)\n    input()"


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """Other runs of the tests have locks of their own."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture
def holder():
    """Another process that holds the GPU."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None and process.stdout.readline() == "mine\n"
    yield process
    process.kill()
    process.communicate()


def start_waiting() -> threading.Event:
    """Ask for the GPU in a thread that no failed test waits for; the event says when it was given."""
    mine = threading.Event()

    def wait() -> None:
        with gpu_lock():
            mine.set()

    threading.Thread(target=wait, daemon=True).start()
    return mine


def test_the_next_process_waits_until_the_lock_is_released(holder):
    """Also by a kill."""
    mine = start_waiting()
    assert not mine.wait(0.2)
    holder.kill()
    assert mine.wait(20)


def test_another_gpu_has_its_own_lock(holder, monkeypatch):
    """CUDA_VISIBLE_DEVICES tells them apart."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    assert start_waiting().wait(20)


def test_stages_on_the_gpu_take_the_lock(tmp_path, monkeypatch):
    """And no other stage does."""
    from dataclasses import replace

    from pipeline.running import engine

    taken: list[str] = []
    real = engine.gpu_lock
    monkeypatch.setattr(engine, "gpu_lock", lambda: taken.append("lock") or real())
    one, two = plan_chain(tmp_path, [FakeParams(text="a"), FakeParams(text="b")])
    assert engine.execute(one) and not taken
    assert engine.execute(replace(two, backend="gsplat")) and taken == ["lock"]
