"""Panoramas of 360-degree cameras: how they are told from photos, their vertical, and straight images cut from them.

The faces of a panorama are the images of a rig: their rotations are exact, and they have one centre. Sources: Google's
Photo Sphere XMP (GPano), whose angles are those of the image's middle; equirectangular images have longitudes across
and latitudes down.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from pipeline.capture.cameras.xmp import StatedGravity, gravity_of, number_of, text_of
from pipeline.capture.images import IMAGE_FOLDER, MAX_SIDE, DecodedImage, image_mask, load_image, save_mask
from pipeline.capture.model import Frame, InRig
from pipeline.geometry import Camera, Pose
from pipeline.io.image_files import BadImageError
from pipeline.types import Mask

SOURCE = "panoramas"
"""Name of the source of gravity."""
STATED_SIGMA_DEG, ASSUMED_SIGMA_DEG = 1.0, 3.0
"""One sigma of a panorama's vertical: where the file states its angles, and where it is taken for level as most cameras
make it."""
NADIR_DEG = 30.0
"""Angle from straight down within which the tripod or who carries the camera is seen: a disc 0.9 m in radius from eye
level."""
LONG_SIDE = 3 * MAX_SIDE
"""Longer side of a panorama above which it is shrunk [px]: its faces then have `MAX_SIDE`."""
SAME_SHAPE = 0.01
"""Largest relative difference of a whole panorama's width from twice its height."""
MEETING = 2.0
"""Largest difference of the two ends of a panorama's rows, by that of neighbours in them."""
POLE = 0.3
"""Largest spread of a panorama's top and bottom row, by that of the rows between them."""
_CAMERAS = re.compile(
    r"theta|insta360|arashi|qoocam|kandao|gear ?360|sm-c200|sm-r210|gopro (?:max|fusion)|labpano|pilot (?:one|era)"
    r"|virb ?360|vuze|madv|yi 360|osmo 360",
    re.IGNORECASE,
)
"""Makes and models of cameras that take panoramas."""
_TURNS = {"front": (0, 0), "right": (90, 0), "back": (180, 0), "left": (270, 0), "up": (0, 90), "down": (0, -90)}
"""Heading to the right and pitch of the faces [deg]."""


def _rig_from_camera(heading_deg: float, pitch_deg: float) -> Pose:
    (c, s), (d, t) = ((np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))) for angle in (heading_deg, pitch_deg))
    turn, tilt = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]), np.array([[1, 0, 0], [0, d, -t], [0, t, d]])
    return Pose(turn @ tilt, np.zeros(3))


FACES: Mapping[str, Pose] = {name: _rig_from_camera(*turn) for name, turn in _TURNS.items()}
"""The faces' poses in the panorama's axes: x right, y down, z to the image's middle."""


@dataclass(frozen=True, eq=False)
class Face:
    """A straight image that was cut from a panorama; what its mask leaves out doesn't count, None where all counts."""

    name: str
    image: Image.Image
    camera: Camera
    mask: Mask | None


def panorama_of(data: bytes, image: DecodedImage) -> StatedGravity | None:
    """The vertical of the panorama that an image is by its XMP or its camera; None for a straight image.

    Raises:
        BadImageError: When it shows a part of the sphere only, has another projection, or looks like a panorama and
            nothing says so.
    """
    projection, (width, height) = text_of(data, "GPano:ProjectionType"), image.size
    is_whole = abs(width / (2 * height) - 1) <= SAME_SHAPE
    if projection is None and not (is_whole and _CAMERAS.search(image.exif.camera)):
        if is_whole and _looks_like_one(image.image):
            found = "it looks like a panorama (twice as wide as high, its ends meet), but nothing says that it is one"
            raise BadImageError(found, "write it: exiftool -XMP-GPano:ProjectionType=equirectangular FILE")
        return None
    remedy = "export whole equirectangular panoramas, or cut them into straight images"
    if (projection or "equirectangular").lower() != "equirectangular":
        raise BadImageError("a panorama of another projection than equirectangular", remedy)
    if not is_whole or _is_cropped(data):
        raise BadImageError("a panorama that shows a part of the sphere only", remedy)
    pitch, roll = (number_of(data, f"GPano:Pose{angle}Degrees") for angle in ("Pitch", "Roll"))
    sigma = ASSUMED_SIGMA_DEG if pitch is None and roll is None else STATED_SIGMA_DEG
    return StatedGravity(gravity_of(pitch or 0.0, roll or 0.0), sigma, SOURCE)


