"""Gaits on terrain, in the engine they were learned in and in another; from training to a gait's file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flows.cli import main
from sim.gaits import KNOWN, SEEN, Gait
from sim.robots.gait_files import gait_file
from train.legs.stepping import stepping_page, trace
from train.legs.terrains import CLIMBS, walk_flat, walk_over
from train.preset import load_preset

pytest.importorskip("mujoco")


@pytest.fixture(scope="module")
def gait() -> Gait:
    """The one that comes along."""
    return Gait(gait_file("go2"))


def test_the_gait_that_comes_along_follows_commands(gait: Gait):
    """Hardly anybody falls (1 % in 20 s), and velocities are those that were told."""
    found = walk_flat(gait, "go2", "mujoco-worlds", 16, seconds=12)
    assert found.falls <= 1
    assert len(found.error) > 8
    assert (found.error.mean(0) < [0.08, 0.08, 0.08]).all()
    assert 20 < found.energy < 400  # a walking dog of 15 kg: 50 to 150 J/m
    assert 0.2 < found.torque <= 1
    assert found.margin > 0
    assert gait_file("go2").stat().st_size < 300_000


def test_the_biped_walks():
    """On flat ground, in the engine that it learned in."""
    found = walk_flat(Gait(gait_file("g1")), "g1", "mujoco-worlds", 16, seconds=8)
    assert found.falls == 0
    assert (found.error.mean(0)[:2] < 0.12).all()
    assert found.margin > 0  # its ankles lay beyond their stops half of the time
    assert gait_file("g1").stat().st_size < 300_000


def test_it_gets_over_low_stairs(gait: Gait):
    """Most do; over higher ones fewer."""
    low, high = (walk_over(gait, "go2", "mujoco-worlds", "stairs", level, 24) for level in (2, 9))
    assert low.over > 0.8
    assert low.over > high.over


@pytest.mark.slow
def test_it_walks_in_another_engine(gait: Gait):
    """In SAPIEN, with all shapes of the robot's file: sim to sim."""
    found = walk_flat(gait, "go2", "sapien", 12, seconds=12)
    assert found.falls <= 1
    assert (found.error.mean(0) < [0.1, 0.1, 0.12]).all()
    assert walk_over(gait, "go2", "sapien", "stairs", 2, 16).over > 0.4


def test_steps_can_be_looked_at(gait: Gait):
    """Feet stand when the clock says so, diagonal ones together; a page shows it, and where a robot fell."""
    one = trace(gait, "go2", "mujoco-worlds", "stairs", 2, seed=1)
    assert one.down.shape == (400, 4)
    assert (one.down == one.due).mean() > 0.75
    assert (one.down[:, 0] == one.down[:, 3]).mean() > 0.7 > (one.down[:, 0] == one.down[:, 1]).mean()
    assert np.abs(one.velocity - one.command)[100:, 0].mean() < 0.2
    fell = np.arange(400) == 200
    page = stepping_page([("up <stairs>", replace(one, fell=fell))], "Steps")
    assert page.count('class="fall"') == 1
    assert page.count("<svg") == 6
    assert "up &lt;stairs&gt;" in page


def test_a_gait_that_stands_still_is_seen(gait: Gait, monkeypatch: pytest.MonkeyPatch):
    """Its errors are the commands, and it gets nowhere."""
    monkeypatch.setattr(gait, "act", lambda seen: np.zeros((len(seen), 12), np.float32))
    found = walk_flat(gait, "go2", "mujoco-worlds", 16, seconds=8)
    assert found.error[:, 0].mean() > 0.25
    assert walk_over(gait, "go2", "mujoco-worlds", "stairs", 2, 8).over == 0


@pytest.mark.parametrize("robot", ["go2", "bolt"])
def test_from_training_to_a_gait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, robot: str):
    """Without a scene; the gait acts as the policy does, and can be compared by the name of its run."""
    monkeypatch.chdir(tmp_path)
    small = [f"--set={name}" for name in ("num_envs=8", "num_steps_per_env=6", "save_interval=2")]
    assert main(["train", "walk", "--robot", robot, "--iterations", "2", *small]) == 0
    folder = tmp_path / "runs" / f"walk-{robot}-1"
    card = json.loads((folder / "gait.json").read_text())
    assert (card["robot"], card["steps"], card["scenes"]) == (robot, 96, ["terrain:0"])
    assert list(card["observations"]) == list(SEEN)
    _acts_as_its_policy(folder, Gait(folder / "gait.npz"))
    if robot == "go2":
        assert main(["compare-terrains", "walk-go2-1", "--envs", "2", "--page", "steps.html"]) == 0
        compared = capsys.readouterr().out
        for ground in ("flat", "stairs", "risers of 10 cm", "steep stairs", "ramp", "rubble", "gaps"):
            assert ground in compared, ground


def _acts_as_its_policy(folder: Path, gait: Gait) -> None:
    from sim.scene.opening import open_scene
    from train.environment import VECTOR, make_env
    from train.runs.checkpoint import load_policy
    from train.runs.run import Run

    run = Run.open(folder)
    assert run.preset == load_preset("walk", {"robot": run.preset.robot, **_small(run)})
    env = make_env(run.preset, [open_scene("terrain:0")], num_envs=5, starts="all")
    seen = env.get_observations()
    with np.load(gait.file) as arrays:  # what is farther from the mean than it knows counts as less far
        mean, known = arrays["mean"], KNOWN / arrays["scale"]
    seen[VECTOR] = seen[VECTOR].new_tensor(np.clip(seen[VECTOR].numpy(), mean - known, mean + known))
    expected = load_policy(run, env).get_policy()(seen).detach().clamp(-1, 1).numpy()
    np.testing.assert_allclose(gait.act(seen[VECTOR].numpy()), expected, atol=1e-5)
    env.close()


def _small(run) -> dict[str, object]:
    names = ("num_envs", "num_steps_per_env", "save_interval", "iterations")
    return {name: getattr(run.preset, name) for name in names}


def test_climbing_by_sight_is_compared_on_terrain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    """A run that learned on stairs, with right and with spoilt images, also where there are no steps."""
    monkeypatch.chdir(tmp_path)
    small = ["--set=num_envs=4", "--set=num_steps_per_env=4", "--iterations=1"]
    assert main(["train", "climb", "--robot", "go2", "--scene", "terrain:0:stairs:7", "--name", "up", *small]) == 0
    capsys.readouterr()
    assert main(["compare-terrains", "up", "--envs", "2"]) == 0
    out = capsys.readouterr().out
    for text in (*CLIMBS, "up, images shuffled", "up, images frozen"):
        assert text in " ".join(out.split()), text
