"""Coverage: from how much of the walkable floor, and in which directions, the splat's images can be trusted."""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.check.gates import Measured, rounded
from pipeline.check.scene import CheckedScene
from pipeline.coverage.map import TRUSTED, CoverageMap
from pipeline.regions.regions import Regions
from pipeline.types import F64, I64, U8, Floats

PIXELS = 900
"""Long side of the image of the map."""
FLOOR_COLOR, FREE_COLOR = (196, 200, 204), (226, 228, 230)
SPAWN_COLOR = (40, 60, 220)
STRIP, INK = 64, (40, 40, 40)
"""Height of the strip with the scale bar [px], and the colour of what is drawn there."""
BARS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)
"""Lengths that a scale bar can have [m]."""


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


def coverage_image(coverage: CoverageMap, regions: Regions, north: F64 | None = None) -> U8:
    """The floor from above (H, W, 3), +X to the right, a disc at every position of the map, spawn poses as arrows.

    Each sector of a disc shows the trust in its direction, from red over yellow to green. Below stand a scale bar and
    the direction `north` (3,) [world frame], or the axes of the world where nobody knows it.
    """
    grid = np.array(regions.height.shape)
    low, high = _covered(coverage, regions)
    scale = PIXELS / float((high - low).max() * regions.cell)
    floor = np.full((*grid, 3), 255, np.uint8)
    floor[np.isfinite(regions.height)] = FREE_COLOR
    floor[regions.walkable] = FLOOR_COLOR
    width, height = (max(1, round(float(side * regions.cell * scale))) for side in high - low)
    upright = np.ascontiguousarray(floor[low[0] : high[0], low[1] : high[1]].transpose(1, 0, 2)[::-1])
    image = np.asarray(cv2.resize(upright, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)
    corner = np.array(regions.origin) + low * regions.cell

    def pixel(xy: Floats) -> tuple[int, int]:
        x, y = (xy[:2] - corner) * scale
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
    return np.concatenate([image, scale_strip(width, scale, north)])


def _covered(coverage: CoverageMap, regions: Regions) -> tuple[I64, I64]:
    """First and last cell (2,), that one excluded, of what is shown: walkable floor and the map's positions."""
    grid = np.array(regions.height.shape)
    centres = regions.centres()[regions.walkable]
    discs = coverage.positions[:, None, :2] + coverage.cell / 2 * np.array([[-1, -1], [1, 1]])
    shown = np.concatenate([centres, discs.reshape(-1, 2)])
    if not len(shown):
        return 0 * grid, grid
    low, high = (bound(shown, axis=0) - np.array(regions.origin) for bound in (np.min, np.max))
    first = np.clip(np.floor(low / regions.cell).astype(int) - 1, 0, grid - 1)
    return first, np.clip(np.ceil(high / regions.cell).astype(int) + 1, first + 1, grid)


def scale_strip(width: int, scale: float, north: F64 | None) -> U8:
    """Scale bar and directions (H, W, 3), under a map of that width with so many pixels per metre."""
    strip = np.full((STRIP, width, 3), 255, np.uint8)
    length = max(metres for metres in BARS if metres <= max(BARS[0], 0.4 * width / scale))
    end, middle = 16 + round(length * scale), STRIP // 2
    cv2.line(strip, (16, middle), (end, middle), INK, 2)
    for x in (16, end):
        cv2.line(strip, (x, middle - 6), (x, middle + 6), INK, 2)
    _write(strip, f"{length:g} m", (end + 10, middle + 6))
    arrows = (
        {"N": north[:2] / np.linalg.norm(north[:2])} if north is not None else {"x": np.eye(2)[0], "y": np.eye(2)[1]}
    )
    foot = np.array([width - 60, middle + (0 if north is not None else 16)])
    for name, (x, y) in arrows.items():
        tip = foot + 24 * np.array([x, -y])
        cv2.arrowedLine(strip, foot.tolist(), tip.round().astype(int).tolist(), INK, 2, cv2.LINE_AA, tipLength=0.35)
        _write(strip, name, (round(float(tip[0] + 12 * x - 5)), round(float(tip[1] + 5 - 10 * y))))
    return strip


def _write(image: U8, text: str, at: tuple[int, int]) -> None:
    cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.55, INK, 1, cv2.LINE_AA)
