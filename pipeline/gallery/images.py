"""The gallery's own images: a rendered view of the scene and the floor plan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from pipeline.gallery.viewpoint import Viewpoint, best_view
from pipeline.regions.regions import Regions, RobotPose
from pipeline.scenes.bundle import Bundle
from pipeline.types import F64, U8

PLAN_SIDE = 900
"""Longer side of the floor plan [px]."""
WALK, DRIVE, GUESSED = (134, 200, 150, 255), (64, 165, 98, 255), (240, 160, 60, 255)
SPAWN, GOAL, INK = (214, 51, 190, 255), (47, 110, 235, 255), (110, 116, 125, 255)


def view_of(bundle: Bundle) -> tuple[U8, Viewpoint]:
    """A rendering (480, 640, 3) of the splat, from where a photo was taken that shows much of the scene."""
    from pipeline.raster import render

    view = best_view(bundle)
    drawn = render(bundle.splat(), view.camera, view.world_from_camera)
    return (255 * np.clip(drawn.rgb, 0, 1)).round().astype(np.uint8), view.viewpoint


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
