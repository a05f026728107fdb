"""Actors without processes: what they send is recorded, and their clock is the test's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from train.actors.chunk import Chunk, Form, Order, Weights
from train.actors.pool import ActorLostError
from train.environment import DoneInfo
from train.recording.replay import ACTION, OBSERVED, REWARD, TERMINAL, TIME_OUT

STEPS, ENVS = 4, 3
TYPES: dict[str, tuple[Any, tuple[int, ...]]] = {
    f"{OBSERVED}state": (np.dtype(np.float32), (STEPS + 1, ENVS, 2)),
    f"{OBSERVED}rgb": (np.dtype(np.uint8), (STEPS + 1, ENVS, 3, 4, 5)),
    ACTION: (np.dtype(np.float32), (STEPS, ENVS, 1)),
    REWARD: (np.dtype(np.float32), (STEPS, ENVS)),
    TERMINAL: (np.dtype(np.bool_), (STEPS, ENVS)),
    TIME_OUT: (np.dtype(np.bool_), (STEPS, ENVS)),
}
FORM = Form(TYPES, 2, frozenset({"arrived", "time"}), frozenset({"touched"}), frozenset({"way"}))


def chunk(incarnation: int = 7, number: int = 0, version: int = 0, form: Form = FORM) -> Chunk:
    """One in which one episode ended, whose states name number, time and robot."""
    fields = {name: np.zeros(shape, kind) for name, (kind, shape) in form.fields.items()}
    state = fields[f"{OBSERVED}state"]
    state[..., 0] = 100 * number + np.arange(len(state))[:, None]
    state[..., 1] = np.arange(state.shape[1])
    fields[TERMINAL][1, 2] = True
    one = np.ones(1, np.int64)
    done = DoneInfo(
        2 * one,
        one,
        one > 0,
        ["arrived"],
        one.astype(np.float32),
        one,
        {"touched": one > 0},
        {"way": one.astype(np.float32)},
    )
    return Chunk(incarnation, number, version, fields, done)


def changed(of: Chunk, field: str, value: np.ndarray | None = None, **others: Any) -> Chunk:
    """One with another field."""
    fields = {**of.fields, field: value} if value is not None else dict(of.fields)
    return dataclasses.replace(of, fields=fields, **others)


class Simulated:
    """N actors, which take so many seconds for a chunk, one after another.

    Attributes:
        now: Its clock [s].
        send: Makes what the actor of that index sends, of the chunk that it should; may raise.
        started: How often each index was started.
        largest: Most calls that were in flight, of all actors and of one.
    """

    def __init__(self, seconds: float = 1.0, make: Callable[[int, int, int], Chunk] = chunk) -> None:
        self.now, self._seconds, self._make = 0.0, seconds, make
        self.send: Callable[[int, Chunk], object] = lambda _, made: made
        self.silent: set[int] = set()
        self.started: dict[int, int] = {}
        self.largest = [0, 0]
        self.orders: list[Order] = []
        self._free: dict[int, float] = {}
        self._calls: dict[int, tuple[int, float, int]] = {}
        self._sent: dict[int, int] = {}
        self._of: dict[int, int] = {}

    def start(self, index: int) -> int:
        """Returns the number of the process."""
        self.started[index] = self.started.get(index, 0) + 1
        actor = len(self._of)
        self._of[actor], self._free[actor], self._sent[actor] = index, self.now, 0
        return actor

    def share(self, weights: Weights) -> object:
        """Its version is all that counts."""
        return weights["version"]

    def ask(self, actor: int, weights: object, order: Order) -> int:
        """Done when all that was asked before is."""
        assert isinstance(weights, int)
        self.orders.append(order)
        self._free[actor] = max(self._free[actor], self.now) + self._seconds
        ready = float("inf") if self._of[actor] in self.silent else self._free[actor]
        call = len(self.orders)
        self._calls[call] = actor, ready, weights
        own = sum(other == actor for other, _, _ in self._calls.values())
        self.largest = [max(self.largest[0], len(self._calls)), max(self.largest[1], own)]
        return call

    def wait(self, calls: Sequence[int], seconds: float) -> list[int]:
        """Time passes until one is done."""
        first = min((self._calls[call][1] for call in calls), default=float("inf"))
        self.now = max(self.now, min(first, self.now + seconds))
        return [call for call in calls if self._calls[call][1] <= self.now]

    def fetch(self, call: int) -> object:
        """What `send` makes of it."""
        actor, _, version = self._calls.pop(call)
        made = self._make(actor, self._sent[actor], version)
        self._sent[actor] += 1
        return self.send(self._of[actor], made)

    def kill(self, actor: int) -> None:
        """Its calls are never answered."""
        self._calls = {call: of for call, of in self._calls.items() if of[0] != actor}


def lost(*_: object) -> object:
    """What an actor does that fails."""
    raise ActorLostError("it ran out of memory")
