"""Pictures at the border: decoded completely once, upright, 8-bit RGB, bounded in size; the focal length from EXIF."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from pipeline.capture.model import FocalSource
from pipeline.geometry import Camera

MAX_PIXELS = 120_000_000
"""Largest picture that is decoded; a small file can claim to be far larger."""
GUESSED_FOCAL = 0.85
"""Focal length by the longer side where nothing is known.

Main cameras of phones have 24-28 mm (35 mm equivalent), 0.69-0.81 of the longer side in 4:3 and up to 0.95 in
stabilised video; SfM refines it.
"""
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".heic", ".heif")
FULL_FRAME_DIAGONAL = 43.267
"""Diagonal of 36 x 24 mm, which 35 mm equivalents refer to (CIPA DCG-001) [mm]."""

_ORIENTATION, _EXIF_IFD = 0x0112, 0x8769
_FOCAL_LENGTH, _FOCAL_35MM, _PIXEL_WIDTH = 0x920A, 0xA405, 0xA002
_PLANE_X_RESOLUTION, _PLANE_UNIT = 0xA20E, 0xA210
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What each EXIF orientation asks for (CIPA DC-008, section 4.6.5)."""
_OPAQUE = 250
"""Pixels with less alpha show something else as well."""
_MILLIMETRES_OF_UNIT = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}


class BadPictureError(Exception):
    """Raised when a picture can't be decoded; its text says why."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded picture.

    Attributes:
        image: RGB, upright unless the orientation was to be ignored.
        copy: The source's bytes where they already are an upright 8-bit RGB JPEG or PNG, else None.
        suffix: Of the file to write: ".jpg" or ".png".
        focal: Focal length by EXIF [px of `image`], or None.
        alpha: (H, W), False where the picture is transparent; None where it is nowhere.
        turn: How the stored picture was turned upright, or None.
    """

    image: Image.Image
    copy: bytes | None
    suffix: str
    focal: float | None
    alpha: NDArray[np.bool_] | None = None
    turn: Image.Transpose | None = None

    def save(self, stem: Path) -> Path:
        """Write `stem` + suffix, byte for byte where possible, and return that path."""
        path = stem.parent / (stem.name + self.suffix)
        if self.copy is not None:
            path.write_bytes(self.copy)
        elif self.suffix == ".png":
            self.image.save(path, compress_level=3)
        else:
            self.image.save(path, quality=97, subsampling=0)
        return path


def load_picture(data: bytes, *, upright: bool = True) -> Picture:
    """Decode a JPEG, PNG or HEIC picture completely.

    Args:
        data: The file's content.
        upright: Whether to apply the EXIF orientation. Where intrinsics come with the picture they belong to the
            stored pixels, so it is ignored.

    Raises:
        BadPictureError: When it is truncated, too large or no picture.
    """
    image = decode(data)
    exif = _exif(image)
    turned = exif.get(_ORIENTATION, 1) not in (None, 0, 1)
    focal = focal_from_exif(exif, image.width, image.height)
    lossless = image.format == "PNG"
    eight_bit_rgb = image.mode == "RGB" and (image.format in ("JPEG", "MPO") or (lossless and data[24] == 8))
    copy = data if eight_bit_rgb and not turned and "transparency" not in image.info else None
    turn = None
    if turned and upright:
        turn = _TURNS.get(exif.get(_ORIENTATION, 1))
        image = ImageOps.exif_transpose(image)
    alpha = _opaque(image)
    if image.mode != "RGB":
        image = _to_rgb(image)
    if copy is None:  # what is written anew must not carry an orientation that a later reader applies again
        image.info.pop("exif", None)
    return Picture(image, copy, ".png" if lossless else ".jpg", focal, alpha, turn)


def decode(data: bytes) -> Image.Image:
    """Decode a picture completely, as it is stored.

    Raises:
        BadPictureError: When it is truncated, too large or no picture.
    """
    if data[4:8] == b"ftyp":
        from pillow_heif import register_heif_opener

        register_heif_opener()
    try:
        image = Image.open(io.BytesIO(data))
        if image.width * image.height > MAX_PIXELS:
            raise BadPictureError(f"{image.width} x {image.height} pixels, more than {MAX_PIXELS // 10**6} million")
        image.load()
    except BadPictureError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise BadPictureError(_reason(error, data)) from error
    return image


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


def camera_of(picture: Picture) -> tuple[Camera, FocalSource]:
    """A pinhole camera with centred principal point, its focal length from EXIF or guessed."""
    width, height = picture.image.size
    focal = picture.focal or GUESSED_FOCAL * max(width, height)
    return Camera(width, height, focal, focal, width / 2, height / 2), "exif" if picture.focal else "guessed"


def _exif(image: Image.Image) -> dict[int, Any]:
    """EXIF tags of the first picture and its camera section; damaged EXIF counts as none."""
    try:
        tags = image.getexif()
        return {**dict(tags), **tags.get_ifd(_EXIF_IFD)}
    except (OSError, SyntaxError, ValueError, KeyError, TypeError):
        return {}


def _opaque(image: Image.Image) -> NDArray[np.bool_] | None:
    """Pixels (H, W) that aren't transparent; None where all are opaque or the picture has no alpha."""
    if "A" not in image.getbands() and "transparency" not in image.info:
        return None
    opaque = np.asarray(image.convert("RGBA").getchannel("A")) >= _OPAQUE
    return None if opaque.all() else opaque


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if np.isfinite(number) and number > 0 else None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":  # 16-bit grey: PIL would clip instead of scale
        return Image.fromarray((np.asarray(image, np.float64) / 257).clip(0, 255).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


def _reason(error: Exception, data: bytes) -> str:
    if not data:
        return "the file is empty"
    if isinstance(error, Image.UnidentifiedImageError):
        return "no picture that can be decoded (JPEG, PNG and HEIC can)"
    return str(error) or type(error).__name__
