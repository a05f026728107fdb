"""A seed's room in memory: drawn again until robots have room in it and its gates pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.align.alignment import Alignment
from pipeline.check.quality import Quality
from pipeline.coverage.map import CoverageMap
from pipeline.coverage.stage import horizontal_rotation
from pipeline.errors import ReconstructionError
from pipeline.geometry import Gaussians, Mesh, Pose, Similarity, masks
from pipeline.importing.measure import Lookout
from pipeline.regions.params import RegionsParams
from pipeline.regions.regions import Regions
from pipeline.regions.stage import find_regions
from pipeline.rooms.layout import EYES, Room, draw_room
from pipeline.rooms.quality import look, measure
from pipeline.rooms.recipe import Recipe
from pipeline.rooms.scanned import draw_flaws, with_flaws
from pipeline.rooms.splat import RoomColors, budget_of, room_splat
from pipeline.rooms.surfaces import painted

REGIONS = RegionsParams(goals=40, spawn_poses=8)
LEVELS = {"full": (0.0045, 15_000, 60_000), "sim": (0.016, 6_000, 16_000)}
"""Area of surface that a Gaussian of a level of detail stands for [m^2], and the fewest and most of them.

With half as many, robots see the floor under their cameras as mist, and depth gets worse by the same factor.
"""
MIN_FLOOR, MIN_APART = 3.0, 2.2
"""Floor that a robot drives on [m^2], and distance of the two goals that are farthest apart [m]: else drawn again."""
MAX_ATTEMPTS = 60
COVERAGE_CELL, SURE = 0.5, 1e-4
"""Distance between the coverage map's positions [m], and its error: 40 dB, as images are what the room looks like."""
LOOKOUTS, LOOKOUT_HEIGHT = 4, 0.5
"""Number of synthetic views, and their height over the floor [m]."""
STRENGTHS = (1.0, 0.5, 0.2, 0.0)
"""Shares of the flaws that were drawn, until the gates pass."""
FLAWS, NOISE, OWN_FLAWS = 9_001, 9_002, 9_003
"""Keep the numbers drawn for a splat apart from each other."""
ALIGNMENT = Alignment(Similarity.identity(), ("drawn",), 0.0, "drawn", 0.0, floor_found=True, report={})
"""Gravity and scale are what the room was drawn with."""


@dataclass(frozen=True, eq=False)
class MadeRoom:
    """A room with all that its bundle holds; in its world frame [m].

    Attributes:
        room: As it was drawn.
        mesh: The exact one, painted.
        regions: Its floor.
        splats: The levels of detail, by name.
        lookouts: Poses of the synthetic views.
        views: What splat and mesh show from there.
        quality: All gates.
        scanned: Strength of the flaws, 0..1.
    """

    room: Room
    mesh: Mesh
    regions: Regions
    splats: Mapping[str, Gaussians]
    lookouts: tuple[Pose, ...]
    views: tuple[Lookout, ...]
    quality: Quality
    scanned: float


def make_room(seed: int, recipe: Recipe) -> MadeRoom:
    """Make the room of a seed: the same on one machine every time.

    Raises:
        ReconstructionError: When no attempt has a floor to drive on and passes its gates.
    """
    for attempt in range(MAX_ATTEMPTS):
        room = draw_room(seed, attempt, recipe.palette, recipe.feature)
        if recipe.feature and recipe.feature not in room.features:
            continue
        mesh = room.surfaces.mesh()
        try:
            regions = find_regions(mesh, room.eyes, coverage_of(room), REGIONS)
        except ReconstructionError:
            continue
        if is_usable(regions) and (made := _shown(room, mesh, regions, seed, recipe)):
            return made
    raise ReconstructionError(
        f"one of {MAX_ATTEMPTS} drawn rooms has floor to drive on, a splat that fits it, and what it is asked to have",
        found=f"none for seed {seed}",
        remedy="choose another --seed, and tell us: the generator should never fail",
    )


def is_usable(regions: Regions) -> bool:
    """Whether a robot finds floor to drive on, and two goals in one part of it that lie well apart."""
    if regions.drivable.sum() * regions.cell**2 < MIN_FLOOR or len(regions.goals) < REGIONS.goals:
        return False
    goals = np.array([pose.position[:2] for pose in regions.goals])
    cells, _ = regions.cells_of(goals)
    part = masks.parts(regions.drivable)[0][tuple(cells.T)]
    apart = np.linalg.norm(goals[:, None] - goals[None], axis=2)
    return bool(apart[(part[:, None] == part[None]) & (part[:, None] > 0)].max(initial=0) >= MIN_APART)


def coverage_of(room: Room) -> CoverageMap:
    """Images are good wherever a person stood."""
    floor = (room.eyes - [0, 0, EYES]).astype(np.float32)
    return CoverageMap(floor, np.full((len(floor), 8), SURE, np.float32), COVERAGE_CELL, LOOKOUT_HEIGHT, np.pi / 2)


def _shown(room: Room, mesh: Mesh, regions: Regions, seed: int, recipe: Recipe) -> MadeRoom | None:
    """The room with its splats, with as many flaws as its gates allow; None where they fail without any."""
    colors = RoomColors(room, mesh)
    clean = {
        level: room_splat(room, colors, budget_of(room.surfaces, *sizes), np.random.default_rng((NOISE, seed)))
        for level, sizes in LEVELS.items()
    }
    lookouts = tuple(
        Pose(horizontal_rotation(pose.yaw), np.array(pose.position) + np.array([0, 0, LOOKOUT_HEIGHT]))
        for pose in regions.spawn_poses[:LOOKOUTS]
    )
    drawn = recipe.scanned * float(np.random.default_rng((FLAWS, seed)).uniform(0.3, 1.0))
    for strength in dict.fromkeys(drawn * share for share in STRENGTHS):
        splats = flawed(clean, strength, seed)
        views = tuple(look(splats["full"], mesh, lookouts))
        quality = measure(ALIGNMENT, splats["full"], mesh, regions, views)
        if quality.passed:
            shown = painted(mesh, colors.at(mesh.vertices.astype(np.float64), room.surfaces.owners()))
            return MadeRoom(room, shown, regions, splats, lookouts, views, quality, strength)
    return None


def flawed(clean: Mapping[str, Gaussians], strength: float, seed: int) -> dict[str, Gaussians]:
    """All levels of detail with the same flaws, drawn by the seed."""
    flaws = draw_flaws(clean["full"], strength, np.random.default_rng((FLAWS, seed, 1)))
    return {
        level: with_flaws(splat, flaws, np.random.default_rng((OWN_FLAWS, seed, number)))
        for number, (level, splat) in enumerate(clean.items())
    }
