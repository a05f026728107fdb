"""Floor, stairs and walls of a reconstructed sample hall against its exact truth, by rays."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from benchmarks.truth import TRUTH
from pipeline.geometry import Mesh, masks
from pipeline.geometry.rays import RayCaster
from pipeline.types import F64, Mask

STEP = 0.01  # [m] between rays
RIM = 0.02  # [m] next to an edge, excluded from tread heights and riser positions
EDGE = 0.015  # [m] on both sides of a step's front edge
REACH = 0.10  # [m], search distance from a surface's true position


@dataclass(frozen=True, eq=False)
class Structure:
    """Flatness and edge sharpness of a mesh of the hall; absolute distances [m].

    Attributes:
        floor_p95: Measured floor from z = 0, 95 % of it.
        rises: (4,) errors of the height from one tread to the next, the platform last.
        runs: (4,) errors of the depth from one riser to the next.
        treads: (4,) errors of the treads' median heights.
        risers: (5,) errors of the risers' median positions, lowest first.
        edge_p95: Distance of the mesh from the treads' and risers' last 1.5 cm before the front edges, 95 % of it.
        walls: Largest of the four walls' median errors.
        floor_hole: Diameter of the largest circle of open floor (furniture's footprints left out) without mesh.
    """

    floor_p95: float
    rises: F64
    runs: F64
    treads: F64
    risers: F64
    edge_p95: float
    walls: float
    floor_hole: float


def measure_structure(mesh: Mesh) -> Structure:
    """Measure a mesh in the truth's frame."""
    truth = json.loads((TRUTH / "regions.json").read_text())
    measured = mesh.with_faces(~mesh.face_guessed())
    caster, stairs, platform = RayCaster(measured), truth["stairs"], truth["platform"]
    rise, run, foot = stairs["rise"], stairs["run"], stairs["foot_x"]
    width = platform["y"]
    open_floor, positions = _open_floor(truth)
    height = _heights(caster, positions[open_floor], 0.0)
    levels = [*stairs["treads"], {**platform, "x": [platform["x"][1] - run, platform["x"][1]]}]  # seen part of it
    treads, edges = [], []
    for tread in levels:
        low, high = tread["x"]
        treads.append(_median(_heights(caster, _grid((low + RIM, high - RIM), _inner(width)), tread["z"])))
        along = _grid((high - EDGE, high), _inner(width), STEP / 4)
        edges.append(np.column_stack([along, np.full(len(along), tread["z"])]))
    risers = []
    for index in range(len(levels)):
        z = index * rise
        risers.append(_median(_fronts(caster, foot - index * run, _inner(width), (z + RIM, z + rise - RIM))))
        along = _grid((z + rise - EDGE, z + rise), _inner(width), STEP / 4)
        edges.append(np.column_stack([np.full(len(along), foot - index * run), along[:, 1], along[:, 0]]))
    tread_errors, riser_errors = np.array(treads), np.array(risers)
    vertices = np.concatenate([truth["floor"]["outline"]])
    return Structure(
        floor_p95=float(np.percentile(np.abs(height), 95)) if len(height) else REACH,
        rises=np.abs(np.diff(tread_errors)),
        runs=np.abs(np.diff(riser_errors)),
        treads=np.abs(tread_errors[:4]),
        risers=np.abs(riser_errors),
        edge_p95=float(np.percentile(caster.distances(np.concatenate(edges)), 95)),
        walls=max(_wall(caster, vertices, axis, side) for axis in (0, 1) for side in (0, 1)),
        floor_hole=_largest_hole(mesh, open_floor, positions),
    )


def _inner(span: list[float]) -> tuple[float, float]:
    return span[0] + 2 * RIM, span[1] - 2 * RIM


def _grid(first: tuple[float, float], second: tuple[float, float], step: float = STEP) -> F64:
    """Points (N, 2) of a grid; `step` [m] along the first axis."""
    a, b = np.meshgrid(np.arange(*first, step) + step / 2, np.arange(*second, STEP) + STEP / 2, indexing="ij")
    return np.stack([a.ravel(), b.ravel()], 1)


def _heights(caster: RayCaster, xy: F64, z: float) -> F64:
    """Signed errors of horizontal surfaces above and below points (N, 2) at height z."""
    return _errors(caster, np.column_stack([xy, np.full(len(xy), z + REACH)]), np.array([0, 0, -1.0]))


def _fronts(caster: RayCaster, x: float, y: tuple[float, float], z: tuple[float, float]) -> F64:
    """The same for a vertical surface at `x` that faces +x."""
    zy = _grid(z, y)
    return _errors(caster, np.column_stack([np.full(len(zy), x + REACH), zy[:, 1], zy[:, 0]]), np.array([-1.0, 0, 0]))


def _errors(caster: RayCaster, origins: F64, direction: F64) -> F64:
    distance = caster.cast(origins, direction).distance.astype(np.float64)
    return REACH - distance[distance < 2 * REACH]


def _median(errors: F64) -> float:
    return float(np.median(errors)) if len(errors) else REACH


def _wall(caster: RayCaster, outline: F64, axis: int, side: int) -> float:
    """Median error of a wall, measured from inside above the furniture."""
    along = _grid((-2.0, 2.0), (1.7, 2.6))
    inward = 1.0 if side == 0 else -1.0
    place = outline[:, axis].min() if side == 0 else outline[:, axis].max()
    origins, direction = np.empty((len(along), 3)), np.zeros(3)
    origins[:, axis], origins[:, 1 - axis], origins[:, 2] = place + inward * REACH, along[:, 0], along[:, 1]
    direction[axis] = -inward
    return abs(_median(_errors(caster, origins, direction)))


def _open_floor(truth: dict) -> tuple[Mask, F64]:
    """Mask (X, Y) of plan nodes with free floor, and their positions (X, Y, 2)."""
    outline = np.array(truth["floor"]["outline"])
    low, high = outline.min(0), outline.max(0)
    x, y = np.meshgrid(*(np.arange(a + STEP / 2, b, STEP) for a, b in zip(low, high, strict=True)), indexing="ij")
    places = np.stack([x, y], -1)
    free = _inside(outline, places)
    stairs = {"x": [truth["platform"]["x"][0], truth["stairs"]["foot_x"]], "y": truth["platform"]["y"]}
    for thing in (stairs, truth["pillar"], truth["bench"], truth["shelf"]):
        free &= ~((x > thing["x"][0]) & (x < thing["x"][1]) & (y > thing["y"][0]) & (y < thing["y"][1]))
    for box in truth["boxes"].values():
        if box["bottom_z"] == 0:
            yaw = np.deg2rad(box["yaw_deg"])
            dx, dy = x - box["centre_x"], y - box["centre_y"]
            along, across = np.cos(yaw) * dx + np.sin(yaw) * dy, np.cos(yaw) * dy - np.sin(yaw) * dx
            free &= ~((np.abs(along) < box["size_x"] / 2) & (np.abs(across) < box["size_y"] / 2))
    return free, places


def _inside(outline: F64, places: F64) -> Mask:
    """Even-odd rule for points (..., 2) and a polygon (N, 2)."""
    inside = np.zeros(places.shape[:-1], bool)
    x, y = places[..., 0], places[..., 1]
    for (ax, ay), (bx, by) in zip(outline, np.roll(outline, -1, 0), strict=True):
        if ay != by:
            inside ^= ((ay > y) != (by > y)) & (x < ax + (y - ay) / (by - ay) * (bx - ax))
    return inside


def _largest_hole(mesh: Mesh, open_floor: Mask, positions: F64) -> float:
    """Diameter [m] of the largest circle of open floor through which an object would fall."""
    places = positions[open_floor]
    hits = RayCaster(mesh).cast(np.column_stack([places, np.full(len(places), 0.05)]), np.array([0, 0, -1.0]))
    upward = hits.hit & (mesh.face_normals()[hits.triangle, 2] > 0.3)
    hole = np.zeros(open_floor.shape, bool)
    hole[open_floor] = ~(upward & (hits.distance < 0.10))
    return 2 * STEP * max(0.0, float(masks.distance_from(~hole).max()) - 0.5) if hole.any() else 0.0
