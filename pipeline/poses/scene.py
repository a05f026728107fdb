"""The posed scene: keyframes with pinhole cameras and poses, and the sparse points they share."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path

import cv2
import numpy as np

from pipeline.errors import CaptureError
from pipeline.geometry import Camera, Pose, Similarity
from pipeline.io.working_images import load_written, shrunk_mask
from pipeline.poses.report import PosesReport
from pipeline.types import F32, F64, I32, U8, Mask

SCENE_FILE, POINTS_FILE = "scene.json", "points.npz"
INVALID_DEPTH = 65535
"""Unknown depth in some sensors' images, in addition to 0."""


@dataclass(frozen=True, eq=False)
class View:
    """One registered keyframe.

    Attributes:
        name: The capture frame's name.
        image: Path of the undistorted RGB image, relative to the poses folder.
        camera: Pinhole intrinsics of that image.
        world_from_camera: Pose in the scene's frame.
        held_out: Never part of the map or of training; localised against the map.
        sigma_rotation_deg: One sigma of the rotation [deg], or None where unknown.
        sigma_position: One sigma of the position [scene units], or None where unknown.
        sensor_depth: Path of the sensor's 16-bit depth PNG [mm], relative to the capture folder, or None.
        sensor_confidence: Path of its 8-bit confidence PNG, relative to the capture folder, or None.
        depth_camera: Calibrated pinhole intrinsics of the depth image, or None.
        camera_from_depth: Calibrated pose of the depth camera in the colour camera, or None.
        gravity: (3,) unit direction of gravity in the camera's axes, or None.
        source_camera: The lens as estimated, distortion included, at the capture's image size; None when the
            undistorted image is the capture's own.
        mask: Path of an 8-bit PNG of the image's size, relative to the poses folder, 0 = ignore, 255 = use; None
            where all pixels count.
        sensor: The camera of a rig, or None where there is only one.
    """

    name: str
    image: str
    camera: Camera
    world_from_camera: Pose
    held_out: bool
    sigma_rotation_deg: float | None = None
    sigma_position: float | None = None
    sensor_depth: str | None = None
    sensor_confidence: str | None = None
    depth_camera: Camera | None = None
    camera_from_depth: Pose | None = None
    gravity: F64 | None = None
    source_camera: Camera | None = None
    mask: str | None = None
    sensor: str | None = None


@dataclass(frozen=True, eq=False)
class SparsePoints:
    """Triangulated points (N, 3) in the scene's frame with colours and mean reprojection errors (N,) [px].

    Of each of M observations `view_index` is the scene's view, and `point_index` the point.
    """

    xyz: F64
    rgb: U8
    error: F64
    view_index: I32
    point_index: I32


@dataclass(frozen=True, eq=False)
class PosedScene:
    """The registered keyframes in capture order (a rig's camera by camera), and points from those not held out.

    Attributes:
        scale_sigma: Relative one sigma of the metric scale, or None while the scale is arbitrary.
        depth_scale: Factor of sensor depth that makes it agree with the poses.
        depth_range: Largest depth that the sensor measures well [m], or None where the capture doesn't state it.
        source_from_scene: The source's own world from the scene's frame; None where that isn't known.
    """

    views: tuple[View, ...]
    points: SparsePoints
    scale_sigma: float | None
    depth_scale: float
    report: PosesReport
    depth_range: float | None = None
    source_from_scene: Similarity | None = None

    @property
    def training(self) -> tuple[View, ...]:
        """The views that map and splat may use."""
        return tuple(view for view in self.views if not view.held_out)

    @property
    def held_out(self) -> tuple[View, ...]:
        """The views that only the check may use."""
        return tuple(view for view in self.views if view.held_out)

    def transformed(self, a_from_b: Similarity) -> PosedScene:
        """The scene of frame b, in frame a: poses, points, sigmas, the depth scale, and the way to the source."""
        scale = a_from_b.scale
        views = tuple(
            replace(
                view,
                world_from_camera=a_from_b.apply_pose(view.world_from_camera),
                sigma_position=None if view.sigma_position is None else view.sigma_position * scale,
                camera_from_depth=None
                if view.camera_from_depth is None
                else Pose(view.camera_from_depth.rotation, view.camera_from_depth.translation * scale),
            )
            for view in self.views
        )
        points = replace(self.points, xyz=a_from_b.apply(self.points.xyz))
        source = None if self.source_from_scene is None else self.source_from_scene @ a_from_b.inverse()
        depth_scale = self.depth_scale * scale
        return replace(self, views=views, points=points, depth_scale=depth_scale, source_from_scene=source)

    def save(self, folder: Path) -> None:
        """Write `scene.json` and `points.npz`."""
        with (folder / POINTS_FILE).open("wb") as file:
            np.savez(file, **{name: getattr(self.points, name) for name in SparsePoints.__dataclass_fields__})
        content = {
            "scale_sigma": self.scale_sigma,
            "depth_scale": self.depth_scale,
            "depth_range": self.depth_range,
            "source_from_scene": self.source_from_scene and self.source_from_scene.to_json(),
            "report": self.report,
            "views": [{f.name: _to_json(getattr(view, f.name)) for f in fields(View)} for view in self.views],
        }
        (folder / SCENE_FILE).write_text(json.dumps(content, indent=1))

    @staticmethod
    def load(folder: Path) -> PosedScene:
        """Read what `save` wrote."""
        content = json.loads((folder / SCENE_FILE).read_text())
        views = []
        for values in content["views"]:
            for name, decode in _DECODERS.items():
                if values[name] is not None:
                    values[name] = decode(values[name])
            views.append(View(**values))
        with np.load(folder / POINTS_FILE, allow_pickle=False) as data:
            points = SparsePoints(**{name: data[name] for name in SparsePoints.__dataclass_fields__})
        return PosedScene(
            views=tuple(views),
            points=points,
            scale_sigma=content["scale_sigma"],
            depth_scale=content["depth_scale"],
            report=content["report"],
            depth_range=content.get("depth_range"),
            source_from_scene=(source := content.get("source_from_scene")) and Similarity.from_json(source),
        )


