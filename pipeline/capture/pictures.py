"""Pictures at the border: decoded completely once, upright, 8-bit RGB, bounded in size, nothing but their pixels."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.capture.credentials import Credentials, credentials_of_picture
from pipeline.capture.exif import Exif, exif_of
from pipeline.capture.metadata import without_metadata
from pipeline.capture.model import FocalSource, Frame
from pipeline.geometry import Camera
from pipeline.image_files import MAX_PIXELS as MAX_PIXELS
from pipeline.image_files import BadPictureError as BadPictureError
from pipeline.image_files import open_image

MAX_SIDE = 4096
"""Longer side above which pictures are shrunk to it [px]: no stage gains from more."""
LARGE_PIXELS = 40_000_000
"""Larger pictures are decoded one at a time: each takes hundreds of megabytes until it is shrunk."""
GUESSED_FOCAL = 0.85
"""Focal length by the longer side where nothing is known.

Main cameras of phones have 24-28 mm (35 mm equivalent), 0.69-0.81 of the longer side in 4:3 and up to 0.95 in
stabilised video; SfM refines it.
"""
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".heic", ".heif")

_LARGE = Lock()
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


Size = tuple[int, int]
"""Width and height [px]."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded picture.

    Attributes:
        image: RGB, upright unless the orientation was to be ignored, at most `MAX_SIDE` long once it is shrunk.
        copy: The source's coded pixels where they already are an upright 8-bit RGB JPEG or PNG, else None.
        suffix: Of the file to write: ".jpg" or ".png".
        exif: What it said of itself.
        alpha: (H, W), False where the picture is transparent; None where it is nowhere.
        turn: How the stored picture was turned upright, or None.
        whole: Width and height before it was shrunk; None where it wasn't.
        credentials: What it said of who made it.
    """

    image: Image.Image
    copy: bytes | None = None
    suffix: str = ".jpg"
    exif: Exif = field(default_factory=Exif)
    alpha: NDArray[np.bool_] | None = None
    turn: Image.Transpose | None = None
    whole: Size | None = None
    credentials: Credentials | None = None

    @property
    def size(self) -> Size:
        """Width and height at the source, turned like `image`: what intrinsics and masks of the source are for."""
        return self.whole or self.image.size

    def shrunk(self) -> Picture:
        """The picture with at most `MAX_SIDE` pixels along the longer side."""
        size = fitting(*self.image.size, MAX_SIDE)
        if size == self.image.size:
            return self
        alpha = None if self.alpha is None else shrunk_mask(self.alpha, size)
        image = self.image.resize(size, Image.Resampling.BOX)
        return replace(self, image=image, copy=None, alpha=alpha, whole=self.size)

    def save(self, stem: Path) -> Path:
        """Write `stem` + suffix, as coded at the source where possible, and return that path."""
        path = stem.parent / (stem.name + self.suffix)
        if self.copy is not None:
            path.write_bytes(self.copy)
        elif self.suffix == ".png":
            self.image.save(path, compress_level=3)
        else:
            self.image.save(path, quality=97, subsampling=0)
        return path


def fitting(width: int, height: int, long_side: int) -> Size:
    """The size at which the longer side has at most `long_side` pixels."""
    scale = min(1.0, long_side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def shrunk_mask(mask: NDArray[np.bool_], size: Size) -> NDArray[np.bool_]:
    """A mask at a smaller size = (width, height); a pixel counts only where all that it averages counts."""
    ignored = cv2.resize((~mask).astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return np.asarray(ignored, np.float32) == 0


def note_on_shrinking(frames: Iterable[Frame]) -> tuple[str, ...]:
    """A note on pictures that were shrunk, by their size before; none where none was."""
    sizes = {(*f.source_size, f.camera.width, f.camera.height) for f in frames if f.source_size}
    told = [f"{w}x{h} were shrunk to {x}x{y}" for w, h, x, y in sorted(sizes)]
    more = f" and so were {len(told) - 3} more sizes" if len(told) > 3 else ""
    return (f"pictures of {', '.join(told[:3])}{more}: nothing gains from more",) if told else ()


def load_picture(data: bytes, *, upright: bool = True) -> Picture:
    """Decode a JPEG, PNG or HEIC picture completely; above `MAX_SIDE` it is shrunk to that.

    Args:
        data: The file's content.
        upright: Whether to apply the EXIF orientation. Where intrinsics come with the picture they belong to the
            stored pixels, so it is ignored.

    Raises:
        BadPictureError: When it is truncated, too large or no picture.
    """
    with open_image(data) as image, _LARGE if image.width * image.height > LARGE_PIXELS else nullcontext():
        exif, stored, size = exif_of(image), image.size, fitting(*image.size, MAX_SIDE)
        turn = _TURNS.get(exif.orientation) if upright else None
        drafted = image.draft(None, size) if size != stored else None  # a JPEG at a half, a quarter ...
        image.load()
        suffix = ".png" if image.format == "PNG" else ".jpg"
        as_stored = turn is None and size == stored and _is_plain(image, data)
        alpha = _opaque(image)
        image = _to_rgb(image)
        if size != stored:
            image = image.resize(size, Image.Resampling.BOX, box=drafted[1] if drafted else None)
            alpha = None if alpha is None else shrunk_mask(alpha, size)
    if turn is not None:
        image = image.transpose(turn)
        alpha = None if alpha is None else np.asarray(Image.fromarray(alpha).transpose(turn))
    whole = None if size == stored else stored if image.size == size else (stored[1], stored[0])
    image.info.clear()  # what is written anew says nothing besides its pixels
    copy = without_metadata(data) if as_stored else None
    return Picture(image, copy, suffix, exif, alpha, turn, whole, credentials_of_picture(data))


def decode(data: bytes) -> Image.Image:
    """Decode a picture completely, as it is stored.

    Raises:
        BadPictureError: When it is truncated, too large or no picture.
    """
    with open_image(data) as image:
        image.load()
    return image


def camera_of(picture: Picture) -> tuple[Camera, FocalSource]:
    """A pinhole camera with centred principal point, its focal length from EXIF or guessed."""
    width, height = picture.image.size
    focal, longer = picture.exif.focal, max(width, height)
    focal_here = GUESSED_FOCAL * longer if focal is None else focal * longer / max(picture.size)
    camera = Camera(width, height, focal_here, focal_here, width / 2, height / 2)
    return camera, "guessed" if focal is None else "exif"


def _is_plain(image: Image.Image, data: bytes) -> bool:
    """Whether the file is an opaque 8-bit RGB JPEG or PNG."""
    known = image.format in ("JPEG", "MPO") or (image.format == "PNG" and data[24] == 8)
    return known and image.mode == "RGB" and "transparency" not in image.info


def _opaque(image: Image.Image) -> NDArray[np.bool_] | None:
    """Pixels (H, W) that aren't transparent; None where all are opaque or the picture has no alpha."""
    if "A" not in image.getbands() and "transparency" not in image.info:
        return None
    with_alpha = image if "A" in image.getbands() else image.convert("RGBA")
    opaque = np.asarray(with_alpha.getchannel("A")) >= _OPAQUE
    return None if opaque.all() else opaque


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":  # 16-bit grey: PIL would clip instead of scale
        return Image.fromarray((np.asarray(image, np.float64) / 257).clip(0, 255).astype(np.uint8)).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")
