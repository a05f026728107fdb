"""Stages in processes of their own: the same results, limits, and no process that outlives its reason."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest

from pipeline.errors import BusyError, CaptureError, MachineError
from pipeline.io.results import lock_file, locked, partial_folder, run_record
from pipeline.running.engine import PlannedStage, execute
from pipeline.running.isolation import Limits, LostError, execute_isolated
from tests.fake_stages import FakeParams, plan_chain
from tests.paths import ROOT
from tests.running_yard import lives
from tests.test_imports import HEAVY, loaded_after

RUN = (
    "import signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a background job ignores it
    "from pathlib import Path\nfrom pipeline.running.isolation import Limits, execute_isolated\n"
    "from tests.fake_stages import FakeParams, plan_chain\n"
    "execute_isolated(plan_chain(Path(sys.argv[1]), [FakeParams(behave=sys.argv[2])])[0], Limits())"
)


def one(work: Path, behave: str = "well") -> PlannedStage:
    return plan_chain(work, [FakeParams(behave=behave)])[0]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def nothing_left(stage: PlannedStage) -> bool:
    """Whether nobody holds the stage's lock, no half result is there, and no result."""
    try:
        with locked(lock_file(stage.folder), "it"):
            return not partial_folder(stage.folder).exists() and not stage.cached
    except BusyError:
        return False


@dataclass
class Hanging:
    """A process, in a session of its own, whose isolated stage is at work and hangs."""

    stage: PlannedStage
    process: subprocess.Popen[bytes]
    errors: Path
    supervisor: psutil.Process
    child: psutil.Process

    def all_gone(self) -> bool:
        """Whether supervisor and stage are no more."""
        return not any(one.is_running() for one in (self.supervisor, self.child))


@pytest.fixture
def hanging(tmp_path) -> Iterator[Hanging]:
    stage, errors = one(tmp_path, "hang"), tmp_path / "errors.txt"
    with errors.open("w") as file:
        command = [sys.executable, "-c", RUN, str(tmp_path), "hang"]
        process = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stderr=file)
    wait_until(lambda: (partial_folder(stage.folder) / "ready").exists())
    supervisor, child = psutil.Process(process.pid).children(recursive=True)
    yield Hanging(stage, process, errors, supervisor, child)
    process.kill()
    for left in (supervisor, child):
        with contextlib.suppress(psutil.NoSuchProcess):
            left.kill()
    process.wait()


def test_as_in_this_process(tmp_path):
    """The result and its record are those of `execute`; what is there is not made again."""
    here, there = (
        plan_chain(tmp_path / name, [FakeParams(text="a"), FakeParams(text="b")]) for name in ("here", "there")
    )
    assert [execute(stage) for stage in here] == [execute_isolated(stage) for stage in there] == [True, True]
    assert not execute_isolated(there[1])
    for a, b in zip(here, there, strict=True):
        assert (a.folder / "result.txt").read_text() == (b.folder / "result.txt").read_text()
        first, second = (json.loads(run_record(stage.folder).read_text()) for stage in (a, b))
        assert first.keys() == second.keys()
        assert first["result_bytes"] == second["result_bytes"]


def process_of(stage: PlannedStage) -> int:
    """The process that ran a stage."""
    return int(lock_file(stage.folder).read_text())


def test_stages_share_a_process_unless_their_memory_is_limited(tmp_path, capfd):
    """What one loaded and compiled is there for the next; what it left in memory is not counted against the next."""
    execute_isolated(one(tmp_path / "first"))
    first = process_of(one(tmp_path / "first"))
    execute_isolated(one(tmp_path / "second"))
    execute_isolated(one(tmp_path / "limited"), Limits(memory=2**32))
    second, limited = (process_of(one(tmp_path / name)) for name in ("second", "limited"))
    assert second == first
    assert len({os.getpid(), first, limited}) == 3
    assert "Traceback" not in capfd.readouterr().err  # Prefect, once loaded, writes log lines there


