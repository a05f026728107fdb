"""What a refused command leaves on the screen: what it did so far, then one error, and no trace of the program."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from prefect.states import Completed

from pipeline.running.engine import execute

NEVER = ("Traceback", 'File "', "^^^", "bug in", "Exception", "Warning")


def check_refusal(code: int, shown: str) -> None:
    """It ended with 2, and its last words are one error with what was found and what to do."""
    assert code == 2, shown
    for word in NEVER:
        assert word not in shown, shown
    before, error, after = shown.partition("error: ")
    assert error, shown
    assert "error" not in before, shown
    assert after.count("error: ") == 0, shown
    assert [shown.count(f"\n  {part}: ") for part in ("found", "remedy")] == [1, 1], shown


def build_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Builds run in this process, without Prefect's server."""
    monkeypatch.setattr("flows.server.require_api", lambda: None)
    monkeypatch.setattr("prefect.flow", lambda **_: lambda function: lambda return_state: function())
    here = SimpleNamespace(with_options=lambda **_: lambda _name, stage: Completed(data=execute(stage)))
    monkeypatch.setattr("flows.stage.run_stage", here)
