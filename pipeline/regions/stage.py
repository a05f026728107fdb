"""The regions stage: meshes, the camera track and the coverage map to regions and floor plans."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from pipeline.align.alignment import load_world_scene
from pipeline.align.gps import fit_gps
from pipeline.capture.model import Capture
from pipeline.coverage.map import TRUSTED, CoverageMap
from pipeline.errors import ReconstructionError
from pipeline.geometry import Mesh, farthest_points
from pipeline.mesh.walkable import WalkableGrid, find_walkable
from pipeline.regions.params import Area, RegionsParams
from pipeline.regions.regions import Regions, RobotPose
from pipeline.regions.sheet import write_plans
from pipeline.types import F32, F64, I64, U8, Floats, Mask

logger = logging.getLogger(__name__)

SEED = 0


def run(inputs: Mapping[str, Path], params: RegionsParams, out_dir: Path) -> None:
    """Read the capture's positions by satellites, poses, align, mesh and coverage; write regions and floor plans."""
    scene = load_world_scene(inputs["poses"], inputs["align"])
    track = np.array([view.world_from_camera.translation for view in scene.training]).reshape(-1, 3)
    mesh, collision = (Mesh.load(inputs["mesh"] / name) for name in ("mesh.ply", "collision.ply"))
    try:
        regions = find_regions(collision, track, CoverageMap.load(inputs["coverage"]), params)
    except ReconstructionError as error:  # an image of a shelf is still a bundle; its gate says that nobody can walk
        logger.warning("no walkable floor: %s", error.found)
        regions = Regions.without_floor(params.cell, f"{error.rule}; found: {error.found}")
    if params.areas and regions.walkable.any():
        painted = paint_areas(params.areas, regions.centres(), regions.height, regions.cell, mesh)
        for number, area in enumerate(params.areas):
            size = float((painted == number).sum() * regions.cell**2)
            logger.log(logging.INFO if size else logging.WARNING, "area %r: %.2f m^2", area.name, size)
        regions = replace(regions, areas=params.areas, area=painted)
    regions.save(out_dir)
    north = fit_gps(Capture.load(inputs["capture"]), scene.views).north
    write_plans(mesh, collision, regions, params, out_dir, north)


def find_regions(collision: Mesh, track: Floats, coverage: CoverageMap, params: RegionsParams) -> Regions:
    """The regions of a collision mesh [m, world frame] under the camera centres (N, 3), where images hold.

    Raises:
        ReconstructionError: When there is no floor under the cameras that the robot has room on.
    """
    grid = find_walkable(collision, track, params, np.random.default_rng(SEED))
    spawn_poses, goals = propose_poses(grid, coverage, params.cell, params.spawn_poses, params.goals)
    floor = grid.height[grid.drivable if grid.drivable.any() else grid.walkable]
    regions = Regions(
        origin=(float(grid.origin[0]), float(grid.origin[1])),
        cell=params.cell,
        height=grid.height,
        walkable=grid.walkable,
        drivable=grid.drivable,
        guessed=grid.guessed,
        floor_height=float(np.median(floor)),
        spawn_poses=spawn_poses,
        goals=goals,
    )
    logger.info("walkable %.2f m^2, %d spawn poses, %d goals", regions.walkable_area, len(spawn_poses), len(goals))
    return regions


COLORS_AROUND = 4
"""Vertices whose mean is a cell's colour."""
COLOR_REACH = 1.5
"""Their largest distance from the cell's centre [cells]."""
SAME_COLOR = 25.0
"""CIELAB distance, with lightness counted by a third: light and shade change it most."""
LAB_WEIGHT = np.array([1 / 3, 1.0, 1.0])


def paint_areas(areas: Sequence[Area], centres: Floats, height: Floats, cell: float, mesh: Mesh) -> NDArray[np.int16]:
    """Which of the card's areas each cell of the floor grid belongs to (X, Y), -1 none; of several the last.

    The cells have `centres` (X, Y, 2) [m, world frame] and a floor `height` (X, Y) [m], NaN where there is none; its
    colours are those of the mesh.
    """
    painted = np.full(height.shape, -1, np.int16)
    lab = _floor_lab(centres, height, cell, mesh) if any(area.color for area in areas) else None
    for number, area in enumerate(areas):
        chosen = np.ones(height.shape, bool)
        if area.polygon:
            chosen &= inside_polygon(np.array(area.polygon), centres)
        if area.rgb is not None and lab is not None:
            difference = (lab - _lab(np.array([area.rgb], np.uint8))[0]) * LAB_WEIGHT
            chosen &= np.linalg.norm(difference, axis=-1) < SAME_COLOR  # false for NaN
        painted[chosen] = number
    return painted


def inside_polygon(polygon: Floats, points: Floats) -> Mask:
    """Which points (..., 2) lie in the polygon (P, 2), closed by itself, by the even-odd rule."""
    x, y = points[..., 0], points[..., 1]
    inside = np.zeros(x.shape, bool)
    for (ax, ay), (bx, by) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        spans = (ay > y) != (by > y)
        if ay != by:
            inside ^= spans & (x < ax + (y - ay) / (by - ay) * (bx - ax))
    return inside


