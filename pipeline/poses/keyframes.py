"""Keyframes at working size: their cameras, images and masks, and pinhole images without distortion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from pipeline.capture.model import Capture, Frame, Selection
from pipeline.errors import ReconstructionError
from pipeline.geometry import Camera
from pipeline.io.working_images import fitting, shrunk_mask
from pipeline.types import F32, F64, U8, Mask

SAME_FOCAL = 0.02
"""Largest relative difference of focal lengths within a camera: a phone's autofocus changes them by < 1 %."""
MAX_CENTRE_NOISE = 1.0
"""Largest distance of declared principal points from their camera's median [px at working size] that is noise; beyond
it a stabiliser moved the lens, and every image keeps its own intrinsics."""

NEGLIGIBLE = 0.1
"""Largest distortion that is ignored [px]: resampling would blur more than it corrects."""
LENSES = 4
"""Lenses whose undistortion is kept: most captures have one for all images."""


@dataclass(frozen=True, eq=False)
class Keyframe:
    """A selected frame at working size; ids are 1, 2, ... in capture order and COLMAP's too.

    `camera` are the declared intrinsics, median of the group `camera_id`; `own` are those of this image, None where
    `camera` holds for the whole group.
    """

    image_id: int
    frame: Frame
    held_out: bool
    camera: Camera
    camera_id: int
    own: Camera | None = None

    @property
    def name(self) -> str:
        """The frame's name."""
        return self.frame.name

    def to_camera(self, pixels: F32) -> F32:
        """Pixels (N, 2) of the image as pixels of `camera`."""
        if self.own is None:
            return pixels
        zoom = [self.camera.fx / self.own.fx, self.camera.fy / self.own.fy]
        moved = (pixels - [self.own.cx, self.own.cy]) * zoom + [self.camera.cx, self.camera.cy]
        return moved.astype(np.float32)

    def lens(self, estimated: Camera) -> Camera:
        """This image's own lens, distortion included, given the estimate of `camera`."""
        if self.own is None:
            return estimated
        zoom_x, zoom_y = self.own.fx / self.camera.fx, self.own.fy / self.camera.fy
        cx = (estimated.cx - self.camera.cx) * zoom_x + self.own.cx
        cy = (estimated.cy - self.camera.cy) * zoom_y + self.own.cy
        return replace(estimated, fx=estimated.fx * zoom_x, fy=estimated.fy * zoom_y, cx=cx, cy=cy)


def load_keyframes(capture: Capture, selection: Selection, image_size: int) -> tuple[Keyframe, ...]:
    """The selected frames, with cameras at working size.

    Raises:
        ReconstructionError: With fewer than three keyframes outside the held-out ones.
    """
    held_out = {keyframe.name: keyframe.held_out for keyframe in selection.keyframes}
    frames = [frame for frame in capture.frames if frame.name in held_out]
    training = sum(not held_out[frame.name] for frame in frames)
    if training < 3:
        raise ReconstructionError(
            "a reconstruction needs at least 3 images that are not held out",
            found=f"{training} of {len(frames)} keyframes",
            remedy="take more images of the scene, each overlapping the next by two thirds",
            file=capture.root,
        )
    cameras = [f.camera.resized(*fitting(f.camera.width, f.camera.height, image_size)) for f in frames]
    groups = _group(cameras, [frame.sensor for frame in frames])
    shared = {group: _median([c for c, g in zip(cameras, groups, strict=True) if g == group]) for group in set(groups)}
    moving = {
        group
        for camera, group in zip(cameras, groups, strict=True)
        if max(abs(camera.cx - shared[group].cx), abs(camera.cy - shared[group].cy)) > MAX_CENTRE_NOISE
    }
    return tuple(
        Keyframe(n, frame, held_out[frame.name], shared[group], group, own if group in moving else None)
        for n, (frame, group, own) in enumerate(zip(frames, groups, cameras, strict=True), 1)
    )


def exact_cameras(keyframes: Sequence[Keyframe]) -> set[int]:
    """Ids of the cameras whose lenses are exact, so that nothing refines them."""
    return {keyframe.camera_id for keyframe in keyframes if keyframe.frame.focal_source == "exact"}


def read_keyframe(root: Path, keyframe: Keyframe) -> U8:
    """The image at working size, RGB (H, W, 3); a ReconstructionError when it can't be read."""
    image = _decode(root / keyframe.frame.image, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION, "image")
    size = keyframe.camera.width, keyframe.camera.height
    if size != (image.shape[1], image.shape[0]):
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(image[:, :, ::-1], np.uint8)


def read_keyframe_mask(root: Path, keyframe: Keyframe) -> Mask | None:
    """Valid pixels (H, W) of the image at working size, None if all are; a ReconstructionError as above."""
    if keyframe.frame.mask is None:
        return None
    mask = _decode(root / keyframe.frame.mask, cv2.IMREAD_GRAYSCALE, "mask")
    return shrunk_mask(mask > 0, (keyframe.camera.width, keyframe.camera.height))


