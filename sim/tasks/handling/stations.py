"""Stations: where the base of an arm may stand in a scene, with a level and free surface before it."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from pipeline.errors import MachineError, SimError
from pipeline.geometry import Pose, matrix_from_rotvec
from pipeline.geometry.jit import njit
from pipeline.geometry.rays import RayCaster
from pipeline.io.files import read_plain
from pipeline.scenes.files import cache_folder, write_cached
from pipeline.types import F64, Mask
from sim.scene.scene import SimScene
from sim.tasks.task import Area

PLACES = ((0.38, 0.58), (-0.22, 0.25))
"""Where things lie before Panda: x and y in the base's axes [m]."""
AROUND = ((-0.10, 0.04), (-0.04, 0.04))
"""The surface goes on so far around these, on either side, before any arm: things have one size [m]."""
ROOM = ((-0.15, 0.75), (-0.40, 0.40))
"""Space that Panda moves in; nothing else may stand there."""
FOOT = 0.09
"""Radius of the base's foot [m]."""
TABLES = (0.3, 1.3)
"""Height of tables over the floor [m]."""
CELL, STEP = 0.02, 0.04
"""Edge of the cells of a height map, and distance between the places that are tried [m]."""
HEADINGS = np.deg2rad(np.arange(0, 360, 15))
OVERHEAD = 0.9
"""Free height over the surface [m]."""
UNEVEN, LEAN = 0.006, 2.0
"""A surface is level where it deviates by less from its plane [m], which leans by less [degrees]."""
SIGHTS = (0.1, 0.4, 0.75)
"""Heights over the surface at which nothing may stand in the arm's room [m]."""
MAX_LEVELS, MAX_STATIONS, MAX_TRIED = 6, 8, 1000
"""The last is of places by heading: a wide floor has more, which are thinned evenly."""
GUESSED = 0.2
"""Surfaces of which no more was guessed come before all others: nobody knows how the others look."""
MAX_BYTES = 2**16
"""Of a file of what was found."""
APART = 0.3
"""Distance between stations that look the same way [m]."""


@dataclass(frozen=True, eq=False)
class Station:
    """A place for an arm.

    Attributes:
        world_from_base: Pose of the base: z up, x over the work surface, which is at z = 0.
        stands: Whether the base stands on the surface; else beside it, on a pedestal.
        uneven: Largest deviation of the surface from a level plane [m].
    """

    world_from_base: Pose
    stands: bool
    uneven: float


def work_of(size: float) -> Area:
    """Surface before the base that things lie on, for an arm of that size (1: Panda's)."""
    (x, y), (dx, dy) = size * np.array(PLACES) + np.array(AROUND)
    return (float(x), float(y)), (float(dx), float(dy))


def room_of(size: float) -> Area:
    """Space that an arm of that size moves in, at least its work surface."""
    work, room = np.array(work_of(size)), size * np.array(ROOM)
    (x, y), (dx, dy) = np.stack([np.minimum(work[:, 0], room[:, 0]), np.maximum(work[:, 1], room[:, 1])], 1)
    return (float(x), float(y)), (float(dx), float(dy))


@lru_cache(4)  # environments are made anew for evaluations
def find_stations(scene: SimScene, size: float = 1.0) -> tuple[Station, ...]:
    """Find places for an arm at the tables of a scene, or else on its floor; the best first, at most `MAX_STATIONS`.

    The best are those whose base stands on the surface, with the most even work surface. The same scene has the same
    stations, which are looked for once: what was found is kept in the cache. Distances are those of Franka's Panda,
    times the size of the arm.

    Raises:
        SimError: When there is none.
    """
    kept = None
    with suppress(MachineError):  # nothing can be kept here
        kept = cache_folder() / "stations" / f"{_asked(scene, size)}.json"
    if kept:
        with suppress(OSError, ValueError, TypeError):  # it is not there, or damaged
            known = json.loads(read_plain(kept, MAX_BYTES))
            return tuple(Station(Pose(np.array(turn), np.array(at)), *others) for turn, at, *others in known)
    found = _look_for(scene, size)
    if kept:
        poses = [(one.world_from_base.rotation.tolist(), one.world_from_base.translation.tolist()) for one in found]
        known = [(*pose, one.stands, one.uneven) for pose, one in zip(poses, found, strict=True)]
        with suppress(MachineError):
            write_cached(kept, [json.dumps(known).encode()])
    return found