def _floor_lab(centres: Floats, height: Floats, cell: float, mesh: Mesh) -> F64:
    """The floor's colour in CIELAB (X, Y, 3), NaN where there is no floor or no vertex near."""
    lab = np.full((*height.shape, 3), np.nan)
    known = np.isfinite(height)
    points = np.column_stack([centres[known], height[known]])
    distance, nearest = KDTree(mesh.vertices).query(points, COLORS_AROUND, distance_upper_bound=COLOR_REACH * cell)
    near = np.isfinite(distance)[..., None]
    colors = _lab(mesh.colors)[np.minimum(nearest, len(mesh.vertices) - 1)]
    count = near.sum(1)
    lab[known] = np.divide((colors * near).sum(1), count, out=np.full((len(points), 3), np.nan), where=count > 0)
    return lab


def _lab(colors: U8) -> F32:
    """CIELAB (N, 3) of sRGB (N, 3)."""
    return cv2.cvtColor((colors / np.float32(255))[None], cv2.COLOR_RGB2LAB)[0]


HEADINGS = 16
FARTHEST_LOOK = 5.0  # [m]
ENOUGH_MEASURED = 0.3  # of the floor
ROOM_AHEAD = 0.5  # [m]


def propose_poses(
    grid: WalkableGrid, coverage: CoverageMap, cell: float, spawn_poses: int, goals: int
) -> tuple[tuple[RobotPose, ...], tuple[RobotPose, ...]]:
    """Spawn poses and goals, heading towards open space, all on drivable floor (walkable where none is).

    Only positions with a heading whose images can be trusted, and with room to walk that way, are used while there are
    any, and guessed floor is left out when enough is measured. The first position is the roomiest measured cell.
    """
    area = grid.drivable if grid.drivable.any() else grid.walkable
    measured = area & ~grid.guessed
    cells = np.argwhere(measured if measured.sum() >= ENOUGH_MEASURED * area.sum() else area)
    angles = np.arange(HEADINGS) * 2 * np.pi / HEADINGS
    trust = coverage.trust(np.repeat(_positions(grid, cells, cell), HEADINGS, axis=0), np.tile(angles, len(cells)))
    trust = trust.reshape(len(cells), HEADINGS)
    length = _open_lengths(area, cells, cell, angles)
    for good in ((trust >= TRUSTED) & (length * cell >= ROOM_AHEAD), trust >= TRUSTED):
        if good.any():
            kept = good.any(1)
            cells, trust, length, good = cells[kept], trust[kept], length[kept], good[kept]
            break
    else:
        good = trust >= trust.max(1, keepdims=True)
    heading = np.where(good, length, -1).argmax(1)
    clearance = grid.clearance[tuple(cells.T)]
    roomiest = np.where(measured[tuple(cells.T)], clearance, clearance - clearance.max())
    order = farthest_points(cells.astype(np.float64), spawn_poses + goals, int(roomiest.argmax()))
    # spawn poses and goals alternate, so that each set is spread over the whole floor
    is_goal = np.zeros(len(order), bool)
    is_goal[1 : 2 * min(goals, spawn_poses) : 2] = True
    if goals > spawn_poses:
        is_goal[2 * spawn_poses :] = True
    positions = _positions(grid, cells, cell)
    poses = []
    for index in order:
        x, y, z = (round(float(v), 4) for v in positions[index])
        yaw, trusted = float(angles[heading[index]]), float(trust[index, heading[index]])
        poses.append(RobotPose((x, y, z), round(yaw, 6), round(trusted, 3)))
    return (
        tuple(pose for pose, goal in zip(poses, is_goal, strict=True) if not goal),
        tuple(pose for pose, goal in zip(poses, is_goal, strict=True) if goal),
    )


def _positions(grid: WalkableGrid, cells: I64, cell: float) -> F64:
    """Centres (N, 3) of cells (N, 2) on the floor [m]."""
    return np.column_stack([grid.origin + (cells + 0.5) * cell, grid.height[tuple(cells.T)].astype(np.float64)])


def _open_lengths(area: Mask, start: I64, cell: float, angles: F64) -> I64:
    """How far floor goes on from cells (N, 2) along every angle (H,) [rad], in cells (N, H)."""
    lengths = np.zeros((len(start), len(angles)), np.int64)
    going = np.ones(lengths.shape, bool)
    ahead = np.stack([np.cos(angles), np.sin(angles)], -1)
    for step in range(1, int(FARTHEST_LOOK / cell) + 1):
        cells = np.round(start[:, None] + step * ahead).astype(int)
        inside = ((cells >= 0) & (cells < area.shape)).all(-1)
        clipped = np.clip(cells, 0, np.array(area.shape) - 1)
        going &= inside & area[clipped[..., 0], clipped[..., 1]]
        lengths += going
    return lengths
