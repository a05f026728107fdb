"""Demonstrations are checked before anything is learned from them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from tensordict import TensorDict
from torch import nn

from pipeline.errors import TrainError
from sim.scene import SimScene
from tests.train.algorithms.known import CONTRACT as CART
from tests.train.algorithms.known import episode, write
from train.algorithms.demonstrations import Contract, contract_of, identity, read_demonstrations
from train.algorithms.replay import Replay
from train.environment import make_env
from train.lerobot import Demonstration
from train.preset import load_preset

LONGEST = 8
CONTRACT = replace(CART, longest=LONGEST)
SEEN = TensorDict({"vector": torch.zeros(2, 1), "state": torch.zeros(2, 1)}, batch_size=[2])
DATA, INFO = "data/chunk-000/file-000.parquet", "meta/info.json"


def episodes() -> list[Demonstration]:
    """One that succeeds, one that fails early, one that runs out of time."""
    early, late = np.arange(4) / 10, np.arange(LONGEST) / 10
    return [
        episode(early, early, early, success=True),
        episode(early + 1, -early, -early, success=False),
        episode(late + 2, late, late, success=False),
    ]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Of these three."""
    return write(tmp_path / "demos", episodes())


def read(folder: Path, contract: Contract = CONTRACT, **more: bool) -> Replay:
    """As a replay beside it."""
    return read_demonstrations(folder, contract, SEEN, folder.parent / "replay", **more)


def test_steps_are_those_of_the_dataset(dataset: Path):
    """With what follows them, and how they ended."""
    replay = read(dataset)
    assert replay.written == replay.steps == 8 + LONGEST
    drawn = replay.sample(2000)
    x = drawn.seen["vector"][:, 0]
    assert torch.equal(drawn.seen["state"], drawn.seen["vector"])
    assert len(x.unique()) == 8 + LONGEST
    last = (x - x.floor()) > torch.where(x < 1.99, 0.25, (LONGEST - 1.5) / 10)
    assert torch.equal(drawn.terminal.bool(), last & (x < 1.99))
    np.testing.assert_allclose(drawn.next_seen["vector"][:, 0], torch.where(last, x, x + 0.1), atol=1e-6)
    signs = torch.where((x > 0.99) & (x < 1.99), -1.0, 1.0)
    np.testing.assert_allclose(drawn.action[:, 0], signs * (x - x.floor()), atol=1e-6)
    np.testing.assert_allclose(drawn.reward, drawn.action[:, 0])


def test_successful_ones_alone(dataset: Path):
    """What cloning learns from."""
    assert read(dataset, successful=True).written == 4


def test_identity_is_that_of_the_content(dataset: Path, tmp_path: Path):
    """Not of the folder."""
    assert identity(write(tmp_path / "same", episodes())) == identity(dataset)
    assert identity(write(tmp_path / "other", episodes()[:2])) != identity(dataset)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"robot": "panda"}, "robot: cart instead of panda"),
        ({"rate": 20}, "steps per second: 10 instead of 20"),
        ({"actions": 3}, "numbers of an action: 1 instead of 3"),
        ({"task": "fall"}, "task: 'balance' instead of 'fall'"),
        ({"columns": {"vector": ["x_0", "v_0"]}}, r"observation.state: x \(1\) instead of x \(1\), v \(1\)"),
        ({"columns": {"vector": ["x_0"], "state": ["goal_0", "goal_1"]}}, r"environment_state without goal \(2\)"),
        ({"cameras": {"wrist": (48, 64)}}, r"camera 'wrist': none instead of \(48, 64, 3\)"),
    ],
)
def test_demonstrations_of_something_else_are_refused(dataset: Path, changes: dict, found: str):
    """One error says what differs."""
    with pytest.raises(TrainError, match=rf"(?s)demonstrations are of the robot.*{found}.*splatyard record"):
        read(dataset, replace(CONTRACT, **changes))


def _table(change: Callable[[pyarrow.Table], pyarrow.Table]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        pyarrow.parquet.write_table(change(pyarrow.parquet.read_table(folder / DATA)), folder / DATA)

    return spoil


def _column(name: str, row: int, value: object) -> Callable[[Path], None]:
    def change(table: pyarrow.Table) -> pyarrow.Table:
        column = table[name].to_pylist()
        column[row] = value
        array = pyarrow.array(column, table.schema.field(name).type)
        return table.set_column(table.schema.get_field_index(name), table.schema.field(name), array)

    return _table(change)


def _cut(name: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])

    return spoil


def _info(**changes: object) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        known = json.loads((folder / INFO).read_text())
        (folder / INFO).write_text(json.dumps(known | changes))

    return spoil


