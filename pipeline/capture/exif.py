"""What a photo says of itself in EXIF: camera, focal length, time and place (CIPA DC-008)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from PIL import Image

from pipeline.capture.model import Location

FULL_FRAME_DIAGONAL = 43.267
"""Diagonal of 36 x 24 mm, which 35 mm equivalents refer to (CIPA DCG-001) [mm]."""
METRES_A_DEGREE = 111_195.0
"""Along a meridian of the mean sphere, 6371 km in radius."""

_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825
_MAKE, _MODEL, _LENS, _ORIENTATION = 0x010F, 0x0110, 0xA434, 0x0112
_FOCAL_LENGTH, _FOCAL_35MM, _DIGITAL_ZOOM, _PIXEL_WIDTH = 0x920A, 0xA405, 0xA404, 0xA002
_PLANE_X_RESOLUTION, _PLANE_UNIT = 0xA20E, 0xA210
_TAKEN, _FRACTION = 0x9003, 0x9291
_LATITUDE_REF, _LATITUDE, _LONGITUDE_REF, _LONGITUDE, _ALTITUDE_REF, _ALTITUDE = 1, 2, 3, 4, 5, 6
_MILLIMETRES_OF_UNIT = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}
_MAX_NAME = 60

Place = tuple[float, float, float]
"""Latitude and longitude [deg, WGS 84], altitude [m] or NaN."""


@dataclass(frozen=True)
class Exif:
    """What is known of a photo; damaged tags count as none.

    Attributes:
        orientation: How the stored picture is turned upright, 1 to 8.
        focal: Focal length [px of the stored picture], or None.
        camera: Make, model, lens and digital zoom, for people; "" where nothing is said.
        taken: When the shutter opened, by the camera's own clock [s], or None.
        place: Where the camera was, or None.
    """

    orientation: int = 1
    focal: float | None = None
    camera: str = ""
    taken: float | None = None
    place: Place | None = None


def exif_of(image: Image.Image) -> Exif:
    """Read the tags of a picture's first frame, before or after its pixels are decoded."""
    try:
        block = image.getexif()
        tags = {**dict(block), **block.get_ifd(_EXIF_IFD)}
        gps = dict(block.get_ifd(_GPS_IFD))
    except (OSError, SyntaxError, ValueError, KeyError, TypeError):
        return Exif()
    focal = focal_from_exif(tags, image.width, image.height)
    orientation = tags.get(_ORIENTATION, 1)
    return Exif(
        orientation=int(orientation) if orientation in range(1, 9) else 1,
        focal=focal,
        camera=_camera(tags, focal_known=focal is not None),
        taken=_taken(tags),
        place=_place(gps),
    )


def location_of(places: Sequence[Place]) -> Location | None:
    """The median of where photos were taken; None where none says so."""
    if not places:
        return None
    latitude, longitude, altitude = np.array(places).T
    east = (longitude - longitude[0] + 180) % 360 - 180  # also across the date line
    middle = np.array([np.median(latitude), np.median(east)])
    metres = METRES_A_DEGREE * np.array([latitude - middle[0], (east - middle[1]) * np.cos(np.deg2rad(middle[0]))])
    known = altitude[np.isfinite(altitude)]
    return Location(
        latitude_deg=float(middle[0]),
        longitude_deg=float((longitude[0] + middle[1] + 180) % 360 - 180),
        altitude_m=float(np.median(known)) if len(known) else None,
        spread_m=float(np.median(np.linalg.norm(metres, axis=0))),
        pictures=len(places),
    )


def focal_from_exif(exif: dict[int, Any], width: int, height: int) -> float | None:
    """Focal length [px] of a stored picture of that size, or None.

    The 35 mm equivalent is by the diagonal (CIPA DCG-001). Without it: focal length and sensor resolution, scaled if
    the picture was resized since.
    """
    equivalent, focal = _number(exif.get(_FOCAL_35MM)), _number(exif.get(_FOCAL_LENGTH))
    resolution = _number(exif.get(_PLANE_X_RESOLUTION))
    result = None
    if equivalent:
        result = equivalent * float(np.hypot(width, height)) / FULL_FRAME_DIAGONAL
    elif focal and resolution:
        unit = _MILLIMETRES_OF_UNIT.get(int(_number(exif.get(_PLANE_UNIT)) or 2), 25.4)
        shrunk = width / (_number(exif.get(_PIXEL_WIDTH)) or width)
        result = focal * resolution / unit * shrunk
    if result is None or not 0.2 < result / max(width, height) < 50:  # wider than 136 degrees: a broken tag
        return None
    return result


def _camera(tags: dict[int, Any], *, focal_known: bool) -> str:
    """Which camera and lens it was; the lens's focal length tells lenses apart that have no name, and zooms."""
    make, model, lens = (_text(tags.get(tag)) for tag in (_MAKE, _MODEL, _LENS))
    parts = [model if model.lower().startswith(make.lower()) else make + " " + model, lens]
    millimetres, zoom = _number(tags.get(_FOCAL_LENGTH)), _number(tags.get(_DIGITAL_ZOOM))
    if millimetres and not (lens and focal_known):
        parts.append(f"{float(f'{millimetres:.2g}'):g} mm")
    if zoom and zoom > 1:
        parts.append(f"zoom {zoom:.2g}")
    return " ".join(" ".join(parts).split())


def _taken(tags: dict[int, Any]) -> float | None:
    text, fraction = _text(tags.get(_TAKEN)), _text(tags.get(_FRACTION))
    try:
        whole = datetime.strptime(text, "%Y:%m:%d %H:%M:%S").replace(tzinfo=UTC).timestamp()
        return whole + (float(f"0.{fraction}") if fraction.isdecimal() else 0.0)
    except ValueError:
        return None


def _place(gps: dict[int, Any]) -> Place | None:
    latitude = _degrees(gps.get(_LATITUDE), negative=gps.get(_LATITUDE_REF) == "S")
    longitude = _degrees(gps.get(_LONGITUDE), negative=gps.get(_LONGITUDE_REF) == "W")
    if latitude is None or longitude is None or abs(latitude) > 90 or abs(longitude) > 180:
        return None
    altitude = _number(gps.get(_ALTITUDE))
    below = gps.get(_ALTITUDE_REF) in (1, b"\x01")
    return latitude, longitude, float("nan") if altitude is None else -altitude if below else altitude


def _degrees(value: Any, *, negative: bool) -> float | None:
    """Of degrees, minutes and seconds."""
    try:
        angle = sum(float(part) / unit for part, unit in zip(value, (1, 60, 3600), strict=True))
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return None if not np.isfinite(angle) else -angle if negative else angle


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if np.isfinite(number) and number > 0 else None


def _text(value: Any) -> str:
    """Printable text of a tag, blanks and length kept in bounds."""
    plain = "".join(letter if letter.isprintable() else " " for letter in value) if isinstance(value, str) else ""
    return " ".join(plain.split())[:_MAX_NAME]
