"""Coverage: from how much of the walkable floor, and in which directions, the splat's images can be trusted."""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.check.gates import Measured, rounded
from pipeline.check.scene import CheckedScene
from pipeline.coverage.map import TRUSTED, CoverageMap
from pipeline.regions.regions import Regions
from pipeline.types import U8, Floats

PIXELS = 900
"""Long side of the image of the map."""
FLOOR_COLOR, FREE_COLOR = (196, 200, 204), (226, 228, 230)
SPAWN_COLOR = (40, 60, 220)


def coverage_gates(scene: CheckedScene) -> dict[str, Measured]:
    """How far a robot can trust what it sees."""
    regions = scene.regions
    if scene.photos is None:
        return {}
    (trusted, reached), walkable = measure_coverage(scene.photos.coverage, regions), regions.walkable_area > 0
    how = "share of the walkable floor's positions and headings, by the coverage map"
    detail = {
        "floor_with_a_trusted_heading": rounded(reached),
        "least_trust_of_a_spawn_pose": rounded(min((pose.trust for pose in regions.spawn_poses), default=None)),
    }
    return {"coverage": Measured(trusted, how if walkable else "there is no walkable floor", walkable, detail)}


def measure_coverage(coverage: CoverageMap, regions: Regions) -> tuple[float | None, float | None]:
    """Shares of the walkable floor: of positions and headings that can be trusted, of positions with any such heading.

    Both are None where there is no floor.
    """
    if not regions.walkable.any():
        return None, None
    height = regions.height[regions.walkable]
    trust = coverage.heading_trust(np.column_stack([regions.centres()[regions.walkable], height]))
    return float((trust >= TRUSTED).mean()), float((trust.max(1) >= TRUSTED).mean())


def coverage_image(coverage: CoverageMap, regions: Regions) -> U8:
    """The floor from above (H, W, 3), +X to the right, a disc at every position of the map, spawn poses as arrows.

    Each sector of a disc shows the trust in its direction, from red over yellow to green.
    """
    size = np.array(regions.height.shape) * regions.cell
    scale = PIXELS / float(size.max())
    floor = np.full((*regions.height.shape, 3), 255, np.uint8)
    floor[np.isfinite(regions.height)] = FREE_COLOR
    floor[regions.walkable] = FLOOR_COLOR
    width, height = (max(1, round(float(side * scale))) for side in size)
    upright = np.ascontiguousarray(floor.transpose(1, 0, 2)[::-1])
    image = np.asarray(cv2.resize(upright, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)

    def pixel(xy: Floats) -> tuple[int, int]:
        x, y = (xy[:2] - np.array(regions.origin)) * scale
        return round(float(x)), round(float(height - y))

    trust = coverage.heading_trust(coverage.positions)
    levels = np.linspace(0, 1, 256)[:, None]
    colors = np.concatenate([np.minimum(2 - 2 * levels, 1) * 215, np.minimum(2 * levels, 1) * 175, 40 * levels], 1)
    radius = max(2, round(0.46 * coverage.cell * scale))
    half = 180 / max(1, trust.shape[1])
    for position, sectors in zip(coverage.positions, trust, strict=True):
        for heading, value in zip(np.rad2deg(coverage.headings), sectors, strict=True):
            color = tuple(int(c) for c in colors[round(255 * float(value))])
            start, end = float(-heading - half), float(-heading + half)  # rows grow downwards
            cv2.ellipse(image, pixel(position), (radius, radius), 0, start, end, color, -1, cv2.LINE_AA)
    for pose in regions.spawn_poses:
        tip = np.array(pose.position[:2]) + 0.3 * np.array([np.cos(pose.yaw), np.sin(pose.yaw)])
        start = pixel(np.array(pose.position))
        cv2.arrowedLine(image, start, pixel(tip), SPAWN_COLOR, 3, cv2.LINE_AA, tipLength=0.35)
    return image
