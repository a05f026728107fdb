"""Replay: steps of robots in memory-mapped files, the newest so many, images as bytes.

There is a file for each field, with one row of all robots per time. A row that the next one doesn't follow is cut: it
is never drawn. Nor is a step at which an episode ran out of time, if one looks ahead: what a robot saw after it is not
there, and neither the state before it nor the next episode's first one stand for that.

The files have room for more times than are drawn from: what was written after a checkpoint never overwrites what the
checkpoint may draw, so that a killed training continues as if it had not been.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from tensordict import TensorDict

from pipeline.errors import TrainError
from train.files import writing

REPLAY = "replay"
"""Its folder in a run's folder."""
OBSERVED = "observed."
"""Prefix of the fields of observation groups."""
ACTION, REWARD, TERMINAL, TIME_OUT = "action", "reward", "terminal", "time_out"
CUT = "cut"
"""Field of rows that the next one doesn't follow."""
CHECKED = 4096
"""Rows whose numbers are checked at a time."""
NEWEST = "newest"
"""File with the number of rows that were ever written."""


@dataclass(frozen=True, eq=False)
class Transitions:
    """Steps (B,) of robots.

    Attributes:
        seen: Observations before the step, by group (B, ...).
        next_seen: Observations after it; where the episode ended for good, those before it again, which don't count.
        action: (B, A).
        reward: (B,).
        terminal: (B,) 1 where the episode ended for good, else 0.
    """

    seen: TensorDict
    next_seen: TensorDict
    action: torch.Tensor
    reward: torch.Tensor
    terminal: torch.Tensor

    @staticmethod
    def joined(one: Transitions, other: Transitions) -> Transitions:
        """All steps of both."""
        pairs = ((getattr(one, name), getattr(other, name)) for name in Transitions.__dataclass_fields__)
        return Transitions(*(torch.cat(pair) for pair in pairs))


def recorded(observations: TensorDict, actions: int) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
    """Type and shape, for one robot, of each field of a step but its ends; actions have that size."""
    groups = {str(name): observations[name].cpu().numpy() for name in observations.keys()}  # noqa: SIM118 - no dict
    shapes = {f"{OBSERVED}{name}": (value.dtype, value.shape[1:]) for name, value in groups.items()}
    return shapes | {ACTION: (np.dtype(np.float32), (actions,)), REWARD: (np.dtype(np.float32), ())}


