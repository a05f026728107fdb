"""A simulation of many scenes on many workers, with the measured costs of real builds."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import simpy


@dataclass(frozen=True)
class StageCost:
    """Cost of one stage of a measured build.

    Attributes:
        name: The stage.
        cpu_seconds: Of all its threads [s].
        read: What it was made from [bytes].
        written: Its result [bytes].
    """

    name: str
    cpu_seconds: float
    read: int
    written: int


@dataclass(frozen=True)
class SceneCost:
    """Cost of a measured build, in stage order."""

    name: str
    stages: tuple[StageCost, ...]

    @property
    def cpu_seconds(self) -> float:
        """Total over all stages [s]."""
        return sum(stage.cpu_seconds for stage in self.stages)

    @property
    def moved(self) -> int:
        """Traffic to and from the shared folder [bytes]."""
        return sum(stage.written + stage.read for stage in self.stages)


@dataclass(frozen=True)
class Load:
    """The work to do.

    Attributes:
        scenes: How many; each is like one of the measured ones, drawn at random.
        per_day: Mean number that arrives a day, at random times; None: all are there at once.
        spread: Standard deviation of the logarithm of a stage's time, beyond the difference of the measured scenes.
        scenes_per_training: A policy is trained each time this many scenes are built; None: never.
        training_seconds: What that takes on a GPU [s].
    """

    scenes: int
    per_day: float | None = None
    spread: float = 0.3
    scenes_per_training: int | None = None
    training_seconds: float = 3600.0


@dataclass(frozen=True)
class Yard:
    """The machines.

    Attributes:
        cores: CPU workers; each takes one scene through its stages on one core.
        gpus: GPU workers, for policies; builds use none.
        bandwidth: Of the shared folder, all workers together [bytes/s].
        overhead: Of Prefect, each stage [s].
        failure_hours: Mean working time of a CPU worker until it is lost [h].
        notice_seconds: Until a lost worker's scene can be given to another [s].
        repair_seconds: Until a worker is replaced [s].
    """

    cores: int
    gpus: int = 0
    bandwidth: float = 1e9
    overhead: float = 0.15
    failure_hours: float = 24.0
    notice_seconds: float = 90.0
    repair_seconds: float = 300.0


@dataclass(frozen=True)
class Outcome:
    """The outcome.

    Attributes:
        hours: Until the last scene and the last policy were done [h].
        busy: Share of that time for which CPU workers, GPU workers and the shared folder were at work.
        waited: Time from a scene's arrival to its first stage: median and 95 % [h].
        took: Time from a scene's arrival to its bundle: median and 95 % [h].
        failures: Lost workers.
        lost_hours: CPU time that they took with them [h].
    """

    hours: float
    busy: dict[str, float]
    waited: tuple[float, float]
    took: tuple[float, float]
    failures: int
    lost_hours: float

    @property
    def bottleneck(self) -> str:
        """The busiest resource."""
        return max(self.busy, key=lambda name: self.busy[name])


class Queue:
    """One run of the simulation; time is in seconds.

    Raises:
        ValueError: When policies are to be trained without a GPU.
    """

    def __init__(self, measured: Sequence[SceneCost], load: Load, yard: Yard, seed: int = 0) -> None:
        if load.scenes_per_training and not yard.gpus:
            raise ValueError("policies need a GPU worker: gpus is 0")
        self.measured, self.load, self.yard = measured, load, yard
        self.random = Random(seed)
        self.env = simpy.Environment()
        self.cores = simpy.Resource(self.env, yard.cores)
        self.gpus = simpy.Resource(self.env, max(1, yard.gpus))
        self.folder = simpy.Resource(self.env, 1)  # sequential transfers are as fast as concurrent ones
        self.seconds = {"CPU": 0.0, "GPU": 0.0, "shared folder": 0.0}
        self.waited: list[float] = []
        self.took: list[float] = []
        self.failures, self.lost = 0, 0.0

    def run(self) -> Outcome:
        """Process all scenes."""
        self.env.process(self._arrivals())
        self.env.run()
        end = self.env.now
        workers = {"CPU": self.yard.cores, "GPU": max(1, self.yard.gpus), "shared folder": 1}
        busy = {name: seconds / end / workers[name] for name, seconds in self.seconds.items()}
        return Outcome(end / 3600, busy, _spread(self.waited), _spread(self.took), self.failures, self.lost / 3600)

    def _arrivals(self) -> Generator[Any, Any, None]:
        for _ in range(self.load.scenes):
            if self.load.per_day is not None:
                yield self.env.timeout(self.random.expovariate(self.load.per_day / 86400))
            scene = self.random.choice(self.measured)
            self.env.process(self._build(scene))

    def _build(self, scene: SceneCost) -> Generator[Any, Any, None]:
        arrived, started, done = self.env.now, None, 0
        while done < len(scene.stages):
            worker = self.cores.request()
            yield worker
            started = self.env.now if started is None else started
            done = yield from self._stages(scene, done)
            if done == len(scene.stages):
                self.cores.release(worker)
            else:  # finished stages are kept for the next worker
                self.env.process(self._repair(worker))
                yield self.env.timeout(self.yard.notice_seconds)
        self.waited.append((started or arrived) - arrived)
        self.took.append(self.env.now - arrived)
        if self.load.scenes_per_training and len(self.took) % self.load.scenes_per_training == 0:
            yield from self._train()

    def _stages(self, scene: SceneCost, done: int) -> Generator[Any, Any, int]:
        """Run stages on one worker; returns how many are done when it finishes or is lost."""
        for stage in scene.stages[done:]:
            with self.folder.request() as turn:
                yield turn
                moving = (stage.read + stage.written) / self.yard.bandwidth
                yield self.env.timeout(moving)
                self.seconds["shared folder"] += moving
            seconds = stage.cpu_seconds * self._factor() + self.yard.overhead
            lost_in = self.random.expovariate(1 / (3600 * self.yard.failure_hours))
            yield self.env.timeout(min(seconds, lost_in))
            self.seconds["CPU"] += min(seconds, lost_in)
            if lost_in < seconds:
                self.failures += 1
                self.lost += lost_in
                return done
            done += 1
        return done

    def _repair(self, worker: Any) -> Generator[Any, Any, None]:
        yield self.env.timeout(self.yard.repair_seconds)
        self.cores.release(worker)

    def _train(self) -> Generator[Any, Any, None]:
        with self.gpus.request() as gpu:
            yield gpu
            seconds = self.load.training_seconds * self._factor()
            yield self.env.timeout(seconds)
            self.seconds["GPU"] += seconds

    def _factor(self) -> float:
        """Random factor with mean 1."""
        return math.exp(self.random.gauss(-(self.load.spread**2) / 2, self.load.spread))


def _spread(seconds: list[float]) -> tuple[float, float]:
    median, most = np.quantile(seconds, [0.5, 0.95]) / 3600
    return float(median), float(most)
