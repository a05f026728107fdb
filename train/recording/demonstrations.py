"""Demonstrations to learn from: a LeRobot dataset is checked against the task, and becomes a replay."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from tensordict import TensorDict

from pipeline.capture.videos.movie import opened
from pipeline.errors import CaptureError, TrainError, install
from pipeline.scenes.manifest import file_sha256
from pipeline.types import U8, Mask
from sim.env import Observations, SceneEnv
from sim.libraries import load
from sim.policies.observed import FRONT, column_names
from train.encoders.groups import TRUTHS, ObservationGroup
from train.environment import STATE, VECTOR
from train.files import read_model
from train.preset import Preset
from train.recording.lerobot import ACTION as ACTION_FEATURE
from train.recording.lerobot import DEPTH, ENVIRONMENT, TRUNCATED, feature
from train.recording.lerobot import STATE as STATE_FEATURE
from train.recording.replay import Replay
from train.recording.tables import read_numbers, read_texts

DEMOS_FOLDER = "demonstrations"
"""Folder of the replay of demonstrations."""
MAX_STEPS, MAX_NUMBERS = 20_000_000, 1_000_000_000
"""The second is of the numbers of all steps of a vector."""
MAX_TASKS = 100_000
RANGE = 1 + 1e-4
"""Largest number of an action."""
NUMBERS = ("episode_index", "next.reward", "next.done", "next.success")
UNREADABLE = (OSError, ValueError, LookupError, TypeError, NotImplementedError, MemoryError)
"""Errors of reading damaged files, pyarrow's and PyAV's among them."""
REMEDY = "record them again: splatyard policy record RUN --lerobot DIR, or --driver auto instead of RUN"


class _Feature(BaseModel):
    dtype: str
    shape: tuple[int, ...]
    names: list[str] | None = None


class _Info(BaseModel):
    """What we read of meta/info.json."""

    model_config = ConfigDict(extra="ignore")

    codebase_version: str = Field(pattern=r"^v3\.")
    robot_type: str
    fps: float
    total_frames: int = Field(ge=1, le=MAX_STEPS)
    total_episodes: int = Field(ge=1)
    features: dict[str, _Feature]


@dataclass(frozen=True)
class Sight:
    """What a policy makes of images.

    Attributes:
        group: Name of the observation group.
        keys: Names of the simulation's images, by their names in a dataset.
        read: Makes the group of images (N, H, W, ...) by the simulation's names.
    """

    group: str
    keys: dict[str, str]
    read: Callable[[Observations], torch.Tensor]


@dataclass(frozen=True)
class Contract:
    """What demonstrations must agree with.

    Attributes:
        rate: Steps per second.
        actions: Size of an action.
        columns: Names of a group's elements in the dataset, by group: those of the policy's vector are in
            `observation.state`, others in `observation.environment_state`.
        images: Shapes of the images that a policy sees by their names in the dataset: (H, W, 3), depths (H, W).
        longest: Steps until an episode's time limit.
        sight: What the policy makes of those images; None if it sees none.
    """

    robot: str
    task: str
    rate: float
    actions: int
    columns: dict[str, list[str]]
    images: dict[str, tuple[int, ...]]
    longest: int
    sight: Sight | None = None


def contract_of(env: SceneEnv, preset: Preset, observed: Sequence[ObservationGroup]) -> Contract:
    """What demonstrations must agree with, so that a preset's observation groups can be made of them.

    Raises:
        TrainError: When datasets don't have what its policy sees.
    """
    terms = env.task.observations
    columns = {
        VECTOR: column_names(env, env.task.vectors),
        STATE: column_names(env, list(terms)),
        "truth": column_names(env, [name for name in TRUTHS if name in terms]),
    }
    outputs = preset.policy.outputs
    groups = [VECTOR, *([STATE] if preset.kind.critic else [])]
    images, keys, sight = dict[str, tuple[int, ...]](), dict[str, str](), None
    for group in observed:
        if group.name in columns:
            groups.append(group.name)
        elif not outputs or not group.recorded:
            raise TrainError(
                "demonstrations have images and vectors",
                found=f"a policy that reads {group.name}",
                remedy="policy.encoder: cnn, or another that sees images",
            )
        else:
            sight = Sight(group.name, keys, partial(group.read, env))
    for rig in env.cameras if sight else ():
        for output in outputs:
            name = (rig.camera.name or FRONT) + (DEPTH if output == "depth" else "")
            images[name] = (rig.camera.lens.height, rig.camera.lens.width, *([3] if output == "rgb" else []))
            keys[name] = rig.camera.key(output)
    return Contract(
        robot=env.robot.name,
        task=env.task.text,
        rate=1 / env.task.control_period,
        actions=env.controller.size,
        columns={name: columns[name] for name in groups},
        images=images,
        longest=env.task.steps_in(env.task.seconds),
        sight=sight,
    )


def read_demonstrations(
    folder: Path, contract: Contract, seen: TensorDict, into: Path, *, successful: bool = False
) -> Replay:
    """Read a LeRobot dataset, version 3, as a replay of one robot.

    Args:
        folder: Dataset.
        contract: What it must agree with.
        seen: Observations of robots, of which shapes and types are taken.
        into: Folder of the replay's files.
        successful: Whether only episodes count that ended in success.

    Raises:
        TrainError: When it is damaged, or of another robot, task, action space or rate.
    """
    info = read_model(
        _Info,
        folder / "meta/info.json",
        "demonstrations are a LeRobot dataset, version 3",
        "name the folder that `splatyard policy record --lerobot` wrote",
        2**24,
    )
    _check(info, contract, folder)
    table = _read_tables(info, contract, folder)
    kept, terminated, time_out = _steps(table, contract.longest, folder, successful=successful)
    groups = {VECTOR: table[STATE_FEATURE]} | {
        name: table[ENVIRONMENT][:, [info.features[ENVIRONMENT].names.index(one) for one in names]]  # type: ignore[union-attr]
        for name, names in contract.columns.items()
        if name != VECTOR
    }
    sight = contract.sight
    replay = Replay(
        into, seen.select(*groups, *([sight.group] if sight else []))[:1], contract.actions, int(kept.sum())
    )
    for row, images in enumerate(_images(contract, table, folder)):
        if kept[row]:
            observed = {name: torch.from_numpy(values[row : row + 1]) for name, values in groups.items()}
            if sight:
                observed[sight.group] = sight.read({sight.keys[name]: of[None] for name, of in images.items()})
            numbers = (table[ACTION_FEATURE], table["next.reward"], terminated, time_out)
            replay.add(observed, *(torch.from_numpy(values[row : row + 1]) for values in numbers))
    return replay


def demonstrations_of_run(
    demos: Path, contract: Contract, seen: TensorDict, run: Path, *, successful: bool = False
) -> tuple[Replay, str]:
    """Read a dataset as a replay in a run's folder, and its hash; see `read_demonstrations`."""
    replay = read_demonstrations(demos, contract, seen, run / DEMOS_FOLDER, successful=successful)
    return replay, identity(demos)


