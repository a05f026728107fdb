"""Demonstrations are checked before anything is learned from them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from tensordict import TensorDict

from pipeline.errors import TrainError
from sim.env import Observations
from sim.scene.scene import SimScene
from sim.video import VideoWriter
from tests.train.algorithms.known import CONTRACT as CART
from tests.train.algorithms.known import episode, write
from train.encoders.groups import Images
from train.environment import make_env
from train.preset import load_preset
from train.recording.demonstrations import Contract, Sight, contract_of, identity, read_demonstrations
from train.recording.lerobot import Demonstration
from train.recording.replay import Replay

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
        episode(late + 2, late, late, success=False, truncated=True),
    ]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Of these three."""
    return write(tmp_path / "demos", episodes())


def read(folder: Path, contract: Contract = CONTRACT, **more: bool) -> Replay:
    """As a replay beside it."""
    return read_demonstrations(folder, contract, SEEN, folder.parent / "replay", **more)


def test_steps_are_those_of_the_dataset(dataset: Path):
    """With what follows them, and how they ended; what followed the one at which the time ran out isn't recorded."""
    replay = read(dataset)
    assert replay.written == replay.steps == 8 + LONGEST
    drawn = replay.sample(2000)
    x = drawn.seen["vector"][:, 0]
    assert torch.equal(drawn.seen["state"], drawn.seen["vector"])
    assert len(x.unique()) == 8 + LONGEST - 1
    last = ((x - x.floor()) > 0.25) & (x < 1.99)
    assert torch.equal(drawn.terminal.bool(), last)
    np.testing.assert_allclose(drawn.next_seen["vector"][:, 0], torch.where(last, x, x + 0.1), atol=1e-6)
    signs = torch.where((x > 0.99) & (x < 1.99), -1.0, 1.0)
    np.testing.assert_allclose(drawn.action[:, 0], signs * (x - x.floor()), atol=1e-6)
    np.testing.assert_allclose(drawn.reward, drawn.action[:, 0])


def test_a_person_may_fail_after_the_time_limit(tmp_path: Path):
    """A person has more time than the task has: a failure then is one, and what ran out of time before is not."""
    long, short = np.arange(LONGEST + 3) / 20, np.arange(3) / 20
    made = [
        episode(long, long, long, success=False),
        episode(short + 1, short, short, success=False, truncated=True),
    ]
    replay = read(write(tmp_path / "demos", made))
    ends = replay._fields["terminal"][: replay.written, 0].nonzero()[0].tolist()
    outs = replay._fields["time_out"][: replay.written, 0].nonzero()[0].tolist()
    assert (ends, outs) == ([LONGEST + 2], [LONGEST + 5])


def test_steps_that_nothing_follows_are_no_demonstrations(tmp_path: Path):
    """Where each episode is one step, at which its time ran out."""
    made = [episode([0.1], [0.1], [0.1], success=False, truncated=True)] * 2
    with pytest.raises(TrainError, match="steps that something follows"):
        read(write(tmp_path / "demos", made))


def test_an_older_dataset_is_read(dataset: Path):
    """It doesn't say what ran out of time: what is as long as the task lets it be."""
    _table(lambda table: table.drop_columns("next.truncated"))(dataset)
    known = json.loads((dataset / INFO).read_text())
    del known["features"]["next.truncated"]
    (dataset / INFO).write_text(json.dumps(known))
    replay = read(dataset)
    assert replay._fields["time_out"][: replay.written, 0].nonzero()[0].tolist() == [7 + LONGEST]


def test_successful_ones_alone(dataset: Path):
    """What cloning learns from."""
    assert read(dataset, successful=True).written == 4


def test_identity_is_that_of_the_content(dataset: Path, tmp_path: Path):
    """Not of the folder."""
    assert identity(write(tmp_path / "same", episodes())) == identity(dataset)
    assert identity(write(tmp_path / "other", episodes()[:2])) != identity(dataset)


