"""Eyes that learn while robots drive about."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from flows.cli import main
from pipeline.errors import TrainError
from sim.finding.eyes import EYES, FIND, Eyes
from sim.scene.scene import SimScene
from tests.bundles import floor_of, make_bundle
from tests.synthetic import Room
from train.algorithms.eyes import EyesPolicy
from train.eyes import weights_of
from train.preset import load_preset
from train.runs.run import Run
from train.runs.start import begin_with
from train.runs.trainer import Trainer

SMALL = {
    "num_envs": 8,
    "num_steps_per_env": 2,
    "iterations": 4,
    "save_interval": 1,
    "detector.batch_size": 8,
    "detector.replay_size": 1000,
}


def trainer(scene: SimScene, folder: Path, **changes: object) -> Trainer:
    """Of eyes, small."""
    return Trainer(load_preset("find", SMALL | changes), [scene], seed=3, folder=folder)


def test_it_goes_on_as_if_it_had_not_stopped(room_scene: SimScene, tmp_path: Path):
    """Weights, what the robots believe and where random ones drive."""
    one = trainer(room_scene, tmp_path)
    one.iterate()
    state = copy.deepcopy(one.state())
    one.iterate()
    other = trainer(room_scene, tmp_path)
    other.restore(state)
    other.iterate()
    for first, second in zip(one.agent.memories, other.agent.memories, strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=0)
    expected = one.agent.get_policy().state_dict()
    for name, weight in other.agent.get_policy().state_dict().items():
        torch.testing.assert_close(weight, expected[name], rtol=0, atol=0)
    one.env.close()
    other.env.close()


def test_an_episode_that_ended_is_forgotten(room_scene: SimScene, tmp_path: Path):
    """By the robot whose it was; the others know where they are."""
    one = trainer(room_scene, tmp_path)
    one.iterate()
    ends = torch.arange(8) == 3
    one.agent.act(one.env.get_observations())
    one.agent.process_env_step(one.env.get_observations(), torch.zeros(8), ends.long(), {})
    believed, _ = one.agent.memories
    one.env.close()
    assert isinstance(believed, tuple)
    assert not any(values[3].any() for values in believed)
    assert all(any(values[robot].any() for values in believed) for robot in range(8) if robot != 3)


def test_the_loss_falls_and_the_rate_too(room_scene: SimScene, tmp_path: Path):
    """To nothing in the last update."""
    one = trainer(room_scene, tmp_path, **{"iterations": 8, "detector.updates_per_step": 20})
    losses = [one.iterate()["loss/seen"] for _ in range(8)]
    one.env.close()
    assert losses[-1] < 0.7 * losses[0]
    assert one.agent.learning_rate < 1e-5


def test_it_may_begin_with_other_eyes(room_scene: SimScene, tmp_path: Path):
    """Those that come with splatyard; and with no other network."""
    one = trainer(room_scene, tmp_path)
    begin_with(one.agent, "find")
    policy = one.agent.get_policy()
    assert isinstance(policy, EyesPolicy)
    for name, weight in weights_of(Eyes(EYES[FIND]).arrays).items():
        torch.testing.assert_close(policy.network.state_dict()[name], weight)
    one.env.close()
    other = Trainer(load_preset("navigate", {"num_envs": 4}), [room_scene], folder=tmp_path)
    with pytest.raises(TrainError, match="a training begins with the networks of a policy like its own"):
        begin_with(other.agent, "find")
    other.env.close()


def test_the_command_trains_and_goes_on(
    room: Room, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """In a bundle; its eyes drive, another run begins with them, and its policy is evaluated."""
    monkeypatch.chdir(tmp_path)
    bundle = str(make_bundle(tmp_path / "yard", room, regions=floor_of(room)))
    small = [f"--set={name}={value}" for name, value in SMALL.items() if name != "iterations"]
    assert main(["train", "find", "--scene", bundle, "--name", "own", "--iterations", "1", "--seed", "7", *small]) == 0
    out = Path("runs/own/eyes.npz")
    assert f"--driver {out}" in " ".join(capsys.readouterr().out.split())
    card = Eyes(out).card
    assert (card.seed, card.images, card.scenes) == (7, 16, ("room@1.0.0",))
    assert (card.width, card.height, card.focal) == (96, 48, 27.7)
    train = ["train", "find", "--scene", bundle, "--iterations", "1", *small]
    for start, name in (("own", "again"), (str(out), "third"), ("find", "fourth")):
        assert main([*train, "--name", name, "--from", start, "--set", "detector.learning_rate=1e-30"]) == 0
        begun = EYES[FIND] if start == "find" else out
        assert Run.open(name).preset.start_from != ""
        for key, values in Eyes(Path("runs") / name / "eyes.npz").arrays.items():
            np.testing.assert_allclose(values, Eyes(begun).arrays[key], atol=1e-6)
    assert main(["eval", "own", "--episodes", "2"]) == 0
    assert main([*train, "--name", "fifth", "--from", "nobody"]) == 2
    assert "none is 'nobody'" in capsys.readouterr().err
