"""Suites as files: what is drawn, its hash, and what others may have written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import SimError, TrainError
from sim.scene.floors import held_out
from tests.train.suites.conftest import EPISODES
from train.runs.results import Episode
from train.suites.making import make_suite
from train.suites.suite import LEVELS, Suite, levels_of, read_suite, write_suite


def test_conditions_are_drawn_once(suite: Suite, yard: Path):
    """By the seed alone: more of them begin with the same ones, and another seed has others; all on held-out floor."""
    source = str(yard / "room" / "1.0.0")
    again = make_suite([source], "navigate", episodes=EPISODES)[0]
    assert again == suite and again.sha256 == suite.digest()
    longer = make_suite([source], "navigate", episodes=EPISODES + 3)[0]
    ours, theirs = suite.scenes[0].conditions, longer.scenes[0].conditions[:EPISODES]
    assert [(one.start, one.goal, one.seed) for one in ours] == [(one.start, one.goal, one.seed) for one in theirs]
    other = make_suite([source], "navigate", episodes=EPISODES, seed=1)[0]
    assert not {one.start for one in ours} & {one.start for one in other.scenes[0].conditions}
    starts = np.array([one.start for one in ours])
    assert held_out(starts[:, :2]).all() and len({one.start for one in ours}) == EPISODES


def test_the_ladder_of_difficulty_is_by_the_path(suite: Suite):
    """Thirds: no near condition has a longer path than one in the middle; nothing where there are no paths."""
    ways = {level: [one.way or 0 for one in suite.scenes[0].conditions if one.level == level] for level in LEVELS}
    assert [len(one) for one in ways.values()] == [EPISODES // 3] * 3
    assert max(ways["near"]) <= min(ways["middle"]) and max(ways["middle"]) <= min(ways["far"])
    assert levels_of([3.0, 1.0, 2.0]) == ["far", "near", "middle"]
    assert levels_of([3.0, None]) == ["", ""]


def test_scores_are_partial_progress(suite: Suite):
    """By the place nearest to the goal; a solved episode has 5, whatever its path was."""
    about: dict[str, Any] = {"scene": "room", "seed": 0, "env": 0, "start": (0, 0, 0), "goal": None, "steps": 3}
    about |= {"ended_by": "time", "reward": 0.0, "outcomes": {}, "path": ((0, 0),)}

    def score(left: float, *, success: bool = False) -> int:
        return suite.score(Episode(**about, success=success, way=(2.0, left)))

    assert [score(left) for left in (2.0, 1.7, 1.6, 1.2, 0.8, 0.4, 0.0)] == [0, 0, 1, 2, 3, 4, 4]
    assert score(2.0, success=True) == 5
    assert suite.score(Episode(**about, success=False)) == 0


def test_a_suite_is_read_as_it_was_written(suite: Suite, tmp_path: Path):
    """And without its fingerprint it is the same test."""
    write_suite(suite, tmp_path)
    assert read_suite(tmp_path) == read_suite(tmp_path / "suite.json") == suite
    assert suite.model_copy(update={"fingerprint": ()}).digest() == suite.sha256


def moved(values: dict[str, Any]) -> None:
    values["scenes"][0]["conditions"][0]["start"][0] += 0.1


CHANGES: dict[str, Any] = {
    "moved": (moved, "it was changed"),
    "no hash": (lambda values: values.pop("sha256"), "has a hash"),
    "a path": (lambda values: values["scenes"][0].update(reference="../../etc@1.0.0"), "reference"),
    "an address": (lambda values: values["scenes"][0].update(reference="hf://a/b/c@1.0.0"), "reference"),
    "a robot's file": (lambda values: values.update(robot="../robot.urdf"), "robot"),
    "many robots": (lambda values: values.update(robots=10**6), "robots"),
    "no scene": (lambda values: values.update(scenes=[]), "scenes"),
    "twice": (lambda values: values["scenes"].append(values["scenes"][0]), "id of its own"),
    "a variant": (lambda values: values["scenes"][0].update(variant="night"), "no variant night"),
    "bright as the sun": (lambda values: values["variants"]["empty"].update(gain=1e9), "gain"),
    "a rubric": (lambda values: values.update(rubric=[0.5, 0.4, 0.6, 0.8]), "rising"),
    "not a number": (lambda values: values.update(seconds=float("nan")), "seconds"),
    "more": (lambda values: values.update(command="rm"), "command"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_strange_suites_are_refused(suite: Suite, tmp_path: Path, name: str):
    """With one error that says what was found."""
    change, found = CHANGES[name]
    values = json.loads(write_suite(suite, tmp_path).read_text())
    change(values)
    (tmp_path / "suite.json").write_text(json.dumps(values))
    with pytest.raises(TrainError, match=found):
        read_suite(tmp_path)


def test_a_suite_that_is_none_is_refused(tmp_path: Path, suite: Suite, monkeypatch: pytest.MonkeyPatch):
    """Missing, no JSON, or larger than any: before it is read."""
    with pytest.raises(TrainError, match="suite"):
        read_suite(tmp_path)
    (tmp_path / "suite.json").write_bytes(b"\x00" * 100)
    with pytest.raises(TrainError, match="suite"):
        read_suite(tmp_path)
    write_suite(suite, tmp_path)
    monkeypatch.setattr("train.suites.suite.MAX_BYTES", 1000)
    with pytest.raises(TrainError, match="suite"):
        read_suite(tmp_path)


def test_what_no_suite_can_be_made_of(yard: Path):
    """An unknown variant, a robot from a file, no episodes, a place twice."""
    source = str(yard / "room" / "1.0.0")
    with pytest.raises(SimError, match="variant"):
        make_suite([source], "navigate", variants=["night"])
    with pytest.raises(SimError, match="robot"):
        make_suite([source], "navigate", robot="robot.urdf")
    with pytest.raises(TrainError, match="episodes"):
        make_suite([source], "navigate", episodes=0)
