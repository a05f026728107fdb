"""Keyframes as the stage works on them: pictures at working size, cameras shared where they are the same."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.capture.model import Capture, Frame
from pipeline.capture.pictures import shrunk_mask
from pipeline.errors import ReconstructionError
from pipeline.geometry import Camera

SAME_FOCAL = 0.02
"""Pictures of one size whose focal lengths differ less share a camera: a phone's autofocus moves it by < 1 %."""
MOVED = 1.0
"""Where a picture's declared centre is further from its camera's median [px at working size], a stabiliser moved the
lens and all pictures' own intrinsics are believed; nearer, they are noise."""


@dataclass(frozen=True, eq=False)
class Keyframe:
    """A chosen frame at working size.

    Attributes:
        image_id: 1, 2, ... in capture order; also COLMAP's image id.
        frame: The capture's frame.
        held_out: Never part of the map.
        camera: Declared intrinsics at working size, its camera group's median.
        camera_id: The group, 1, 2, ...; also COLMAP's camera id.
        own: Declared intrinsics of this very picture at working size; None where `camera` serves the whole group.
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

    def to_camera(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Where pixels (N, 2) of the picture lie in one that `camera` would have taken."""
        if self.own is None:
            return pixels
        zoom = [self.camera.fx / self.own.fx, self.camera.fy / self.own.fy]
        moved = (pixels - [self.own.cx, self.own.cy]) * zoom + [self.camera.cx, self.camera.cy]
        return moved.astype(np.float32)

    def lens(self, found: Camera) -> Camera:
        """This picture's own lens, distortion included, where `found` is that of `camera` as estimated."""
        if self.own is None:
            return found
        zoom_x, zoom_y = self.own.fx / self.camera.fx, self.own.fy / self.camera.fy
        cx = (found.cx - self.camera.cx) * zoom_x + self.own.cx
        cy = (found.cy - self.camera.cy) * zoom_y + self.own.cy
        return replace(found, fx=found.fx * zoom_x, fy=found.fy * zoom_y, cx=cx, cy=cy)


def load_keyframes(capture: Capture, selection_file: Path, image_size: int) -> tuple[Keyframe, ...]:
    """The selected frames, with cameras at working size.

    Raises:
        ReconstructionError: With fewer than three keyframes outside the held-out ones.
    """
    chosen = json.loads(selection_file.read_text())["keyframes"]
    held_out = {entry["name"]: bool(entry["held_out"]) for entry in chosen}
    frames = [frame for frame in capture.frames if frame.name in held_out]
    training = sum(not held_out[frame.name] for frame in frames)
    if training < 3:
        raise ReconstructionError(
            "a reconstruction needs at least 3 pictures besides the held-out ones",
            found=f"{training} of {len(frames)} keyframes",
            remedy="take more pictures of the place, each overlapping the next by two thirds",
            file=capture.root,
        )
    cameras = [_working_camera(frame.camera, image_size) for frame in frames]
    groups = _group(cameras, [frame.sensor for frame in frames])
    shared = {group: _median([c for c, g in zip(cameras, groups, strict=True) if g == group]) for group in set(groups)}
    moving = {g for camera, g in zip(cameras, groups, strict=True) if _off_centre(camera, shared[g]) > MOVED}
    return tuple(
        Keyframe(n, frame, held_out[frame.name], shared[group], group, own if group in moving else None)
        for n, (frame, group, own) in enumerate(zip(frames, groups, cameras, strict=True), 1)
    )


def read_picture(root: Path, keyframe: Keyframe) -> NDArray[np.uint8]:
    """The picture at working size, RGB (H, W, 3).

    Raises:
        ReconstructionError: When it can't be read.
    """
    path = root / keyframe.frame.image
    picture = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if picture is None:
        raise ReconstructionError(
            "a keyframe's picture must be readable", found="no picture", remedy="build again", file=path
        )
    size = keyframe.camera.width, keyframe.camera.height
    if size != (picture.shape[1], picture.shape[0]):
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(picture[:, :, ::-1], np.uint8)


def read_keyframe_mask(root: Path, keyframe: Keyframe) -> NDArray[np.bool_] | None:
    """Which pixels (H, W) of the picture at working size count; None where all do.

    Raises:
        ReconstructionError: When the mask can't be read.
    """
    if keyframe.frame.mask is None:
        return None
    path = root / keyframe.frame.mask
    mask = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise ReconstructionError(
            "a keyframe's mask must be readable", found="no picture", remedy="build again", file=path
        )
    return shrunk_mask(np.asarray(mask) > 0, (keyframe.camera.width, keyframe.camera.height))


def _working_camera(camera: Camera, image_size: int) -> Camera:
    factor = min(1.0, image_size / max(camera.width, camera.height))
    return camera.resized(round(camera.width * factor), round(camera.height * factor))


def _group(cameras: list[Camera], sensors: list[str | None]) -> list[int]:
    """Group numbers from 1; a camera joins the first group whose founder, of the same sensor, it equals."""
    founders: list[tuple[Camera, str | None]] = []
    groups = []
    for camera, sensor in zip(cameras, sensors, strict=True):
        for number, (founder, of) in enumerate(founders, 1):
            if sensor == of and _alike(camera, founder):
                groups.append(number)
                break
        else:
            founders.append((camera, sensor))
            groups.append(len(founders))
    return groups


def _alike(a: Camera, b: Camera) -> bool:
    same_size = (a.width, a.height) == (b.width, b.height)
    same_focal = abs(a.fx / b.fx - 1) < SAME_FOCAL and abs(a.fy / b.fy - 1) < SAME_FOCAL
    same_centre = abs(a.cx - b.cx) < SAME_FOCAL * a.width and abs(a.cy - b.cy) < SAME_FOCAL * a.height
    return same_size and same_focal and same_centre and np.allclose(a.distortion, b.distortion, atol=0.01)


def _off_centre(a: Camera, b: Camera) -> float:
    return max(abs(a.cx - b.cx), abs(a.cy - b.cy))


def _median(cameras: list[Camera]) -> Camera:
    values = np.median([[c.fx, c.fy, c.cx, c.cy, *c.distortion] for c in cameras], axis=0).tolist()
    fx, fy, cx, cy, k1, k2, p1, p2 = values
    return Camera(cameras[0].width, cameras[0].height, fx, fy, cx, cy, (k1, k2, p1, p2))
