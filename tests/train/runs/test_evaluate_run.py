"""A run's checkpoint in real simulations: where episodes begin, what is compared, and what comes out on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flows.cli import main
from pipeline.errors import TrainError
from sim.scene.floors import held_out
from sim.scene.scene import SceneLock, SimScene
from train.algorithms.agent import make_agent
from train.environment import make_env
from train.preset import load_preset
from train.runs import checkpoint
from train.runs.evaluation import evaluate_run
from train.runs.results import Results, read_results, write_results
from train.runs.run import Run

EPISODES = 8


@pytest.fixture
def scenes(room_scene, monkeypatch) -> dict[str, SimScene]:
    """The room under several names, as `open_scene` gives them."""
    locks = [
        SceneLock(name, digit * 64, ())
        for name, digit in (("room@1.0.0", "0"), ("room@2.0.0", "2"), ("attic@1.0.0", "3"))
    ]
    known = {lock.reference: replace(room_scene, lock=lock) for lock in locks}
    monkeypatch.setattr("sim.scene.opening.open_scene", lambda source, **_: known[source])
    return known


def begun(root: Path, scene: SimScene, name: str, changes: dict) -> Run:
    """A run that has learned nothing yet."""
    preset = load_preset("navigate", {"num_envs": 2, "ppo.num_mini_batches": 2, "policy.rnn_hidden_dim": 8, **changes})
    run = Run.create(root, preset, [scene.lock], [scene.lock.reference], 0, name=name)
    env = make_env(preset, [scene])
    checkpoint.save(run.checkpoints, {"iteration": 0, "agent": make_agent(preset, env).save()})
    env.env.close()
    return run


@pytest.fixture
def run(tmp_path, scenes) -> Run:
    """One that sees."""
    return begun(tmp_path, scenes["room@1.0.0"], "sees", {})


@pytest.fixture
def blind(tmp_path, scenes) -> Run:
    """One that doesn't."""
    return begun(tmp_path, scenes["room@1.0.0"], "blind", {"policy.encoder": "none"})


def starts(found: Results, scene: str) -> np.ndarray:
    return np.array([episode.start for episode in found.evaluations[0].of(scene)])


def test_evaluate_run_begins_at_held_out_places_where_it_was_trained(run):
    """In its scene, also in another version of it, and nowhere else; no scene changes what happens in another."""
    alone = evaluate_run(run, episodes=EPISODES, ablations=["none"])
    found = evaluate_run(run, ["attic@1.0.0", "room@2.0.0", "room@1.0.0"], episodes=EPISODES, ablations=["none"])
    assert [(scene.reference, scene.starts) for scene in found.scenes] == [
        ("attic@1.0.0", "all"),
        ("room@2.0.0", "held_out"),
        ("room@1.0.0", "held_out"),
    ]
    for scene in ("room@1.0.0", "room@2.0.0"):
        assert held_out(starts(found, scene)[:, :2]).all()
    assert not held_out(starts(found, "attic@1.0.0")[:, :2]).all()
    assert len(np.unique(starts(found, "room@1.0.0"), axis=0)) == EPISODES
    assert alone.evaluations[0].episodes == tuple(found.evaluations[0].of("room@1.0.0"))


def test_evaluate_run_beside_a_blind_one(run, blind):
    """Both get the same episodes, and each ablation is there once; a blind policy runs without ablations."""
    found = evaluate_run(run, episodes=EPISODES, ablations=["none", "shuffled"], blind=blind)
    assert [label for label, _ in found.labelled()] == ["none", "shuffled", "blind"]
    assert found.blind is not None
    assert np.array_equal(starts(found, "room@1.0.0"), starts(found.blind, "room@1.0.0"))
    tracks = [{episode.path for episode in one.episodes} for _, one in found.labelled()]
    assert tracks[0] != tracks[1]  # but a short episode may end at the same place: it has learned nothing yet
    assert tracks[0] != tracks[2]
    assert found.scenes[0].images
    assert not found.blind.scenes[0].images


def test_evaluate_run_beside_one_that_is_no_blind_control(run, blind, tmp_path, scenes):
    """One that sees, or that was trained elsewhere, would say nothing."""
    elsewhere = begun(tmp_path, scenes["attic@1.0.0"], "elsewhere", {"policy.encoder": "none"})
    for other in (run, elsewhere):
        with pytest.raises(TrainError, match="a blind run differs"):
            evaluate_run(run, episodes=EPISODES, blind=other)


def test_evaluate_run_beside_its_teacher(tmp_path, scenes):
    """Who knows the way gets there, in the same episodes; the policy has learned nothing yet."""
    changes = {"algorithm": "dagger", "policy.rnn_type": "none"}
    student = begun(tmp_path, scenes["room@1.0.0"], "student", changes)
    found = evaluate_run(student, episodes=EPISODES, ablations=["none"], teacher=True)
    assert [label for label, _ in found.labelled()] == ["none", "teacher"]
    assert found.teacher is not None
    own = found.evaluations[0]
    assert [one.start for one in found.teacher.episodes] == [one.start for one in own.episodes]
    assert found.teacher.success().value > 0.8 > own.success().value
    assert read_results(write_results(found, tmp_path)).teacher == found.teacher


def test_evaluate_run_without_a_checkpoint(run):
    """There is nothing to evaluate."""
    for file in run.checkpoints.iterdir():
        file.unlink()
    with pytest.raises(TrainError, match="a run has a checkpoint"):
        evaluate_run(run)


def test_eval_command(run, tmp_path, capsys):
    """A table on the screen, and beside run.json the evaluation and a page that needs no other file."""
    code = main(["eval", "sees", "--runs", str(tmp_path), "--episodes", "5", "--ablations", "black"])
    printed = capsys.readouterr().out
    assert code == 0
    found = read_results(run.folder / "evaluation.json")
    assert [one.ablation for one in found.evaluations] == ["none", "black"]
    assert (found.checkpoint, found.iteration) == ("000000.pt", 0)
    assert str(found.evaluations[1].success()) in printed
    page = (run.folder / "report.html").read_text()
    assert page.count('<svg class="map"') == 2
    assert found.checkpoint_sha256 in page
    assert "http" not in page.replace("http://www.w3.org", "")


def test_eval_command_matrix(run, blind, tmp_path, capsys, monkeypatch):
    """Two runs in two scenes: stars where they were trained, and files for programs and for people."""
    monkeypatch.setattr("sim.scene.sources.find_scenes", list)
    out = tmp_path / "matrix"
    scenes = ["--scene", "room@1.0.0", "--scene", "attic@1.0.0"]
    code = main(
        ["eval", "sees", "blind", "--runs", str(tmp_path), "--matrix", *scenes, "--episodes", "3", "--out", str(out)]
    )
    assert code == 0
    lines = (out / "matrix.md").read_text().splitlines()
    assert lines[0] == "| run | room@1.0.0 | attic@1.0.0 |"
    assert [line.count("*") for line in lines[2:]] == [1, 1]
    assert (out / "matrix.json").exists()
    assert "attic@1.0.0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sees", "--episodes", "0"], "there are episodes"),
        (["sees", "blind"], "one run is evaluated at a time"),
        (["se"], "did you mean sees"),
        (["sees", "--checkpoint", "000007"], "000007.pt"),
    ],
)
def test_eval_command_wrong_input(run, blind, tmp_path, capsys, arguments, message):
    """Says what to do, with exit code 2."""
    assert main(["eval", *arguments, "--runs", str(tmp_path)]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
