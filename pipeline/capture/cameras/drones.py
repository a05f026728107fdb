"""What DJI's drones write into photos (XMP): the gimbal's angles, and how sure their positions are.

The angles are those of the camera against the horizon: a pitch of -90 degrees looks straight down. Source: DJI's XMP,
`drone-dji:GimbalPitchDegree`, `GimbalRollDegree`, `RtkFlag` (50: fixed), `RtkStdLat`, `RtkStdLon`, `RtkStdHgt` [m].
"""

from __future__ import annotations

import numpy as np

from pipeline.capture.cameras.xmp import StatedGravity, gravity_of, number_of
from pipeline.capture.metadata import GPS_SIGMA

SOURCE = "gimbal"
"""Name of the source of gravity."""
SIGMA_DEG = 1.0
"""One sigma of a gimbal's horizon, the same in all photos of a flight: drones level themselves by their accelerometers
while they fly."""
_FIXED = 50
_MAX_RTK = 0.5


def gimbal_of(data: bytes) -> StatedGravity | None:
    """Gravity in CV axes of the image as it is stored; None where the file states no angles of a gimbal."""
    pitch, roll = (number_of(data, f"drone-dji:Gimbal{angle}Degree") for angle in ("Pitch", "Roll"))
    if pitch is None or roll is None or max(abs(pitch), abs(roll)) > 180:
        return None
    return StatedGravity(gravity_of(pitch, roll), SIGMA_DEG, SOURCE)


def position_sigma(data: bytes) -> tuple[float, float]:
    """One sigma of a photo's position, horizontal and vertical [m]: the drone's own if corrections fixed it (RTK)."""
    stated = (number_of(data, f"drone-dji:RtkStd{axis}") for axis in ("Lat", "Lon", "Hgt"))
    latitude, longitude, height = (sigma or 0.0 for sigma in stated)
    is_fixed = (number_of(data, "drone-dji:RtkFlag") or _FIXED) == _FIXED
    if is_fixed and all(0 < sigma < _MAX_RTK for sigma in (latitude, longitude, height)):
        return float(np.hypot(latitude, longitude)) / 2**0.5, height
    return GPS_SIGMA
