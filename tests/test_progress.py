"""Progress: bars on a terminal, lines in the log elsewhere."""

from __future__ import annotations

import io
import logging

import pytest

from pipeline import progress
from pipeline.progress import bar, track


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time [s], to be set."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_line_now_and_then_where_output_is_no_terminal(clock, caplog, capsys):
    """Every 30 s and no oftener: 100 items of 7 s each are 20 lines, which say how far it is and how long it takes."""
    caplog.set_level(logging.INFO)
    for _ in track(range(100), "stereo"):
        clock[0] += 7
    assert len(caplog.messages) == 20
    assert caplog.messages[0] == "stereo: 5 of 100, about 11.1 min to go"
    assert caplog.messages[-1] == "stereo: 100 of 100, about 0.0 min to go"
    assert "\r" not in capsys.readouterr().err  # no bar; a handler of the log may have written its lines


def test_short_work_says_nothing(clock, caplog):
    """Work of 29 s leaves the log alone."""
    caplog.set_level(logging.INFO)
    for _ in track(iter(range(29)), "views"):
        clock[0] += 1
    assert caplog.messages == []


def test_what_else_is_told(clock, caplog):
    """Without a total only what is done; the newest postfix; no time to go where nothing is done yet."""
    caplog.set_level(logging.INFO)
    with bar(None, "frames") as shown:
        shown.set_postfix_str("30.1 dB")
        clock[0] += 31
        shown.update(40)
    with bar(100, "splat") as shown:
        clock[0] += 30
        shown.update(0)
    assert caplog.messages == ["frames: 40; 30.1 dB", "splat: 0 of 100"]


def test_what_is_compiled_for_the_first_is_no_speed(clock, caplog):
    """A minute for the first of 3009, then half a second for each; 9 were done before."""
    caplog.set_level(logging.INFO)
    with bar(3009, "splat", 9) as shown:
        clock[0] += 60
        shown.update(1)
        for _ in range(60):
            clock[0] += 0.5
            shown.update(1)
    assert caplog.messages == ["splat: 10 of 3009", "splat: 70 of 3009, about 24.5 min to go"]


def test_a_bar_on_a_terminal(monkeypatch, caplog):
    """And no line in the log."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(progress.sys, "stderr", terminal)
    monkeypatch.setattr(progress, "SHOW_AFTER_SECONDS", 0.0)
    caplog.set_level(logging.INFO)
    assert list(track(range(3), "views")) == [0, 1, 2]
    assert "views" in terminal.getvalue()
    assert caplog.messages == []