def _asked(scene: SimScene, size: float) -> str:
    """Hash of all that stations follow from, this module among it."""
    asked = hashlib.sha256(Path(__file__).read_bytes())
    mesh, numbers = scene.collision, [scene.regions.floor_height, size]
    for part in (mesh.vertices, mesh.triangles, mesh.guessed, numbers):
        asked.update(np.ascontiguousarray(part).tobytes())
    return asked.hexdigest()


def _look_for(scene: SimScene, size: float) -> tuple[Station, ...]:
    floor, caster = scene.regions.floor_height, RayCaster(scene.collision)
    levels = _levels(scene)
    tables = [level for level in levels if TABLES[0] <= level - floor <= TABLES[1]]
    every = list[tuple[bool, float, Pose, float]]()
    for level in tables or [floor]:
        every += _stations_at(scene, caster, level, size)
    found = [one for one in every if one[3] <= GUESSED] or every
    found.sort(key=lambda one: (not one[0], round(one[1], 4)))  # rounding errors differ between machines
    chosen = list[Station]()
    for stands, uneven, pose, _ in found:
        if all(_apart(pose, other.world_from_base) for other in chosen):
            chosen.append(Station(pose, stands, uneven))
        if len(chosen) == MAX_STATIONS:
            break
    if not chosen:
        (near, far), (right, left) = work_of(size)
        raise SimError(
            f"an arm stands before a level surface of {100 * (far - near):.0f} x {100 * (left - right):.0f} cm, with "
            "90 cm of free space above and round it",
            found=f"none in {scene.lock.reference}, on {len(tables)} tables and the floor",
            remedy="clear a table and scan it again, or cut out what lies there: `splatyard bundle objects BUNDLE "
            "--all-movable`, then --objects",
        )
    return tuple(chosen)


def _apart(pose: Pose, other: Pose) -> bool:
    turned = float((pose.rotation[:, 0] * other.rotation[:, 0]).sum()) < np.cos(np.deg2rad(40))
    return turned or float(np.linalg.norm(pose.translation - other.translation)) > APART


def _levels(scene: SimScene) -> list[float]:
    """Heights [m] at which the scene has most level surface, by centimetres."""
    mesh = scene.collision
    level = mesh.face_normals()[:, 2] > np.cos(np.deg2rad(5))
    heights = mesh.corners()[level, :, 2].mean(1)
    if not len(heights):
        return []
    edges = np.arange(heights.min() - 0.01, heights.max() + 0.03, 0.01)
    areas = np.histogram(heights, edges, weights=mesh.face_areas()[level])[0]
    areas = np.convolve(areas, np.ones(3), "same")
    levels = list[float]()
    while len(levels) < MAX_LEVELS and areas.max() > 0.15:
        best = int(areas.argmax())
        levels.append(float(edges[best] + 0.005))
        areas[max(0, best - 4) : best + 5] = 0
    return levels


