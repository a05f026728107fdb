"""The gallery's own images: a rendered view of the scene and the floor plan."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from pipeline.geometry import Camera, Gaussians, Pose
from pipeline.regions.regions import Regions, RobotPose
from pipeline.scenes.bundle import Bundle, BundleCamera
from pipeline.types import F64, U8

WIDTH, HEIGHT = 640, 480
"""Size of the rendered view [px]."""
LOOKED_AT = 12
"""So many of the capture's cameras are tried for the rendered view."""
WIDEST, NARROWEST = np.deg2rad(100), np.deg2rad(40)
"""Bounds of the rendered view's field of view, corner to corner."""
PLAN_SIDE = 900
"""Longer side of the floor plan [px]."""
WALK, DRIVE, GUESSED = (134, 200, 150, 255), (64, 165, 98, 255), (240, 160, 60, 255)
SPAWN, GOAL, INK = (214, 51, 190, 255), (47, 110, 235, 255), (110, 116, 125, 255)


@dataclass(frozen=True)
class Viewpoint:
    """Where the 3-D view begins, and what the thumbnail shows: positions [m] and vertical field of view [rad]."""

    position: tuple[float, float, float]
    look_at: tuple[float, float, float]
    field_of_view: float


def view_of(bundle: Bundle) -> tuple[U8, Viewpoint]:
    """A rendering (480, 640, 3) of the splat, from where a photo was taken that shows much of the scene."""
    from pipeline.raster import render

    small, splat = bundle.splat("sim" if "sim" in bundle.manifest.splats else "full"), bundle.splat()
    shots = bundle.cameras
    chosen = np.unique(np.linspace(0, len(shots) - 1, min(len(shots), LOOKED_AT)).round().astype(int))
    best = max((shots[index] for index in chosen), key=lambda shot: _worth(small, shot))
    camera, pose = _lens(best.camera), _level(best.world_from_camera)
    drawn = render(splat, camera, pose)
    seen = drawn.depth[drawn.depth > 0]
    ahead = float(np.median(seen)) if len(seen) else 2.0
    eye, field_of_view = pose.translation, float(2 * np.arctan2(camera.height / 2, camera.fy))
    viewpoint = Viewpoint(_three(eye), _three(eye + ahead * pose.rotation[:, 2]), field_of_view)
    return (255 * np.clip(drawn.rgb, 0, 1)).round().astype(np.uint8), viewpoint


def _three(vector: F64) -> tuple[float, float, float]:
    x, y, z = (round(float(value), 4) for value in vector)
    return x, y, z


def _worth(splat: Gaussians, shot: BundleCamera) -> float:
    """How much a view shows: opaque everywhere, deep, and of many colours."""
    from pipeline.raster import render

    drawn = render(splat, _lens(shot.camera).resized(80, 60), _level(shot.world_from_camera))
    covered = drawn.alpha > 0.9
    if covered.mean() < 0.2:
        return float(covered.mean()) / 100
    near, far = np.percentile(drawn.depth[covered], [10, 90])
    return float(covered.mean() ** 2 * drawn.rgb[covered].std() * min(near, 1.5) * np.log1p(far / max(near, 0.1)))


def _lens(camera: Camera) -> Camera:
    """The photo's field of view, corner to corner, in the thumbnail's shape."""
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


def floor_plan(regions: Regions) -> Image.Image | None:
    """The floor from above on a transparent ground, +x right and +y up; None where nobody can stand."""
    if not regions.walkable.any():
        return None
    used = np.argwhere(regions.walkable)
    low, high = np.maximum(used.min(0) - 2, 0), used.max(0) + 3
    inside = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    cells = np.zeros((*regions.walkable[inside].shape, 4), np.uint8)
    cells[regions.walkable[inside]] = WALK
    cells[(regions.walkable & regions.drivable)[inside]] = DRIVE
    cells[(regions.walkable & regions.guessed)[inside]] = GUESSED
    scale = max(1, PLAN_SIDE // max(cells.shape[:2]))
    rows = np.ascontiguousarray(cells.transpose(1, 0, 2)[::-1])
    image = Image.fromarray(rows, "RGBA").resize(
        (rows.shape[1] * scale, rows.shape[0] * scale), Image.Resampling.NEAREST
    )
    origin = np.array(regions.origin) + low * regions.cell
    per_metre = scale / regions.cell
    draw = ImageDraw.Draw(image)
    for pose in regions.goals:
        x, y = _on_plan(pose, origin, per_metre, image.height)
        draw.ellipse((x - 9, y - 9, x + 9, y + 9), outline=GOAL, width=5)
    for pose in regions.spawn_poses:  # a slim triangle that points where a robot would look
        x, y = _on_plan(pose, origin, per_metre, image.height)
        corners = [(r, pose.yaw + angle) for r, angle in ((22, 0), (14, 2.5), (14, -2.5))]
        draw.polygon([(x + r * np.cos(yaw), y - r * np.sin(yaw)) for r, yaw in corners], fill=SPAWN)
    draw.line((10, image.height - 8, 10 + per_metre, image.height - 8), fill=INK, width=6)  # one metre
    return image


def _on_plan(pose: RobotPose, origin: F64, per_metre: float, height: int) -> tuple[float, float]:
    x, y = (np.array(pose.position[:2]) - origin) * per_metre
    return float(x), float(height - y)


def write_jpeg(path: Path, image: U8) -> None:
    """Write an RGB image."""
    Image.fromarray(np.ascontiguousarray(image)).save(path, "JPEG", quality=86, optimize=True, progressive=True)
