"""How a learning rate goes on as training does."""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["constant", "linear", "cosine", "exponential"]
LAST = 0.03
"""What is left of a rate that falls exponentially, as a fraction of the first one."""


def scheduled(schedule: Schedule, first: float, progress: float) -> float:
    """The learning rate after a share of training, 0..1, that begins with the first one."""
    done = min(max(progress, 0.0), 1.0)
    match schedule:
        case "constant":
            return first
        case "linear":
            return first * (1 - done)
        case "cosine":
            return first * (1 + math.cos(math.pi * done)) / 2
        case "exponential":
            return first * LAST**done