def _decode(path: Path, mode: int, what: str) -> np.ndarray:
    image = cv2.imdecode(np.fromfile(path, np.uint8), mode)
    if image is None:
        rule = f"a keyframe's {what} must be readable"
        raise ReconstructionError(rule, found="no image", remedy="build again", file=path)
    return np.asarray(image)


def _group(cameras: list[Camera], sensors: list[str | None]) -> list[int]:
    """Group numbers from 1; a camera joins the first group whose first camera, of the same sensor, is similar."""
    firsts: list[tuple[Camera, str | None]] = []
    groups = []
    for own in zip(cameras, sensors, strict=True):
        similar = (n for n, first in enumerate(firsts) if own[1] == first[1] and _similar(own[0], first[0]))
        group = next(similar, len(firsts))
        if group == len(firsts):
            firsts.append(own)
        groups.append(group + 1)
    return groups


def _similar(a: Camera, b: Camera) -> bool:
    same_size = (a.width, a.height) == (b.width, b.height)
    same_focal = abs(a.fx / b.fx - 1) < SAME_FOCAL and abs(a.fy / b.fy - 1) < SAME_FOCAL
    same_centre = abs(a.cx - b.cx) < SAME_FOCAL * a.width and abs(a.cy - b.cy) < SAME_FOCAL * a.height
    return same_size and same_focal and same_centre and np.allclose(a.distortion, b.distortion, atol=0.01)


def _median(cameras: list[Camera]) -> Camera:
    columns = [[c.fx, c.fy, c.cx, c.cy, *c.distortion] for c in cameras]
    fx, fy, cx, cy, k1, k2, p1, p2 = np.median(columns, axis=0).tolist()
    return Camera(cameras[0].width, cameras[0].height, fx, fy, cx, cy, (k1, k2, p1, p2))


@lru_cache(maxsize=LENSES)
def pinhole_for(camera: Camera) -> Camera:
    """The pinhole camera of the same size with the widest view in which every pixel has a source."""
    if _is_nearly_pinhole(camera):
        return _zoomed(camera, 1.0)
    low, high = 0.7, 2.0
    for _ in range(30):
        middle = (low + high) / 2
        pinhole = _zoomed(camera, middle)
        source = camera.project(pinhole.rays(_border(pinhole)))
        if ((source >= 0) & (source <= np.array([camera.width, camera.height]))).all():
            high = middle
        else:
            low = middle
    return _zoomed(camera, high)


def undistort(image: U8, camera: Camera, pinhole: Camera) -> U8:
    """The image (H, W, 3) of the pinhole camera."""
    if _is_nearly_pinhole(camera):
        return image
    result = cv2.remap(image, *_source(camera, pinhole), cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(result, np.uint8)


def undistort_mask(mask: Mask, camera: Camera, pinhole: Camera) -> Mask:
    """Pixels (H, W) of the pinhole camera's image that show only valid pixels of the image."""
    if _is_nearly_pinhole(camera):
        return mask
    near = cv2.erode(mask.astype(np.float32), np.ones((3, 3), np.uint8))  # the cubic kernel spans two pixels each way
    result = cv2.remap(near, *_source(camera, pinhole), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(result, np.float32) > 1 - 1e-3


def write_undistorted(root: Path, keyframe: Keyframe, lens: Camera, path: Path) -> None:
    """Write a keyframe's image without the distortion of its lens, as PNG."""
    image = undistort(read_keyframe(root, keyframe), lens, pinhole_for(lens))
    _, data = cv2.imencode(".png", image[:, :, ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
    data.tofile(path)


def bearing_rays(camera: Camera, pixels: F32) -> F64:
    """Directions (N, 3) with z = 1 of pixels (N, 2), without the lens's distortion."""
    if not len(pixels):
        return np.zeros((0, 3))
    flat = cv2.undistortPoints(pixels[:, None].astype(np.float64), camera.matrix, np.array(camera.distortion))
    return np.c_[flat.reshape(-1, 2), np.ones(len(pixels))]


@lru_cache(maxsize=LENSES)
def _source(camera: Camera, pinhole: Camera) -> tuple[F32, F32]:
    """Columns and rows (H, W) of the pinhole camera's pixels in the image, in OpenCV's convention."""
    columns, rows = np.moveaxis(camera.project(pinhole.rays()).astype(np.float32) - np.float32(0.5), -1, 0)
    return np.ascontiguousarray(columns), np.ascontiguousarray(rows)


def _zoomed(camera: Camera, zoom: float) -> Camera:
    return Camera(camera.width, camera.height, camera.fx * zoom, camera.fy * zoom, camera.cx, camera.cy)


def _border(camera: Camera) -> F64:
    """Pixels (N, 2) along the image's border."""
    x, y = np.linspace(0, camera.width, 64), np.linspace(0, camera.height, 64)
    sides = [np.c_[x, 0 * x], np.c_[x, 0 * x + camera.height], np.c_[0 * y, y], np.c_[0 * y + camera.width, y]]
    return np.concatenate(sides)


def _is_nearly_pinhole(camera: Camera) -> bool:
    border = _border(camera)
    return camera.is_pinhole or np.abs(camera.project(_zoomed(camera, 1.0).rays(border)) - border).max() < NEGLIGIBLE
