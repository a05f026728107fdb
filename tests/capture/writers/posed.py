"""Folders with finished poses as nerfstudio, instant-ngp, NeRF-synthetic, NeRFCapture and COLMAP write them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipeline.geometry import CV_FROM_GL, Camera, Pose
from tests.synthetic import Room

WORLD = Pose.from_quaternion(np.array([0.5, 0.5, -0.5, 0.5]), [0.4, -1.3, 0.9])
"""A world of its own, so that a forgotten or doubled world transform shows."""


@dataclass(frozen=True)
class Fisheye:
    """A lens of COLMAP's OPENCV_FISHEYE that a `Room` can render through.

    Attributes:
        width: Of its images [px].
        height: Of its images [px].
        params: fx, fy, cx, cy, k1 .. k4.
    """

    width: int
    height: int
    params: tuple[float, ...]

    def resized(self, width: int, height: int) -> Fisheye:
        """The same lens for images of another size."""
        by = np.array([width / self.width, height / self.height] * 2)
        return Fisheye(width, height, (*(np.array(self.params[:4]) * by).tolist(), *self.params[4:]))

    def rays(self) -> np.ndarray:
        """Directions (H, W, 3) with z = 1 of all pixel centres."""
        grid = np.stack(np.meshgrid(np.arange(self.width) + 0.5, np.arange(self.height) + 0.5), -1)
        fx, fy, cx, cy, *k = self.params
        matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
        flat = cv2.fisheye.undistortPoints(grid.reshape(-1, 1, 2), matrix, np.array(k))
        return np.concatenate([flat.reshape(self.height, self.width, 2), np.ones((self.height, self.width, 1))], -1)


@lru_cache(maxsize=100)
def rendered(room: Room, lens: Any, pose: Pose) -> tuple[np.ndarray, np.ndarray]:
    """`room.render`, once for all tests."""
    return room.render(lens, pose)


def gl_matrix(pose: Pose) -> list[list[float]]:
    """The 4x4 camera-to-world of GL axes."""
    return Pose(pose.rotation @ CV_FROM_GL, pose.translation).matrix.tolist()


def intrinsics(camera: Camera) -> dict[str, Any]:
    """As transforms.json names them."""
    values = {"fl_x": camera.fx, "fl_y": camera.fy, "cx": camera.cx, "cy": camera.cy}
    return {**values, "w": camera.width, "h": camera.height}


def write_transforms(
    folder: Path,
    room: Room,
    poses: list[Pose],
    camera: Any,
    shared: dict[str, Any],
    own: Callable[[int], dict[str, Any]] = lambda number: {},
    *,
    depth_units: float = 0.0,
    name: Callable[[int], str] = "images/frame_{:05d}".format,
    file: str = "transforms.json",
) -> None:
    """Images, depth of `depth_units` a metre and a transforms.json with the values of the file and of each frame."""
    frames = []
    for i, pose in enumerate(poses):
        rgb, depth = rendered(room, camera, pose)
        path = folder / f"{name(i)}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), rgb[..., ::-1])
        if depth_units:
            target = folder / f"depth/{i:05d}.png"
            target.parent.mkdir(exist_ok=True)
            cv2.imwrite(str(target), (depth * depth_units).round().astype(np.uint16))
        entry = {"file_path": f"{name(i)}.png", "transform_matrix": gl_matrix(WORLD @ pose), **own(i)}
        frames.append({key: value for key, value in entry.items() if value is not None})
    (folder / file).write_text(json.dumps({**shared, "frames": frames}))


def write_colmap(
    folder: Path,
    room: Room,
    poses: list[Pose],
    lenses: list[tuple[Any, str, list[float]]],
    *,
    text: bool = False,
    scale: float = 1.0,
    rig: Pose | None = None,
) -> None:
    """A COLMAP project written by pycolmap; image i is of lens i modulo their number.

    Args:
        folder: Gets sparse/0 and images/.
        room: What the images show.
        poses: World from camera.
        lenses: What renders (a `Camera` or `Fisheye`), COLMAP's model and its parameters.
        text: Instead of binary files.
        scale: Model units of a metre.
        rig: Second camera from the first; the cameras are a rig then, and `poses` those of the first.
    """
    import pycolmap

    model = pycolmap.Reconstruction()
    sensors = []
    for number, (lens, name, params) in enumerate(lenses, 1):
        sensor = pycolmap.Camera(camera_id=number, model=name, width=lens.width, height=lens.height, params=params)
        sensors.append(sensor)
        if rig is None:
            model.add_camera_with_trivial_rig(sensor)
    if rig is not None:
        together = pycolmap.Rig(rig_id=1)
        together.add_ref_sensor(sensors[0].sensor_id)
        together.add_sensor(sensors[1].sensor_id, _rigid(Pose(rig.rotation, scale * rig.translation)))
        for sensor in sensors:
            model.add_camera(sensor)
        model.add_rig(together)
    key = 0
    for i, pose in enumerate(poses):
        scaled = Pose((WORLD @ pose).rotation, scale * (WORLD @ pose).translation).inverse()
        numbers = range(len(lenses)) if rig is not None else [i % len(lenses)]
        if rig is not None:
            moment = pycolmap.Frame(frame_id=i + 1, rig_id=1, rig_from_world=_rigid(scaled))
            for number in numbers:
                moment.add_data_id(pycolmap.data_t(sensors[number].sensor_id, key + number + 1))
            model.add_frame(moment)
        for number in numbers:
            key += 1
            name = f"cam{number}/{i:04d}.png" if len(lenses) > 1 else f"{i:04d}.png"
            image = pycolmap.Image(name=name, camera_id=number + 1, image_id=key)
            if rig is None:
                model.add_image_with_trivial_frame(image, _rigid(scaled))
            else:
                image.frame_id = i + 1
                model.add_image(image)
            seen = pose @ rig.inverse() if rig is not None and number == 1 else pose
            path = folder / "images" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), rendered(room, lenses[number][0], seen)[0][..., ::-1])
    (folder / "sparse/0").mkdir(parents=True)
    (model.write_text if text else model.write_binary)(folder / "sparse/0")


def _rigid(pose: Pose) -> Any:
    import pycolmap

    return pycolmap.Rigid3d(pycolmap.Rotation3d(pose.rotation), pose.translation)
