"""Lenses as COLMAP names them, and the pinhole cameras that stand for those which the canonical camera can't hold.

Models and the order of their parameters: COLMAP's src/colmap/sensor/models.h; its pixels have their centres at +0.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from pipeline.capture.checks import checked_camera
from pipeline.capture.model import Size
from pipeline.errors import CaptureError
from pipeline.geometry import Camera
from pipeline.io.image_files import MAX_PIXELS
from pipeline.types import F32, F64, U16

_INTRINSICS = ("fx", "fy", "cx", "cy")
LAYOUTS: dict[str, tuple[str, ...]] = {
    "SIMPLE_PINHOLE": ("f", "cx", "cy"),
    "PINHOLE": _INTRINSICS,
    "SIMPLE_RADIAL": ("f", "cx", "cy", "k1"),
    "RADIAL": ("f", "cx", "cy", "k1", "k2"),
    "OPENCV": (*_INTRINSICS, "k1", "k2", "p1", "p2"),
    "OPENCV_FISHEYE": (*_INTRINSICS, "k1", "k2", "k3", "k4"),
    "FULL_OPENCV": (*_INTRINSICS, "k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"),
    "FOV": (*_INTRINSICS, "omega"),
    "SIMPLE_RADIAL_FISHEYE": ("f", "cx", "cy", "k1"),
    "RADIAL_FISHEYE": ("f", "cx", "cy", "k1", "k2"),
    "THIN_PRISM_FISHEYE": (*_INTRINSICS, "k1", "k2", "p1", "p2", "k3", "k4", "sx1", "sy1"),
    "RAD_TAN_THIN_PRISM_FISHEYE": (*_INTRINSICS, *(f"k{i}" for i in range(6)), "p0", "p1", "s0", "s1", "s2", "s3"),
    "SIMPLE_DIVISION": ("f", "cx", "cy", "k"),
    "DIVISION": (*_INTRINSICS, "k"),
    "SIMPLE_FISHEYE": ("f", "cx", "cy"),
    "FISHEYE": _INTRINSICS,
    "EUCM": (*_INTRINSICS, "alpha", "beta"),
}
"""Parameters by model, in the order of the models' numbers; panoramas (EQUIRECTANGULAR) show no straight image."""
_OPENCV = ("radial-tangential", "radtan", "plumb_bob", "rational_polynomial", "none", "")
"""Names of OpenCV's k1, k2, p1, p2 [, k3 [, k4, k5, k6]] (Kalibr: radtan; ROS: plumb_bob)."""
_FISHEYE = ("equidistant", "fisheye", "kannala_brandt", "kannala_brandt4")
"""Names of OpenCV's fisheye model, k1 to k4."""
CANONICAL = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV")
"""Models that the canonical `Camera` can describe: their images are passed on untouched."""
_ZOOMS = np.geomspace(4.0, 0.7, 60)  # focal lengths of the pinhole tried, by the lens's own, narrowest first


@dataclass(frozen=True)
class Lens:
    """A lens for images of one size, of a model in `LAYOUTS`.

    Attributes:
        params: Parameters in the order of `LAYOUTS`, pixels with centres at +0.5.
        radius: Pixels farther from the image's middle show nothing [px]; None where all show something.
    """

    model: str
    width: int
    height: int
    params: tuple[float, ...]
    radius: float | None = None

    @property
    def named(self) -> dict[str, float]:
        """Parameters by name; "fx" and "fy" for models with one focal length, too."""
        values = dict(zip(LAYOUTS[self.model], self.params, strict=True))
        focal = values.get("f")
        return values if focal is None else {**values, "fx": focal, "fy": focal}

    @property
    def canonical(self) -> bool:
        """Whether the canonical camera can describe it."""
        return self.model in CANONICAL and self.radius is None

    @property
    def is_pinhole(self) -> bool:
        """Whether it is free of distortion."""
        return self.canonical and not any(value for name, value in self.named.items() if name[0] in "kp")


def checked_lens(model: str, size: Size, params: Sequence[float], file: str, radius: float | None = None) -> Lens:
    """A lens whose numbers can belong to images of that (width, height).

    Raises:
        CaptureError: When the model is unknown, has another number of parameters, or they make no sense.
    """

    def refused(rule: str, found: str, remedy: str = "export the cameras again") -> CaptureError:
        return CaptureError(rule, found=found, remedy=remedy, file=file)

    if model not in LAYOUTS:
        remedy = "undistort the images with the tool that wrote the capture, and export that"
        raise refused(f"a camera model must be one of {', '.join(LAYOUTS)}", repr(model)[:80], remedy)
    names, (width, height) = LAYOUTS[model], size
    if len(params) != len(names) or not np.isfinite(params).all():
        found = " ".join(f"{value:g}" for value in params) or "none"
        raise refused(f"a camera {model} has the {len(names)} parameters {', '.join(names)}", found)
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        rule = f"a camera's images must have a size of at most {MAX_PIXELS // 10**6} million pixels"
        raise refused(rule, f"{width} x {height}")
    lens = Lens(model, width, height, tuple(float(value) for value in params), radius)
    values = lens.named
    checked_camera((values["fx"], values["fy"], values["cx"], values["cy"]), size, file)
    return lens


