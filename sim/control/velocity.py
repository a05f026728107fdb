"""Actions that are a forward speed and a yaw rate."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pipeline.types import F32, I64
from sim.control.controller import Controller, Move
from sim.control.state import Velocities

FORWARD_AND_TURN: tuple[Move, ...] = ("forward", "turn")


class VelocityController(Controller):
    """An action is (forward speed, yaw rate)."""

    size = 2
    moves = FORWARD_AND_TURN
    velocities: Velocities  # pyright: ignore[reportIncompatibleVariableOverride]

    def steer(self, asked: Mapping[Move, float], limit: float, view: float, *, shut: bool) -> F32:
        """The action (2,) for what a person asks for: keys of an end effector drive as those of wheels do."""
        both = asked["forward"] + asked["ahead"], asked["turn"] + asked["left"]
        ahead, left = (min(max(share, -limit), limit) for share in both)
        return self.velocities.steered(ahead, left)

    def mirrored(self, name: str) -> tuple[I64, F32] | None:
        """Order and signs of an observation in the mirror image: forward stays, left is right."""
        return (np.arange(2), np.array([1, -1], np.float32)) if name == "action" else None
