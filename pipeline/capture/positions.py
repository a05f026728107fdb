"""Positions of photos by satellites, in metres from their middle: where that is on Earth is not kept.

Sources: WGS 84 (NGA.STND.0036); EXIF's GPS tags (CIPA DC-008); DJI's XMP (drone-dji:RtkStdLat, RtkStdLon and RtkStdHgt
in metres).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from pipeline.capture.metadata import GpsPosition
from pipeline.types import F64

GPS_SIGMA = (3.0, 5.0)
"""One sigma of positions of phones and drones without corrections, horizontal and vertical [m]."""
EQUATOR, ECCENTRICITY = 6_378_137.0, 0.0818191908426215
"""Radius of the Earth's ellipsoid at the equator [m], and its eccentricity."""
_RTK = re.compile(rb'drone-dji:RtkStd(Lat|Lon|Hgt)(?:="|>)([0-9.]{1,12})')
_MAX_XMP = 2**18
_MAX_RTK = 0.5


def position_sigma(data: bytes) -> tuple[float, float]:
    """One sigma of a photo's position, horizontal and vertical [m]: the drone's own where it had corrections (RTK)."""
    stated = {name: float(number) for name, number in _RTK.findall(data[:_MAX_XMP]) if number.count(b".") <= 1}
    if {b"Lat", b"Lon", b"Hgt"} <= stated.keys() and all(0 < sigma < _MAX_RTK for sigma in stated.values()):
        return float(np.hypot(stated[b"Lat"], stated[b"Lon"])) / 2**0.5, stated[b"Hgt"]
    return GPS_SIGMA


def from_middle(positions: Sequence[GpsPosition | None]) -> list[F64 | None]:
    """East, north and up (3,) [m] from the middle of all positions; None where a position or its altitude is unknown.

    The Earth's curvature is left out: of photos a kilometre apart it is 8 cm.
    """
    known = np.array([position for position in positions if position]).reshape(-1, 3)
    if not np.isfinite(known[:, 2]).any():
        return [None] * len(positions)
    first = known[0, 1]
    east = (known[:, 1] - first + 180) % 360 - 180  # also across the date line
    latitude, longitude, altitude = np.median(known[:, 0]), np.median(east), np.nanmedian(known[:, 2])
    curved = 1 - (ECCENTRICITY * np.sin(np.deg2rad(latitude))) ** 2
    along = np.deg2rad(EQUATOR / curved**0.5 * np.cos(np.deg2rad(latitude)))
    north = np.deg2rad(EQUATOR * (1 - ECCENTRICITY**2) / curved**1.5)
    return [
        np.array([((lon - first + 180) % 360 - 180 - longitude) * along, (lat - latitude) * north, up - altitude])
        if np.isfinite(up)
        else None
        for lat, lon, up in (position or (0.0, 0.0, np.nan) for position in positions)
    ]
