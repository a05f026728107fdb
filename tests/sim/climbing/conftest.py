"""Ground to plan on."""

from __future__ import annotations

import numpy as np

from pipeline.types import F32
from sim.climbing.surroundings import CELL

RISER, TREAD, STEPS = 0.17, 0.28, 4


def staircase(side: int = 80, first: float = 3.2, half: float = 0.6, angle: float = 0.0) -> F32:
    """Heights (side, side) of an open flight up, whose first edge is so far along x [m], turned about the middle."""
    centres = (np.arange(side) + 0.5) * CELL
    x, y = np.meshgrid(centres, centres, indexing="ij")
    middle = side * CELL / 2
    u = np.cos(angle) * (x - middle) + np.sin(angle) * (y - middle) + middle
    v = -np.sin(angle) * (x - middle) + np.cos(angle) * (y - middle)
    step = np.clip(np.floor((u - first) / TREAD) + 1, 0, STEPS)
    return np.where(np.abs(v) < half, RISER * step, 0).astype(np.float32)
