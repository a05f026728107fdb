"""Soft actor-critic in a run: it goes on after a kill, and is evaluated and exported as every policy."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.errors import TrainError
from sim.scene.opening import open_scene
from tests.paths import ROOT
from tests.train.runs.test_checkpoint import alike
from train.onnx_export import export_run
from train.preset import load_preset
from train.runs import checkpoint
from train.runs.evaluation import evaluate_run
from train.runs.run import Run
from train.session import train_run

SCENE = "terrain:0:flat"
SMALL = {
    "algorithm": "sac",
    "num_envs": 4,
    "num_steps_per_env": 3,
    "save_interval": 2,
    "policy.actor_hidden_dims": [8],
    "policy.critic_hidden_dims": [8],
    "sac.batch_size": 8,
    "sac.random_steps": 8,
    "sac.replay_size": 1000,
}
TRAIN = """
import sys
from sim.scene.opening import open_scene
from train.runs.run import Run
from train.session import train_run
train_run(Run.open(sys.argv[1]), [open_scene("terrain:0:flat")], iterations=10_000)
"""


def make_run(root: Path) -> Run:
    """In which robots see."""
    return Run.create(root, load_preset("navigate", SMALL), [open_scene(SCENE).lock], [SCENE], seed=3)


def train(run: Run, iterations: int) -> None:
    """Until then."""
    train_run(run, [open_scene(SCENE)], iterations=iterations)


def test_a_killed_training_goes_on_as_if_it_had_not_been(tmp_path: Path):
    """By SIGKILL, at any moment: the same networks, to the last bit, by replayed images."""
    killed, whole = make_run(tmp_path), make_run(tmp_path)
    command = [sys.executable, "-c", TRAIN, str(killed.folder)]
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}) as process:
        while len(killed.curve.read()) < 5 and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    path, _ = checkpoint.chosen(killed)
    done = int(path.stem) + 4
    train(Run.open(killed.folder), done)
    train(whole, done)
    states = [checkpoint.load(run.checkpoints / f"{done:06d}.pt") for run in (killed, whole)]
    assert states[0]["agent"]["counters"]["updates"] > 8  # type: ignore[index]
    for name in ("agent", "random", "episode_stats"):
        assert alike(*({name: state[name]} for state in states))
    (killed.folder / "replay/observed.rgb").unlink()
    with pytest.raises(TrainError, match="resumed with its replay"):
        train(killed, done + 1)
    assert len(evaluate_run(killed, episodes=4, ablations=("none",)).evaluations[0].episodes) == 4
    assert export_run(killed, tmp_path / "policy.onnx").difference < 1e-4


FORGETFUL = {"algorithm": "dagger", "policy.rnn_type": "none"}


def test_what_an_algorithm_cannot_do_is_refused():
    """By one error each, that says what to change."""
    for changes, found in (
        ({"algorithm": "rlpd"}, "rlpd needs demonstrations: --demos"),
        ({"demos": "somewhere"}, "ppo learns from no demonstrations"),
        ({"algorithm": "sac", "policy.rnn_type": "gru"}, "policy.rnn_type is for ppo and dagger"),
        ({"algorithm": "sac", "teacher": "expert"}, "teacher is for ppo and dagger"),
        ({"policy.eyes": "rgb"}, "policy.eyes is for detector"),
        ({"policy.encoder": "detector"}, "policy.encoder=detector and algorithm=detector go together"),
        (
            {"algorithm": "detector", "policy.encoder": "cnn"},
            "policy.encoder=detector and algorithm=detector go together",
        ),
        (FORGETFUL | {"ppo.use_mirror_loss": True}, "use_mirror_loss is .*; dagger without memory learns without"),
        (FORGETFUL | {"policy.voxels": {}}, "policy.voxels is .*; dagger without memory learns without"),
        ({"algorithm": "td4"}, "algorithm is one of ppo, sac, td3"),
        ({"algorithm": "sac", "sac.schedule": "adaptive"}, "schedule"),
        ({"algorithm": "dagger", "ppo.schedule": "adaptive"}, "adaptive goes by how far"),
        ({"algorithm": "sac", "sac.gama": 0.9}, r"gamma"),
    ):
        with pytest.raises(TrainError, match=found):
            load_preset("navigate", changes)
    assert load_preset("navigate").policy.rnn_type == "gru"
    assert load_preset("navigate", {"algorithm": "sac"}).policy.rnn_type == "none"
    assert load_preset("put_cube_on_plate", {"algorithm": "dagger"}).teacher == "expert"
