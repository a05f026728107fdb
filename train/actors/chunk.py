"""Chunks of steps that actors send, and what they must be like before anything is learned from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

import numpy as np
from tensordict import TensorDict

from pipeline.types import F64
from sim.episodes import INVALID, TIME
from sim.tasks.task import Task
from train.environment import DoneInfo
from train.recording.replay import ACTION, OBSERVED, REWARD, TERMINAL, TIME_OUT, recorded

RANGE = 1 + 1e-4
"""Largest number of an action."""


class Weights(TypedDict):
    """A policy, as actors get it: its number, counted by the learner, and its networks' arrays by name."""

    version: int
    arrays: dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Order:
    """What an actor is asked for besides the policy.

    Attributes:
        random: Whether it acts at random instead.
        scene_weights: Relative frequencies of the scenes in new episodes (S,).
    """

    random: bool
    scene_weights: F64


@dataclass(frozen=True, eq=False)
class Chunk:
    """Consecutive steps of all robots of an actor.

    Attributes:
        incarnation: Drawn by each process of an actor when it starts.
        number: How many chunks that process had sent before.
        version: Number of the policy that acted.
        fields: Steps (T, N, ...) by field of the replay, observations (T + 1, N, ...) with those after the last step.
        done: Episodes that ended.
    """

    incarnation: int
    number: int
    version: int
    fields: Mapping[str, np.ndarray]
    done: DoneInfo


@dataclass(frozen=True)
class Form:
    """What chunks of a training have in common.

    Attributes:
        fields: Type and shape of each field.
        scenes: Number of scenes.
        reasons: What may end an episode.
        outcomes: Further outcomes of episodes.
        rewards: Names of the task's rewards.
    """

    fields: Mapping[str, tuple[np.dtype, tuple[int, ...]]]
    scenes: int
    reasons: frozenset[str]
    outcomes: frozenset[str]
    rewards: frozenset[str]

    @staticmethod
    def of(seen: TensorDict, actions: int, steps: int, envs: int, task: Task, scenes: int) -> Form:
        """That of chunks of so many steps of robots with such observations (any, ...) and actions of that size."""
        fields = {
            name: (kind, (steps + name.startswith(OBSERVED), envs, *shape))
            for name, (kind, shape) in recorded(seen, actions).items()
        }
        fields |= {name: (np.dtype(np.bool_), (steps, envs)) for name in (TERMINAL, TIME_OUT)}
        reasons = frozenset({*task.terminations, TIME, INVALID})
        return Form(fields, scenes, reasons, frozenset(task.outcomes), frozenset(task.rewards))

    @property
    def steps(self) -> int:
        """Steps of robots in a chunk."""
        return int(np.prod(self.fields[REWARD][1]))

    @property
    def bytes(self) -> int:
        """Size of a chunk's fields."""
        return sum(kind.itemsize * int(np.prod(shape)) for kind, shape in self.fields.values())

    def fault(self, chunk: object) -> str:
        """What is wrong with what an actor sent; empty if it is a chunk that may be learned from."""
        if not isinstance(chunk, Chunk) or not isinstance(chunk.fields, dict) or not isinstance(chunk.done, DoneInfo):
            return f"a {type(chunk).__name__} that is no chunk"
        if not all(type(number) is int for number in (chunk.incarnation, chunk.number, chunk.version)):
            return "its numbers are no integers"
        if chunk.fields.keys() != self.fields.keys():
            return f"fields {', '.join(sorted(map(str, chunk.fields)))[:200]}"
        for name, (kind, shape) in self.fields.items():
            if wrong := _wrong_array(chunk.fields[name], kind, shape):
                return f"{name.removeprefix(OBSERVED)} {wrong}"
        if np.abs(chunk.fields[ACTION]).max() > RANGE:
            return f"an action of {np.abs(chunk.fields[ACTION]).max():.3g}"
        if (chunk.fields[TERMINAL] & chunk.fields[TIME_OUT]).any():
            return "steps that end both for good and by a time limit"
        return self._fault_of_episodes(chunk.done, int((chunk.fields[TERMINAL] | chunk.fields[TIME_OUT]).sum()))

    def _fault_of_episodes(self, done: DoneInfo, count: int) -> str:
        columns = {
            "scene": (done.scene, np.int64),
            "success": (done.success, np.bool_),
            "reward": (done.reward, np.float32),
            "steps": (done.steps, np.int64),
        }
        if not isinstance(done.outcomes, dict) or not self.outcomes.issuperset(done.outcomes):
            return "outcomes of episodes that the task doesn't have"
        if not isinstance(done.rewards, dict) or not self.rewards.issuperset(done.rewards):
            return "rewards of episodes that the task doesn't have"
        columns |= {name: (values, np.bool_) for name, values in done.outcomes.items()}
        columns |= {f"reward {name}": (values, np.float32) for name, values in done.rewards.items()}
        for name, (values, kind) in columns.items():
            if wrong := _wrong_array(values, np.dtype(kind), (count,)):
                return f"{name} of episodes {wrong}"
        if count and not 0 <= done.scene.min() <= done.scene.max() < self.scenes:
            return "episodes in scenes that are not trained in"
        if not isinstance(done.ended_by, list) or len(done.ended_by) != count:
            return f"{count} episodes that ended, but not as many reasons"
        if not all(isinstance(reason, str) and reason in self.reasons for reason in done.ended_by):
            return "episodes that ended by what the task doesn't know"
        return ""


def _wrong_array(values: object, kind: np.dtype, shape: Sequence[int]) -> str:
    """How it differs from a finite array of that type and shape; empty if it doesn't."""
    if not isinstance(values, np.ndarray):
        return f"is a {type(values).__name__}"
    if values.dtype != kind or values.shape != tuple(shape):
        return f"is {values.dtype} {values.shape} instead of {kind} {tuple(shape)}"
    if kind.kind == "f" and not np.isfinite(values).all():
        return "with NaN or infinity"
    return ""


@dataclass
class Counts:
    """What became of chunks and actors since training began.

    Attributes:
        taken: Chunks that were learned from.
        stale: Chunks whose policy was too old.
        repeated: Chunks that had come before.
        refused: Chunks that broke a rule.
        replaced: Processes of actors that ended, or were ended.
    """

    taken: int = 0
    stale: int = 0
    repeated: int = 0
    refused: int = 0
    replaced: int = 0


@dataclass
class Sender:
    """What is known of the process of one actor.

    Attributes:
        incarnation: Of its last chunk; None before the first.
        number: Of its last chunk.
        former: Those of processes that it had before: nothing more of them is learned from.
    """

    incarnation: int | None = None
    number: int = -1
    former: set[int] = field(default_factory=set)

    def is_new(self, chunk: Chunk) -> bool:
        """Whether a chunk hasn't come before, nor is of a process that had been followed by another one."""
        if chunk.incarnation in self.former:
            return False
        return chunk.incarnation != self.incarnation or chunk.number > self.number

    def note(self, chunk: Chunk) -> bool:
        """Remember a new chunk; returns whether its process followed another one."""
        follows = self.incarnation not in (None, chunk.incarnation)
        if follows:
            self.forget()
        self.incarnation, self.number = chunk.incarnation, chunk.number
        return follows

    def forget(self) -> None:
        """The process has ended."""
        if self.incarnation is not None:
            self.former.add(self.incarnation)
        self.incarnation, self.number = None, -1
