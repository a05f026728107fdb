"""When pictures are taken and when they arrive, apart from the clock of control."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.cameras.mount import Output
from sim.cameras.settings import CameraSettings, Range

Int = NDArray[np.int64]
Frames = Mapping[Output, NDArray[Any]]
SLACK = 1e-6
"""[s], so that a period of two control steps is not three by rounding."""


class CameraClock:
    """Each environment's camera with its own period, phase and latency, and the pictures that are on their way.

    Args:
        settings: Ranges to draw from.
        shapes: Of each output of a picture, and its type.
        num_envs: N.
        control_period: The time between two looks at this clock [s].
    """

    def __init__(
        self,
        settings: CameraSettings,
        shapes: Mapping[Output, tuple[tuple[int, ...], type]],
        num_envs: int,
        control_period: float,
    ) -> None:
        self._settings = settings
        under_way = int(np.ceil(settings.latency[1] / max(control_period, settings.period[0]))) + 2
        self._frames: dict[Output, NDArray[Any]] = {
            output: np.zeros((num_envs, under_way, *shape), kind) for output, (shape, kind) in shapes.items()
        }
        self._stamps = np.full((num_envs, under_way), -np.inf)
        self._next = np.zeros(num_envs, np.int64)
        self._due = np.zeros(num_envs)
        self._period, self._latency = np.zeros(num_envs), np.zeros(num_envs)

    def begin(self, envs: Int, rng: np.random.Generator) -> None:
        """New episodes in environments (M,): other cameras, nothing under way, a picture at once."""
        count = len(envs)
        self._period[envs] = _draw(self._settings.period, rng, count)
        self._latency[envs] = _draw(self._settings.latency, rng, count)
        self._stamps[envs], self._due[envs] = -np.inf, 0

    def due(self, seconds: NDArray[np.floating], rng: np.random.Generator) -> Int:
        """Whose cameras (M,) take a picture at times (N,) since their episodes began [s]; sets when they do next.

        The first interval is a random share of the period: cameras don't tick with the episode.
        """
        taken_now = self._stamps.max(1) >= seconds - SLACK
        now = np.flatnonzero((seconds >= self._due - SLACK) & ~taken_now)
        first = np.isneginf(self._stamps[now]).all(1)
        share = np.where(first, rng.random(len(now)), 1.0)
        self._due[now] = np.where(first, seconds[now], self._due[now]) + self._period[now] * share
        if self._settings.dropped:
            now = now[(rng.random(len(now)) >= self._settings.dropped) | first]
        return now

    def taken(self, envs: Int, frames: Frames, seconds: NDArray[np.floating]) -> None:
        """Pictures (M, ...) of environments (M,), taken at times (N,) [s]."""
        place = self._next[envs]
        for output, values in frames.items():
            self._frames[output][envs, place] = values
        self._stamps[envs, place] = seconds[envs]
        self._next[envs] = (place + 1) % self._stamps.shape[1]

    def arrived(self, seconds: NDArray[np.floating]) -> tuple[dict[Output, NDArray[Any]], NDArray[np.float32]]:
        """The newest picture (N, ...) that has arrived by times (N,), and its age (N,) [s].

        Until the first arrives, the first is shown all the same: a robot waits for its camera before it sets off.
        """
        there = self._stamps <= (seconds - self._latency + SLACK)[:, None]
        newest = np.where(there, self._stamps, -np.inf).argmax(1)
        none = ~(there & np.isfinite(self._stamps)).any(1)
        oldest = np.where(np.isfinite(self._stamps), self._stamps, np.inf).argmin(1)
        chosen = np.where(none, oldest, newest)
        rows = np.arange(len(chosen))
        age = (seconds - self._stamps[rows, chosen]).astype(np.float32)
        return {output: frames[rows, chosen] for output, frames in self._frames.items()}, age


def _draw(of: Range, rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    return rng.uniform(*of, count) if of[0] < of[1] else np.full(count, of[0])
