"""The grid of points on which robots know the height of the ground."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.types import F32, F64, Floats

Offset = Annotated[float, Field(ge=-5, le=5)]


@dataclass(frozen=True)
class ScanGrid:
    """Points under and around a robot, in a horizontal plane, rotated with its heading.

    Attributes:
        ahead: Range of the points ahead of the base's origin [m].
        aside: Range of the points to its left [m].
        spacing: Distance between neighbours [m].
        clip: Largest height above or below the base [m].
    """

    ahead: tuple[Offset, Offset] = (-0.8, 0.8)
    aside: tuple[Offset, Offset] = (-0.5, 0.5)
    spacing: Annotated[float, Field(ge=0.02, le=1)] = 0.1
    clip: Annotated[float, Field(gt=0)] = 1.0

    def __post_init__(self) -> None:
        if self.ahead[0] > self.ahead[1] or self.aside[0] > self.aside[1]:
            raise ValueError(f"ahead and aside must be ranges, got {self.ahead} and {self.aside}")

    @property
    def points(self) -> F64:
        """Offsets (K, 2) ahead and to the left of the base [m], row by row from the rear, each row from the right."""
        sides = [np.arange(low, high + self.spacing / 2, self.spacing) for low, high in (self.ahead, self.aside)]
        return np.stack(np.meshgrid(*sides, indexing="ij"), -1).reshape(-1, 2)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of points ahead and aside."""
        ahead, aside = (round((high - low) / self.spacing) + 1 for low, high in (self.ahead, self.aside))
        return ahead, aside

    @property
    def size(self) -> int:
        """Number of points, K."""
        return len(self.points)

    def moved(self, heights: F32, motion: Floats) -> F32:
        """Heights (N, K) of the ground at the points of robots that moved, between those of the points before.

        Motions (N, 3): ahead and to the left [m], turn to the left [rad]; beyond the grid the ground goes on level.
        """
        cos, sin = np.cos(motion[:, 2]), np.sin(motion[:, 2])
        turn = np.stack([np.stack([cos, sin], -1), np.stack([-sin, cos], -1)], 1)
        place = (self.points @ turn + motion[:, None, :2] - [self.ahead[0], self.aside[0]]) / self.spacing
        last = np.array(self.shape) - 1
        place = np.clip(place, 0, last)
        low = np.minimum(place.astype(np.int64), last - 1)
        row, column = np.moveaxis(low, -1, 0)
        ahead, aside = np.moveaxis((place - low).astype(np.float32), -1, 0)
        first = row * self.shape[1] + column

        def of(offset: int) -> F32:
            return np.take_along_axis(heights, first + offset, 1)

        near = of(0) * (1 - aside) + of(1) * aside
        far = of(self.shape[1]) * (1 - aside) + of(self.shape[1] + 1) * aside
        return near * (1 - ahead) + far * ahead


@dataclass(frozen=True)
class ScanErrors:
    """How wrong a map of the ground is: of normal distributions, held for a time and then drawn anew.

    Attributes:
        shift: Standard deviation of where the ground is believed to be, ahead and aside [m].
        rise: Standard deviation of its height [m].
        hold: Mean time [s].
    """

    shift: float
    rise: float
    hold: float