def _stations_at(
    scene: SimScene, caster: RayCaster, level: float, size: float
) -> list[tuple[bool, float, Pose, float]]:
    """Stations on a level: whether the base stands on it, how uneven it is [m], pose of the base, share guessed."""
    mesh = scene.collision
    corners = mesh.corners()
    on = (np.abs(corners[..., 2].mean(1) - level) < 0.02) & (mesh.face_normals()[:, 2] > np.cos(np.deg2rad(10)))
    if not on.any():
        return []
    margin = 1.0
    low, high = corners[on, :, :2].min((0, 1)) - margin, corners[on, :, :2].max((0, 1)) + margin
    shape = np.ceil((high - low) / CELL).astype(int)
    if np.prod(shape) > 4_000_000:
        low, high = low, low + CELL * np.minimum(shape, 2000)
        shape = np.minimum(shape, 2000)
    cells = low + (np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1) + 0.5) * CELL
    above = np.concatenate([cells.reshape(-1, 2), np.full((cells.size // 2, 1), level + OVERHEAD)], 1)
    hits = caster.cast(above, np.array([0, 0, -1.0]))
    distance = hits.distance.reshape(tuple(shape))
    height = np.where(np.isfinite(distance), OVERHEAD - distance, -np.inf)  # over the level
    guessed = (hits.hit & mesh.face_guessed()[hits.triangle]).reshape(tuple(shape)).astype(np.float64)
    every = max(1, round(STEP / CELL))
    places = cells[::every, ::every].reshape(-1, 2)
    inside = np.abs(_at(height, low, places)) < 1.0  # something is below, at least the floor
    places = places[inside]
    work, room, foot = _grid(work_of(size), CELL), _grid(room_of(size), CELL), _disc(FOOT)
    found = list[tuple[bool, float, Pose, float]]()
    for heading in HEADINGS:
        turn = np.array([[np.cos(heading), -np.sin(heading)], [np.sin(heading), np.cos(heading)]])
        tried = places
        for part, most in ((work[::7], 3 * UNEVEN), (work, 3 * UNEVEN)):  # few points first
            values = np.abs(_at(height, low, tried[:, None] + part @ turn.T))
            tried = tried[np.isfinite(values).all(1) & (values < most).all(1)]
            tried = tried[:: max(1, -(-len(tried) // MAX_TRIED))]
        tried = tried[(_at(height, low, tried[:, None] + room @ turn.T) < 3 * UNEVEN).all(1)]
        tried = tried[_in_sight(caster, tried, level, turn, room_of(size))]
        offsets, uneven, level_there = _planes(work, _at(height, low, tried[:, None] + work @ turn.T))
        feet = _at(height, low, tried[:, None] + foot)
        stands: Mask = np.asarray((np.abs(feet - offsets[:, None]) < 2 * UNEVEN).all(1))
        shares = _at(guessed, low, tried[:, None] + work @ turn.T).mean(1)
        rotation = matrix_from_rotvec(np.array([0, 0, heading]))
        for one in np.flatnonzero(level_there):
            pose = Pose(rotation, np.array([*tried[one], level + offsets[one]]))
            found.append((bool(stands[one]), float(uneven[one]), pose, float(shares[one])))
    return found


def _in_sight(caster: RayCaster, places: F64, level: float, turn: F64, room: Area) -> Mask:
    """From which places (P, 2) no wall stands between the base and the border of the arm's room."""
    edges = np.concatenate([_grid((room[0], (side, side)), 0.1) for side in room[1]])
    edges = np.concatenate([edges, *(_grid(((end, end), room[1]), 0.1) for end in room[0])])
    far = np.linalg.norm(edges, axis=1)
    ways = np.column_stack([edges / far[:, None] @ turn.T, np.zeros(len(far))])
    free = np.ones(len(places), bool)
    for height in SIGHTS:
        eyes = np.column_stack([places, np.full(len(places), level + height)])
        rays = np.repeat(eyes, len(ways), 0), np.tile(ways, (len(places), 1))
        free &= (caster.cast(*rays).distance.reshape(len(places), len(ways)) > far).all(1)
    return free


def _planes(points: F64, heights: F64) -> tuple[F64, F64, Mask]:
    """Planes through points (P, 2) at heights (T, P): their heights in the middle (T,), largest deviations [m], level.

    Deviations are those from a level plane.
    """
    matrix = np.column_stack([points - points.mean(0), np.ones(len(points))])
    planes = heights @ np.linalg.pinv(matrix).T
    flat = np.abs(heights - planes @ matrix.T).max(1) <= UNEVEN
    leans = np.hypot(planes[:, 0], planes[:, 1]) > np.tan(np.deg2rad(LEAN))
    return planes[:, 2], np.abs(heights - planes[:, 2:]).max(1), flat & ~leans


def _at(height: F64, low: F64, places: F64) -> F64:
    """Heights (...) of the map at places (..., 2); inf off it."""
    return _looked_up(height, low, np.ascontiguousarray(places).reshape(-1, 2)).reshape(places.shape[:-1])


@njit(cache=True, nogil=True)
def _looked_up(height: F64, low: F64, places: F64) -> F64:
    found = np.full(len(places), np.inf)
    for i in range(len(places)):
        row, column = np.floor((places[i, 0] - low[0]) / CELL), np.floor((places[i, 1] - low[1]) / CELL)
        if 0 <= row < height.shape[0] and 0 <= column < height.shape[1]:
            found[i] = height[int(row), int(column)]
    return found


def _grid(area: tuple[tuple[float, float], tuple[float, float]], step: float) -> F64:
    """Points (P, 2) of a rectangle."""
    ranges = [np.arange(low, high + step / 2, step) for low, high in area]
    return np.stack(np.meshgrid(*ranges, indexing="ij"), -1).reshape(-1, 2)


def _disc(radius: float) -> F64:
    """Points (P, 2) of a disc."""
    points = _grid(((-radius, radius), (-radius, radius)), CELL)
    return points[np.linalg.norm(points, axis=1) <= radius]
