"""Parameters of the points stage."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.parameters import Settings


class PointsParams(Settings):
    """How depth maps are fused into one cloud."""

    voxel: Annotated[float, Field(gt=0)] = 0.01
    """Points are merged within cells of this size [m]."""
    stride: Annotated[int, Field(ge=1, le=16)] = 2
    """Every stride-th pixel of the maps is used, in both directions."""
    max_points: Annotated[int, Field(ge=1)] = 2_000_000
    """The cells grow until no more points than this are left."""
    neighbours: Annotated[int, Field(ge=1, le=64)] = 8
    """Other maps that each map is compared with."""
    max_deviation: Annotated[float, Field(gt=0)] = 3.0
    """Two maps agree within this many standard deviations."""
