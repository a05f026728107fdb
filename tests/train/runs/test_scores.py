"""What follows from success in places never trained in: the best checkpoint, when there is nothing more to gain."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import TrainError
from sim.scene.scene import SceneLock
from train.preset import load_preset
from train.runs.checkpoint import file_of
from train.runs.results import wilson
from train.runs.run import Run
from train.runs.scores import best_iteration, best_of, gap, own_success, scores, waited


def rows(*shares: float, count: int = 100) -> list[dict[str, float]]:
    """A curve that was measured each tenth iteration."""
    measured = [
        {"iteration": 10 * number, "unseen/validation": share, "unseen/validation_episodes": count}
        for number, share in enumerate(shares, 1)
    ]
    return [{"iteration": 1, "success": 0.5, "episodes": 40}, *measured]


def test_the_best_is_the_last_of_equal_ones():
    """Rows without a measurement are none."""
    found = scores(rows(0.2, 0.6, 0.4, 0.6, 0.1))
    assert [score.iteration for score in found] == [10, 20, 30, 40, 50]
    assert found[1].success == wilson(60, 100)
    best = best_of(found)
    assert best
    assert best.iteration == 40
    assert best_of(scores(rows())) is None
    assert scores(rows(0.2), "test") == []


@pytest.mark.parametrize(
    ("shares", "expected"),
    [((), 0), ((0.5,), 0), ((0.5, 0.55, 0.52), 2), ((0.5, 0.55, 0.75), 0), ((0.5, 0.7, 0.71, 0.2), 2), ((1.0, 1.0), 1)],
)
def test_who_waits_counts_what_is_no_better(shares: tuple[float, ...], expected: int):
    """Better is what lies above the interval of what was reached before: less may be chance."""
    assert waited(scores(rows(*shares))) == expected


def test_success_at_home_alone_is_a_warning():
    """By more than both intervals allow, and by 20 points; it says what to do."""
    assert "splatyard scene rooms" in gap(wilson(180, 200), wilson(50, 100))
    assert gap(wilson(180, 200), wilson(75, 100)) == ""  # within 20 points
    assert gap(wilson(9, 10), wilson(6, 10)) == ""  # within chance
    assert gap(None, wilson(0, 10)) == ""
    assert own_success(rows(0.1)) == wilson(20, 40)
    assert own_success([]) is None


def test_the_best_checkpoint_has_a_name(tmp_path: Path):
    """That of its file; without any measurement it is an error."""
    run = Run.create(tmp_path, load_preset("find"), [SceneLock("hall@1.0.0", "a" * 64, ())], ["hall"], 0)
    with pytest.raises(TrainError, match="--hold-out"):
        file_of(run, "best")
    for row in rows(0.2, 0.6, 0.4):
        run.curve.append(row)
    assert best_iteration(run) == 20
    assert file_of(run, "best") == run.checkpoints / "000020.pt"
    assert file_of(run, "000010") == run.checkpoints / "000010.pt"
    assert file_of(run, None) is None
