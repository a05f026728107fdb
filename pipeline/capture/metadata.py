"""What image files hold besides their pixels: EXIF (CIPA DC-008), content credentials (C2PA), and copies without any.

Credentials are taken on trust: no signature is checked. Their absence means nothing, for every re-encoding loses them.

Sources: C2PA Technical Specification 2.2, appendix A (JUMBF in JPEG's APP11, PNG's caBX, boxes of HEIF); ISO/IEC
19566-5 (JUMBF); IPTC's digital source types; ITU-T T.81, annex B (JPEG); WGS 84 (NGA.STND.0036).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import takewhile
from typing import SupportsFloat

import numpy as np
from PIL import Image

from pipeline.capture.model import Credentials, Location
from pipeline.earth import metres_a_degree
from pipeline.types import F64

_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""Ends entropy-coded data: neither a stuffed 0xFF nor a restart marker (ITU-T T.81, section B.1.1)."""
_START, _END, _SCAN, _COMMENT = 0xD8, 0xD9, 0xDA, 0xFE
_KEPT_SEGMENTS = {0xE0: b"JFIF\0", 0xE2: b"ICC_PROFILE\0", 0xEE: b"Adobe"}
"""Application segments that define the pixels' meaning, by their beginning."""
_PNG = b"\x89PNG\r\n\x1a\n"
_KEPT_CHUNKS = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"cHRM", b"gAMA", b"iCCP", b"sBIT", b"sRGB", b"cICP")

C2PA_BOX = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
"""Identifier of the C2PA box in MP4 and HEIF files."""
GENERATED_TYPES = (b"digitalsourcetype/trainedAlgorithmicMedia", b"compositeWithTrainedAlgorithmicMedia")
_LABEL = b"c2pa"
_TEXTS = (b"caBX", b"iTXt", b"tEXt", b"eXIf")
_MAX_BYTES = 32 * 2**20
FULL_FRAME_DIAGONAL = 43.267
"""Diagonal of 36 x 24 mm, which 35 mm equivalents refer to (CIPA DCG-001) [mm]."""
SENSOR_WIDTHS = (2.0, 70.0)
"""Of cameras for sale, from the smallest phones to medium format, upright or not [mm]."""
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
GpsPosition = tuple[float, float, float]
"""Latitude and longitude [deg, WGS 84], altitude [m] or NaN."""
GPS_SIGMA = (3.0, 5.0)
"""One sigma of positions of phones and drones without corrections, horizontal and vertical [m]."""


def without_metadata(data: bytes) -> bytes | None:
    """The bytes of a JPEG or PNG file that make up the image itself, its colour profile included; None if unknown.

    What follows the image (the second one of an MPO, the film of a motion photo) is left out as well.
    """
    is_png = data.startswith(_PNG)
    parts = [_PNG if is_png else data[:2]]
    for kind, at, end in _chunks(data) if is_png else _segments(data):
        if isinstance(kind, bytes):
            kept = kind in _KEPT_CHUNKS
        else:
            is_metadata, meant = 0xE0 <= kind <= 0xEF or kind == _COMMENT, _KEPT_SEGMENTS.get(kind)
            kept = not is_metadata or (meant is not None and data.startswith(meant, at + 4))
        parts += [data[at:end]] if kept else []
        if kind in (b"IEND", _END):
            return b"".join(parts)
    return None


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of a JPEG's segments (ITU-T T.81, annex B); entropy-coded data have the marker 0."""
    at = 2 if data[:2] == bytes((0xFF, _START)) else len(data)
    while at + 2 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill bytes
            at += 1
            continue
        end = at + 2 + (0 if marker == _END else int.from_bytes(data[at + 2 : at + 4], "big"))
        yield marker, at, end
        at = end
        if marker == _SCAN:
            ended = _MARKER.search(data, at)
            if ended is None:
                return
            yield 0, at, ended.start()
            at = ended.start()


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Type, start and end of a PNG's chunks."""
    at = len(_PNG)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        yield kind, at, at + 12 + length
        at += 12 + length