def test_stages_at_once_share_the_cores(tmp_path, monkeypatch):
    """Each is told how many threads to start, even after one that had another share."""
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    monkeypatch.setattr("pipeline.parallel.core_count", lambda: 8)
    for number, (at_once, threads) in enumerate([(4, "2"), (9, "1"), (4, "2")]):
        stage = one(tmp_path / str(number), "threads")
        execute_isolated(stage, at_once=at_once)
        assert (stage.folder / "threads.txt").read_text() == threads


def test_a_stage_logs_to_its_build(tmp_path):
    """At the caller's level, and what its libraries write to the standard error too; nothing comes out here."""
    stage = replace(one(tmp_path, "log"), log=tmp_path / "build.log")
    execute_isolated(stage)
    assert stage.log is not None
    log = stage.log.read_text()
    assert "at work" in log
    assert "a detail" not in log
    assert "pipeline.running.engine: one: done" in log
    crash = replace(one(tmp_path, "crash"), log=stage.log)
    with pytest.raises(MachineError, match="SIGSEGV"):
        execute_isolated(crash)


def test_errors_come_as_themselves(tmp_path):
    """A rejected capture is a CaptureError with all its parts; a note tells where in the stage it came from."""
    with pytest.raises(CaptureError, match="take some") as caught:
        execute_isolated(one(tmp_path, "reject"))
    assert (caught.value.found, caught.value.file) == ("none", "scan.zip")
    assert "fake_stages.py" in caught.value.__notes__[0]
    with pytest.raises(RuntimeError, match="as told"):
        execute_isolated(one(tmp_path, "raise"))
    with pytest.raises(RuntimeError, match="OddError: odd 7"):
        execute_isolated(one(tmp_path, "odd"))
    with pytest.raises(MachineError, match="no space left"):
        execute_isolated(one(tmp_path, "disk_full"))
    assert all(nothing_left(one(tmp_path, behave)) for behave in ("reject", "raise", "odd", "disk_full"))


def test_an_error_pickles_whole():
    """Kind, parts, text and notes of an error survive pickling."""
    error = BusyError("one at a time", found="two", remedy="wait", file=Path("x"))
    error.add_note("seen twice")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.__notes__) == (BusyError, str(error), ["seen twice"])
    assert (again.rule, again.found, again.remedy, again.file) == ("one at a time", "two", "wait", "x")


def test_time_limit(tmp_path):
    """A stage that hangs is ended, with what it took and what to do; the next run starts it anew."""
    stage = one(tmp_path, "hang")
    with pytest.raises(MachineError, match=r"one may take 0\.5 s\n.*ended after .* s with .*\n.*--stage-seconds"):
        execute_isolated(stage, Limits(seconds=0.5))
    assert nothing_left(stage)


def test_memory_limit(tmp_path):
    """A stage that eats memory is ended before the machine suffers, with what it used and what to do."""
    stage = one(tmp_path, "eat")
    with pytest.raises(MachineError, match=r"one may use 200 MiB of memory\n.* MiB of memory\n.*--stage-memory"):
        execute_isolated(stage, Limits(seconds=60, memory=200 * 2**20))
    assert nothing_left(stage)


def test_within_the_limits(tmp_path):
    """A stage that keeps to its limits doesn't notice them."""
    assert execute_isolated(one(tmp_path), Limits(seconds=60, memory=2**30))


def test_its_children_go_with_it(tmp_path):
    """What a stage started is ended as well, even in a session of its own."""
    stage = one(tmp_path, "family")
    with pytest.raises(MachineError, match="one may use"):
        execute_isolated(stage, Limits(memory=200 * 2**20))
    child = int((stage.folder.parent / "child.txt").read_text())
    try:
        wait_until(lambda: not lives(child))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def test_only_a_kill_is_worth_another_try(tmp_path):
    """A crash or an exit would come again."""
    for behave, lost in {"die": True, "crash": False, "leave": False}.items():
        with pytest.raises(MachineError) as caught:
            execute_isolated(one(tmp_path, behave))
        assert isinstance(caught.value, LostError) == lost


