"""Images and masks of a source: decoded completely once, upright, 8-bit RGB, bounded in size, without metadata.

A mask tells which pixels show nothing that stays (people who walk by, the photographer's feet, the sky); black means:
ignore this pixel. `find_masks` has the names by which it is found. An image's own alpha does the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Lock

import numpy as np
from PIL import Image, ImageOps

from pipeline.capture.metadata import Exif, credentials_of_image, exif_of, without_metadata
from pipeline.capture.model import Credentials, FocalSource, Frame, Size
from pipeline.capture.source import CaptureSource
from pipeline.geometry import Camera
from pipeline.io.image_files import BadImageError, open_image
from pipeline.io.working_images import fitting, shrunk_mask
from pipeline.types import F64, Mask

MAX_SIDE = 4096
"""Longer side above which images are shrunk to it [px]: no stage gains from more."""
HEAD_BYTES = 2**18
"""Bytes of a file that are looked at where its pixels aren't needed."""
LARGE_PIXELS = 40_000_000
"""Larger images are decoded one at a time: each takes hundreds of megabytes until it is shrunk."""
GUESSED_FOCAL = 0.85
"""Focal length by the longer side where nothing is known.

Main cameras of phones have 24-28 mm (35 mm equivalent), 0.69-0.81 of the longer side in 4:3 and up to 0.95 in
stabilised video; SfM refines it.
"""
IMAGE_FOLDER, MASK_FOLDER = "images", "masks"
_MASK_FOLDERS = (MASK_FOLDER, "mask")
MASK_SUFFIXES = (".png", ".jpg", ".jpeg")
"""Those of mask files, the likeliest first."""
MIN_SHARE = 0.02
"""Images whose mask leaves less than this show nothing that could be matched."""
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".heic", ".heif", ".webp", ".tif", ".tiff")
"""Of equal names the first counts."""

