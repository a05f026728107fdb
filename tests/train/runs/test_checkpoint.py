"""Checkpoints: written whole or not at all, read without trust."""

from __future__ import annotations

import io
import logging
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rsl_rl.algorithms import PPO
from rsl_rl.env import VecEnv
from tensordict import TensorDict

from pipeline.errors import TrainError
from tests.train.runs.test_run import room_for
from train.preset import load_preset
from train.runs import checkpoint

STATE = {
    "iteration": 40,
    "rate": 1.25e-3,
    "memories": (torch.arange(6.0).reshape(1, 2, 3), None),
    "episode_stats": [(True, "goal", 1.5, 20, {"entered": False})],
    "environment": {"simulation": torch.tensor([3, 1, 255], dtype=torch.uint8)},
}


class Example(VecEnv):
    """Shapes only: two environments, five numbers seen."""

    num_envs, num_actions, max_episode_length, device = 2, 3, 10, "cpu"

    def get_observations(self) -> TensorDict:
        """Nothing in particular."""
        return TensorDict({"vector": torch.zeros(2, 5)}, batch_size=[2])

    def step(self, actions: torch.Tensor) -> Any:
        """Not needed."""
        raise NotImplementedError


def make_agent(hidden: int = 8, optimizer: str = "adam") -> PPO:
    """rsl-rl's own, with a normaliser."""
    model = {"class_name": "MLPModel", "hidden_dims": [hidden], "obs_normalization": True}
    configuration = {
        "num_steps_per_env": 4,
        "obs_groups": {"actor": ["vector"], "critic": ["vector"]},
        "actor": {**model, "distribution_cfg": {"class_name": "GaussianDistribution"}},
        "critic": dict(model),
        "algorithm": {"class_name": "PPO", "optimizer": optimizer},
        "multi_gpu": None,
    }
    env = Example()
    return PPO.construct_algorithm(env.get_observations(), env, configuration, "cpu")


def trained(agent: PPO) -> PPO:
    """With an optimiser that has moments, and a normaliser that has seen something."""
    seen = TensorDict({"vector": torch.arange(10.0).reshape(2, 5)}, batch_size=[2])
    agent.actor.update_normalization(seen)
    (agent.actor(seen).sum() + agent.critic(seen).sum()).backward()
    agent.optimizer.param_groups[0]["lr"] = 7e-4
    agent.optimizer.step()
    return agent


def alike(one: Any, other: Any) -> bool:
    """The same structure with the same bits."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(alike(one[name], other[name]) for name in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(alike(*pair) for pair in zip(one, other, strict=True))
    return type(one) is type(other) and one == other


def test_a_state_comes_back_bit_for_bit(tmp_path: Path):
    """Tensors, numbers, texts, None, and what holds them."""
    path = checkpoint.save(tmp_path, STATE)
    assert path == tmp_path / "000040.pt"
    assert alike(checkpoint.load(path), STATE)
    assert not alike(checkpoint.load(path), {**STATE, "rate": 1.0})


def test_old_ones_go_but_the_first(tmp_path: Path):
    """What was before training stays, to compare with."""
    (tmp_path / "mine.pt").write_text("not one of them")
    for iteration in range(0, 80, 10):
        checkpoint.save(tmp_path, {"iteration": iteration})
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["000000.pt", "000030.pt", "000040.pt", "000050.pt", "000060.pt", "000070.pt", "mine.pt"]


@pytest.mark.parametrize("value", [np.float32(1), np.zeros(3), {1, 2}, b"bytes", Path("x"), object()])
def test_what_could_not_be_read_is_not_written(tmp_path: Path, value: object):
    """The place in the state is named."""
    with pytest.raises(TypeError, match=r"state\.environment\.1"):
        checkpoint.save(tmp_path, {"iteration": 1, "environment": [0, value]})
    assert list(tmp_path.iterdir()) == []


def test_on_a_full_disk_the_earlier_ones_stay(tmp_path: Path):
    """And nothing half-written beside them."""
    checkpoint.save(tmp_path, STATE)
    with room_for(10_000), pytest.raises(TrainError, match=r"(?s)has room.*--resume"):
        checkpoint.save(tmp_path, {"iteration": 60, "much": torch.zeros(10_000)})
    assert [path.name for path in tmp_path.iterdir()] == ["000040.pt"]
    found = checkpoint.newest(tmp_path)
    assert found is not None
    assert found[1]["iteration"] == 40


class Harmful:
    """Does something when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Write a file."""
        return (Path.write_text, (Path("harm-was-done"), "harm"))


def write_hostile(path: Path, kind: str) -> None:
    """A file that is no checkpoint."""
    good = io.BytesIO()
    torch.save({"format": checkpoint.FORMAT, **STATE}, good)
    if kind == "harmful":
        torch.save({"format": checkpoint.FORMAT, "iteration": 1, "x": Harmful()}, path)
    elif kind == "old pickle":
        path.write_bytes(pickle.dumps(Harmful()))
    elif kind == "truncated":
        path.write_bytes(good.getvalue()[: len(good.getvalue()) // 2])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "compressed":
        with zipfile.ZipFile(good) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
            for name in source.namelist():
                target.writestr(name, source.read(name))
    elif kind == "another file":
        torch.save({"weights": torch.zeros(3)}, path)
    elif kind == "tensor":
        torch.save(torch.zeros(3), path)
    elif kind == "no iteration":
        torch.save({"format": checkpoint.FORMAT}, path)
    elif kind == "archive":
        with zipfile.ZipFile(path, "w") as target:
            target.writestr("../escaped", "x")


KINDS = [
    "harmful",
    "old pickle",
    "truncated",
    "empty",
    "compressed",
    "another file",
    "tensor",
    "no iteration",
    "archive",
]


@pytest.mark.parametrize("kind", KINDS)
def test_no_file_of_others_does_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str):
    """It is an error that names the file."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "000050.pt"
    write_hostile(path, kind)
    with pytest.raises(TrainError, match="a checkpoint is what `splatyard train` wrote") as raised:
        checkpoint.load(path)
    assert raised.value.file == str(path)
    assert [found.name for found in tmp_path.iterdir()] == ["000050.pt"]


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path):
    """The same one."""
    with pytest.raises(TrainError, match="No such file"):
        checkpoint.load(tmp_path / "000001.pt")


