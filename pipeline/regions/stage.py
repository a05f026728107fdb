"""The regions stage: the collision mesh, the camera track and the coverage map to `regions.json` and `walkable.npz`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.align.alignment import load_world_scene
from pipeline.coverage.map import CoverageMap
from pipeline.errors import ReconstructionError
from pipeline.geometry import Mesh
from pipeline.regions.areas import paint_areas
from pipeline.regions.params import RegionsParams
from pipeline.regions.places import propose_places
from pipeline.regions.regions import Regions
from pipeline.regions.walkable import find_walkable

logger = logging.getLogger(__name__)

SEED = 0


def run(inputs: Mapping[str, Path], params: RegionsParams, out_dir: Path) -> None:
    """Read poses, align, mesh and coverage; write the regions."""
    scene = load_world_scene(inputs["poses"], inputs["align"])
    track = np.array([view.world_from_camera.translation for view in scene.training]).reshape(-1, 3)
    try:
        coverage = CoverageMap.load(inputs["coverage"])
        regions = find_regions(Mesh.load(inputs["mesh"] / "collision.ply"), track, coverage, params)
    except ReconstructionError as error:  # a picture of a shelf is still a bundle; its gate says that nobody can walk
        logger.warning("no walkable floor: %s", error.found)
        regions = Regions.without_floor(params.cell, f"{error.rule}; found: {error.found}")
    if params.areas and regions.walkable.any():
        regions = _with_areas(regions, params, Mesh.load(inputs["mesh"] / "mesh.ply"))
    regions.save(out_dir)


def find_regions(collision: Mesh, track: NDArray[np.floating], coverage: CoverageMap, params: RegionsParams) -> Regions:
    """The regions of a collision mesh [m, world frame] under the camera centres (N, 3), where pictures hold.

    Raises:
        ReconstructionError: When there is no floor under the cameras that the robot has room on.
    """
    grid = find_walkable(collision, track, params, np.random.default_rng(SEED))
    spawn_poses, goals = propose_places(grid, coverage, params.cell, params.spawn_poses, params.goals)
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


def _with_areas(regions: Regions, params: RegionsParams, mesh: Mesh) -> Regions:
    """The regions with the card's areas; `mesh` has the floor's colours [world frame]."""
    painted = paint_areas(params.areas, regions.centres(), regions.height, regions.cell, mesh)
    for number, area in enumerate(params.areas):
        size = float((painted == number).sum() * regions.cell**2)
        logger.log(logging.INFO if size else logging.WARNING, "area %r: %.2f m^2", area.name, size)
    return replace(regions, areas=params.areas, area=painted)
