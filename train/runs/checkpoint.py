"""Checkpoints: all that training continues from, in one file, written atomically and read without running code."""

from __future__ import annotations

import io
import logging
import math
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NotRequired, TypedDict

import torch
from rsl_rl.modules import HiddenState

from pipeline.errors import TrainError
from pipeline.io.files import plain
from train.algorithms.agent import Agent, make_agent
from train.environment import EnvironmentState, TrainEnv
from train.files import write_atomically
from train.preset import Preset
from train.runs.run import Run
from train.runs.scores import best_iteration

logger = logging.getLogger(__name__)

FORMAT = "splatyard.checkpoint.1"
KEPT = 5
"""Number of newest checkpoints that are kept in addition to the first: a long training would fill the disk."""
BEST = "best"
"""What the checkpoint is called that did best in places held out of training."""
MAX_BYTES = 8 * 2**30
NAME = re.compile(r"\d{6,9}\.pt")
UNREADABLE = (
    *(OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError, EOFError, MemoryError),
    *(pickle.UnpicklingError, zipfile.BadZipFile),
)
"""Errors of reading a damaged or hostile file."""
PLAIN = (torch.Tensor, bool, int, float, str, type(None))


class ProcessState(TypedDict):
    """What differs between the processes of a distributed training."""

    memories: tuple[HiddenState, HiddenState]
    random: list[torch.Tensor]
    environment: list[EnvironmentState]
    curriculum: list[list[float]]
    episode_stats: list[tuple[bool, str, float, int, dict[str, bool], dict[str, float]]]


class Checkpoint(ProcessState):
    """What training continues from.

    `agent` is what `Agent.save` returned, `steps` those of all environments so far, `seconds` the time of training,
    `actors` what became of actors and their chunks.
    """

    format: NotRequired[str]
    iteration: int
    agent: dict[str, object]
    steps: NotRequired[int]
    seconds: NotRequired[float]
    processes: NotRequired[list[ProcessState]]
    actors: NotRequired[dict[str, int]]


def save(folder: Path, state: Mapping[str, object], best: int | None = None) -> Path:
    """Write a `Checkpoint` next to earlier ones in a run's folder of checkpoints, and delete those that are too old.

    The one of the iteration that is the best is kept, too.

    Returns:
        The file.

    Raises:
        TrainError: When there is no room or no permission; the earlier ones are still there.
        TypeError: When the state holds something that `load` wouldn't read.
    """
    for path, value in _leaves(state):
        if type(value) not in PLAIN and not isinstance(value, torch.Tensor):
            raise TypeError(f"{path} is a {type(value).__name__}, which a checkpoint can't hold")
    content = io.BytesIO()
    torch.save({"format": FORMAT, **state}, content)
    path = folder / f"{state['iteration']:06d}.pt"
    write_atomically(path, content.getbuffer())
    for old in files(folder)[1:-KEPT]:
        if int(old.stem) != best:
            old.unlink(missing_ok=True)
    return path


def load(path: Path) -> Checkpoint:
    """Read what `save` wrote, onto the CPU.

    Raises:
        TrainError: When it isn't that, be it damaged, hostile or something else.
    """
    try:
        if plain(path).stat().st_size > MAX_BYTES:
            raise ValueError(f"{path.stat().st_size} bytes are more than any checkpoint has")
        with zipfile.ZipFile(path) as archive:  # torch's own files are not compressed, so they need no more memory
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise ValueError("it is compressed")
        state: Checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or state.pop("format", None) != FORMAT:
            raise ValueError(f"it is not marked as {FORMAT}")
        if type(state.get("iteration")) is not int:
            raise ValueError("it has no iteration")
    except UNREADABLE as error:
        raise unreadable(path, error) from error
    return state


def newest(folder: Path) -> tuple[Path, Checkpoint] | None:
    """The newest checkpoint that can be read; None when there is none at all.

    Raises:
        TrainError: When there are some, and none can be read.
    """
    known = files(folder)
    for path in reversed(known):
        try:
            return path, load(path)
        except TrainError as error:
            logger.warning("a damaged checkpoint is left out: %s", error)
    if known:
        raise TrainError(
            "a run continues from a checkpoint",
            found=f"{len(known)} that can't be read",
            remedy="train again, under another --name",
            file=folder,
        )
    return None