def identity(folder: Path) -> str:
    """Hash of a dataset's vectors and images, by which a resumed training knows it."""
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("data/*/*.parquet"), *folder.glob("videos/*/*/*.mp4")]):
        digest.update(f"{path.relative_to(folder).as_posix()} {file_sha256(path)}\n".encode())
    return digest.hexdigest()


def _check(info: _Info, contract: Contract, folder: Path) -> None:
    """Check what the dataset says of itself."""
    none = _Feature(dtype="", shape=(0,), names=[])
    action, state, known = (info.features.get(name, none) for name in (ACTION_FEATURE, STATE_FEATURE, ENVIRONMENT))
    for name, vector in ((ACTION_FEATURE, action), (STATE_FEATURE, state), (ENVIRONMENT, known)):
        if vector.shape != (len(vector.names or []),) or info.total_frames * vector.shape[0] > MAX_NUMBERS:
            count = len(vector.names or [])
            raise _damaged(ValueError(f"{name} of shape {vector.shape} with {count} names"), folder)
        if twice := [one for one, count in Counter(vector.names).items() if count > 1]:
            raise _damaged(ValueError(f"{name} has {twice[0]!r} twice"), folder)
    wrong = [
        ("robot", info.robot_type, contract.robot),
        ("steps per second", f"{info.fps:g}", f"{contract.rate:g}"),
        ("numbers of an action", str(action.shape[0]), str(contract.actions)),
        ("observation.state", *_compared(state.names or [], contract.columns[VECTOR])),
    ]
    for name, shape in contract.images.items():
        found = info.features[feature(name)].shape if feature(name) in info.features else "none"
        wrong.append((f"images of the camera {name!r}", str(found), str(shape)))
        if name.endswith(DEPTH) and info.total_frames * math.prod(shape) > MAX_NUMBERS:
            raise _damaged(ValueError(f"{info.total_frames} depths of {shape}"), folder)
    for what, found, needed in wrong:
        if found != needed:
            raise _other(f"{what}: {found} instead of {needed}", folder)
    needed = [one for name, names in contract.columns.items() if name != VECTOR for one in names]
    if missing := [one for one in needed if one not in (known.names or [])]:
        raise _other(f"{ENVIRONMENT} without {_short(missing)}, which critics or the policy read", folder)


