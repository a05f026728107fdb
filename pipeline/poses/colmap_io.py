"""Conversion between our types and pycolmap's, which uses camera-from-world and xyzw."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipeline.geometry import Camera, Pose, Similarity, fit_similarity
from pipeline.types import F64, Mask

if TYPE_CHECKING:
    import pycolmap

SQUARE = 3e-3
"""Relative difference of fx and fy up to which pixels are square: half a pixel at the border of a working image."""


def silence() -> None:
    """Keep pycolmap's own log lines below errors out of the terminal."""
    import pycolmap

    pycolmap.logging.minloglevel = int(pycolmap.logging.Level.ERROR)


def to_colmap(camera: Camera, camera_id: int, *, trusted: bool) -> pycolmap.Camera:
    """COLMAP's camera of the simplest model for the intrinsics, because every free parameter must be determined.

    `trusted` says that the focal length is known and not guessed.
    """
    import pycolmap

    k1, k2, p1, p2 = camera.distortion
    if abs(camera.fx / camera.fy - 1) < SQUARE and not any((k2, p1, p2)):
        model = "SIMPLE_RADIAL"
    else:
        model = "PINHOLE" if not any((k1, k2, p1, p2)) else "OPENCV"
    result = pycolmap.Camera.create_from_model_name(camera_id, model, camera.fx, camera.width, camera.height)
    result.params = parameters(camera, model)
    result.has_prior_focal_length = trusted
    return result


def parameters(camera: Camera, model: str) -> list[float]:
    """COLMAP's parameters of a camera in one of the three models; others of its parameters are dropped."""
    k1, k2, p1, p2 = camera.distortion
    if model == "SIMPLE_RADIAL":
        return [(camera.fx + camera.fy) / 2, camera.cx, camera.cy, k1]
    pinhole = [camera.fx, camera.fy, camera.cx, camera.cy]
    return pinhole if model == "PINHOLE" else [*pinhole, k1, k2, p1, p2]


def from_colmap(camera: pycolmap.Camera) -> Camera:
    """Our camera of a COLMAP camera that `to_colmap` created; a ValueError for any other model."""
    values = [float(v) for v in camera.params]
    if camera.model_name == "SIMPLE_RADIAL":
        values = [values[0], *values]
    elif camera.model_name not in ("PINHOLE", "OPENCV"):
        raise ValueError(f"a camera of the poses stage is SIMPLE_RADIAL, PINHOLE or OPENCV, got {camera.model_name}")
    fx, fy, cx, cy, k1, k2, p1, p2 = (*values, 0.0, 0.0, 0.0, 0.0)[:8]
    return Camera(camera.width, camera.height, fx, fy, cx, cy, (k1, k2, p1, p2))


def to_rigid(world_from_camera: Pose) -> pycolmap.Rigid3d:
    """COLMAP's camera-from-world of a pose."""
    import pycolmap

    return pycolmap.Rigid3d(world_from_camera.inverse().matrix[:3])


def from_rigid(cam_from_world: pycolmap.Rigid3d) -> Pose:
    """The pose of COLMAP's camera-from-world."""
    return Pose.from_matrix(cam_from_world.matrix()).inverse()


def robust_similarity(source: F64, target: F64, max_error: float, seed: int) -> tuple[Similarity, Mask] | None:
    """target_from_source of points (N, 3), fitted to the inliers (N,) of a RANSAC; None with fewer than three."""
    import pycolmap

    options = pycolmap.RANSACOptions(max_error=max_error, random_seed=seed)
    result: object = pycolmap.estimate_sim3d_robust(source, target, options)  # the stubs say Sim3d
    if not isinstance(result, dict) or result["num_inliers"] < 3:
        return None
    near = np.asarray(result["inlier_mask"], bool)
    return fit_similarity(source[near], target[near]), near
