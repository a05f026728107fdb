"""Parameters of the regions stage."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from pipeline.parameters import Label
from pipeline.stage import Choice, Traits

MAX_AREAS, MAX_CORNERS = 1000, 1000


@dataclass(frozen=True)
class Area:
    """A named part of the floor, seen from above: what lies in the polygon and has the colour.

    Attributes:
        name: For people.
        polygon: Corners (x, y) [m, world frame] in order, at least three; empty for the whole floor.
        color: Of the floor as the mesh shows it, "#rrggbb"; None for any.
        friction: Factor of what robots have elsewhere.
        cost: Of being there, for tasks that avoid it; 0 elsewhere.
    """

    name: Label
    polygon: tuple[tuple[float, float], ...] = ()
    color: Label | None = None
    friction: float = 1.0
    cost: float = 0.0

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("an area needs a name")
        if not self.polygon and self.color is None:
            raise ValueError(f"area {self.name!r} needs a polygon or a color")
        if self.polygon and not 3 <= len(self.polygon) <= MAX_CORNERS:
            raise ValueError(f"area {self.name!r} needs 3 to {MAX_CORNERS} corners, got {len(self.polygon)}")
        if not all(math.isfinite(value) for corner in self.polygon for value in corner):
            raise ValueError(f"the corners of area {self.name!r} must be finite, got {self.polygon}")
        if self.color is not None and not re.fullmatch("#[0-9a-fA-F]{6}", self.color):
            raise ValueError(f"the color of area {self.name!r} must be as '#f2cc1a', got {self.color!r}")
        if not 0 <= self.friction <= 10:
            raise ValueError(f"the friction of area {self.name!r} must be a factor of 0 to 10, got {self.friction}")
        if not 0 <= self.cost < math.inf:
            raise ValueError(f"the cost of area {self.name!r} must be 0 or more, got {self.cost}")

    @property
    def rgb(self) -> tuple[int, int, int] | None:
        """The colour, sRGB 0..255."""
        if self.color is None:
            return None
        red, green, blue = bytes.fromhex(self.color[1:])
        return red, green, blue


@dataclass(frozen=True)
class RegionsParams:
    """Which robot the walkable floor is for, and how many places are proposed on it.

    Attributes:
        cell: Edge of a cell of the floor grid [m].
        radius: Of the robot's footprint [m].
        height: Of the robot; what hangs lower is an obstacle [m].
        max_step: Highest step that a legged robot climbs [m].
        max_drive_step: Highest edge that a wheeled robot drives over [m]; spawn poses and goals keep to such floor.
        spawn_poses: How many.
        goals: How many.
        areas: Parts of the floor with a friction and a cost of their own; where they overlap, the last holds.
    """

    cell: float = 0.05
    radius: float = 0.25
    height: float = 0.5
    max_step: float = 0.2
    max_drive_step: float = 0.04
    spawn_poses: int = 8
    goals: int = 8
    areas: tuple[Area, ...] = ()

    def __post_init__(self) -> None:
        if not 0.01 <= self.cell <= 0.5:
            raise ValueError(f"regions.cell must be 0.01 to 0.5 m, got {self.cell}")
        if min(self.radius, self.height) <= 0:
            raise ValueError(f"regions.radius and regions.height must be positive, got {self}")
        if not 0 < self.max_drive_step <= self.max_step < self.height:
            raise ValueError(f"regions need 0 < max_drive_step <= max_step < height, got {self}")
        if self.spawn_poses < 1 or self.goals < 0:
            raise ValueError(f"regions need at least one spawn pose and no negative count, got {self}")
        names = [area.name for area in self.areas]
        if len(names) > MAX_AREAS or len(set(names)) < len(names):
            raise ValueError(f"regions take at most {MAX_AREAS} areas, each with a name of its own, got {len(names)}")


def choose(_traits: Traits, _params: RegionsParams) -> Choice:
    """There is one way."""
    return Choice("cpu", "the only one")