def _short(names: Sequence[str]) -> str:
    """Names of elements, an observation's once: hand_0 to hand_2 as "hand (3)"."""
    counts = dict[str, int]()
    for name in names:
        stem = name.rpartition("_")[0] or name
        counts[stem] = counts.get(stem, 0) + 1
    return ", ".join(f"{stem} ({count})" for stem, count in counts.items()) or "nothing"


def _compared(found: Sequence[str], needed: Sequence[str]) -> tuple[str, str]:
    """Both in words: observations, or the first elements that differ where these are the same."""
    words = _short(found), _short(needed)
    different = ((one, two) for one, two in zip(found, needed, strict=False) if one != two)
    return words if words[0] != words[1] else next(different, words)


def _read_tables(info: _Info, contract: Contract, folder: Path) -> dict[str, np.ndarray]:
    """Columns of all steps, checked: vectors (T, K) float32, numbers (T,)."""
    load("pyarrow", "a LeRobot dataset needs pyarrow", install("record"))
    vectors = [ACTION_FEATURE, STATE_FEATURE]
    vectors += [ENVIRONMENT] if any(name != VECTOR for name in contract.columns) else []
    vectors += [feature(name) for name in contract.images if name.endswith(DEPTH)]
    numbers = [*NUMBERS, *([TRUNCATED] if TRUNCATED in info.features else [])]
    shapes = dict.fromkeys((*numbers, "task_index"), ()) | {name: info.features[name].shape for name in vectors}
    parts: dict[str, list[np.ndarray]] = {name: [] for name in shapes}
    left = info.total_frames
    try:
        for path in _files(folder / "data", "parquet"):
            found = read_numbers(path, shapes, left)
            left -= len(found["next.done"])
            for name, column in found.items():
                with np.errstate(over="ignore"):  # then they are infinite, which is refused below
                    real = name in (*vectors, "next.reward")
                    parts[name].append(column.astype(np.float32, copy=False) if real else column)
        if left:
            raise ValueError(f"{left} of {info.total_frames} steps are missing")
        columns = {name: np.concatenate(of) for name, of in parts.items()}
        texts = read_texts(folder / "meta/tasks.parquet", "task_index", "task", MAX_TASKS)
        tasks = {texts[index] for index in np.unique(columns["task_index"]).tolist()}
    except UNREADABLE as error:
        raise _damaged(error, folder) from error
    if tasks != {contract.task}:
        raise _other(f"task: {', '.join(map(repr, sorted(tasks)))} instead of {contract.task!r}", folder)
    _check_values(columns, vectors, folder)
    return columns