def test_a_damaged_newest_one_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """With a warning; where all are damaged there is nothing to go on with, and where none is, nothing to say."""
    assert checkpoint.newest(tmp_path) is None
    checkpoint.save(tmp_path, STATE)
    write_hostile(tmp_path / "000050.pt", "truncated")
    with caplog.at_level(logging.WARNING):
        found = checkpoint.newest(tmp_path)
    assert found is not None
    assert found[0].name == "000040.pt"
    assert "000050.pt" in caplog.text
    write_hostile(tmp_path / "000040.pt", "harmful")
    with pytest.raises(TrainError, match="2 that can't be read"):
        checkpoint.newest(tmp_path)


def test_numbers_count_not_names(tmp_path: Path):
    """The millionth iteration comes after the 999 999th."""
    for iteration in (999_999, 1_000_000):
        checkpoint.save(tmp_path, {"iteration": iteration})
    assert [path.name for path in checkpoint.files(tmp_path)] == ["999999.pt", "1000000.pt"]


def test_an_agent_gets_networks_normaliser_and_optimiser_back(tmp_path: Path):
    """All that it saves, and the learning rate."""
    source, target = trained(make_agent()), make_agent()
    path = checkpoint.save(tmp_path, {"iteration": 1, "agent": source.save()})
    assert not alike(source.save(), target.save())
    checkpoint.fit(checkpoint.load(path), target)
    assert alike(source.save(), target.save())
    assert target.learning_rate == 7e-4


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lambda state: make_agent(hidden=9).save(), "actor.mlp.0.weight is 9x5 in the checkpoint, 8x5 in the network"),
        (
            lambda state: state | {"critic_state_dict": {}},
            "critic.obs_normalizer._mean is missing in the checkpoint",
        ),
        (
            lambda state: state | {"actor_state_dict": state["actor_state_dict"] | {"extra": torch.tensor(1)}},
            "actor.extra is a number in the checkpoint, missing in the network",
        ),
        (lambda state: None, "is missing in the checkpoint"),
    ],
    ids=["other size", "no critic", "more", "nothing"],
)
def test_a_checkpoint_of_another_network_is_refused(spoil: Any, found: str):
    """The first tensor that differs is named; the agent stays as it was."""
    agent = make_agent()
    before = {name: tensor.clone() for name, tensor in agent.actor.state_dict().items()}
    with pytest.raises(TrainError, match="the network that it comes from") as raised:
        checkpoint.fit({"agent": spoil(trained(make_agent()).save())}, agent)
    assert found in raised.value.found
    assert alike(dict(agent.actor.state_dict()), before)


def test_an_optimiser_of_something_else_is_refused():
    """The networks fit, it doesn't."""
    state = trained(make_agent()).save()
    state["optimizer_state_dict"] = {"state": {}, "param_groups": []}
    with pytest.raises(TrainError, match="what its networks and their optimiser need"):
        checkpoint.fit({"agent": state}, make_agent())


def test_training_that_diverges_is_noticed():
    """In what is shown, in weights, in what normalises."""
    agent, preset = make_agent(), load_preset("navigate")
    checkpoint.check_finite({"loss": 1.0}, agent, preset)
    with pytest.raises(TrainError, match="loss/value not finite"):
        checkpoint.check_finite({"loss/value": float("inf"), "rate": 1.0}, agent, preset)
    normaliser = make_agent()
    normaliser.critic.state_dict()["obs_normalizer._mean"][0, 2] = float("nan")
    with pytest.raises(TrainError, match=r"critic\.obs_normalizer\._mean not finite"):
        checkpoint.check_finite({}, normaliser, preset)
    with torch.no_grad():
        for parameter in agent.actor.mlp.parameters():
            parameter.fill_(float("nan"))
    with pytest.raises(TrainError, match=r"actor\.mlp\.0\.weight.* not finite, nor 1 more"):
        checkpoint.check_finite({}, agent, preset)
