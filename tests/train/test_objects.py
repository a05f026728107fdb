"""Training where objects are loose: the run remembers it, and so do those who open it."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.cli import main
from train.runs.play import open_play
from train.runs.run import Run


@pytest.mark.parametrize("alone", [False, True])
def test_a_run_remembers_its_objects(cut_room: Path, parcel: Path, tmp_path: Path, alone: bool):
    """Trained, evaluated and played beside them: those of the scene, and one by itself."""
    names = ("all", str(parcel)) if alone else ("all",)
    small = ["--set", "num_envs=4", "--set", "num_steps_per_env=8", "--set", "ppo.num_mini_batches=2"]
    command = [
        "train",
        "navigate",
        "--scene",
        str(cut_room),
        "--set",
        f"objects=[{', '.join(names)}]",
        "--iterations",
        "1",
        *small,
    ]
    assert main([*command, "--runs", str(tmp_path), "--name", "beside"]) == 0
    run = Run.open("beside", tmp_path)
    assert run.preset.objects == names
    env, _ = open_play(run)
    assert len(env.env.engine.bodies) == 4 + alone
    env.env.close()
    film = tmp_path / "film.mp4"
    assert main(["play", "beside", "--runs", str(tmp_path), "--video", str(film), "--episodes", "1"]) == 0
    assert film.stat().st_size > 1000
