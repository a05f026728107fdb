"""The engine: keys, atomic results, locks, kills."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from pipeline.errors import BusyError, MachineError
from pipeline.gpu_backends.catalog import BACKENDS
from pipeline.io.results import lock_file, locked, partial_folder, run_record
from pipeline.running.engine import execute
from pipeline.running.stages import STAGES
from tests.fake_stages import FakeParams, plan_chain


def run_chain(work: Path, params: list[FakeParams]) -> list[str]:
    return [stage.name for stage in plan_chain(work, params) if execute(stage)]


def test_second_run_does_nothing(tmp_path):
    """Everything runs once."""
    params = [FakeParams(text="a"), FakeParams(text="b"), FakeParams(text="c")]
    assert run_chain(tmp_path, params) == ["one", "two", "three"]
    assert run_chain(tmp_path, params) == []


def test_changed_parameter_redoes_only_what_depends_on_it(tmp_path):
    """A change in the middle leaves what comes before alone; going back finds the old results."""
    old = [FakeParams(text="a"), FakeParams(text="b"), FakeParams(text="c")]
    new = [FakeParams(text="a"), FakeParams(text="B"), FakeParams(text="c")]
    run_chain(tmp_path, old)
    assert run_chain(tmp_path, new) == ["two", "three"]
    assert (plan_chain(tmp_path, new)[-1].folder / "result.txt").read_text() == "a;B;c;"
    assert run_chain(tmp_path, old) == []


def test_raised_stage_version_redoes_it(tmp_path):
    """Code that computes something else has another key."""
    params = [FakeParams(text="a"), FakeParams(text="b")]
    first, second = (plan_chain(tmp_path, params, versions) for versions in ([1, 1], [1, 2]))
    assert first[0].key == second[0].key
    assert first[1].key != second[1].key


def test_failed_stage_leaves_nothing_behind(tmp_path):
    """An exception passes through, neither a result nor half of one stays, and the next run starts the stage anew."""
    with pytest.raises(RuntimeError, match="as told"):
        run_chain(tmp_path, [FakeParams(text="a"), FakeParams(behave="raise")])
    failed = plan_chain(tmp_path, [FakeParams(text="a"), FakeParams(behave="raise")])[1]
    assert list(failed.folder.parent.iterdir()) == [lock_file(failed.folder)]
    assert run_chain(tmp_path, [FakeParams(text="a"), FakeParams(text="b")]) == ["two"]


def test_stage_goes_on_with_what_it_kept(tmp_path):
    """What a stage keeps in its resume folder outlives the failed run, and is gone once the result is there."""
    params = [FakeParams(text="a"), FakeParams(text="b", behave="resume")]
    with pytest.raises(RuntimeError, match="stopped as told"):
        run_chain(tmp_path, params)
    stage = plan_chain(tmp_path, params)[1]
    assert not partial_folder(stage.folder).exists()
    assert run_chain(tmp_path, params) == ["two"]
    assert (stage.folder / "resumed.txt").read_text() == "half of the work"
    assert not list(stage.folder.parent.glob(".*.resume"))


def test_result_holds_no_times(tmp_path):
    """What ran and how long stands beside the result, not in it."""
    stage = plan_chain(tmp_path, [FakeParams(text="a")])[0]
    execute(stage)
    assert sorted(path.name for path in stage.folder.iterdir()) == ["half.txt", "result.txt"]
    record = json.loads(run_record(stage.folder).read_text())
    assert record["key"] == stage.key
    assert record["params"] == {"text": "a", "behave": "well"}
    assert record["seconds"] >= 0


def test_record_tells_what_it_took(tmp_path):
    """Bytes of inputs and result are counted, and the memory is at least that of an interpreter."""
    first, second = plan_chain(tmp_path, [FakeParams(text="abc"), FakeParams(text="d")])
    execute(first)
    execute(second)
    record = json.loads(run_record(second.folder).read_text())
    assert record["input_bytes"] == len("half") + len("abc;")
    assert record["result_bytes"] == len("half") + len("abc;d;")
    assert 2**22 < record["peak_memory"] < 2**36


def test_a_clock_that_jumps_counts_no_time(tmp_path, monkeypatch):
    """Setting the clock back while a stage runs gives no negative time."""
    clock = iter(range(10**6, 0, -3600))
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))
    stage = plan_chain(tmp_path, [FakeParams(text="a")])[0]
    execute(stage)
    assert 0 <= json.loads(run_record(stage.folder).read_text())["seconds"] < 600


def test_out_of_memory_says_what_to_do(tmp_path):
    """And leaves no half result; with more memory the same goes on."""
    stage = plan_chain(tmp_path, [FakeParams(behave="no_memory")])[0]
    with pytest.raises(MachineError, match="Unable to allocate") as caught:
        execute(stage)
    assert "ulimit" in caught.value.remedy
    assert list(stage.folder.parent.iterdir()) == [lock_file(stage.folder)]


def test_disk_full_says_what_to_do(tmp_path):
    """A full disk is one clear error, and nothing of the result stays there."""
    stage = plan_chain(tmp_path, [FakeParams(behave="disk_full")])[0]
    with pytest.raises(MachineError, match=r"no space left.*\n.*free some space"):
        execute(stage)
    assert list(stage.folder.parent.iterdir()) == [lock_file(stage.folder)]


def test_two_builders_of_one_key(tmp_path):
    """The second one is told who is at it, and the lock is free again afterwards."""
    stage = plan_chain(tmp_path, [FakeParams(text="a")])[0]
    lock = stage.folder.parent / f".{stage.folder.name}.lock"
    with locked(lock, "it"), pytest.raises(BusyError, match=f"process {os.getpid()}"):
        execute(stage)
    assert execute(stage)


def test_a_lock_tells_what_its_holder_does(tmp_path):
    """And who that is, also in the moment before that is written."""
    path = tmp_path / "lock"
    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        writing = threading.Timer(0.1, path.write_text, ["1234"])
        writing.start()
        with pytest.raises(BusyError, match="run a is being trained by process 1234"):
            locked(path, "run a", "is being trained by").__enter__()
        writing.join()


def test_kill_in_the_middle_then_again(tmp_path):
    """Kill -9 while the second stage works: the next run redoes that stage only, with an equal result."""
    hanging = plan_chain(tmp_path, [FakeParams(text="a"), FakeParams(text="b", behave="hang")])[1]
    process = multiprocessing.get_context("spawn").Process(
        target=run_chain, args=(tmp_path, [FakeParams(text="a"), FakeParams(text="b", behave="hang")])
    )
    process.start()
    partial = hanging.folder.parent / f".{hanging.key}.partial"
    deadline = time.monotonic() + 60
    while not (partial / "ready").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert process.pid
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not hanging.cached
    with locked(hanging.folder.parent / f".{hanging.key}.lock", "a killed process's stage"):
        pass  # the kernel gave the lock back
    assert run_chain(tmp_path, [FakeParams(text="a"), FakeParams(text="b")]) == ["two"]


def test_every_backend_says_whose_version_its_result_depends_on():
    """A backend that a stage offers is one whose library the key knows."""
    offered = [
        (s, name) for s in STAGES for name in get_args(get_type_hints(s.params).get("backend")) if name != "auto"
    ]
    assert {name for _, name in offered} > {"combined", "colmap", "tsdf"}
    assert [name for s, name in offered if name not in s.libraries and name not in BACKENDS] == []
