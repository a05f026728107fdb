"""Between the project's types and pycolmap's: world-from-camera here, camera-from-world and xyzw there."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pipeline.geometry import Camera, Pose

if TYPE_CHECKING:
    import pycolmap

logger = logging.getLogger(__name__)


def silence() -> None:
    """Keep pycolmap's own log lines below errors out of the terminal."""
    import pycolmap

    pycolmap.logging.minloglevel = int(pycolmap.logging.Level.ERROR)


def to_colmap(camera: Camera, camera_id: int, *, trusted: bool) -> pycolmap.Camera:
    """COLMAP's camera; one with square pixels and no tangential distortion gets the smaller model.

    Args:
        camera: Intrinsics of the working pictures.
        camera_id: Its id in the database, from 1.
        trusted: Whether the focal length is more than a guess.
    """
    import pycolmap

    k1, k2, p1, p2 = camera.distortion
    # OPENCV has a focal length per axis and four coefficients: worth it only where the source has them.
    simple = not any((k2, p1, p2)) and abs(camera.fx / camera.fy - 1) < 1e-3
    model = "SIMPLE_RADIAL" if simple else "OPENCV"
    focal = (camera.fx + camera.fy) / 2
    result = pycolmap.Camera.create_from_model_name(camera_id, model, focal, camera.width, camera.height)
    if simple:
        result.params = [focal, camera.cx, camera.cy, k1]
    else:
        result.params = [camera.fx, camera.fy, camera.cx, camera.cy, k1, k2, p1, p2]
    result.has_prior_focal_length = trusted
    return result


def from_colmap(camera: pycolmap.Camera) -> Camera:
    """The project's camera of a COLMAP camera that `to_colmap` made.

    Raises:
        ValueError: For any other camera model.
    """
    values = [float(v) for v in camera.params]
    if camera.model_name == "SIMPLE_RADIAL":
        focal, cx, cy, k1 = values
        return Camera(camera.width, camera.height, focal, focal, cx, cy, (k1, 0.0, 0.0, 0.0))
    if camera.model_name == "OPENCV":
        fx, fy, cx, cy, k1, k2, p1, p2 = values
        return Camera(camera.width, camera.height, fx, fy, cx, cy, (k1, k2, p1, p2))
    raise ValueError(f"a camera of the poses stage must be SIMPLE_RADIAL or OPENCV, got {camera.model_name}")


def to_rigid(world_from_camera: Pose) -> pycolmap.Rigid3d:
    """COLMAP's camera-from-world of a pose."""
    import pycolmap

    return pycolmap.Rigid3d(world_from_camera.inverse().matrix[:3])


def from_rigid(cam_from_world: pycolmap.Rigid3d) -> Pose:
    """The pose of COLMAP's camera-from-world."""
    return Pose.from_matrix(cam_from_world.matrix()).inverse()
