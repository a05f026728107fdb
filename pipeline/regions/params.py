"""Parameters of the regions stage."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.stage import Choice, Traits


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
    """

    cell: float = 0.05
    radius: float = 0.25
    height: float = 0.5
    max_step: float = 0.2
    max_drive_step: float = 0.04
    spawn_poses: int = 8
    goals: int = 8

    def __post_init__(self) -> None:
        if not 0.01 <= self.cell <= 0.5:
            raise ValueError(f"regions.cell must be 0.01 to 0.5 m, got {self.cell}")
        if min(self.radius, self.height) <= 0:
            raise ValueError(f"regions.radius and regions.height must be positive, got {self}")
        if not 0 < self.max_drive_step <= self.max_step < self.height:
            raise ValueError(f"regions need 0 < max_drive_step <= max_step < height, got {self}")
        if self.spawn_poses < 1 or self.goals < 0:
            raise ValueError(f"regions need at least one spawn pose and no negative count, got {self}")


def choose(_traits: Traits, _params: RegionsParams) -> Choice:
    """There is one way."""
    return Choice("cpu", "the only one")
