"""Shares by scene, and evaluation.json."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pipeline.errors import TrainError
from tests.sim.floors import floor_scene
from tests.train.scripted import results
from train.runs.results import Evaluation, lines_of, read_results, wilson, write_results

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
    assert evaluation.shares("attic@2.1.0") == {
        "success": wilson(1, 4),
        "entered": wilson(2, 4),
        "success, not entered": wilson(1, 4),
    }
    assert evaluation.shares()["success, not entered"] == wilson(3, 8)
    assert evaluation.endings() == {"goal": 4, "crash": 4}
    alone = Evaluation(ablation="none", episodes=tuple(evaluation.of("hall@1.0.0")))
    assert alone.rows() == ["hall@1.0.0"]


def test_kinds_have_lines_of_their_own(found):
    """After those of scenes; without kinds there are none."""
    evaluation = found.evaluations[0]
    assert len(lines_of("none", evaluation)) == 3
    kinds = ("up", "down", "up", "up")
    episodes = evaluation.of("hall@1.0.0")
    told = [one.model_copy(update={"kind": kind}) for one, kind in zip(episodes, kinds, strict=True)]
    first, down, up = lines_of("none", Evaluation(ablation="none", episodes=tuple(told)))
    assert [first.scene, down.scene, up.scene] == ["hall@1.0.0", "down", "up"]
    assert [first.episodes, down.episodes, up.episodes] == [4, 1, 3]
    assert down.shares["success"].successes + up.shares["success"].successes == 3


def test_results_survive_their_file(found, tmp_path):
    """What is read is what was written; the metrics are there for others."""
    path = write_results(found, tmp_path)
    assert read_results(path) == found
    metrics = json.loads(path.read_text())["evaluations"][0]["metrics"]
    assert metrics["hall@1.0.0"]["success"]["successes"] == 3
    assert metrics["all"]["ended_by"] == {"goal": 4, "crash": 4}
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
    [b"", b"{", b"[1]", b'{"schema_version": 3}', b"\xff\xfe"],
)
def test_read_results_of_something_else(tmp_path, content):
    """The error says which file, and how to write it anew."""
    file = tmp_path / "evaluation.json"
    file.write_bytes(content)
    with pytest.raises(TrainError, match=r"evaluation\.json[\s\S]*splatyard eval"):
        read_results(file)


def test_read_results_of_nothing(tmp_path):
    """A run that wasn't evaluated."""
    with pytest.raises(TrainError, match="No such file"):
        read_results(tmp_path / "evaluation.json")


NEWCOMBE = [
    (81, 263, 0.2553, 0.3662),
    (15, 148, 0.0624, 0.1605),
    (0, 20, 0.0, 0.1611),
    (1, 29, 0.0061, 0.1718),
]
"""Newcombe, Statistics in Medicine 17, 1998, table I, method 3."""


@pytest.mark.parametrize(("successes", "count", "low", "high"), NEWCOMBE)
def test_wilson_published_examples(successes, count, low, high):
    """The interval is that of the literature, to its four digits."""
    interval = wilson(successes, count)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)
    assert interval.value == successes / count


def test_wilson_all_successes_stay_uncertain():
    """After 200 of 200 the true share may still be below 1, and what fails is the mirror image of what succeeds."""
    sure, never = wilson(200, 200), wilson(0, 200)
    assert sure.high == 1
    assert 0.98 < sure.low < 0.985
    assert never.high == pytest.approx(1 - sure.low)


@pytest.mark.parametrize(("successes", "count"), [(0, 0), (3, 2), (-1, 4)])
def test_wilson_impossible_counts(successes, count):
    """Nothing counted, or more successes than cases, has no interval."""
    with pytest.raises(ValueError, match=r".+"):
        wilson(successes, count)


def test_interval_text():
    """Share and bounds in percent."""
    assert str(wilson(81, 263)) == "30.8 % [25.5, 36.6]"
