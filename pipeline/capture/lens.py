"""Lenses as COLMAP names them, and what they show made straight where the canonical camera can't hold them.

Models and the order of their parameters: COLMAP's src/colmap/sensor/models.h; its pixels have their centres at +0.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.capture.checks import checked_camera
from pipeline.capture.frames import Size
from pipeline.capture.masks import picture_mask
from pipeline.capture.pictures import MAX_PIXELS, Picture
from pipeline.errors import CaptureError
from pipeline.geometry import Camera

Array = NDArray[np.float64]

LAYOUTS: dict[str, tuple[int, tuple[str, ...]]] = {
    "SIMPLE_PINHOLE": (0, ("f", "cx", "cy")),
    "PINHOLE": (1, ("fx", "fy", "cx", "cy")),
    "SIMPLE_RADIAL": (2, ("f", "cx", "cy", "k1")),
    "RADIAL": (3, ("f", "cx", "cy", "k1", "k2")),
    "OPENCV": (4, ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2")),
    "OPENCV_FISHEYE": (5, ("fx", "fy", "cx", "cy", "k1", "k2", "k3", "k4")),
    "FULL_OPENCV": (6, ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")),
    "FOV": (7, ("fx", "fy", "cx", "cy", "omega")),
    "SIMPLE_RADIAL_FISHEYE": (8, ("f", "cx", "cy", "k1")),
    "RADIAL_FISHEYE": (9, ("f", "cx", "cy", "k1", "k2")),
    "THIN_PRISM_FISHEYE": (10, ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2", "k3", "k4", "sx1", "sy1")),
    "RAD_TAN_THIN_PRISM_FISHEYE": (
        11,
        ("fx", "fy", "cx", "cy", "k0", "k1", "k2", "k3", "k4", "k5", "p0", "p1", "s0", "s1", "s2", "s3"),
    ),
    "SIMPLE_DIVISION": (12, ("f", "cx", "cy", "k")),
    "DIVISION": (13, ("fx", "fy", "cx", "cy", "k")),
    "SIMPLE_FISHEYE": (14, ("f", "cx", "cy")),
    "FISHEYE": (15, ("fx", "fy", "cx", "cy")),
    "EUCM": (16, ("fx", "fy", "cx", "cy", "alpha", "beta")),
}
"""Number in binary files and names of the parameters by model; panoramas (EQUIRECTANGULAR) show no straight picture."""
HELD = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV")
"""Models that the canonical `Camera` holds: their pictures are passed on untouched."""
_ZOOMS = np.geomspace(4.0, 0.7, 60)  # focal lengths of the straight picture tried, by the lens's own, narrowest first


@dataclass(frozen=True)
class Lens:
    """A lens for pictures of one size.

    Attributes:
        model: A key of `LAYOUTS`.
        width: Of its pictures [px].
        height: Of its pictures [px].
        params: In the order of `LAYOUTS`, pixels with centres at +0.5.
        radius: Pixels farther from the picture's middle show nothing [px]; None where all do.
    """

    model: str
    width: int
    height: int
    params: tuple[float, ...]
    radius: float | None = None

    @property
    def named(self) -> dict[str, float]:
        """Parameters by name; "fx" and "fy" for models with one focal length, too."""
        values = dict(zip(LAYOUTS[self.model][1], self.params, strict=True))
        focal = values.get("f")
        return values if focal is None else {**values, "fx": focal, "fy": focal}

    @property
    def held(self) -> bool:
        """Whether the canonical camera can describe it."""
        return self.model in HELD and self.radius is None


def checked_lens(model: str, size: Size, params: Sequence[float], file: str, radius: float | None = None) -> Lens:
    """A lens whose numbers can belong to pictures of that (width, height).

    Raises:
        CaptureError: When the model is unknown, has another number of parameters, or they make no sense.
    """
    if model not in LAYOUTS:
        raise CaptureError(
            f"a camera model must be one of {', '.join(LAYOUTS)}",
            found=repr(model)[:80],
            remedy="undistort the pictures with the tool that wrote the capture, and export that",
            file=file,
        )
    names, (width, height) = LAYOUTS[model][1], size
    if len(params) != len(names) or not np.isfinite(params).all():
        raise CaptureError(
            f"a camera {model} has the {len(names)} parameters {', '.join(names)}",
            found=" ".join(f"{value:g}" for value in params) or "none",
            remedy="export the cameras again",
            file=file,
        )
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise CaptureError(
            f"a camera's pictures must have a size of at most {MAX_PIXELS // 10**6} million pixels",
            found=f"{width} x {height}",
            remedy="export the cameras again",
            file=file,
        )
    lens = Lens(model, width, height, tuple(float(value) for value in params), radius)
    values = lens.named
    checked_camera((values["fx"], values["fy"], values["cx"], values["cy"]), size, file)
    return lens


def camera_of(lens: Lens, file: str) -> Camera:
    """The canonical camera of the pictures that are written: the lens itself, or a pinhole where it can't be held.

    Raises:
        CaptureError: When the lens has to be made straight and can't be.
    """
    if not lens.held:
        return pinhole_of(lens, file)
    values = lens.named
    k1, k2, p1, p2 = (values.get(name, 0.0) for name in ("k1", "k2", "p1", "p2"))
    focal = values["fx"], values["fy"]
    return Camera(lens.width, lens.height, *focal, values["cx"], values["cy"], (k1, k2, p1, p2))


def is_straight(lens: Lens) -> bool:
    """Whether it is a pinhole already."""
    return lens.held and not any(value for name, value in lens.named.items() if name[0] in "kp")


def pinhole_of(lens: Lens, file: str) -> Camera:
    """The pinhole camera of the same size, zoomed just so far that every pixel has a source in the lens's picture.

    Raises:
        CaptureError: When there is none.
    """
    camera = _widest(lens)
    if camera is None:
        raise CaptureError(
            "a lens must show a straight picture of a usable angle",
            found=f"{lens.model} with {', '.join(f'{name} {value:g}' for name, value in lens.named.items())}",
            remedy="check the lens's parameters, or undistort the pictures before",
            file=file,
        )
    return camera


@lru_cache(maxsize=64)
def _widest(lens: Lens) -> Camera | None:
    values = lens.named
    plain = Camera(lens.width, lens.height, values["fx"], values["fy"], values["cx"], values["cy"])
    if is_straight(lens):
        return plain
    best = None
    for zoom in _ZOOMS:
        camera = replace(plain, fx=float(plain.fx * zoom), fy=float(plain.fy * zoom))
        if not _covered(camera, lens):
            break
        best = camera
    return best


def straight_picture(picture: Picture, mask: bytes | None, lens: Lens, pinhole: Camera) -> Picture:
    """The picture that the pinhole camera would have taken; its alpha says which pixels count, by mask and alpha.

    Raises:
        BadPictureError: When the mask does not fit.
    """
    width, height = picture.image.size
    source = _source(lens, pinhole.resized(width, height))
    x = source[..., 0] * np.float32(width / lens.width) - np.float32(0.5)
    y = source[..., 1] * np.float32(height / lens.height) - np.float32(0.5)
    kept = picture_mask(picture, mask)
    if kept is not None:  # the cubic kernel reaches two pixels far
        near = cv2.erode(kept.astype(np.uint8), np.ones((5, 5), np.uint8))
        kept = cv2.remap(near, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE) > 0
    colors = cv2.remap(np.asarray(picture.image), x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return replace(picture, image=Image.fromarray(np.asarray(colors, np.uint8)), copy=None, alpha=kept)


def straight_depth(depth: NDArray[np.uint16], lens: Lens, pinhole: Camera) -> NDArray[np.uint16]:
    """Planar depth (H, W) of any size, seen through the pinhole camera: the nearest reading, none is mixed."""
    height, width = depth.shape
    source = _source(lens, pinhole.resized(width, height)) * (width / lens.width, height / lens.height)
    column, row = np.floor(source).astype(np.int64).transpose(2, 0, 1)
    return depth[row.clip(0, height - 1), column.clip(0, width - 1)]


def _project(lens: Lens, rays: Array) -> Array:
    """Pixels (..., 2) of directions (..., 3) with z = 1."""
    import pycolmap

    camera = pycolmap.Camera(model=lens.model, width=lens.width, height=lens.height, params=list(lens.params))
    return np.asarray(camera.img_from_cam(rays.reshape(-1, 3))).reshape(*rays.shape[:-1], 2)


@lru_cache(maxsize=2)
def _source(lens: Lens, pinhole: Camera) -> NDArray[np.float32]:
    """Where (H, W, 2) the pinhole camera's pixels lie in the lens's picture."""
    found = np.empty((pinhole.height, pinhole.width, 2), np.float32)
    columns = np.arange(pinhole.width) + 0.5
    for row, place in enumerate(found):  # one row at a time: the rays of a whole picture take far more than the map
        place[:] = _project(lens, pinhole.rays(np.stack([columns, np.full_like(columns, row + 0.5)], -1)))
    return found


def _covered(pinhole: Camera, lens: Lens) -> bool:
    """Whether the whole pinhole picture lies in the lens's, and the lens does not fold back before its edge."""
    width, height, centre = pinhole.width, pinhole.height, np.array([pinhole.cx, pinhole.cy])
    x, y = np.linspace(0, width, 33), np.linspace(0, height, 33)
    sides = [np.c_[x, 0 * x], np.c_[x, 0 * x + height], np.c_[0 * y, y], np.c_[0 * y + width, y]]
    share = np.linspace(0, 1, 17)[:, None, None]
    pixels = _project(lens, pinhole.rays(centre + share * (np.concatenate(sides) - centre)))
    if not np.isfinite(pixels).all():
        return False
    outwards = np.diff(np.linalg.norm(pixels - pixels[:1], axis=-1), axis=0)
    edge, size = pixels[-1], np.array([width, height])
    inside = bool(((edge >= 0) & (edge <= size)).all())
    if lens.radius is not None:
        inside &= float(np.linalg.norm(edge - size / 2, axis=-1).max()) <= lens.radius
    return inside and float(outwards.min()) > 0
