"""Where one capture may lie in another by their floor plans: walls on walls, and none in the other's free space."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.joining.links import upright_motion
from pipeline.joining.submap import Submap
from pipeline.types import F32, F64

CELL, SIZE = 0.1, 256
"""Edge of a cell [m], and of the square of cells that two plans are laid on each other in."""
TURNS, KEPT = 180, 5
"""Turns that are tried, and places that are kept."""
LOWEST, BAND, BANDS, LEAST_BANDS = 0.3, 0.38, 5, 3
"""A wall has vertical surfaces in three of five bands of this height over the floor [m]."""
LEAST_WALLS = 40
"""Least cells of walls of both plans: fewer fit anywhere."""
RAYS = np.linspace(0.1, 0.92, 12)
"""Parts of the way from a camera to what it sees that are free."""
RIVAL, RIVAL_DEG = 0.6, 11.5
"""Places nearer to each other than that are one [m, degrees]."""


@dataclass(frozen=True, eq=False)
class FloorPlan:
    """Walls and free floor (W, H), 1 or 0, the floor's height [m], and where the cells begin (2,) [m], upright."""

    walls: F32
    free: F32
    floor: float
    corner: F64


@dataclass(frozen=True, eq=False)
class PlanFit:
    """A place: the motion a_from_b (4, 4), and the share of the smaller plan's walls that it explains."""

    a_from_b: F64
    score: float


def floor_plan(submap: Submap) -> FloorPlan | None:
    """The floor plan of a capture; None where it shows no floor or is wider than the square."""
    points, normals, owner = submap.cloud(2)
    eyes = submap.poses[owner, :3, 3]
    heights = points[normals[:, 2] > 0.95, 2]
    heights = heights[heights < np.median(submap.poses[:, 2, 3]) - 0.6]
    if len(heights) < 50:
        return None
    counts, edges = np.histogram(heights, np.arange(heights.min(), heights.max() + 0.06, 0.02))
    floor = float(edges[np.argmax(np.convolve(counts, np.ones(3), "same"))] + 0.01)
    corner = points[:, :2].min(0) - 0.5
    shape = np.ceil((points[:, :2].max(0) + 0.5 - corner) / CELL).astype(int)
    if (shape > SIZE).any():
        return None
    height, cells = points[:, 2] - floor, ((points[:, :2] - corner) / CELL).astype(int)
    upright = (np.abs(normals[:, 2]) < 0.3) & (height > LOWEST) & (height < LOWEST + BAND * BANDS)
    band = ((height - LOWEST) / BAND).astype(int).clip(0, BANDS - 1)
    seen = np.zeros((*shape, BANDS), bool)
    seen[cells[upright, 0], cells[upright, 1], band[upright]] = True
    walls = seen.sum(2) >= LEAST_BANDS
    free = np.zeros(shape, int)
    level = (np.abs(height) < 0.06) & (normals[:, 2] > 0.9)
    np.add.at(free, tuple(cells[level].T), 1)
    low = (height < 2.2) & (height > -0.1)
    for part in RAYS:
        on_way = eyes[low] + part * (points[low] - eyes[low])
        over = on_way[:, 2] - floor
        at = ((on_way[(over > 0.5) & (over < 1.7), :2] - corner) / CELL).astype(int)
        np.add.at(free, tuple(at[((at >= 0) & (at < shape)).all(1)].T), 1)
    return FloorPlan(walls.astype(np.float32), ((free > 2) & ~walls).astype(np.float32), floor, corner)


def fit_plans(a: FloorPlan, b: FloorPlan) -> list[PlanFit]:
    """The best places of plan b on plan a, by correlation over all shifts at each of many turns."""
    near = np.asarray(cv2.dilate(a.walls, np.ones((3, 3), np.uint8)), np.float32)
    targets = [np.conj(np.fft.rfft2(_padded(raster))) for raster in (near, a.free, a.walls)]
    middles = [np.argwhere(raster > 0) * CELL + b.corner + CELL / 2 for raster in (b.walls, b.free)]
    if min(a.walls.sum(), b.walls.sum()) < LEAST_WALLS or not len(middles[1]):
        return []
    found: list[tuple[float, float, F64]] = []
    for turn in range(TURNS):
        yaw = 2 * np.pi * turn / TURNS
        rotation = upright_motion(yaw, np.zeros(3))[:2, :2]
        walls, free = (points @ rotation.T for points in middles)
        corner = np.minimum(walls.min(0), free.min(0)) - 2 * CELL
        wall_cells, free_cells = (np.fft.rfft2(_raster(points - corner)) for points in (walls, free))
        spectrum = wall_cells * (targets[0] - targets[1]) - free_cells * targets[2]
        score = np.fft.irfft2(spectrum, (SIZE, SIZE))
        for _ in range(2):
            row, column = np.unravel_index(np.argmax(score), score.shape)
            shift = np.array([v - SIZE if v > SIZE // 2 else v for v in (int(row), int(column))])
            found.append((float(score[row, column]), yaw, a.corner - corner - shift * CELL))
            score[max(0, row - 5) : row + 6, max(0, column - 5) : column + 6] = -np.inf
    return _apart(found, a, b, middles[1].mean(0))


def _apart(found: list[tuple[float, float, F64]], a: FloorPlan, b: FloorPlan, middle: F64) -> list[PlanFit]:
    """The best places (score, yaw, shift) that differ, by where they put the middle (2,) of plan b."""
    kept: list[tuple[float, float, F64]] = []
    for score, yaw, shift in sorted(found, key=lambda item: -item[0]):
        there = upright_motion(yaw, np.zeros(3))[:2, :2] @ middle + shift
        if all(
            np.linalg.norm(there - other) > RIVAL or np.rad2deg(abs(np.angle(np.exp(1j * (yaw - turn))))) > RIVAL_DEG
            for _, turn, other in kept
        ):
            kept.append((score, yaw, there))
        if len(kept) == KEPT:
            break
    walls = max(1.0, float(min(a.walls.sum(), b.walls.sum())))
    fits = []
    for score, yaw, there in kept:
        motion = upright_motion(yaw, np.zeros(3))
        motion[:2, 3], motion[2, 3] = there - motion[:2, :2] @ middle, a.floor - b.floor
        fits.append(PlanFit(motion, score / walls))
    return fits


def _padded(raster: F32) -> F32:
    result = np.zeros((SIZE, SIZE), np.float32)
    result[: raster.shape[0], : raster.shape[1]] = raster
    return result


def _raster(points: F64) -> F32:
    result = np.zeros((SIZE, SIZE), np.float32)
    cells = (points / CELL).astype(int)
    cells = cells[(cells < SIZE).all(1)]
    result[cells[:, 0], cells[:, 1]] = 1
    return result
