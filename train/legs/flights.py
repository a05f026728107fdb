"""How robots get over staircases that were drawn, each of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pipeline.types import F32, Mask
from sim.env import Observations, SceneEnv
from sim.scene.terrain import Flight


@dataclass(frozen=True, eq=False)
class FlightResult:
    """Walking over N staircases.

    Attributes:
        flights: The staircases.
        over: (N,) whether the robot got to the end.
        fell: (N,) whether it fell.
    """

    flights: tuple[Flight, ...]
    over: Mask
    fell: Mask

    def of(self, those: Callable[[Flight], bool]) -> FlightResult:
        """The staircases of which something is true."""
        rows = np.array([those(flight) for flight in self.flights], bool)
        return FlightResult(tuple(np.array(self.flights, object)[rows]), self.over[rows], self.fell[rows])


def walk_flights(env: SceneEnv, policy: Callable[[Observations], F32], seed: int = 0) -> FlightResult:
    """Let each robot of an environment of `flights` walk over a staircase; as long as there are enough, of its own."""
    seen, _ = env.reset(seed=seed)
    flights = env.scenario.flights()  # type: ignore[attr-defined]
    running, over, fell = (np.full(env.num_envs, value) for value in (True, False, False))
    while running.any():
        seen, _, terminated, truncated, info = env.step(policy(seen))
        ended = (terminated | truncated) & running
        over |= ended & info.get("final_success", ~running)
        fell |= ended & info["ended_by_fall"]
        running &= ~ended
    return FlightResult(flights, over, fell)