def test_identity_is_that_of_the_images_too(dataset: Path):
    """Videos that were encoded again, or exchanged between cameras, are other demonstrations."""
    videos = [dataset / "videos" / f"observation.images.{name}" / "chunk-000/file-000.mp4" for name in ("a", "b")]
    found = [identity(dataset)]
    for contents in (b"one", b"two"), (b"two", b"one"), (b"one", b"three"):
        for video, content in zip(videos, contents, strict=True):
            video.parent.mkdir(parents=True, exist_ok=True)
            video.write_bytes(content)
        found.append(identity(dataset))
    assert len(set(found)) == 4


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"robot": "panda"}, "robot: cart instead of panda"),
        ({"rate": 20}, "steps per second: 10 instead of 20"),
        ({"actions": 3}, "numbers of an action: 1 instead of 3"),
        ({"task": "fall"}, "task: 'balance' instead of 'fall'"),
        ({"columns": {"vector": ["x_0", "v_0"]}}, r"observation.state: x \(1\) instead of x \(1\), v \(1\)"),
        ({"columns": {"vector": ["x_0"], "state": ["goal_0", "goal_1"]}}, r"environment_state without goal \(2\)"),
        ({"images": {"wrist": (48, 64, 3)}}, r"camera 'wrist': none instead of \(48, 64, 3\)"),
    ],
)
def test_demonstrations_of_something_else_are_refused(dataset: Path, changes: dict, found: str):
    """One error says what differs."""
    with pytest.raises(TrainError, match=rf"(?s)demonstrations are of the robot.*{found}.*splatyard policy record"):
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


def _flat(folder: Path) -> None:
    """Depths of one dimension."""
    table = pyarrow.parquet.read_table(folder / DATA)
    name = "observation.images.front_depth"
    values = table[name].combine_chunks().flatten().flatten()
    flat = pyarrow.FixedSizeListArray.from_arrays(values, 384)
    pyarrow.parquet.write_table(table.set_column(table.schema.get_field_index(name), name, flat), folder / DATA)


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


def _features(feature: str = "observation.state", **changes: object) -> Callable[[Path], None]:
    """Changes what the dataset says of a feature."""

    def spoil(folder: Path) -> None:
        known = json.loads((folder / INFO).read_text())
        known["features"][feature] |= changes
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
        (_info(total_frames=5), "16 rows, more than 5"),
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


TASKS, FILM = "meta/tasks.parquet", "videos/observation.images.front/chunk-000/file-000.mp4"
Spoil = Callable[[Path], None]


def _of_kind(name: str, array: pyarrow.Array) -> Spoil:
    """A column of other values, of another type."""
    return _table(lambda table: table.set_column(table.schema.get_field_index(name), name, array))


def _tasks(**columns: object) -> Spoil:
    return lambda folder: pyarrow.parquet.write_table(pyarrow.table(columns), folder / TASKS)


def _instead(name: str, content: bytes) -> Spoil:
    return lambda folder: (folder / name).write_bytes(content)


