"""What every sensor of N robots does: a camera, and a vector such as odometry, joints, contacts or a height scan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium
import numpy as np

from pipeline.types import F32, F64, I64, Floats
from sim.robots.state import RobotState
from sim.saved import Saved
from sim.sensors.cameras.props import Props

Readings = dict[str, np.ndarray]
"""Readings of all N environments, by name."""


@dataclass(frozen=True, eq=False)
class Moment:
    """What the sensors of N robots are exposed to at one time.

    Attributes:
        scene_of: Scenes (N,) of the robots.
        props: What is there beside the scenes' surfaces.
        seconds: Time since the episodes began (N,) [s].
        step: The state that a task's terms read.
    """

    state: RobotState
    scene_of: I64
    props: Props
    seconds: F64
    step: Any


class Sensor(Protocol):
    """A sensor on each of N robots. What it reads may be late, rare and noisy; its ground truth is none of these."""

    def spaces(self) -> Mapping[str, gymnasium.spaces.Box]:
        """Spaces of one robot's readings, by name."""
        ...

    def reset(self, envs: I64, rng: np.random.Generator) -> None:
        """Begin episodes in environments (M,)."""
        ...

    def due(self, seconds: Floats, rng: np.random.Generator) -> I64:
        """Environments (M,) that measure at times (N,) since their episodes began [s]; schedules the next time."""
        ...

    def read(self, now: Moment, rng: np.random.Generator) -> Mapping[str, np.ndarray]:
        """The last readings that have arrived, by the names of `spaces`, each with N rows."""
        ...

    def read_ground_truth(self, now: Moment) -> Mapping[str, np.ndarray]:
        """What is true now, by the names of `spaces`, each with N rows."""
        ...

    def arrays(self) -> Mapping[str, np.ndarray]:
        """Its state, by name: arrays with a row per environment."""
        ...

    def set_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take over what `arrays` returned."""
        ...


class VectorSensor(Saved):
    """Measures a vector in every step, with noise of a standard deviation in the vector's own units.

    `function` computes the truth (N, size) from the state that a task's terms read.
    """

    def __init__(self, name: str, function: Callable[[Any], F32], size: int, noise: float = 0.0) -> None:
        self.name, self.noise = name, noise
        self._function, self._size = function, size

    def spaces(self) -> dict[str, gymnasium.spaces.Box]:
        """Without bounds."""
        return {self.name: gymnasium.spaces.Box(-np.inf, np.inf, (self._size,), np.float32)}

    def reset(self, envs: I64, rng: np.random.Generator) -> None:
        """There is nothing to draw for an episode."""

    def due(self, seconds: Floats, rng: np.random.Generator) -> I64:
        """All environments."""
        return np.arange(len(seconds))

    def read(self, now: Moment, rng: np.random.Generator) -> dict[str, F32]:
        """The vector (N, size) with noise."""
        return self.noisy(self.read_ground_truth(now), rng)

    def noisy(self, truth: dict[str, F32], rng: np.random.Generator) -> dict[str, F32]:
        """What is read where something is true."""
        if not self.noise:
            return truth
        true = truth[self.name]
        noise: F32 = np.float32(self.noise) * rng.standard_normal(true.shape, np.float32)
        return {self.name: true + noise}

    def read_ground_truth(self, now: Moment) -> dict[str, F32]:
        """The vector (N, size) without noise."""
        return {self.name: self._function(now.step)}


class Sensors:
    """All sensors of N robots, in the order in which they draw random numbers."""

    def __init__(self, cameras: Sequence[Sensor], vectors: Sequence[VectorSensor]) -> None:
        self._all: tuple[Sensor, ...] = (*cameras, *vectors)
        self._cameras, self._vectors = cameras, vectors

    def spaces(self) -> dict[str, gymnasium.Space]:
        """Spaces of one robot's readings, by name."""
        return {name: space for sensor in self._all for name, space in sensor.spaces().items()}

    def reset(self, envs: I64, rng: np.random.Generator) -> None:
        """Begin episodes in environments (M,)."""
        for sensor in self._all:
            sensor.reset(envs, rng)

    def read(self, now: Moment, rng: np.random.Generator) -> tuple[Readings, Readings]:
        """What all read, by name, each with N rows; and what is true of the vectors among it that have noise."""
        read, true = {name: values for camera in self._cameras for name, values in camera.read(now, rng).items()}, {}
        for sensor in self._vectors:  # the truth is computed once
            values = sensor.read_ground_truth(now)
            read |= sensor.noisy(values, rng)
            true |= values if sensor.noise else {}
        return read, true