class Replay:
    """Steps of N robots.

    Args:
        folder: Folder of the files, which is made; files from an earlier process are kept.
        observations: Observations of all robots, of which shapes and types are taken.
        actions: Size of an action, A.
        size: Number of times that are drawn from, T.
        slack: Largest number of times that are written between two checkpoints.

    Raises:
        TrainError: When there is no room on the disk.
    """

    def __init__(self, folder: Path, observations: TensorDict, actions: int, size: int, slack: int = 0) -> None:
        self._folder, self._size, self._room = folder, size, size + slack
        self._envs, self.written = len(observations), 0
        shapes = recorded(observations, actions) | {
            name: (np.dtype(np.uint8), ()) for name in (TERMINAL, TIME_OUT, CUT)
        }
        with writing(folder / NEWEST):
            folder.mkdir(parents=True, exist_ok=True)
            self._newest = _mapped(folder / NEWEST, np.dtype(np.int64), (1,))
            self._fields = dict[str, np.memmap]()
            for name, (kind, shape) in shapes.items():
                shape = (self._room, self._envs, *shape)
                if not _has_bytes(folder / name, kind.itemsize * int(np.prod(shape))):
                    self._newest[0] = 0
                self._fields[name] = _mapped(folder / name, kind, shape)

    @property
    def steps(self) -> int:
        """Number of steps of robots that are drawn from."""
        return self._envs * min(self.written, self._size)

    def add(
        self,
        seen: Mapping[str, torch.Tensor] | TensorDict,
        action: torch.Tensor,
        reward: torch.Tensor,
        terminal: torch.Tensor,
        time_out: torch.Tensor,
    ) -> None:
        """Add a step of all robots, the observations those before it.

        Raises:
            TrainError: When a number is not finite.
        """
        row = {f"{OBSERVED}{name}": cast(torch.Tensor, value) for name, value in seen.items()}
        row |= {ACTION: action, REWARD: reward, TERMINAL: terminal, TIME_OUT: time_out, CUT: torch.zeros_like(terminal)}
        at = self.written % self._room
        for name, field in self._fields.items():
            value = row[name].cpu().numpy()
            if field.dtype == np.float32 and not np.isfinite(value).all():
                raise TrainError(
                    "a replay holds finite numbers",
                    found=f"{name.removeprefix(OBSERVED)} with NaN or infinity at step {self.written}",
                    remedy="look for it in the task's observations and rewards, or in the demonstrations",
                )
            field[at] = value
        self.written += 1
        self._newest[0] = max(self._newest[0], self.written)

    def add_chunk(self, chunk: Mapping[str, np.ndarray]) -> None:
        """Add consecutive steps (T, N) of all robots, by field, observations (T + 1, N) with the last ones.

        What follows them in the replay need not be of the same robots: the row of the last observations is cut.
        """
        steps = len(chunk[REWARD])
        rows = np.arange(self.written, self.written + steps + 1) % self._room
        for name, field in self._fields.items():
            if name.startswith(OBSERVED):
                field[rows] = chunk[name]
            else:
                field[rows[:-1]] = 0 if name == CUT else chunk[name]
                field[rows[-1]] = name == CUT
        self.written += steps + 1
        self._newest[0] = max(self._newest[0], self.written)

    def cut(self) -> None:
        """Never draw the newest row: what follows will be of other robots."""
        if self.written:
            self._fields[CUT][(self.written - 1) % self._room] = 1

    def sample(self, count: int, device: str = "cpu", *, ahead: bool = True) -> Transitions:
        """Draw steps uniformly, by torch's random state; what follows them is not read unless one looks ahead.

        Some step that may be drawn must be there, see above.
        """
        newest = self.written - 1
        # what follows the newest step is known only if its episode ended there
        ended = self._fields[TERMINAL][newest % self._room] | self._fields[TIME_OUT][newest % self._room]
        first, last = max(0, self.written - self._size), self.written if ended.all() else newest
        drawn = torch.randint((last - first) * self._envs, (count,)).numpy()

        def place() -> tuple[np.ndarray, np.ndarray]:
            return (first + drawn // self._envs) % self._room, drawn % self._envs

        while (alone := (self._fields[CUT][place()] | (self._fields[TIME_OUT][place()] * ahead)).astype(bool)).any():
            drawn[alone] = torch.randint((last - first) * self._envs, (int(alone.sum()),)).numpy()
        here, env = at = place()
        after = (np.where(self._fields[TERMINAL][at], here, (here + 1) % self._room), env)

        def groups(where: tuple[np.ndarray, np.ndarray]) -> TensorDict:
            found = {
                name.removeprefix(OBSERVED): torch.from_numpy(field[where])
                for name, field in self._fields.items()
                if name.startswith(OBSERVED)
            }
            return TensorDict(found, batch_size=[count]).to(device)

        numbers = (torch.from_numpy(self._fields[name][at]).float().to(device) for name in (ACTION, REWARD, TERMINAL))
        seen = groups(at)
        return Transitions(seen, groups(after) if ahead else seen, *numbers)

    def flush(self) -> None:
        """Write to the disk, before a checkpoint that relies on it."""
        with writing(self._folder / NEWEST):
            for field in (*self._fields.values(), self._newest):
                field.flush()

    def resume(self, written: int) -> None:
        """Continue as it was when so many rows had been written.

        Raises:
            TrainError: When its files are missing, are those of another training, or hold NaN.
        """
        newest = int(self._newest[0])
        if written > newest:
            raise TrainError(
                "a run is resumed with its replay",
                found=f"{newest} of {written} rows in {str(self._folder)!r}",
                remedy="put that folder back, or train again under another --name",
            )
        first = max(0, written - self._size)
        if newest - self._room > first:
            raise TrainError(
                "a replay still has what a checkpoint learned from",
                found=f"{newest} rows written, {self._room} kept, and a checkpoint at row {written}",
                remedy="resume from a newer checkpoint, or train again under another --name",
            )
        for name, field in self._fields.items():
            for start in range(first, written if field.dtype == np.float32 else first, CHECKED):
                rows = np.arange(start, min(start + CHECKED, written)) % self._room
                if not np.isfinite(np.asarray(field[rows])).all():
                    raise TrainError(
                        "a replay holds finite numbers",
                        found=f"NaN or infinity in {str(self._folder / name)!r}",
                        remedy="the file is damaged: train again under another --name",
                    )
        self.written = written


def _mapped(path: Path, kind: np.dtype, shape: tuple[int, ...]) -> np.memmap:
    """A file as an array; one of another size is replaced by zeros."""
    size = kind.itemsize * int(np.prod(shape))
    if not _has_bytes(path, size):
        path.unlink(missing_ok=True)
        with path.open("xb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)  # a full disk is an error now, not a fault at a later write
            file.truncate(size)
    return np.memmap(path, kind, "r+", shape=shape)


def _has_bytes(path: Path, size: int) -> bool:
    """Whether it is a file of that size, and no link to one."""
    return path.is_file() and not path.is_symlink() and path.stat().st_size == size