def credentials_of_image(data: bytes) -> Credentials | None:
    """Whether a JPEG, PNG, HEIF or WebP file states that a model generated it, or is signed without that statement.

    Cameras sign as well: only a digital source type of trained algorithms means generated.
    """
    if data.startswith(b"\xff\xd8"):
        store, others = [], []
        for marker, at, end in takewhile(lambda segment: segment[0] != _SCAN, _segments(data)):
            if marker == 0xEB and data.startswith(b"JP", at + 4):
                store.append(data[at + 20 : end])  # after identifier, box number, packet number, and the repeated head
            elif 0xE0 <= marker <= 0xEF:
                others.append(data[at + 4 : end])
        joined = b"".join(store)
        signed, stated = _LABEL in joined, joined + b"\0".join(others)
    elif data.startswith(_PNG):
        spans = [(kind, at + 8, min(end - 4, at + 8 + _MAX_BYTES)) for kind, at, end in _chunks(data) if kind in _TEXTS]
        signed = any(kind == b"caBX" and _LABEL in data[at:end] for kind, at, end in spans)
        stated = b"\0".join(data[at:end] for _, at, end in spans)
    elif data[4:8] == b"ftyp":
        signed, stated = C2PA_BOX in data[:_MAX_BYTES], data[:_MAX_BYTES]
    elif data[8:12] == b"WEBP":  # a chunk of its own, usually behind the pixels
        signed, stated = b"C2PA" in data[-_MAX_BYTES:], data[-_MAX_BYTES:]
    else:
        return None
    if any(kind in stated for kind in GENERATED_TYPES):
        return "generated"
    return "signed" if signed else None


@dataclass(frozen=True)
class Exif:
    """EXIF tags of a photo; damaged tags count as missing.

    Attributes:
        orientation: Operation that makes the stored image upright, 1 to 8.
        focal: Focal length [px of the stored image].
        camera: Make, model, lens and digital zoom, for people.
        taken: Time of the shutter by the camera's own clock [s].
    """

    orientation: int = 1
    focal: float | None = None
    camera: str = ""
    taken: float | None = None
    position: GpsPosition | None = None


def exif_of(image: Image.Image) -> Exif:
    """Read the tags of an image's first frame, before or after its pixels are decoded."""
    try:
        block = image.getexif()
        tags, gps = {**block, **block.get_ifd(_EXIF_IFD)}, block.get_ifd(_GPS_IFD)
    except (OSError, SyntaxError, ValueError, KeyError, TypeError):
        return Exif()
    focal = focal_from_exif(tags, image.width, image.height)
    orientation = tags.get(_ORIENTATION, 1)
    return Exif(
        orientation=int(orientation) if orientation in range(1, 9) else 1,
        focal=focal,
        camera=_camera(tags, focal_known=focal is not None),
        taken=_taken(tags),
        position=_position(gps),
    )


def location_of(positions: Sequence[GpsPosition]) -> Location | None:
    """Median position of photos; None without any."""
    if not positions:
        return None
    latitude, longitude, altitude = np.array(positions).T
    east = (longitude - longitude[0] + 180) % 360 - 180  # also across the date line
    middle = np.array([np.median(latitude), np.median(east)])
    metres = METRES_A_DEGREE * np.array([latitude - middle[0], (east - middle[1]) * np.cos(np.deg2rad(middle[0]))])
    known = altitude[np.isfinite(altitude)]
    return Location(
        latitude_deg=float(middle[0]),
        longitude_deg=float((longitude[0] + middle[1] + 180) % 360 - 180),
        altitude_m=float(np.median(known)) if len(known) else None,
        spread_m=float(np.median(np.linalg.norm(metres, axis=0))),
        images=len(positions),
    )


