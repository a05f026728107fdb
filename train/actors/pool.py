"""Chunks from many actors, one after another: calls in flight, replacements, what is dropped and counted."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from pipeline.errors import TrainError
from train.actors.chunk import Chunk, Counts, Form, Order, Sender, Weights
from train.preset import ActorSettings

logger = logging.getLogger(__name__)

IN_FLIGHT = 2
"""Calls of each actor that are not collected yet: one is computed while the result of another waits or travels. An
actor that is ahead of the learner stops there, so no more chunks than these are in memory."""
POLL_SECONDS = 1.0
LONGEST_PAUSE = 60.0
"""Longest time before an actor that fails again and again is started again [s]."""

Call = Any
"""A result that is waited for; hashable."""
Handle = Any
"""An actor."""


class ActorLostError(Exception):
    """Raised by `Actors.fetch` when an actor has failed or is gone; says why."""


class Actors(Protocol):
    """How actors are started and asked: by Ray, or simulated in tests."""

    def start(self, index: int) -> Handle:
        """Start an actor; returns at once."""
        ...

    def share(self, weights: Weights) -> object:
        """Make weights available to all actors."""
        ...

    def ask(self, actor: Handle, weights: object, order: Order) -> Call:
        """Ask an actor for a chunk; returns at once."""
        ...

    def wait(self, calls: Sequence[Call], seconds: float) -> list[Call]:
        """Calls that are done, or have failed, in their order; waits so long for the first one."""
        ...

    def fetch(self, call: Call) -> object:
        """The result of a call that is done.

        Raises:
            ActorLostError: When it failed.
        """
        ...

    def kill(self, actor: Handle) -> None:
        """End an actor, if it is still there."""
        ...


@dataclass(eq=False)
class _Slot:
    """One of the actors, and its successors.

    Attributes:
        index: Number of the actor.
        actor: None until it is started.
        calls: Calls in flight with the version of their policy, the oldest first.
        heard: When it was last known to be well, or was started [s].
        failures: How often it has failed since its last chunk.
        resumes: When it may be started again [s].
    """

    index: int
    actor: Handle | None = None
    calls: dict[Call, int] = field(default_factory=dict)
    sender: Sender = field(default_factory=Sender)
    heard: float = 0.0
    failures: int = 0
    resumes: float = 0.0


class Pool:
    """A number of actors that are kept at work.

    Args:
        actors: How they are started and asked.
        count: Their number.
        form: What chunks must be like.
        settings: When an actor is given up, and a chunk too old.
        counts: What happened before, of a resumed training.
        clock: Seconds that pass.

    Attributes:
        counts: What became of chunks and actors.
    """

    def __init__(
        self,
        actors: Actors,
        count: int,
        form: Form,
        settings: ActorSettings,
        counts: Counts | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._actors, self._form, self._settings, self._clock = actors, form, settings, clock
        self._slots = [_Slot(index) for index in range(count)]
        self.counts = counts or Counts()
        self._limit = settings.max_staleness * count
        self._failures, self._ages = 0, list[int]()
        self._shared: tuple[int, object] = -1, None

    def publish(self, weights: Weights) -> None:
        """From now on actors are asked to act by this policy."""
        self._shared = weights["version"], self._actors.share(weights)

    def take(self, order: Callable[[], Order]) -> Chunk:
        """The next chunk to learn from, of the oldest call that is done; meanwhile all actors are kept at work.

        `order` is called for each chunk that is asked for.

        Raises:
            TrainError: When actors fail one after another and none sends anything.
        """
        while True:
            self._keep_at_work(order)
            for slot, call in self._done():
                if chunk := self._received(slot, call):
                    return chunk
                break  # its actor may have been replaced, and other calls with it

    def metrics(self) -> dict[str, float]:
        """For the curve: actors that have sent something and are well, age of the policies [iterations], counts."""
        alive = sum(slot.sender.incarnation is not None for slot in self._slots)
        age = sum(self._ages) / max(1, len(self._ages))
        self._ages.clear()
        named = {name: float(number) for name, number in asdict(self.counts).items()}
        found = {"count": float(len(self._slots)), "alive": float(alive), "staleness": age} | named
        return {f"actors/{name}": number for name, number in found.items()}

    def _keep_at_work(self, order: Callable[[], Order]) -> None:
        """Start the actors that are missing, and ask all for as many chunks as may be in flight."""
        version, weights = self._shared
        now = self._clock()
        for slot in self._slots:
            if slot.actor is None and now >= slot.resumes:
                slot.actor, slot.heard = self._actors.start(slot.index), now
            while slot.actor is not None and len(slot.calls) < IN_FLIGHT:
                slot.calls[self._actors.ask(slot.actor, weights, order())] = version

    def _done(self) -> list[tuple[_Slot, Call]]:
        """Calls that are done, the oldest policy first; silent actors are replaced."""
        slots = {call: slot for slot in self._slots for call in slot.calls}
        calls = sorted(slots, key=lambda call: slots[call].calls[call])
        ready = self._actors.wait(calls, POLL_SECONDS)
        now = self._clock()
        for call in ready:
            slots[call].heard = now
        silent = self._settings.silent_seconds
        for slot in self._slots:
            if slot.actor is not None and now - slot.heard > silent:
                self._replace(slot, f"nothing for {silent:g} s")
        return [(slots[call], call) for call in ready]

    def _received(self, slot: _Slot, call: Call) -> Chunk | None:
        """What a call brought; None if it isn't to be learned from."""
        version = slot.calls.pop(call)
        try:
            chunk = self._actors.fetch(call)
        except ActorLostError as error:
            self._replace(slot, str(error))
            return None
        fault = self._form.fault(chunk)
        if not fault and isinstance(chunk, Chunk) and chunk.version != version:
            fault = f"a chunk by policy {chunk.version}, asked for {version}"
        if fault or not isinstance(chunk, Chunk):
            self.counts.refused += 1
            self._replace(slot, fault)
            return None
        self._failures = slot.failures = 0
        if not slot.sender.is_new(chunk):
            self.counts.repeated += 1
            return None
        self.counts.replaced += slot.sender.note(chunk)
        age = self._shared[0] - version
        if age > self._limit:
            self.counts.stale += 1
            return None
        self._ages.append(age)
        self.counts.taken += 1
        return chunk

    def _replace(self, slot: _Slot, why: str) -> None:
        """End an actor; another one is started in its place after a pause that grows with each failure.

        Raises:
            TrainError: When too many have failed one after another.
        """
        if slot.actor is not None:
            self._actors.kill(slot.actor)
        slot.actor = None
        slot.calls.clear()
        slot.sender.forget()
        self.counts.replaced += 1
        self._failures += 1
        slot.failures += 1
        slot.resumes = self._clock() + (min(2.0 ** (slot.failures - 2), LONGEST_PAUSE) if slot.failures > 1 else 0)
        logger.warning("actor %d is replaced: %s", slot.index, why)
        if self._failures > self._settings.max_replacements * len(self._slots):
            raise TrainError(
                "actors send steps to learn from",
                found=f"{self._failures} were replaced one after another, the last one for: {why}",
                remedy="mend that on the machines of the actors, then continue with splatyard train --resume RUN; "
                "--set actors.silent_seconds=... of a new run gives slow ones more time",
            )
