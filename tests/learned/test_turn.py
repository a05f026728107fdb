"""Turns on a GPU."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading

import pytest

from pipeline.learned.turn import gpu_turn
from tests.fake_stages import FakeParams, plan_chain
from tests.paths import ROOT

HOLD = "from pipeline.learned.turn import gpu_turn\nwith gpu_turn():\n    print('mine', flush=True)\n    input()"


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """Other runs of the tests have turns of their own."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture
def holder():
    """Another process that has its turn."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None and process.stdout.readline() == "mine\n"
    yield process
    process.kill()
    process.communicate()


def test_the_next_waits_until_a_turn_ends(holder):
    """Also when it ends by a kill."""
    mine = threading.Event()

    def wait() -> None:
        with gpu_turn():
            mine.set()

    thread = threading.Thread(target=wait)
    thread.start()
    assert not mine.wait(0.2)
    holder.kill()
    assert mine.wait(20)
    thread.join()


def test_another_gpu_has_turns_of_its_own(holder, monkeypatch):
    """CUDA_VISIBLE_DEVICES tells them apart."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    with gpu_turn():
        pass


def test_stages_on_the_gpu_take_turns(tmp_path, monkeypatch):
    """And no others do."""
    from dataclasses import replace

    from pipeline import engine

    taken: list[str] = []
    real = engine.gpu_turn
    monkeypatch.setattr(engine, "gpu_turn", lambda: taken.append("turn") or real())
    one, two = plan_chain(tmp_path, [FakeParams("a"), FakeParams("b")])
    assert engine.execute(one) and not taken
    assert engine.execute(replace(two, backend="gsplat")) and taken == ["turn"]
