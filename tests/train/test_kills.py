"""Trainings of each kind of algorithm that are killed end as those that are not, to the last bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sim.robots.catalog import PACKAGE
from sim.scene import open_scene
from tests.paths import ROOT
from tests.train.test_checkpoint import alike
from train import checkpoint
from train.environment import make_env
from train.imitation import record
from train.preset import load_preset
from train.run import Run
from train.session import train_run

SCENE = "terrain:0:flat"
TINY = {
    "num_envs": 4,
    "num_steps_per_env": 3,
    "save_interval": 2,
    "policy.actor_hidden_dims": [8],
    "policy.critic_hidden_dims": [8],
}
CASES = {
    "ppo": ("navigate", {"policy.rnn_hidden_dim": 8, "ppo.num_mini_batches": 2}),
    "dagger": ("put_cube_on_plate_dagger", {"offline.updates_per_iteration": 2}),
    "rlpd": ("put_cube_on_plate", {"algorithm": "rlpd", "sac.batch_size": 8, "sac.random_steps": 8}),
}
TRAIN = """
import sys
from sim.scene import open_scene
from train.run import Run
from train.session import train_run
train_run(Run.open(sys.argv[1]), [open_scene("terrain:0:flat")], iterations=10_000)
"""
KILLS = 2


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", CASES)
def test_a_killed_training_ends_as_one_that_is_not(algorithm: str, tmp_path: Path):
    """By SIGKILL, twice, in the middle of an iteration: the same networks, random states and curve."""
    pytest.importorskip("mujoco")
    if not PACKAGE.is_dir():
        pytest.skip("example-robot-data is not installed")
    name, more = CASES[algorithm]
    changes = {**TINY, **more}
    if algorithm == "rlpd":
        changes["demos"] = str(_recorded(tmp_path / "demos", name))
    lock = open_scene(SCENE).lock
    killed, whole = (Run.create(tmp_path, load_preset(name, changes), [lock], [SCENE], seed=3) for _ in range(2))
    for _ in range(KILLS):
        _kill_after(killed, rows=5)
    last, _ = checkpoint.chosen(killed)
    done = int(last.stem) + 3
    for run in (Run.open(killed.folder), whole):
        train_run(run, [open_scene(SCENE)], iterations=done)
    states = [checkpoint.load(run.checkpoints / f"{done:06d}.pt") for run in (killed, whole)]
    for state in states:
        state.pop("seconds")
    assert alike(*states)
    assert _rows(killed) == _rows(whole)
    assert len(_rows(killed)) == done


def _recorded(folder: Path, name: str) -> Path:
    """Demonstrations of one who does nothing: what they show is of no matter here."""
    env = make_env(load_preset(name, {"num_envs": 2}), [open_scene(SCENE)], seed=1)
    record(env, _Still(env.num_actions), 2, folder, seed=1)
    env.close()
    return folder


class _Still:
    """A policy that lets the robot stand."""

    def __init__(self, actions: int) -> None:
        self._actions = actions

    def __call__(self, seen):
        return seen["vector"].new_zeros(len(seen["vector"]), self._actions)

    def reset(self, dones: object = None) -> None:
        """Nothing is remembered."""


def _kill_after(run: Run, rows: int) -> None:
    """Train in another process until the curve has so many rows more."""
    wanted = len(run.curve.read()) + rows
    command = [sys.executable, "-c", TRAIN, str(run.folder)]
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}) as process:
        while len(run.curve.read()) < wanted and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


def _rows(run: Run) -> list[dict[str, float]]:
    """The curve without what a clock says."""
    return [{name: of for name, of in row.items() if not name.startswith("seconds")} for row in run.curve.read()]
