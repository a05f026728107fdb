"""What drawn rooms have in common, and what a room is called."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.rooms.paints import Palette

GENERATOR = 1
"""Version of the generator: the next one draws other rooms of the same seeds."""
LAST_SEED = 999_999
"""Names have six digits."""
Feature = Literal["table", "stairs"]
"""What all rooms of a run may be asked to have: a table with room for an arm, or stairs."""


@dataclass(frozen=True, eq=False)
class Recipe:
    """How all rooms of a run are made.

    Attributes:
        scanned: How much they look like scans at most, 0..1; 0 is clean.
        palette: Colours of a real place that they take over.
        like: The bundle that has these, "name@version", or "".
        licence: Of the rooms.
        feature: What each has.
    """

    scanned: float = 0.5
    palette: Palette | None = None
    like: str = ""
    licence: str = "CC0-1.0"
    feature: Feature | None = None

    def key(self, seed: int) -> str:
        """Hash of all that a room's bundle depends on."""
        content: list[object] = [GENERATOR, seed, self.scanned, self.like, self.licence]
        if self.palette is not None:
            content += [np.asarray(value).tolist() for value in vars(self.palette).values()]
        if self.feature:  # other rooms keep their keys of before
            content.append(self.feature)
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:20]


def name_of(seed: int) -> str:
    """The name of a seed's room."""
    return f"room-{seed:06d}"