def opencv_lens(
    intrinsics: tuple[float, float, float, float], size: Size, model: str, coefficients: F64, file: str
) -> Lens:
    """A lens from intrinsics whose integers are pixel centres, and OpenCV's distortion coefficients.

    These are k1, k2, p1, p2 [, k3 [, k4, k5, k6]], of a fisheye lens k1, k2, k3, k4; the model is Kalibr's or ROS's.

    Raises:
        CaptureError: When the model is another, or the numbers can't belong to images of that size.
    """
    fx, fy, cx, cy = intrinsics
    values = [float(value) for value in np.ravel(coefficients)]
    if model.lower() in _FISHEYE and len(values) == 4:
        model = "OPENCV_FISHEYE"
    elif model.lower() not in _OPENCV or len(values) not in (4, 5, 8):
        raise CaptureError(
            "lens distortion must be radial-tangential (plumb_bob; 4, 5 or 8 coefficients) or equidistant (4)",
            found=f"{model} {values}",
            remedy="rectify the images (ROS: image_proc) and give the rectified camera",
            file=file,
        )
    elif any(values[4:]):
        model, values = "FULL_OPENCV", values + [0.0] * (8 - len(values))
    else:
        model, values = "OPENCV", values[:4]
    return checked_lens(model, size, (fx, fy, cx + 0.5, cy + 0.5, *values), file)


def brown_lens(
    intrinsics: tuple[float, float, float, float],
    size: Size,
    radial: Sequence[float],
    tangential: tuple[float, float],
    file: str,
) -> Lens:
    """A lens from fx, fy, cx, cy [px, centres at +0.5], radial k1, k2 ... and tangential p1, p2 in OpenCV's order.

    Raises:
        CaptureError: When it has more than three radial terms, or the numbers can't belong to images of that size.
    """
    k1, k2, k3, *more = (*radial, 0.0, 0.0, 0.0)
    if any(more):
        raise CaptureError(
            "a lens has at most three radial terms, k1 to k3",
            found=f"{' '.join(f'{value:g}' for value in radial)}",
            remedy="undistort the images with the program that wrote the cameras, and export those cameras",
            file=file,
        )
    model, k3_to_6 = ("FULL_OPENCV", (k3, 0.0, 0.0, 0.0)) if k3 else ("OPENCV", ())
    return checked_lens(model, size, (*intrinsics, k1, k2, *tangential, *k3_to_6), file)


def camera_of(lens: Lens, file: str) -> Camera:
    """The canonical camera of the images that are written: the lens itself if `canonical`, else a pinhole.

    Raises:
        CaptureError: When the images have to be undistorted and can't be.
    """
    if not lens.canonical:
        return pinhole_of(lens, file)
    values = lens.named
    k1, k2, p1, p2 = (values.get(name, 0.0) for name in ("k1", "k2", "p1", "p2"))
    focal = values["fx"], values["fy"]
    return Camera(lens.width, lens.height, *focal, values["cx"], values["cy"], (k1, k2, p1, p2))


def pinhole_of(lens: Lens, file: str) -> Camera:
    """The pinhole camera of the same size, zoomed just so far that every pixel has a source in the lens's image.

    Raises:
        CaptureError: When there is none.
    """
    camera = _widest(lens)
    if camera is None:
        raise CaptureError(
            "a lens must have an undistorted image of a usable angle",
            found=f"{lens.model} with {', '.join(f'{name} {value:g}' for name, value in lens.named.items())}",
            remedy="check the lens's parameters, or undistort the images yourself",
            file=file,
        )
    return camera


@lru_cache(maxsize=64)
def _widest(lens: Lens) -> Camera | None:
    values = lens.named
    plain = Camera(lens.width, lens.height, values["fx"], values["fy"], values["cx"], values["cy"])
    if lens.is_pinhole:
        return plain
    best = None
    for zoom in _ZOOMS:
        camera = replace(plain, fx=float(plain.fx * zoom), fy=float(plain.fy * zoom))
        if not _covered(camera, lens):
            break
        best = camera
    return best


def undistorted_depth(depth: U16, lens: Lens, pinhole: Camera) -> U16:
    """Planar depth (H, W) of any size, seen through the pinhole camera; nearest neighbour, no interpolation."""
    height, width = depth.shape
    source = source_pixels(lens, pinhole.resized(width, height)) * (width / lens.width, height / lens.height)
    column, row = np.floor(source).astype(np.int64).transpose(2, 0, 1)
    return depth[row.clip(0, height - 1), column.clip(0, width - 1)]


def _project(lens: Lens, rays: F64) -> F64:
    """Pixels (..., 2) of directions (..., 3) with z = 1."""
    import pycolmap

    camera = pycolmap.Camera(model=lens.model, width=lens.width, height=lens.height, params=list(lens.params))
    return np.asarray(camera.img_from_cam(rays.reshape(-1, 3))).reshape(*rays.shape[:-1], 2)


@lru_cache(maxsize=2)
def source_pixels(lens: Lens, pinhole: Camera) -> F32:
    """Positions (H, W, 2) in the lens's image [px] of the pinhole camera's pixels."""
    pixels = np.empty((pinhole.height, pinhole.width, 2), np.float32)
    columns = np.arange(pinhole.width) + 0.5
    for row, line in enumerate(pixels):  # one row at a time: the rays of a whole image take far more than the map
        line[:] = _project(lens, pinhole.rays(np.stack([columns, np.full_like(columns, row + 0.5)], -1)))
    return pixels


def _covered(pinhole: Camera, lens: Lens) -> bool:
    """Whether the whole pinhole image lies in the lens's, and the lens does not fold back before its edge."""
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