_LARGE = Lock()
_ROTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Operation for each EXIF orientation (CIPA DC-008, section 4.6.5)."""
_AXES = {
    Image.Transpose.FLIP_LEFT_RIGHT: ((-1, 0), (0, 1)),
    Image.Transpose.ROTATE_180: ((-1, 0), (0, -1)),
    Image.Transpose.FLIP_TOP_BOTTOM: ((1, 0), (0, -1)),
    Image.Transpose.TRANSPOSE: ((0, 1), (1, 0)),
    Image.Transpose.ROTATE_270: ((0, -1), (1, 0)),
    Image.Transpose.TRANSVERSE: ((0, -1), (-1, 0)),
    Image.Transpose.ROTATE_90: ((0, 1), (-1, 0)),
}
"""Right and down in an image after each operation, by those before it."""
_COLOURS = ("RGB", "RGBA", "RGBX", "L", "LA", "P", "CMYK", "YCbCr", "LAB")
"""Modes of TIFFs that are photos; depth and heights have floats or 16 bits."""
_MASK_REMEDY = (
    "black in a mask and transparency in an image mean: ignore this pixel. Invert the masks, take them away, or save "
    "the images without transparency"
)
_OPAQUE = 0.98  # smallest alpha of an opaque pixel, by the largest of its image
_USED = 128  # smallest value of a pixel that a JPEG mask leaves: its black is not quite 0


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """A decoded image.

    Attributes:
        image: RGB image, upright unless the orientation was ignored, at most `MAX_SIDE` long once it is shrunk.
        copy: The source's encoded pixels if they already are an upright 8-bit RGB JPEG or PNG, else None.
        suffix: Suffix of the file to write: ".jpg" or ".png".
        alpha: (H, W), False where the image is transparent; None where all is opaque.
        rotation: How the stored image was rotated upright, or None.
        whole: Width and height before it was shrunk; None if it wasn't.
    """

    image: Image.Image
    copy: bytes | None = None
    suffix: str = ".jpg"
    exif: Exif = field(default_factory=Exif)
    alpha: Mask | None = None
    rotation: Image.Transpose | None = None
    whole: Size | None = None
    credentials: Credentials | None = None

    @property
    def size(self) -> Size:
        """Width and height at the source, rotated like `image`: intrinsics and masks of the source belong to it."""
        return self.whole or self.image.size

    def shrunk(self) -> DecodedImage:
        """The image with at most `MAX_SIDE` pixels along the longer side."""
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


def turned(direction: F64, rotation: Image.Transpose | None) -> F64:
    """Directions (..., 3) in CV axes of a stored image, in those of the image that the rotation makes of it."""
    if rotation is None:
        return direction
    return np.concatenate([direction[..., :2] @ np.array(_AXES[rotation]).T, direction[..., 2:]], -1)


def note_on_shrinking(frames: Iterable[Frame]) -> tuple[str, ...]:
    """A note on images that were shrunk, by their size before; empty where none was."""
    sizes = {(*f.source_size, f.camera.width, f.camera.height) for f in frames if f.source_size}
    parts = [f"{w}x{h} were shrunk to {x}x{y}" for w, h, x, y in sorted(sizes)]
    more = f" and so were {len(parts) - 3} more sizes" if len(parts) > 3 else ""
    return (f"images of {', '.join(parts[:3])}{more}: nothing gains from more",) if parts else ()


def size_of(source: CaptureSource, name: str) -> Size | None:
    """Width and height of an image as it is stored; None where it can't be opened, which is told where it is decoded.

    The head of a file says it; only where that doesn't do, as where a TIFF's table lies at its end, all of it is read.
    """
    for content in (partial(source.head, name, HEAD_BYTES), partial(source.read, name)):
        with suppress(BadImageError), open_image(content()) as image:
            return image.size
    return None


def load_image(data: bytes, *, upright: bool = True, long_side: int | None = None) -> DecodedImage:
    """Decode an image of `image_files.PHOTOS` completely, and shrink it to `long_side`, by default `MAX_SIDE`.

    The EXIF orientation is applied unless `upright` is False: intrinsics that come with an image belong to its stored
    pixels.

    Raises:
        BadImageError: When it is truncated, too large or no image.
    """
    with open_image(data) as image, _LARGE if image.width * image.height > LARGE_PIXELS else nullcontext():
        exif, stored, size = exif_of(image), image.size, fitting(*image.size, long_side or MAX_SIDE)
        if image.format == "TIFF" and image.mode not in _COLOURS:
            raise BadImageError(f"a TIFF of numbers ({image.mode}) and no photo")
        upright = upright and image.format != "TIFF"  # which is decoded upright, whatever is asked for
        rotation = _ROTATIONS.get(exif.orientation) if upright else None
        drafted = image.draft(None, size) if size != stored else None  # a JPEG at a half, a quarter ...
        image.load()
        suffix = ".png" if image.format == "PNG" else ".jpg"
        is_coded = image.format in ("JPEG", "MPO") or (image.format == "PNG" and data[24] == 8)
        is_plain = is_coded and image.mode == "RGB" and "transparency" not in image.info  # opaque, 8-bit
        as_stored = rotation is None and size == stored and is_plain
        alpha = _opaque(image)
        image = _to_rgb(image)
        if size != stored:
            image = image.resize(size, Image.Resampling.BOX, box=drafted[1] if drafted else None)
            alpha = None if alpha is None else shrunk_mask(alpha, size)
    if rotation is not None:
        image = image.transpose(rotation)
        alpha = None if alpha is None else np.asarray(Image.fromarray(alpha).transpose(rotation))
    whole = None if size == stored else stored if image.size == size else (stored[1], stored[0])
    image.info.clear()  # what is encoded again has no metadata
    copy = without_metadata(data) if as_stored else None
    return DecodedImage(image, copy, suffix, exif, alpha, rotation, whole, credentials_of_image(data))


def guessed_camera(size: Size) -> Camera:
    """A pinhole camera of usual focal length with centred principal point."""
    focal = GUESSED_FOCAL * max(size)
    return Camera(*size, focal, focal, size[0] / 2, size[1] / 2)


def exif_camera(image: DecodedImage) -> tuple[Camera, FocalSource]:
    """A pinhole camera with centred principal point, its focal length from EXIF or guessed."""
    camera = guessed_camera(image.image.size)
    if image.exif.focal is None:
        return camera, "guessed"
    focal = image.exif.focal * max(image.image.size) / max(image.size)
    return replace(camera, fx=focal, fy=focal), "exif"


def _opaque(image: Image.Image) -> Mask | None:
    """Pixels (H, W) that are opaque; None where all are or the image has no alpha, or the same alpha everywhere."""
    if "A" not in image.getbands() and "transparency" not in image.info:
        return None
    with_alpha = image if "A" in image.getbands() else image.convert("RGBA")
    alpha = np.asarray(with_alpha.getchannel("A"))
    opaque = alpha >= _OPAQUE * alpha.max()
    return None if opaque.all() else opaque


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":  # 16-bit grey: PIL would clip instead of scale
        return Image.fromarray((np.asarray(image, np.float64) / 257).clip(0, 255).astype(np.uint8)).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def find_masks(source: CaptureSource, images: Iterable[str], camera: str = "") -> dict[str, str]:
    """Names of the mask files by image, for the images that have one, in either case.

    A mask lies in a folder masks/ (or mask/) beside the image or beside one of its folders, as `<image>.png` (COLMAP's
    naming), `<stem>` of any image format or a name with "mask" in it, such as `<stem>_mask.png`; the latter also beside
    the image. `masks/<camera>.png` serves all other images of that camera: what a robot sees of itself.
    """
    present = {name.lower(): name for name in source.names if "mask" in name.lower()}
    masks = {}
    for image in images if present else ():
        names = [*_mask_names(image.lower()), *(f"{folder}/{camera}.png".lower() for folder in _MASK_FOLDERS if camera)]
        if mask := next((present[name] for name in names if name in present), None):
            masks[image] = mask
    return masks


def _mask_names(image: str) -> Iterator[str]:
    """Where an image's mask may lie, all in lower case, the likeliest first."""
    *folders, file = image.split("/")
    stem = file.rpartition(".")[0]
    marked = [f"{part}{joint}mask" for part in (file, stem) for joint in "_.-"]
    marked += [f"mask{joint}{stem}" for joint in "_-"]
    names = [f"{part}{suffix}" for part in (file, stem, *marked) for suffix in MASK_SUFFIXES]
    for at in reversed(range(len(folders) + 1)):
        for rest in reversed(range(at, len(folders) + 1)):
            for masks in _MASK_FOLDERS:
                yield from ("/".join([*folders[:at], masks, *folders[rest:], name]) for name in names)
    yield from ("/".join([*folders, part + suffix]) for part in marked for suffix in MASK_SUFFIXES)


