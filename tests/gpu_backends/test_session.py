"""Sessions: the same from this process and from another interpreter, and clean ends."""

from __future__ import annotations

import signal
import sys
import tempfile

import numpy as np
import psutil
import pytest

from pipeline.errors import MachineError
from pipeline.gpu_backends.errors import KINDS, GpuMemoryError
from pipeline.gpu_backends.session import open_session
from tests.gpu_backends.interpreters import bare_interpreter

WORKER = "tests.gpu_backends.workers"


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> str:
    """An interpreter with numpy and nothing else of ours."""
    return str(bare_interpreter(tmp_path_factory.mktemp("bare")))


@pytest.fixture(params=["here", "there"])
def python(request, bare) -> str:
    """This interpreter, and another."""
    return "" if request.param == "here" else bare


def test_answers_are_the_same_from_both(bare):
    """Arrays of all kinds with their types, and plain values as JSON has them; the worker keeps its state."""
    request = {
        "do": "double",
        "points": np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2],
        "file": np.zeros((0, 3), dtype=np.int64),
        "single": np.array(1.5),
        "names": ["a", "b"],
    }
    answers = []
    for python in ("", bare):
        with open_session(WORKER, {"size": (518, 392), "bf16": True}, python) as session:
            session.ask(request)
            answers.append(session.ask(request))
    here, there = answers
    assert here.keys() == there.keys()
    assert here["asked"] == there["asked"] == 2
    assert here["settings"] == there["settings"] == {"size": [518, 392], "bf16": True}
    assert here["pair"] == there["pair"] == [1, 2]
    for name in ("points", "file", "single"):
        np.testing.assert_array_equal(here[name], 2 * request[name])
        np.testing.assert_array_equal(here[name], there[name])
        assert here[name].dtype == there[name].dtype


@pytest.mark.parametrize("kind", KINDS)
def test_errors_come_out_as_they_were_raised(python, kind):
    """Caught inside, a session goes on: memory that does not do is asked for again, by halves."""
    with open_session(WORKER, {}, python) as session:
        with pytest.raises(KINDS[kind], match="40 GiB wanted") as caught:
            session.ask({"do": "fail", "kind": kind})
        assert caught.value.remedy == "take less"
        assert session.ask({"do": "double", "x": np.ones(2)})["x"].tolist() == [2, 2]


def test_uncaught_errors_leave_as_the_users(python):
    """With the rule of their kind; also one of the worker's start."""
    with pytest.raises(MachineError) as caught, open_session(WORKER, {}, python) as session:
        session.ask({"do": "fail", "kind": "GpuMemoryError"})
    assert (caught.value.rule, caught.value.found) == (GpuMemoryError.rule, "40 GiB wanted")
    with (
        pytest.raises(MachineError, match="refused at the start"),
        open_session(WORKER, {"refuse": "MissingWeightsError"}, python),
    ):
        pass


def test_bugs_are_no_users_errors(python):
    """Their traceback leads to the worker's line, wherever it ran."""
    with pytest.raises((KeyError, RuntimeError), match="not there"), open_session(WORKER, {}, python) as session:
        session.ask({"do": "bug"})


def test_missing_library_is_named(python):
    """And the doctor, which has the commands; the session goes on."""
    with (
        pytest.raises(MachineError, match=r"no_such_library.*\n.*doctor"),
        open_session(WORKER, {}, python) as session,
    ):
        session.ask({"do": "library"})


def test_no_pickle(python):
    """Objects are refused before anything is written."""
    with open_session(WORKER, {}, python) as session:
        with pytest.raises((TypeError, RuntimeError), match="objects holds Python objects"):
            session.ask({"do": "hold"})
        with pytest.raises(TypeError, match="mine holds Python objects"):
            session.ask({"do": "double", "mine": np.array([{}], dtype=object)})


def test_death_is_told(bare):
    """With the signal and the last words of the process, and no later request hangs."""
    with open_session(WORKER, {}, bare) as session:
        for _ in range(2):
            with pytest.raises(MachineError, match="signal 9: allocating"):
                session.ask({"do": "die"})


def test_nothing_is_left(bare, tmp_path, monkeypatch):
    """No file and no process, after a good end and after an error."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with open_session(WORKER, {}, bare) as session:
        session.ask({"do": "double", "x": np.ones(1000)})
        process = session.ask({"do": "modules"})["process"]
        assert [path.name for path in next(tmp_path.iterdir()).iterdir()] == ["stderr"]
    assert not list(tmp_path.iterdir())
    assert not psutil.pid_exists(process)
    with pytest.raises(ValueError, match="ours"), open_session(WORKER, {}, bare) as session:
        process = session.ask({"do": "modules"})["process"]
        raise ValueError("ours")
    assert not list(tmp_path.iterdir())
    assert not psutil.pid_exists(process)


def test_a_busy_worker_ends_with_its_session(bare):
    """Whoever asked does not wait for an answer to nobody."""

    def enough(*_: object) -> None:
        raise TimeoutError("enough")

    before = signal.signal(signal.SIGALRM, enough)
    try:
        with pytest.raises(TimeoutError, match="enough"), open_session(WORKER, {}, bare) as session:
            process = session.ask({"do": "modules"})["process"]
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            session.ask({"do": "sleep"})
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not psutil.pid_exists(process)


def test_other_interpreter_has_no_package_of_ours(bare):
    """It needs numpy only, and sees nothing of what this one has installed."""
    with open_session(WORKER, {}, bare) as session:
        loaded = set(session.ask({"do": "modules"})["modules"])
    ours = loaded - sys.stdlib_module_names - {"__main__", "tests", "sitecustomize"}
    assert {name for name in ours if not name.startswith("_")} == {"numpy", "pipeline"}


@pytest.mark.parametrize(
    ("text", "found"), [(None, "No such file"), ("#!/bin/sh\necho broken >&2; exit 3\n", "code 3: broken")]
)
def test_bad_interpreter_is_named(tmp_path, text, found):
    """One that is not there, and one that ends at once."""
    python = tmp_path / "python"
    if text is not None:
        python.write_text(text)
        python.chmod(0o755)
    with pytest.raises(MachineError, match=found) as caught, open_session(WORKER, {}, str(python)):
        pass
    assert caught.value.file == str(python)