def _check_values(columns: dict[str, np.ndarray], vectors: Sequence[str], folder: Path) -> None:
    for name in (*vectors, "next.reward"):
        if not np.isfinite(columns[name]).all():
            row = int(np.flatnonzero(~np.isfinite(columns[name]).reshape(len(columns[name]), -1).all(1))[0])
            raise _damaged(ValueError(f"{name} has NaN or infinity at step {row}"), folder)
    largest = float(np.abs(columns[ACTION_FEATURE]).max())
    if largest > RANGE:
        raise _other(f"an action of {largest:.3g}; actions are from -1 to 1", folder)
    done: Mask = columns["next.done"].astype(bool)
    changes = np.flatnonzero(np.diff(columns["episode_index"]))
    if not done[-1] or not np.array_equal(np.flatnonzero(done)[:-1], changes):
        raise _damaged(ValueError("episodes that are cut: next.done isn't where they end"), folder)


def _steps(table: dict[str, np.ndarray], longest: int, folder: Path, *, successful: bool) -> tuple[Mask, Mask, Mask]:
    """Which steps (N,) count, which end an episode for good, and which by its time limit, of so many steps."""
    last, success = table["next.done"].astype(bool), table["next.success"].astype(bool)
    first = np.concatenate([[0], np.flatnonzero(last)[:-1] + 1])
    lengths = np.diff([*first, len(last)])
    won = np.repeat(np.logical_or.reduceat(success, first), lengths)
    kept = won if successful else np.ones(len(last), bool)
    if not kept.any():
        raise TrainError(
            "bc learns from demonstrations that succeed",
            found=f"{len(first)} that fail",
            remedy="record an expert, --driver auto, or a better policy",
            file=folder,
        )
    if TRUNCATED in table:
        time_out = last & table[TRUNCATED].astype(bool)
    else:  # an older dataset doesn't say why an episode ended without success: by its time limit, or early by a failure
        time_out = last & ~success & (np.repeat(lengths, lengths) >= longest)
    if not (kept & ~time_out).any():
        raise TrainError(
            "demonstrations have steps that something follows",
            found=f"{len(first)} episodes, all of one step",
            remedy="record longer ones",
            file=folder,
        )
    return kept, last & ~time_out, time_out


def _images(contract: Contract, table: dict[str, np.ndarray], folder: Path) -> Iterator[dict[str, np.ndarray]]:
    """Images of each step by name."""
    steps = len(table["next.done"])
    films: dict[str, Iterator[np.ndarray]] = {
        name: iter(table[feature(name)])
        if name.endswith(DEPTH)
        else _frames(folder / "videos" / feature(name), shape[:2], folder)
        for name, shape in contract.images.items()
    }
    for row in range(steps):
        images = {name: image for name, film in films.items() if (image := next(film, None)) is not None}
        if len(images) < len(films):
            raise _damaged(ValueError(f"videos end after {row} of {steps} steps"), folder)
        yield images


def _frames(videos: Path, size: tuple[int, ...], folder: Path) -> Iterator[U8]:
    height, width = size
    try:
        for path in _files(videos, "mp4"):
            with opened(path, height * width) as container:
                for frame in container.decode(video=0):
                    if (frame.height, frame.width) != size:
                        raise ValueError(f"{path.name} has images of {frame.height} x {frame.width}")
                    yield cast(U8, frame.to_ndarray(format="rgb24"))
    except CaptureError as error:
        raise _damaged(ValueError(f"{Path(error.file or videos).name}: {error.found}"), folder) from error
    except UNREADABLE as error:
        raise _damaged(error, folder) from error


def _files(folder: Path, suffix: str) -> list[Path]:
    """Files in the order of their steps."""
    found = sorted(folder.glob(f"chunk-*/file-*.{suffix}"))
    if not found:
        raise FileNotFoundError(f"{folder.parent.name}/{folder.name} has no .{suffix} file")
    return found


def _damaged(error: Exception, folder: Path) -> TrainError:
    found = f"{type(error).__name__}: {error}".splitlines()[0][:300] if str(error) else type(error).__name__
    return TrainError("a dataset of demonstrations is whole", found=found, remedy=REMEDY, file=folder)


def _other(found: str, folder: Path) -> TrainError:
    rule = "demonstrations are of the robot, task, observations and actions that learn from them"
    return TrainError(rule, found=found[:300], remedy=REMEDY, file=folder)