def image_mask(decoded: DecodedImage, data: bytes | None) -> Mask | None:
    """Which pixels of an image count, by its mask file and its alpha.

    The mask file's content, if there is one, may have the upright or the stored image's size; it is shrunk with the
    image. The result (H, W) is False where a pixel is to be ignored; None where all pixels count.

    Raises:
        BadImageError: When the mask can't be decoded, has another size or leaves hardly any pixel.
    """
    mask = decoded.alpha
    if data is not None:
        from_file = _load_mask(data, decoded)
        mask = from_file if mask is None else mask & from_file
    if mask is None or mask.all():
        return None
    if mask.mean() < MIN_SHARE:
        raise BadImageError(f"its mask leaves {mask.mean():.1%} of the image", _MASK_REMEDY)
    return mask


def save_mask(mask: Mask, folder: Path, name: str) -> str:
    """Write a mask as 8-bit PNG, 0 = ignore, 255 = use; gives its path relative to the capture's root `folder`."""
    relative = f"{MASK_FOLDER}/{name}.png"
    path = folder / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.where(mask, np.uint8(255), np.uint8(0))).save(path)
    return relative


def _load_mask(data: bytes, decoded: DecodedImage) -> Mask:
    try:
        with open_image(data) as stored:
            least = _USED if stored.format in ("JPEG", "MPO") else 1
            image = ImageOps.exif_transpose(stored)
    except BadImageError as error:
        raise BadImageError(f"its mask: {error}", error.remedy) from error
    if image.size != decoded.size and decoded.rotation is not None:  # a mask of the stored image
        image = image.transpose(decoded.rotation)
    if image.size != decoded.size:
        width, height = decoded.size
        remedy = "give masks of the images' size, or take them away"
        raise BadImageError(f"its mask is {image.width} x {image.height}, the image {width} x {height}", remedy)
    if image.mode in ("P", "PA", "1", "LA", "RGBA"):
        image = image.convert("RGB")  # palettes number their colours: only the converted image knows what black is
    values = np.asarray(image)
    mask = np.asarray((values.reshape(*values.shape[:2], -1) >= least).any(-1))
    return mask if decoded.whole is None else shrunk_mask(mask, decoded.image.size)
