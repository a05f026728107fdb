"""The one line of a build's progress: on a terminal a bar, in a log a line now and then."""

from __future__ import annotations

import io
import logging
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import compiling
from pipeline.preview import build_bar as module
from pipeline.preview.build_bar import BuildBar, build_bar
from pipeline.preview.time_left import TimeLeft
from pipeline.progress import LINE_SECONDS, track
from pipeline.running.engine import PlannedStage
from tests.fake_stages import FakeParams, plan_chain


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which a test moves."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def stage(tmp_path: Path) -> PlannedStage:
    """A stage that logs to no file."""
    return replace(plan_chain(tmp_path, [FakeParams()])[0], log=None)


def test_a_line_for_each_stage_and_now_and_then(clock, stage, caplog, monkeypatch):
    """With the stage, what it is at, and what is left of the whole; no bar of its own for what a stage does."""
    monkeypatch.setattr(module.threading.Thread, "start", lambda _: None)
    monkeypatch.setattr(module.threading.Thread, "join", lambda _: None)
    caplog.set_level(logging.INFO)
    with build_bar(TimeLeft({stage.name: 60.0, "later": 240.0}), pytest.fail) as shown:
        shown.begin(stage)
        for done in track(range(10), "matching"):
            clock[0] += 5
            shown.tell()
            if done == 8:
                break
    assert caplog.messages == [
        f"{stage.name} (1 of 2); about 5 min left",
        f"{stage.name} (1 of 2), matching: 5 of 10; about 4.5 min left",
    ]
    assert LINE_SECONDS == 30


def test_a_stage_takes_at_least_what_it_is_at(clock, stage, caplog):
    """Expected 60 s; after 60 s one of four rounds is done, which takes 60 s each."""
    caplog.set_level(logging.INFO)
    shown = BuildBar(TimeLeft({stage.name: 90.0}), pytest.fail)
    shown.begin(stage)
    shown.at(part := module.Part(4, "rounds"))
    for _ in range(2):
        clock[0] += 60
        part.update()
    shown.tell()
    assert caplog.messages[-1] == f"{stage.name} (1 of 1), rounds: 2 of 4; about 2 min left"


def test_what_takes_longer_is_said(clock, stage, caplog):
    """Not that it takes five more seconds, for minutes; the stages to come are expected to be as slow."""
    caplog.set_level(logging.INFO)
    shown = BuildBar(TimeLeft({stage.name: 60.0, "later": 60.0}), pytest.fail)
    shown.begin(stage)
    clock[0] += 120
    shown.tell()
    assert caplog.messages[-1] == f"{stage.name} (1 of 2); longer than expected, then about 2 min"


def test_compiling_is_said_once(clock, stage, caplog, monkeypatch):
    """Only where it takes time: a kernel or two are compiled for new shapes by any build."""
    spent, told = [50.0], []
    monkeypatch.setattr(compiling, "seconds", lambda: spent[0])
    caplog.set_level(logging.INFO)
    shown = BuildBar(TimeLeft({stage.name: 60.0}), lambda: told.append(1))
    shown.begin(stage)
    for spent[0] in (51.0, 54.0, 90.0):
        shown.tell()
    assert [text for text in caplog.messages if "compiling" in text] == [
        "compiling kernels, once on this machine; about 60 s left"
    ]
    assert told == [1]


def test_a_terminal_gets_one_bar(clock, stage, monkeypatch):
    """It never goes back, and is gone in the end."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "100")
    left = TimeLeft({stage.name: 60.0, "later": 60.0})
    shown = BuildBar(left, lambda: None)
    shown.begin(stage)
    clock[0] += 30
    shown.tell()
    assert f"{stage.name} (1 of 2) |" in screen.getvalue()
    assert "| 25 %, about 90 s left" in screen.getvalue()
    left.expected["later"] = 600.0
    shown.tell()
    assert "| 25 %, about 10 min left" in screen.getvalue().rstrip().rpartition("\r")[2]
    shown.close()
    assert screen.getvalue().rpartition("\r")[2] == ""


def test_numba_tells_what_it_compiles():
    """The time of a kernel that is compiled, and nothing for one that is there."""
    import numpy as np

    from pipeline.geometry.jit import njit

    @njit
    def twice(values):
        return 2 * values

    before = compiling.seconds()
    twice(np.ones(3))
    after = compiling.seconds()
    assert after > before
    twice(np.ones(4))
    assert compiling.seconds() == after