def fit(state: Checkpoint, agent: Agent) -> None:
    """Load networks, optimiser and learning rate from a checkpoint; the agent is unchanged if it doesn't fit.

    Raises:
        TrainError: When it is of another network; names the first tensor that differs.
    """
    saved, expected = dict(_networks(state.get("agent"))), dict(_networks(agent.save()))
    for key in [*expected, *saved]:
        tensors = saved.get(key), expected.get(key)
        actual, shape = ("missing" if t is None else "x".join(map(str, t.shape)) or "a number" for t in tensors)
        if actual != shape:
            raise TrainError(
                "a checkpoint goes into the network that it comes from",
                found=f"{key} is {actual} in the checkpoint, {shape} in the network",
                remedy="use the preset of its run.json: the same policy, robot and task",
            )
    try:
        agent.load(state["agent"], None, True)
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        raise TrainError(
            "a checkpoint has what its networks and their optimiser need",
            found=f"{type(error).__name__}: {error}".splitlines()[0][:300],
            remedy="it is damaged: use another one",
        ) from error


def check_finite(metrics: Mapping[str, float], agent: Agent, preset: Preset) -> None:
    """Check metrics and networks, normalisers included, after each iteration and before anything is saved.

    Raises:
        TrainError: When a number or a weight is not finite.
    """
    wrong = [name for name, value in metrics.items() if not math.isfinite(value)]
    wrong += [key for key, tensor in _networks(agent.save()) if not torch.isfinite(tensor).all()]
    if wrong:
        raise TrainError(
            "numbers stay finite while training",
            found=f"{', '.join(wrong[:3])} not finite" + (f", nor {len(wrong) - 3} more" if len(wrong) > 3 else ""),
            remedy=f"train again with a lower --set {preset.rate_setting}=...",
        )


def load_policy(run: Run, env: TrainEnv, path: Path | None = None, device: str = "cpu") -> Agent:
    """Load the policy of a run for use: its hidden state is empty, and it acts without exploration.

    The environment is like the one it was trained in, with any number of robots; the checkpoint is the newest by
    default.

    Raises:
        TrainError: When there is no checkpoint, or it doesn't fit the network.
    """
    path, state = chosen(run, path)
    agent = make_agent(run.preset, env, device)
    try:
        fit(state, agent)
    except TrainError as error:
        error.file = error.file or str(path)
        raise
    agent.eval_mode()
    return agent


def chosen(run: Run, path: Path | None = None) -> tuple[Path, Checkpoint]:
    """Read one of a run's checkpoints, the newest by default; returns its file and state.

    Raises:
        TrainError: When there is none, or it can't be read.
    """
    found = (path, load(path)) if path else newest(run.checkpoints)
    if found is None:
        raise TrainError(
            "a run has a checkpoint",
            found="none",
            remedy=f"splatyard train --resume {run.folder}",
            file=run.checkpoints,
        )
    return found


def file_of(run: Run, name: str | None) -> Path | None:
    """The file of a run's checkpoint by its name, with or without .pt; None for the newest.

    "best" is the one with the most success in places held out of training.

    Raises:
        TrainError: When the best is asked for and nothing was held out, or measured yet.
    """
    if name == BEST:
        iteration = best_iteration(run)
        if iteration is None:
            raise TrainError(
                "the best checkpoint is that with the most success in places held out of training",
                found="none was measured",
                remedy="name another one, or train with --hold-out 20%",
                file=run.folder,
            )
        name = f"{iteration:06d}"
    return run.checkpoints / f"{name.removesuffix('.pt')}.pt" if name else None


def files(folder: Path) -> list[Path]:
    """Checkpoints, the oldest first."""
    names = [path for path in folder.glob("*.pt") if NAME.fullmatch(path.name)]
    return sorted(names, key=lambda path: int(path.stem))


def unreadable(path: Path, error: Exception) -> TrainError:
    """Error for a file that isn't what `save` wrote."""
    return TrainError(
        "a checkpoint is what `splatyard train` wrote",
        found=f"{type(error).__name__}: {error}".splitlines()[0][:300],
        remedy="it is damaged, hostile or something else: use another one",
        file=path,
    )


def _leaves(value: object, key: str = "state") -> Iterator[tuple[str, object]]:
    """Values that are not collections, with their paths."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _leaves(part, f"{key}.{name}")
    elif isinstance(value, (list, tuple)):
        for number, part in enumerate(value):
            yield from _leaves(part, f"{key}.{number}")
    else:
        yield key, value


def _networks(agent: object) -> Iterator[tuple[str, torch.Tensor]]:
    """Tensors of all networks, by name, in what `Agent.save` returned."""
    for name, part in (agent if isinstance(agent, dict) else {}).items():
        if not name.startswith("optimizer") and not name.endswith("optimizer_state_dict"):
            leaves = _leaves(part, name.removesuffix("_state_dict"))
            yield from ((key, value) for key, value in leaves if isinstance(value, torch.Tensor))