def faces_of(panorama: DecodedImage, mask: Mask | None) -> Iterator[Face]:
    """The faces of a panorama, as sharp in their middle as it is; what lies near straight down doesn't count.

    `mask` (H, W) is the panorama's own, None where all of it counts.
    """
    pixels = np.asarray(panorama.image)
    height, width = pixels.shape[:2]
    side = round(width / np.pi)
    camera = Camera(side, side, side / 2, side / 2, side / 2, side / 2)
    counts = np.ones((height, width), np.uint8) if mask is None else mask.astype(np.uint8)
    near = cv2.erode(counts, np.ones((5, 5), np.uint8))  # the cubic kernel reaches two pixels far
    for name, rig_from_camera in FACES.items():
        x, y, z = np.moveaxis(rig_from_camera.rotate(camera.rays()).astype(np.float32), -1, 0)
        below = np.arctan2(y, np.hypot(x, z))
        column = (np.arctan2(x, z) / np.float32(2 * np.pi) + np.float32(0.5)) * width - np.float32(0.5)
        row = ((below / np.float32(np.pi) + np.float32(0.5)) * height - np.float32(0.5)).clip(0, height - 1)
        seen = cv2.remap(pixels, column, row, cv2.INTER_CUBIC, borderMode=cv2.BORDER_WRAP)
        kept = below < np.deg2rad(90 - NADIR_DEG)
        kept &= cv2.remap(near, column, row, cv2.INTER_NEAREST, borderMode=cv2.BORDER_WRAP) > 0
        yield Face(name, Image.fromarray(np.asarray(seen, np.uint8)), camera, None if kept.all() else kept)


def cut(frame: Frame, data: bytes, mask: bytes | None, stem: str, gravity: StatedGravity, out_dir: Path) -> list[Frame]:
    """The frames of a panorama's faces, written into a folder of its stem; its own image is removed.

    `data` and `mask` are the contents of its file and of its mask's, `gravity` is its vertical.
    """
    whole = load_image(data, long_side=LONG_SIDE)
    (out_dir / frame.image).unlink()
    (out_dir / IMAGE_FOLDER / stem).mkdir(parents=True)
    result = []
    for face in faces_of(whole, image_mask(whole, mask)):
        written = DecodedImage(face.image).save(out_dir / IMAGE_FOLDER / stem / face.name)
        result.append(
            replace(
                frame,
                name=f"{frame.name}-{face.name}.jpg",
                image=f"{IMAGE_FOLDER}/{stem}/{written.name}",
                camera=face.camera,
                focal_source="exact",
                mask=None if face.mask is None else save_mask(face.mask, out_dir, f"{stem}/{face.name}"),
                source_size=None,
                gravity=FACES[face.name].inverse().rotate(gravity.direction),
                sensor=f"{frame.sensor} {face.name}",
                in_rig=InRig(f"{frame.sensor} {whole.image.width}", frame.name, FACES[face.name]),
            )
        )
    return result


def _is_cropped(data: bytes) -> bool:
    """Whether the file declares that it shows less than the whole sphere; sizes before it was resized count."""
    for side in ("Width", "Height"):
        part, whole = (number_of(data, f"GPano:{of}{side}Pixels") for of in ("CroppedAreaImage", "FullPano"))
        if part and whole and abs(part / whole - 1) > SAME_SHAPE:
            return True
    return False


def _looks_like_one(image: Image.Image) -> bool:
    """Whether an image's left and right ends continue each other, and its top and bottom rows show one point each.

    Ends that show nothing, as of an object before a wall, don't meet.
    """
    grey = np.asarray(image.convert("L"), np.float32)
    across = np.abs(grey[:, 0] - grey[:, -1]).mean()
    neighbours = np.abs(grey[:, [0, -1]] - grey[:, [1, -2]]).mean()
    poles, rows = grey[[0, -1]].std(1).max(), grey[1:-1].std(1).mean()
    return bool(across <= MEETING * neighbours and poles < POLE * min(rows, grey[:, 0].std()))