def _pipe(name: str) -> Spoil:
    """A pipe, which nobody writes into."""

    def spoil(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return spoil


def _link(name: str, target: str) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(target)

    return spoil


STEPS = 8 + LONGEST
NESTED = pyarrow.array([[1.0]] * STEPS)


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (_of_kind("next.reward", pyarrow.array(["x"] * STEPS)), "next.reward is of type string"),
        (_of_kind("next.reward", pyarrow.array(["1.5"] * STEPS)), "next.reward is of type string"),
        (_of_kind("next.reward", NESTED), "next.reward is of type list"),
        (_of_kind("episode_index", pyarrow.array(["0"] * STEPS)), "episode_index is of type string"),
        (_of_kind("next.success", pyarrow.array([{"a": 1}] * STEPS)), "next.success is of type struct"),
        (_of_kind("next.done", pyarrow.array(range(STEPS), pyarrow.timestamp("s"))), "next.done is of type timestamp"),
        (_of_kind("task_index", pyarrow.nulls(STEPS)), "task_index is of type null"),
        (_of_kind("action", NESTED), "action is of type list"),
        (_of_kind("action", pyarrow.array([["x"]] * STEPS, pyarrow.list_(pyarrow.string(), 1))), "action is of type"),
        (_of_kind("action", pyarrow.array([[1.0, 1.0]] * STEPS, pyarrow.list_(pyarrow.float32(), 2))), "of type"),
        (_of_kind("action", pyarrow.array([1e308] * STEPS)), "action is of type double"),
        (_of_kind("next.reward", pyarrow.array([1e308] * STEPS)), "next.reward has NaN or infinity at step 0"),
        (_table(lambda table: pyarrow.concat_tables([table] * 50)), "800 rows, more than 16"),
        (_table(lambda table: table.slice(0, 0)), "16 of 16 steps are missing"),
        (_tasks(task_index=pyarrow.array(np.zeros(100_001, np.int64)), task=["x"] * 100_001), "100001 rows, more than"),
        (_tasks(task_index=[0], task=["balance" + "x" * 2**24]), "task unpacks to"),
        (_tasks(task_index=[0], task=[7]), "task is of type int64"),
        (_tasks(task_index=["0"], task=["balance"]), "task_index is of type string"),
        (_tasks(task_index=[0], task=[["balance"]]), "task"),
        (_tasks(task_index=[0], task=[None]), "task is of type"),
        (_tasks(task=["balance"]), "task_index"),
        (_instead(TASKS, b""), "whole"),
        (_features(names=["x_0", "x_0"], shape=[2]), "observation.state has 'x_0' twice"),
        (_features("action", names=["force"], shape=[-1]), r"action of shape \(-1,\)"),
        (_info(fps=float("nan")), "fps|steps per second: nan"),
        (_info(fps=1e308), "1e"),
        (_info(total_frames=-1), "total_frames"),
        (_info(total_frames="x" * 10_000), "total_frames"),
        (_info(features=[1]), "features"),
        (_info(features={"action": {"dtype": "float32", "shape": [1e30]}}), "features.action.shape"),
        (_instead(INFO, b'{"a":' * 100_000), "LeRobot dataset"),
        (_instead(INFO, b" " * (2**24 + 1)), "more than 16777216"),
        (_link(INFO, "/etc/passwd"), "LeRobot dataset"),
        (_link(INFO, "/dev/zero"), "a device instead of a file"),
        (_link(DATA, "/etc/passwd"), "whole"),
        (_link(DATA, "/dev/zero"), "a device instead of a file"),
        (_link(DATA, "."), "a folder instead of a file"),
        (_pipe(INFO), "a pipe instead of a file"),
        (_pipe(DATA), "a pipe instead of a file"),
        (_pipe(TASKS), "a pipe instead of a file"),
    ],
)
def test_hostile_ones_are_refused(dataset: Path, spoil: Spoil, found: str):
    """Before they are read: by what files say of themselves; nothing is waited for."""
    spoil(dataset)
    with pytest.raises(TrainError, match=f"(?s){found}") as raised:
        read(dataset)
    assert str(raised.value.file).startswith(str(dataset)) and len(str(raised.value)) < 1000


def test_names_are_compared_one_by_one(tmp_path: Path):
    """Two poses with their elements in another order are not the same."""
    swapped = replace(episodes()[0], state=np.zeros((4, 2), np.float32))
    folder = write(tmp_path / "demos", [swapped], state=["x_1", "x_0"])
    with pytest.raises(TrainError, match=r"observation.state: x_1 instead of x_0"):
        read(folder, replace(CONTRACT, columns={"vector": ["x_0", "x_1"]}))


CAMERA = {"front": (16, 24)}
COLOURS = {"images": {"front": (16, 24, 3)}, "sight": Sight("rgb", {"front": "rgb"}, partial(Images("rgb").read, None))}  # type: ignore[arg-type] - it doesn't look at the simulation
BOTH = {"front": (16, 24, 3), "front_depth": (16, 24)}
SLOPE = 0.01 * np.arange(16)[:, None] + 0.1 * np.arange(24)