def _features(**changes: object) -> Callable[[Path], None]:
    """Changes what the dataset says of its state."""

    def spoil(folder: Path) -> None:
        known = json.loads((folder / INFO).read_text())
        known["features"]["observation.state"] |= changes
        (folder / INFO).write_text(json.dumps(known))

    return spoil


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (_cut(DATA), "whole"),
        (_cut(INFO), "LeRobot dataset"),
        (_cut("meta/tasks.parquet"), "whole"),
        (lambda folder: (folder / DATA).unlink(), "no .parquet file"),
        (lambda folder: (folder / INFO).unlink(), "LeRobot dataset"),
        (_table(lambda table: table.slice(0, 9)), f"{LONGEST - 1} of {8 + LONGEST} steps are missing"),
        (_info(total_frames=5), "more than the 5 steps"),
        (_info(total_frames=10**12), "total_frames"),
        (_features(names=["x_0", "v_0"]), "observation.state of shape \\(1,\\) with 2 names"),
        (_features(shape=[3]), "observation.state of shape \\(3,\\) with 1 names"),
        (_info(codebase_version="v2.1"), "codebase_version"),
        (_table(lambda table: table.drop_columns("next.reward")), "next.reward"),
        (_column("next.reward", 3, float("nan")), "next.reward has NaN or infinity at step 3"),
        (_column("action", 5, [float("inf")]), "action has NaN or infinity at step 5"),
        (_column("observation.state", 2, [float("nan")]), "observation.state has NaN or infinity at step 2"),
        (_column("action", 5, [7.0]), "an action of 7"),
        (_column("action", 5, None), "empty rows"),
        (_column("next.done", 3, False), "episodes that are cut"),
        (_column("next.done", 7 + LONGEST, False), "episodes that are cut"),
        (_column("task_index", 4, 8), "KeyError: 8"),
    ],
)
def test_damaged_ones_are_refused(dataset: Path, spoil: Callable[[Path], None], found: str):
    """By one error that names the dataset, and what is wrong with it."""
    spoil(dataset)
    with pytest.raises(TrainError, match=f"(?s){found}") as raised:
        read(dataset)
    assert str(raised.value.file).startswith(str(dataset))


CAMERA = {"front": (16, 24)}


def filmed(folder: Path) -> Path:
    """Two episodes of grey images, which get lighter."""
    made = []
    for number, one in enumerate(episodes()[:2]):
        shade = (20 * np.arange(4) + 100 * number).astype(np.uint8)
        images = {"front": np.broadcast_to(shade[:, None, None, None], (4, 16, 24, 3))}
        made.append(replace(one, images=images))
    return write(folder, made, cameras=CAMERA)


def test_images_belong_to_their_steps(tmp_path: Path):
    """Channels first, of the film's quality."""
    seen = SEEN.clone()
    seen["rgb"] = torch.zeros(2, 3, 16, 24, dtype=torch.uint8)
    contract = replace(CONTRACT, cameras=CAMERA)
    drawn = read_demonstrations(filmed(tmp_path / "demos"), contract, seen, tmp_path / "replay").sample(300)
    x = drawn.seen["vector"][:, 0]
    assert drawn.seen["rgb"].shape == (300, 3, 16, 24)
    wanted = 200 * (x - x.floor()) + 100 * x.floor()
    np.testing.assert_allclose(drawn.seen["rgb"].float().mean((1, 2, 3)), wanted, atol=3)


class Shade(nn.Module):
    """A frozen network: an image's mean and size."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Numbers (N, 1, 2)."""
        return torch.stack([images.float().mean((1, 2, 3)), torch.full((len(images),), float(images.shape[3]))], 1)[
            :, None
        ]


def test_a_frozen_network_reads_recorded_images(tmp_path: Path):
    """Once, when they are read; what it makes of each belongs to that step."""
    seen = SEEN.clone()
    seen["features"] = torch.zeros(2, 1, 2)
    contract = replace(CONTRACT, cameras=CAMERA, frozen=Shade())
    drawn = read_demonstrations(filmed(tmp_path / "demos"), contract, seen, tmp_path / "replay").sample(300)
    x = drawn.seen["vector"][:, 0]
    assert drawn.seen["features"].shape == (300, 1, 2)
    np.testing.assert_allclose(drawn.seen["features"][:, 0, 0], 200 * (x - x.floor()) + 100 * x.floor(), atol=3)
    assert (drawn.seen["features"][:, 0, 1] == 24).all()


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_a_film_that_was_cut_is_refused(tmp_path: Path, share: float):
    """Wherever that was."""
    folder = filmed(tmp_path / "demos")
    film = folder / "videos/observation.images.front/chunk-000/file-000.mp4"
    content = film.read_bytes()
    film.write_bytes(content[: int(share * len(content))])
    seen = SEEN.clone()
    seen["rgb"] = torch.zeros(2, 3, 16, 24, dtype=torch.uint8)
    with pytest.raises(TrainError, match="dataset of demonstrations is whole"):
        read_demonstrations(folder, replace(CONTRACT, cameras=CAMERA), seen, tmp_path / "replay")


def test_a_contract_is_that_of_the_simulation(room_scene: SimScene):
    """Robot, rate and what its policy sees; depth is in no dataset."""
    env = make_env(load_preset("navigate", {"num_envs": 4}), [room_scene])
    contract = contract_of(env.env, ["vector", "state", "rgb"])
    seen = env.get_observations()
    assert (contract.robot, contract.actions, contract.longest) == ("rover", 2, env.max_episode_length)
    assert len(contract.columns["vector"]) == seen["vector"].shape[1]
    assert len(contract.columns["state"]) == seen["state"].shape[1]
    assert contract.cameras == {"front": tuple(seen["rgb"].shape[2:])}
    assert contract_of(env.env, ["vector", "features"], Shade()).cameras == contract.cameras
    with pytest.raises(TrainError, match=r"(?s)colour images and vectors.*reads depth"):
        contract_of(env.env, ["vector", "depth"])
    env.close()