@pytest.mark.parametrize(
    ("behave", "found"), [("die", "was killed"), ("crash", "crashed with SIGSEGV"), ("leave", "exit code 3")]
)
def test_a_death_is_told(tmp_path, behave, found):
    """A killed or crashed stage is a clear error, and the next stage runs."""
    stage = one(tmp_path, behave)
    with pytest.raises(MachineError, match=found):
        execute_isolated(stage)
    assert nothing_left(stage)
    assert execute_isolated(one(tmp_path))


def test_several_at_once(tmp_path):
    """Threads run stages at the same time; two at one key are told apart as between processes."""
    stages = [one(tmp_path / str(i), "wait") for i in range(2)]
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(execute_isolated, stage) for stage in stages]
        try:
            wait_until(lambda: all((partial_folder(stage.folder) / "ready").exists() for stage in stages))
            with pytest.raises(BusyError, match="is being built by process"):
                execute_isolated(stages[0])
        finally:
            for i in range(2):
                (tmp_path / str(i) / "go").touch()
        assert all(one.result() for one in running)
    assert all(stage.cached for stage in stages)


def test_kill_of_the_caller(hanging):
    """Kill -9 of the process that asked ends the stage, frees its lock and removes its half result."""
    hanging.process.kill()
    hanging.process.wait()
    wait_until(lambda: hanging.all_gone() and nothing_left(hanging.stage))


def test_kill_of_the_keeper(hanging):
    """Kill -9 of the supervisor ends the stage too, and the caller is told."""
    hanging.supervisor.kill()
    assert hanging.process.wait(60) == 1
    wait_until(hanging.all_gone)
    assert "the process that runs the stages must live" in hanging.errors.read_text()
    assert not hanging.stage.cached


def test_the_end_is_final(tmp_path):
    """What is at work ends, and is not worth another try; nothing new begins, from any thread."""
    code = (
        f"{RUN.rpartition(chr(10))[0]}\nimport threading, time\n"
        "from pipeline.running.isolation import LostError, end_all\n"
        "from pipeline.errors import MachineError\nfrom pipeline.io.results import partial_folder\n"
        "stage = plan_chain(Path(sys.argv[1]), [FakeParams(behave='hang')])[0]\nkinds = []\n"
        "def run():\n    try: execute_isolated(stage)\n    except MachineError as error: kinds.append(type(error))\n"
        "thread = threading.Thread(target=run)\nthread.start()\n"
        "while not (partial_folder(stage.folder) / 'ready').exists(): time.sleep(0.02)\n"
        "end_all()\nthread.join()\nrun()\nassert kinds == [MachineError, MachineError], kinds\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=True, timeout=120)
    assert nothing_left(one(tmp_path, "hang"))


def test_ctrl_c(hanging):
    """Ctrl-C ends the caller only when nothing of the stage is left."""
    os.killpg(hanging.process.pid, signal.SIGINT)  # as a terminal does: to the whole foreground group
    assert hanging.process.wait(60) != 0
    assert hanging.all_gone()
    assert nothing_left(hanging.stage)
    assert "KeyboardInterrupt" in hanging.errors.read_text()


def test_in_a_process_that_may_have_no_children(tmp_path):
    """Dask's workers are daemonic; multiprocessing would refuse."""
    stage = one(tmp_path)
    process = multiprocessing.get_context("spawn").Process(target=execute_isolated, args=(stage,), daemon=True)
    process.start()
    process.join()
    assert process.exitcode == 0
    assert stage.cached


def test_in_a_forked_process(tmp_path):
    """A fork doesn't share its parent's supervisor: both go on undisturbed.

    Its exit code says nothing: in a fork Prefect, where an earlier test used it, fails as the process ends.
    """
    execute_isolated(one(tmp_path / "before"))
    process = multiprocessing.get_context("fork").Process(target=execute_isolated, args=(one(tmp_path / "fork"),))
    process.start()
    process.join()
    assert one(tmp_path / "fork").cached
    assert execute_isolated(one(tmp_path / "after"))


def test_the_import_is_light():
    """A supervisor starts quickly."""
    assert not loaded_after("import pipeline.running.isolation") & (HEAVY | {"numpy", "pydantic"})
