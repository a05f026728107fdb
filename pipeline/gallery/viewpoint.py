"""Where a visitor of a bundle begins: at a camera of the capture that shows much of the place."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pipeline.geometry import Camera, Gaussians, Pose
from pipeline.scenes.bundle import Bundle
from pipeline.types import F64

if TYPE_CHECKING:
    from pipeline.raster import Rendering

WIDTH, HEIGHT = 640, 480
"""Shape of the view [px]."""
SMALL = (80, 60)
"""Size of a rendering that says what a view is worth [px]."""
LOOKED_AT = 12
"""So many of the capture's cameras are tried."""
WIDEST, NARROWEST = np.deg2rad(100), np.deg2rad(40)
"""Bounds of the view's field of view, corner to corner."""


@dataclass(frozen=True)
class Viewpoint:
    """Where a 3-D view begins, and what the thumbnail shows: positions [m] and vertical field of view [rad]."""

    position: tuple[float, float, float]
    look_at: tuple[float, float, float]
    field_of_view: float


AHEAD = 2.0
"""How far a camera sees while nobody knows [m]."""


@dataclass(frozen=True)
class View:
    """The lens (640 x 480 px) and the pose, level, of a camera of the capture, and how far it sees [m]."""

    camera: Camera
    world_from_camera: Pose
    ahead: float = AHEAD

    @classmethod
    def of(cls, camera: Camera, world_from_camera: Pose) -> View:
        """The view of one of the capture's cameras."""
        return cls(_lens(camera), _level(world_from_camera))

    @property
    def viewpoint(self) -> Viewpoint:
        """The same for viewers that orbit what they look at."""
        eye, forward = self.world_from_camera.translation, self.world_from_camera.rotation[:, 2]
        field_of_view = float(2 * np.arctan2(self.camera.height / 2, self.camera.fy))
        return Viewpoint(_three(eye), _three(eye + self.ahead * forward), field_of_view)


def best_view(bundle: Bundle) -> View:
    """The view that shows most, of some of the capture's cameras: it is inside the place, and upright."""
    splat = bundle.splat("sim" if "sim" in bundle.manifest.splats else "full")
    shots = bundle.cameras
    chosen = np.unique(np.linspace(0, len(shots) - 1, min(len(shots), LOOKED_AT)).round().astype(int))
    views = [View.of(shots[index].camera, shots[index].world_from_camera) for index in chosen]
    best = max(views, key=lambda view: _worth(_drawn(splat, view)))
    depth = _drawn(splat, best).depth
    return replace(best, ahead=float(np.median(depth[depth > 0]))) if (depth > 0).any() else best


def _three(vector: F64) -> tuple[float, float, float]:
    x, y, z = (round(float(value), 4) for value in vector)
    return x, y, z


def _drawn(splat: Gaussians, view: View) -> Rendering:
    from pipeline.raster import render

    return render(splat, view.camera.resized(*SMALL), view.world_from_camera)


def _worth(drawn: Rendering) -> float:
    """How much a view shows: opaque everywhere, deep, and of many colours."""
    covered = drawn.alpha > 0.9
    if covered.mean() < 0.2:
        return float(covered.mean()) / 100
    near, far = np.percentile(drawn.depth[covered], [10, 90])
    return float(covered.mean() ** 2 * drawn.rgb[covered].std() * min(near, 1.5) * np.log1p(far / max(near, 0.1)))


def _lens(camera: Camera) -> Camera:
    """The photo's field of view, corner to corner, in the view's shape."""
    corner = np.hypot(camera.width / camera.fx, camera.height / camera.fy) / 2
    half = np.clip(2 * np.arctan(corner), NARROWEST, WIDEST) / 2
    focal = float(np.hypot(WIDTH, HEIGHT) / 2 / np.tan(half))
    return Camera(WIDTH, HEIGHT, focal, focal, WIDTH / 2, HEIGHT / 2)


def _level(pose: Pose) -> Pose:
    """The same position and direction with a level horizon, as a viewer's camera has it."""
    forward = pose.rotation[:, 2]
    right = np.cross(forward, [0.0, 0.0, 1.0])
    if np.linalg.norm(right) < 1e-3:  # straight up or down
        return pose
    right /= np.linalg.norm(right)
    return Pose(np.stack([right, np.cross(forward, right), forward], 1), pose.translation)
