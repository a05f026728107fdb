"""Parameters of the regions stage."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from pipeline.mesh.params import WalkableParams
from pipeline.parameters import Label, Settings

MAX_AREAS, MAX_CORNERS = 1000, 1000


class Area(Settings):
    """A named part of the floor, seen from above: what lies in the polygon and has the colour."""

    name: Annotated[Label, Field(min_length=1)]
    """Name for people."""
    polygon: Annotated[tuple[tuple[float, float], ...], Field(max_length=MAX_CORNERS)] = ()
    """Corners (x, y) [m, world frame] in order, at least three; empty for the whole floor."""
    color: Annotated[Label, Field(pattern="^#[0-9a-fA-F]{6}$")] | None = None
    """Colour of the floor as the mesh shows it, "#rrggbb"; None for any."""
    friction: Annotated[float, Field(ge=0, le=10)] = 1.0
    """Factor of the friction that robots have elsewhere."""
    cost: Annotated[float, Field(ge=0)] = 0.0
    """Cost of being there, for tasks that avoid it; 0 elsewhere."""

    @model_validator(mode="after")
    def _has_a_shape(self) -> Self:
        if not self.polygon and self.color is None:
            raise ValueError(f"area {self.name!r} needs a polygon or a color")
        if 0 < len(self.polygon) < 3:
            raise ValueError(f"area {self.name!r} needs 3 to {MAX_CORNERS} corners, got {len(self.polygon)}")
        return self

    @property
    def rgb(self) -> tuple[int, int, int] | None:
        """The colour, sRGB 0..255."""
        if self.color is None:
            return None
        red, green, blue = bytes.fromhex(self.color[1:])
        return red, green, blue


class RegionsParams(WalkableParams):
    """Which robot the walkable floor is for, and how many poses are proposed on it."""

    spawn_poses: Annotated[int, Field(ge=1)] = 8
    """Number of spawn poses."""
    goals: Annotated[int, Field(ge=0)] = 8
    """Number of goals."""
    areas: Annotated[tuple[Area, ...], Field(max_length=MAX_AREAS)] = ()
    """Parts of the floor with a friction and a cost of their own; where they overlap, the last one counts."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if len({area.name for area in self.areas}) < len(self.areas):
            raise ValueError("each area needs a name of its own")
        return self