def filmed(folder: Path) -> Path:
    """Two episodes of grey images, which get lighter; what they show recedes, and is aslant."""
    made = []
    for number, one in enumerate(episodes()[:2]):
        shade = (20 * np.arange(4) + 100 * number).astype(np.uint8)
        depth = (shade[:, None, None] / 50 + SLOPE).astype(np.float32)
        images = {"front": np.broadcast_to(shade[:, None, None, None], (4, 16, 24, 3)), "front_depth": depth}
        made.append(replace(one, images=images))
    return write(folder, made, cameras=CAMERA | {"front_depth": (16, 24)})


def test_images_belong_to_their_steps(tmp_path: Path):
    """Channels first, of the film's quality."""
    seen = SEEN.clone()
    seen["rgb"] = torch.zeros(2, 3, 16, 24, dtype=torch.uint8)
    contract = replace(CONTRACT, **COLOURS)
    drawn = read_demonstrations(filmed(tmp_path / "demos"), contract, seen, tmp_path / "replay").sample(300)
    x = drawn.seen["vector"][:, 0]
    assert drawn.seen["rgb"].shape == (300, 3, 16, 24)
    wanted = 200 * (x - x.floor()) + 100 * x.floor()
    np.testing.assert_allclose(drawn.seen["rgb"].float().mean((1, 2, 3)), wanted, atol=3)


def test_depths_belong_to_their_steps_and_pixels(tmp_path: Path):
    """Beside the colours; what a policy makes of both is made once, when they are read."""

    def read(seen: Observations) -> torch.Tensor:
        return torch.from_numpy(np.concatenate([seen["depth"], seen["rgb"].mean(3)], 2, dtype=np.float32))

    seen = SEEN.clone()
    seen["both"] = torch.zeros(2, 16, 48)
    sight = Sight("both", {"front": "rgb", "front_depth": "depth"}, read)
    contract = replace(CONTRACT, images=BOTH, sight=sight)
    drawn = read_demonstrations(filmed(tmp_path / "demos"), contract, seen, tmp_path / "replay").sample(300)
    x = drawn.seen["vector"][:, :1, None].numpy()
    shade = (200 * (x - np.floor(x)) + 100 * np.floor(x)).round()
    depth, grey = np.split(drawn.seen["both"].numpy(), 2, axis=2)
    np.testing.assert_allclose(depth, shade / 50 + SLOPE, rtol=1e-6)
    np.testing.assert_allclose(grey.mean((1, 2)), shade[:, 0, 0], atol=3)


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (
            _column("observation.images.front_depth", 2, [[1.0] * 24] * 15 + [[np.nan] * 24]),
            "NaN or infinity at step 2",
        ),
        (_features("observation.images.front_depth", shape=[384]), r"front_depth.: \(384,\) instead of \(16, 24\)"),
        (_flat, r"observation.images.front_depth is of type .*\[384\]"),
    ],
)
def test_depths_that_are_wrong_are_refused(tmp_path: Path, spoil: Callable[[Path], None], found: str):
    """Before anything is made of them."""
    folder = filmed(tmp_path / "demos")
    spoil(folder)
    contract = replace(CONTRACT, images=BOTH, sight=Sight("both", {}, lambda _: pytest.fail("nothing is read")))
    with pytest.raises(TrainError, match=f"(?s){found}"):
        read_demonstrations(folder, contract, SEEN, tmp_path / "replay")


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_a_film_that_was_cut_is_refused(tmp_path: Path, share: float):
    """Wherever that was."""
    folder = filmed(tmp_path / "demos")
    film = folder / FILM
    content = film.read_bytes()
    film.write_bytes(content[: int(share * len(content))])
    seen = SEEN.clone()
    seen["rgb"] = torch.zeros(2, 3, 16, 24, dtype=torch.uint8)
    with pytest.raises(TrainError, match="dataset of demonstrations is whole"):
        read_demonstrations(folder, replace(CONTRACT, **COLOURS), seen, tmp_path / "replay")


