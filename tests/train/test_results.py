"""Shares by scene, and evaluation.json."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pipeline.errors import TrainError
from tests.sim.floors import floor_scene
from tests.train.scripted import results
from train.results import Evaluation, read_results, write_results
from train.statistics import wilson

SUCCESSES = {"hall@1.0.0": 3, "attic@2.1.0": 1}


@pytest.fixture
def found(rover):
    return results(floor_scene(np.ones((40, 30), bool)), rover, SUCCESSES)


def test_shares_by_scene_and_in_all(found):
    """Four episodes a scene, of which so many succeed; all together first."""
    evaluation = found.evaluations[0]
    assert evaluation.rows() == [None, "hall@1.0.0", "attic@2.1.0"]
    assert evaluation.success() == wilson(4, 8)
    assert evaluation.success("hall@1.0.0") == wilson(3, 4)
    assert evaluation.outcomes("attic@2.1.0") == {"entered": wilson(2, 4), "success, not entered": wilson(1, 4)}
    assert evaluation.outcomes()["success, not entered"] == wilson(3, 8)
    assert evaluation.endings() == {"goal": 4, "crash": 4}
    alone = Evaluation(control="none", episodes=tuple(evaluation.of("hall@1.0.0")))
    assert alone.rows() == ["hall@1.0.0"]


def test_results_survive_their_file(found, tmp_path):
    """What is read is what was written; the figures are there for others."""
    path = write_results(found, tmp_path)
    assert read_results(path) == found
    figures = json.loads(path.read_text())["evaluations"][0]["figures"]
    assert figures["hall@1.0.0"]["success"]["successes"] == 3
    assert figures["all"]["ended_by"] == {"goal": 4, "crash": 4}
    assert [child.name for child in tmp_path.iterdir()] == ["evaluation.json"]


def test_results_of_a_kill_while_writing(found, tmp_path, monkeypatch):
    """The evaluation that was there stays."""
    path = write_results(found, tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(TrainError, match="No space left"):
        write_results(found.model_copy(update={"run": "other"}), tmp_path)
    monkeypatch.undo()
    assert read_results(path).run == found.run


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[1]", b'{"schema_version": 2}', b"\xff\xfe"],
)
def test_read_results_of_something_else(tmp_path, content):
    """The error says which file, and how to write it anew."""
    file = tmp_path / "evaluation.json"
    file.write_bytes(content)
    with pytest.raises(TrainError, match=r"evaluation\.json[\s\S]*splatyard eval"):
        read_results(file)


def test_read_results_of_nothing(tmp_path):
    """A run that wasn't evaluated."""
    with pytest.raises(TrainError, match="no such file"):
        read_results(tmp_path / "evaluation.json")