def read_image(poses_folder: Path, view: View, size: tuple[int, int] | None = None) -> U8:
    """The view's undistorted RGB image (H, W, 3) uint8, area-averaged down to `size` = (width, height)."""
    image = cv2.cvtColor(load_written(poses_folder / view.image, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    if size is not None and size != (image.shape[1], image.shape[0]):
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(image, np.uint8)


def read_mask(poses_folder: Path, view: View, size: tuple[int, int] | None = None) -> Mask | None:
    """Which pixels (H, W) of the view's image at `size` = (width, height) count, see `shrunk_mask`; None if all do."""
    if view.mask is None:
        return None
    mask = load_written(poses_folder / view.mask, cv2.IMREAD_GRAYSCALE)
    return shrunk_mask(mask == 255, size or (mask.shape[1], mask.shape[0]))


def read_sensor_depth(capture_folder: Path, view: View) -> tuple[F32, U8, Camera]:
    """The sensor's depth (H, W) [m], 0 = unknown, its confidence (H, W), 255 where none is given, and its camera.

    Raises:
        CaptureError: When the image is missing, not 16-bit, or not of its camera's size.
    """
    if view.sensor_depth is None:
        raise ValueError(f"view {view.name} has no depth image")
    path = capture_folder / view.sensor_depth
    raw = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if raw is None or raw.dtype != np.uint16 or raw.ndim != 2:
        found = "no readable image" if raw is None else f"{raw.dtype} with shape {raw.shape}"
        raise CaptureError(
            "a depth image is a 16-bit PNG of one channel, in millimetres",
            found=found,
            remedy="convert the depth images, or remove them and build from the images alone",
            file=path,
        )
    height, width = raw.shape
    camera = view.depth_camera or view.camera.resized(width, height)
    confidence = np.full(raw.shape, 255, np.uint8)
    if view.sensor_confidence is not None:
        read = cv2.imread(str(capture_folder / view.sensor_confidence), cv2.IMREAD_UNCHANGED)
        confidence = confidence if read is None else np.ascontiguousarray(read, np.uint8)
    if (camera.height, camera.width) != raw.shape or confidence.shape != raw.shape:
        raise CaptureError(
            "depth, its confidence and its intrinsics have one size",
            found=f"depth {raw.shape[::-1]}, confidence {confidence.shape[::-1]}, "
            f"camera {(camera.width, camera.height)}",
            remedy="give the intrinsics of the depth image's own resolution",
            file=path,
        )
    metres = raw.astype(np.float32) / np.float32(1000)
    metres[raw == INVALID_DEPTH] = 0
    return metres, confidence, camera


_DECODERS = {
    "camera": Camera.from_json,
    "depth_camera": Camera.from_json,
    "source_camera": Camera.from_json,
    "world_from_camera": Pose.from_matrix,
    "camera_from_depth": Pose.from_matrix,
    "gravity": lambda values: np.asarray(values, np.float64),
}
"""Decoders of the fields of a view that are not plain JSON values."""


def _to_json(value: object) -> object:
    if isinstance(value, Camera):
        return value.to_json()
    array = value.matrix if isinstance(value, Pose) else value
    return array.tolist() if isinstance(array, np.ndarray) else array
