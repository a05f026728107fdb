"""Parameters of the coverage stage."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.parameters import Settings


class CoverageParams(Settings):
    """For which camera the images are judged, and how finely."""

    cell: Annotated[float, Field(ge=0.05, le=5)] = 0.25
    """Distance between the positions that are judged [m]; grows where there would be more than `places`."""
    places: Annotated[int, Field(ge=1)] = 200
    """Largest number of positions."""
    headings: Annotated[int, Field(ge=4, le=64)] = 8
    """Directions at each position."""
    camera_height: Annotated[float, Field(ge=0.05, le=3)] = 0.3
    """Height of the robot's camera over the floor [m]."""
    field_of_view: Annotated[float, Field(ge=20, le=140)] = 80.0
    """Horizontal field of view of that camera [degrees]."""
