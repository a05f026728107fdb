"""Places never trained in, while a policy trains: they are measured, and training knows nothing of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sim.scene.scene import SceneLock, SimScene
from tests.train.runs.test_checkpoint import alike
from train.preset import load_preset
from train.runs import checkpoint, unseen
from train.runs.record import SceneRecord, Unseen
from train.runs.results import Interval, wilson
from train.runs.run import Run
from train.session import train_run

SMALL = {
    "num_envs": 4,
    "num_steps_per_env": 4,
    "save_interval": 2,
    "unseen_episodes": 3,
    "task.seconds": 2.0,
    "policy.rnn_hidden_dim": 8,
    "policy.actor_hidden_dims": [8],
    "policy.critic_hidden_dims": [8],
    "ppo.num_learning_epochs": 1,
    "ppo.num_mini_batches": 2,
}
OTHER = SceneLock("attic@1.0.0", "1" * 64, ())


def make_run(root: Path, scene: SimScene, *kinds: str, **changes: object) -> Run:
    """With another place of each kind."""
    apart: Any = {kind: (SceneRecord.of(OTHER, "attic"),) for kind in kinds}
    preset = load_preset("navigate", {**SMALL, **changes})
    return Run.create(root, preset, [scene.lock], ["room"], 3, unseen=Unseen(**apart))


def places(scene: SimScene, *kinds: str) -> dict[str, list[SimScene]]:
    """The other place of each kind, opened."""
    return {kind: [replace(scene, lock=OTHER)] for kind in kinds}


def rows(run: Run) -> list[dict[str, float]]:
    """The curve without what a clock says, and what was measured elsewhere."""
    others = ("seconds", "steps_per_second", "unseen/")
    return [{name: row[name] for name in row if not name.startswith(others)} for row in run.curve.read()]


def final(run: Run, iteration: int) -> dict[str, Any]:
    """The state after an iteration without its clock."""
    state: Any = checkpoint.load(run.checkpoints / f"{iteration:06d}.pt")
    state.pop("seconds")
    return state


def test_training_knows_nothing_of_it(tmp_path: Path, room_scene: SimScene):
    """It is the same to the last bit with and without, and after a stop; what is measured is, too."""
    kinds = "validation", "test"
    apart, alone, broken = (make_run(tmp_path, room_scene, *which) for which in (kinds, (), kinds))
    train_run(apart, [room_scene], iterations=4, unseen=places(room_scene, *kinds))
    train_run(alone, [room_scene], iterations=4)
    for iterations in (2, 4):
        train_run(broken, [room_scene], iterations=iterations, unseen=places(room_scene, *kinds))
    assert rows(apart) == rows(alone) == rows(broken)
    assert alike(final(apart, 4), final(alone, 4))
    measured, again = (
        [(row["iteration"], row["unseen/validation"], row["unseen/test"]) for row in run.curve.read()[1::2]]
        for run in (apart, broken)
    )
    assert measured == again
    assert [iteration for iteration, *_ in measured] == [2, 4]
    assert apart.curve.read()[1]["unseen/validation_episodes"] == 3
    assert not [name for row in apart.curve.read()[::2] for name in row if name.startswith("unseen/")]


def scripted(monkeypatch: pytest.MonkeyPatch, shares: Sequence[float]) -> None:
    """Success in validation, one measurement after another, in the place of simulations."""
    left = list(shares)

    def measured(agent: object, preset: object, scenes: object, kind: str) -> Interval:
        return wilson(round(100 * left.pop(0)), 100)

    monkeypatch.setattr(unseen, "measured", measured)


class Learning:
    """A trainer that only counts; see `tests.train.test_session`."""

    agent = None

    def __init__(self, *_: object, **__: object) -> None:
        self.iteration, self.steps, self.env = 0, 0, self

    def iterate(self) -> Mapping[str, float]:
        """Half of the episodes succeed, then nearly all."""
        self.iteration += 1
        return {"iteration": self.iteration, "steps": 0, "success": 0.95, "episodes": 200}

    def state(self) -> dict[str, Any]:
        """Small."""
        return {"iteration": self.iteration, "agent": {}}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on."""
        self.iteration = state["iteration"]

    def close(self) -> None:
        """Nothing is open."""


def test_the_best_checkpoint_is_kept(tmp_path: Path, room_scene: SimScene, monkeypatch: pytest.MonkeyPatch):
    """However many follow, and after a stop."""
    monkeypatch.setattr("train.session.Trainer", Learning)
    scripted(monkeypatch, [0.1, 0.9, *([0.5] * 18)])
    run = make_run(tmp_path, room_scene, "validation")
    for iterations in (20, 40):
        train_run(run, [room_scene], iterations=iterations, unseen=places(room_scene, "validation"))
    kept = [path.stem for path in checkpoint.files(run.checkpoints)]
    assert kept == ["000000", "000004", "000032", "000034", "000036", "000038", "000040"]
    assert checkpoint.file_of(run, "best") == run.checkpoints / "000004.pt"


def test_it_ends_when_nothing_is_gained(
    tmp_path: Path, room_scene: SimScene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """After as many measurements as one has patience for; once it is said that the policy knows its places only."""
    monkeypatch.setattr("train.session.Trainer", Learning)
    scripted(monkeypatch, [0.1, 0.4, 0.45, 0.4, 0.3, 0.6])
    run = make_run(tmp_path, room_scene, "validation", patience=3, evaluate_every=4)
    assert train_run(run, [room_scene], iterations=60, unseen=places(room_scene, "validation")) == 20
    assert run.ending
    assert run.ending.early == "20 of 60 iterations: in the places held out of it success grew no more"
    assert (run.checkpoints / "000020.pt").exists()
    assert caplog.text.count("it learns its places by heart") == 1


def test_what_is_measured_has_a_checkpoint():
    """Or the best one could not be had."""
    with pytest.raises(Exception, match="evaluate_every must be a multiple of save_interval, 20"):
        load_preset("navigate", {"evaluate_every": 30})
