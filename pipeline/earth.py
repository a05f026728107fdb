"""Where a scene lies on the Earth, so that scans of different dates and other maps can be compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

EQUATOR, ECCENTRICITY = 6_378_137.0, 0.0818191908426215
"""Radius of the Earth's ellipsoid (WGS 84) at the equator [m], and its eccentricity."""
FARTHEST = 85.0
"""Largest latitude [deg]: at the poles a heading means nothing."""


def metres_a_degree(latitude_deg: float) -> tuple[float, float]:
    """Metres to the east and to the north that a degree of longitude and of latitude are there."""
    latitude = math.radians(latitude_deg)
    curved = 1 - (ECCENTRICITY * math.sin(latitude)) ** 2
    along = EQUATOR / curved**0.5 * math.cos(latitude)
    return math.radians(along), math.radians(EQUATOR * (1 - ECCENTRICITY**2) / curved**1.5)


class Earth(BaseModel):
    """Where a frame's origin lies (WGS 84), and how the frame is turned; z is up.

    Attributes:
        heading_deg: Of the frame's x axis, from north clockwise.
        position_sigma_m: Of the origin's place on a map; None where a person says it.
        heading_sigma_deg: Of the heading; None likewise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    latitude_deg: Annotated[float, Field(ge=-FARTHEST, le=FARTHEST)]
    longitude_deg: Annotated[float, Field(ge=-180, le=180)]
    altitude_m: Annotated[float, Field(ge=-1e4, le=1e5)] | None = None
    heading_deg: Annotated[float, Field(ge=-360, le=360)]
    position_sigma_m: Annotated[float, Field(ge=0)] | None = None
    heading_sigma_deg: Annotated[float, Field(ge=0)] | None = None

    @property
    def north(self) -> tuple[float, float, float]:
        """The unit vector to the north in the frame."""
        heading = math.radians(self.heading_deg)
        return math.cos(heading), math.sin(heading), 0.0

    def moved(self, origin: Sequence[float], turn_deg: float) -> Earth:
        """The same of a frame with that origin [m, in this frame], turned about z by that much to the left.

        The Earth's curvature is left out: a kilometre away it is 8 cm.
        """
        north = self.north
        east_m = origin[0] * north[1] - origin[1] * north[0]
        north_m = origin[0] * north[0] + origin[1] * north[1]
        along, up = metres_a_degree(self.latitude_deg)
        longitude = self.longitude_deg + east_m / along
        return Earth.model_validate(
            self.model_dump()
            | {
                "latitude_deg": self.latitude_deg + north_m / up,
                "longitude_deg": (longitude + 180) % 360 - 180,
                "altitude_m": None if self.altitude_m is None else self.altitude_m + origin[2],
                "heading_deg": (self.heading_deg - turn_deg + 180) % 360 - 180,
            }
        )
