"""What actors send is checked before anything is learned from it."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pytest

from tests.train.actors.simulated import FORM, changed, chunk
from train.actors.chunk import Chunk, Sender

GOOD = chunk()


def test_a_good_chunk_has_no_fault():
    """Nor one without episodes that ended, which names no outcomes."""
    assert FORM.fault(GOOD) == ""
    nothing = dataclasses.replace(
        GOOD.done,
        scene=np.zeros(0, np.int64),
        success=np.zeros(0, bool),
        ended_by=[],
        reward=np.zeros(0, np.float32),
        steps=np.zeros(0, np.int64),
        outcomes={},
        rewards={},
    )
    assert FORM.fault(changed(GOOD, "terminal", np.zeros((4, 3), bool), done=nothing)) == ""
    assert FORM.steps == 12


def _with_nan(name: str, value: float) -> np.ndarray:
    values = GOOD.fields[name].copy()
    values.reshape(-1)[-1] = value
    return values


def _done(**changes: Any) -> Chunk:
    return dataclasses.replace(GOOD, done=dataclasses.replace(GOOD.done, **changes))


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        (None, "NoneType that is no chunk"),
        ({"fields": {}}, "dict that is no chunk"),
        (dataclasses.replace(GOOD, fields=[1]), "no chunk"),
        (dataclasses.replace(GOOD, done=None), "no chunk"),
        (dataclasses.replace(GOOD, version="0"), "no integers"),
        (dataclasses.replace(GOOD, number=True), "no integers"),
        (dataclasses.replace(GOOD, fields={}), "fields "),
        (changed(GOOD, "more", np.zeros(3)), "more"),
        (changed(GOOD, "reward", _with_nan("reward", np.nan)), "reward with NaN"),
        (changed(GOOD, "observed.state", _with_nan("observed.state", np.inf)), "state with NaN or infinity"),
        (changed(GOOD, "observed.state", GOOD.fields["observed.state"][:4]), r"state is float32 \(4, 3, 2\)"),
        (changed(GOOD, "action", np.zeros((4, 3, 1))), "action is float64"),
        (changed(GOOD, "action", np.array([[object()]])), "action is object"),
        (dataclasses.replace(GOOD, fields={**GOOD.fields, "action": [0.0]}), "action is a list"),
        (changed(GOOD, "action", _with_nan("action", 1.5)), "action of 1.5"),
        (changed(GOOD, "time_out", GOOD.fields["terminal"]), "both for good and by a time limit"),
        (changed(GOOD, "terminal", np.zeros((4, 3), bool)), r"scene of episodes is int64 \(1,\) instead of"),
        (_done(scene=np.array([2])), "scenes that are not trained in"),
        (_done(reward=np.array([np.nan], np.float32)), "reward of episodes with NaN"),
        (_done(ended_by=["magic"]), "by what the task doesn't know"),
        (_done(ended_by=[]), "not as many reasons"),
        (_done(outcomes={"other": np.ones(1, bool)}), "outcomes of episodes"),
        (_done(outcomes={"touched": np.ones(1)}), "touched of episodes is float64"),
        (_done(rewards={"other": np.ones(1, np.float32)}), "rewards of episodes"),
        (_done(rewards={"way": np.array([np.nan], np.float32)}), "reward way of episodes with NaN"),
    ],
)
def test_a_wrong_chunk_is_told(wrong: object, fault: str):
    """By what is wrong with it first."""
    found = FORM.fault(wrong)
    assert re.search(fault, found), found


def test_nothing_is_taken_twice():
    """Numbers of a process rise; once another one has followed, nothing of the former counts."""
    sender = Sender()
    assert sender.is_new(chunk(7, 0))
    assert not sender.note(chunk(7, 0))
    assert not sender.is_new(chunk(7, 0))
    assert sender.is_new(chunk(7, 2))
    sender.note(chunk(7, 2))
    assert not sender.is_new(chunk(7, 1))
    assert sender.is_new(chunk(8, 0))
    assert sender.note(chunk(8, 0)), "another process"
    assert not sender.is_new(chunk(7, 3))
    sender.forget()
    assert not sender.is_new(chunk(8, 1))
    assert not sender.note(chunk(9, 0)), "its end was told already"
