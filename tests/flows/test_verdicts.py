"""How runs end: the colour, the name and the tag that Prefect's page shows, and whether the webhook hears of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.objects import State, StateType

from flows import verdicts
from pipeline.errors import CaptureError
from pipeline.running.records import Scene


def scene(name: str, state: Any, *failed_gates: str) -> Scene:
    """One with its bundle."""
    return Scene(card=Path(f"{name}.yaml"), name=name, state=state, bundle=Path(name), failed_gates=failed_gates)


@pytest.fixture
def tags(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Those that the run was given."""
    given: list[str] = []
    monkeypatch.setattr(verdicts, "tag_run", given.append)
    return given


GOOD, BAD, CACHED = scene("a", "built"), scene("b", "built", "scale", "psnr"), scene("c", "cached", "holes")
FAILED = GOOD.failed("mesh", CaptureError("r", found="f", remedy="d"))


@pytest.mark.parametrize(
    ("scenes", "name", "message"),
    [
        ([GOOD], "Completed", "1 built"),
        ([GOOD, BAD], "Gates failed", "2 built; failed gates: b (scale, psnr)"),
        ([CACHED], "Gates failed", "1 cached; failed gates: c (holes)"),
        ([FAILED, FAILED], "Failed", "2 failed"),
        ([GOOD, scene("d", "stopped")], "Failed", "1 built, 1 stopped"),
        ([GOOD, scene("d", "partial")], "Completed", "1 built, 1 partial"),
        ([FAILED, BAD], "Failed", "1 built, 1 failed; failed gates: b (scale, psnr)"),
    ],
    ids=["right", "a gate", "a gate from before", "none built", "stopped", "as far as asked", "both"],
)
def test_a_run_is_green_only_where_all_is_right(scenes: list[Scene], name: str, message: str, tags: list[str]):
    """The state's type is its colour; the message names the scenes and their gates, the tag finds them."""
    state = verdicts.of_scenes(scenes)
    assert (state.name, state.message) == (name, message)
    assert state.type == (StateType.COMPLETED if name == "Completed" else StateType.FAILED)
    assert tags == (["gates-failed"] if "gates" in message else [])


@pytest.mark.parametrize(
    ("one", "name"),
    [
        (GOOD, "Completed"),
        (BAD, "Gates failed"),
        (scene("e", "cached"), "Cached"),
        (scene("f", "busy"), "Cached"),
        (scene("g", "partial"), "Completed"),
    ],
)
def test_a_scene_s_task_has_its_scene(one: Scene, name: str):
    """Whatever its colour is."""
    state: State[Scene] = verdicts.of_scene(one)
    assert state.name == name
    assert state.data == one
    assert state.result(raise_on_failure=False) == one