def focal_from_exif(exif: Mapping[int, object], width: int, height: int) -> float | None:
    """Focal length [px] of a stored image of that size, or None.

    The 35 mm equivalent is by the diagonal (CIPA DCG-001). Without it: focal length and sensor resolution, scaled if
    the image was resized since. Programs that resize images also write the new size over the old one and leave the
    resolution: where a sensor of that size is none, nothing is known. What is left is a guess, which the poses stage
    compares with the images.
    """
    equivalent, focal = _number(exif.get(_FOCAL_35MM)), _number(exif.get(_FOCAL_LENGTH))
    resolution = _number(exif.get(_PLANE_X_RESOLUTION))
    result = None
    if equivalent:
        result = equivalent * float(np.hypot(width, height)) / FULL_FRAME_DIAGONAL
    elif focal and resolution:
        unit = _MILLIMETRES_OF_UNIT.get(int(_number(exif.get(_PLANE_UNIT)) or 2), 25.4)
        across = _number(exif.get(_PIXEL_WIDTH)) or width
        if SENSOR_WIDTHS[0] < across / resolution * unit < SENSOR_WIDTHS[1]:
            result = focal * resolution / unit * width / across
    if result is None or not 0.2 < result / max(width, height) < 50:  # wider than 136 degrees: a broken tag
        return None
    return result


def _camera(tags: Mapping[int, object], *, focal_known: bool) -> str:
    """Which camera and lens it was; the lens's focal length tells lenses apart that have no name, and zooms."""
    make, model, lens = (_text(tags.get(tag)) for tag in (_MAKE, _MODEL, _LENS))
    parts = [model if model.lower().startswith(make.lower()) else make + " " + model, lens]
    millimetres, zoom = _number(tags.get(_FOCAL_LENGTH)), _number(tags.get(_DIGITAL_ZOOM))
    if millimetres and not (lens and focal_known):
        parts.append(f"{float(f'{millimetres:.2g}'):g} mm")
    if zoom and zoom > 1:
        parts.append(f"zoom {zoom:.2g}")
    return " ".join(" ".join(parts).split())


def _taken(tags: Mapping[int, object]) -> float | None:
    text, fraction = _text(tags.get(_TAKEN)), _text(tags.get(_FRACTION))
    try:
        whole = datetime.strptime(text, "%Y:%m:%d %H:%M:%S").replace(tzinfo=UTC).timestamp()
        return whole + (float(f"0.{fraction}") if fraction.isdecimal() else 0.0)
    except ValueError:
        return None


def _position(gps: Mapping[int, object]) -> GpsPosition | None:
    latitude = _degrees(gps.get(_LATITUDE), negative=gps.get(_LATITUDE_REF) == "S")
    longitude = _degrees(gps.get(_LONGITUDE), negative=gps.get(_LONGITUDE_REF) == "W")
    if latitude is None or longitude is None or abs(latitude) > 90 or abs(longitude) > 180:
        return None
    altitude = _number(gps.get(_ALTITUDE))
    below = gps.get(_ALTITUDE_REF) in (1, b"\x01")
    return latitude, longitude, float("nan") if altitude is None else -altitude if below else altitude


def _degrees(value: object, *, negative: bool) -> float | None:
    """Angle [deg] of degrees, minutes and seconds; None where they are none."""
    try:
        parts = np.asarray(value, np.float64)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    if parts.shape != (3,) or not np.isfinite(parts).all():
        return None
    angle = float((parts / (1, 60, 3600)).sum())
    return -angle if negative else angle


def _number(value: object) -> float | None:
    try:
        number = float(value) if isinstance(value, SupportsFloat | str) else 0.0
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if np.isfinite(number) and number > 0 else None


def _text(value: object) -> str:
    """Printable text of a tag, blanks and length kept in bounds."""
    plain = "".join(letter if letter.isprintable() else " " for letter in value) if isinstance(value, str) else ""
    return " ".join(plain.split())[:_MAX_NAME]


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
    along, north = metres_a_degree(float(latitude))
    return [
        np.array([((lon - first + 180) % 360 - 180 - longitude) * along, (lat - latitude) * north, up - altitude])
        if np.isfinite(up)
        else None
        for lat, lon, up in (position or (0.0, 0.0, np.nan) for position in positions)
    ]