def _play_list(folder: Path) -> None:
    """FFmpeg's list of films that it plays one after the other."""
    (folder / FILM).rename(folder / "film.mp4")
    (folder / FILM).write_text(f"ffconcat version 1.0\nfile '{folder}/film.mp4'\n")


def _large_film(folder: Path) -> None:
    with closing(VideoWriter(folder / FILM, 10)) as film:
        film.add(np.zeros((1024, 1024, 3), np.uint8))


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (_play_list, "file-000.mp4: a file that begins with b'ffconcat ver'"),
        (_large_film, "file-000.mp4: 1024 x 1024"),
        (_instead(FILM, b"\x89PNG\r\n\x1a\n" + bytes(100)), "begins with b'.x89PNG"),
        (_instead(FILM, b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/film.ts\n"), "begins with b'#EXTM3U"),
        (_instead(FILM, b""), "an empty file"),
        (_link(FILM, "/dev/zero"), "a device instead of a file"),
        (_link(FILM, "/etc/passwd"), "begins with"),
        (_pipe(FILM), "a pipe instead of a file"),
    ],
)
def test_hostile_films_are_refused(tmp_path: Path, spoil: Spoil, found: str):
    """Before anything is decoded; nothing that they name is opened."""
    folder = filmed(tmp_path / "demos")
    spoil(folder)
    seen = SEEN.clone()
    seen["rgb"] = torch.zeros(2, 3, 16, 24, dtype=torch.uint8)
    with pytest.raises(TrainError, match=f"(?s)dataset of demonstrations is whole.*{found}"):
        read_demonstrations(folder, replace(CONTRACT, **COLOURS), seen, tmp_path / "replay")


@pytest.mark.parametrize(
    ("policy", "images"),
    [
        ({"encoder": "cnn"}, {"front": 3}),
        ({"modality": "depth"}, {"front_depth": 1}),
        ({"encoder": "points"}, {"front": 3, "front_depth": 1}),
        ({"encoder": "none"}, {}),
    ],
)
def test_a_contract_is_that_of_the_simulation(room_scene: SimScene, policy: dict, images: dict[str, int]):
    """Robot, rate, and what its policy sees: of recorded images it makes what it makes of the simulation's."""
    changes = {f"policy.{name}": value for name, value in policy.items()}
    preset = load_preset("navigate", {"algorithm": "iql", "demos": "demos", "num_envs": 4, **changes})
    with closing(make_env(preset, [room_scene])) as env:
        contract = contract_of(env.env, preset, env.groups)
        seen = env.get_observations()
        assert (contract.robot, contract.actions, contract.longest) == ("rover", 2, env.max_episode_length)
        assert {name: len(of) for name, of in contract.columns.items()} == {
            name: seen[name].shape[1] for name in ("vector", "state")
        }
        channels = {1: (), 3: (3,)}
        assert contract.images == {name: (48, 64, *channels[count]) for name, count in images.items()}
        if sight := contract.sight:
            recorded = {key: env.seen[key] for key in sight.keys.values()}
            assert torch.equal(sight.read(recorded), seen[sight.group])


@pytest.mark.parametrize(
    ("task", "encoder", "reads"), [("navigate", "gaussians", "gaussians"), ("find", "episode_map", "views")]
)
def test_what_is_not_made_of_images_is_in_no_dataset(room_scene: SimScene, task: str, encoder: str, reads: str):
    """The scene's own Gaussians, and a map of what was seen before."""
    preset = load_preset(task, {"algorithm": "iql", "demos": "demos", "num_envs": 4, "policy.encoder": encoder})
    with closing(make_env(preset, [room_scene])) as env, pytest.raises(TrainError, match=f"policy that reads {reads}"):
        contract_of(env.env, preset, env.groups)
