"""Closing holes in the walkable floor and narrow slits in every horizontal surface; closed parts are marked as guessed.

What no camera saw (the ground under the walker, behind a box, under a table) must still carry a robot: nodes on the
floor plane without a measured floor that floor, walls and the camera track enclose get one. Only the floor's height is
filled, so nothing grows up into furniture. Depth also ends a little before the edges of stairs and of what stands on a
floor, and leaves slits. A hole that a foot may fall into stays: what decides is how wide it is across its rim.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

from pipeline.geometry import Mesh, Plane, masks, ransac_plane
from pipeline.geometry.rays import RayCaster
from pipeline.mesh.topology import border_sides, canonical
from pipeline.points.levels import Levels
from pipeline.types import F64, I64, Floats, Mask

logger = logging.getLogger(__name__)

NODE = 0.03  # [m] between probes, at least
MAX_NODES = 1_000_000
BAND = 0.08  # [m] round the plane that still is the floor
LEVEL_BAND = 0.02  # [m] round a level surface that still is that surface
SEARCH = 0.15  # [m] round z = 0 in which the floor plane is sought
MIN_AREA = 0.3  # [m^2] of measured floor without which nothing is closed
OBSTACLE = (0.10, 1.2)  # [m] above the floor: surfaces that bound it
WALKER = 0.3  # [m] round the track that a walker stood on
REACH = 1.5  # [m] from measured floor or track beyond which nothing is guessed
LOWER_AREA = 0.25  # [m^2] of lower ground (stairs going down) that counts as ground and not a stray surface
SINK = 0.002  # [m] by which the rim of a closed hole lies under the measured floor


@dataclass(frozen=True)
class FloorReport:
    """What was found and closed."""

    measured_area: float  # floor that cameras saw [m^2]; below 0.3 nothing is closed
    closed_area: float  # guessed floor [m^2], what lies under furniture included
    holes: int  # how many separate holes were closed
    height: float  # the floor plane's z below the middle of the measured floor [m]
    tilt_deg: float  # angle between its normal and the world's Z [deg]


@dataclass(frozen=True, eq=False)
class _Grid:
    """Nodes (X, Y) on a plane; node (i, j) lies at origin + (i, j) * step."""

    origin: F64
    shape: tuple[int, int]
    step: float
    plane: Plane

    def positions(self) -> F64:
        """Points on the plane (X, Y, 3) [m]."""
        x, y = np.meshgrid(*(np.arange(n) * self.step for n in self.shape), indexing="ij")
        return self.lifted(np.stack([x, y], -1) + self.origin)

    def lifted(self, xy: Floats) -> F64:
        """The plane's points above (..., 2)."""
        a, b, c = self.plane.normal
        z = (self.plane.offset - a * xy[..., 0] - b * xy[..., 1]) / c
        return np.concatenate([xy, z[..., None]], -1, dtype=np.float64)

    def mark(self, points: Floats) -> Mask:
        """Nodes (X, Y) nearest to points (N, >= 2); what falls outside is dropped."""
        index = np.round((points[:, :2] - self.origin) / self.step).astype(int)
        inside = ((index >= 0) & (index < self.shape)).all(1)
        marked = np.zeros(self.shape, bool)
        marked[tuple(index[inside].T)] = True
        return marked


def close_floor(mesh: Mesh, track: Floats, gap: float, rng: np.random.Generator) -> tuple[Mesh, FloorReport]:
    """The mesh with guessed floor where floor, walls and camera centres (N, 3) [m] enclose none.

    It is oriented and undecimated [m, world frame: floor near z = 0]; openings between floor and walls up to the width
    `gap` [m] count as closed.
    """
    areas, normals, centres = mesh.face_areas(), mesh.face_normals(), mesh.corners().mean(1)
    level = (normals[:, 2] > 0.8) & (np.abs(centres[:, 2]) < SEARCH)
    plane = ransac_plane(centres[level], 0.02, rng, near_normal=np.array([0, 0, 1.0]), max_angle_deg=6)
    if plane is None or areas[level][plane.inliers].sum() < MIN_AREA:
        found = 0.0 if plane is None else float(areas[level][plane.inliers].sum())
        logger.warning("no floor to close: %.2f m^2 of level surface near z = 0, %.1f needed", found, MIN_AREA)
        return mesh, FloorReport(found, 0.0, 0, 0.0, 0.0)
    seen = np.concatenate([centres[level][plane.inliers][:, :2], track[:, :2]]).astype(np.float64)
    low, high = seen.min(0) - 0.5, seen.max(0) + 0.5
    step = max(NODE, float(np.sqrt(np.prod(high - low) / MAX_NODES)))
    low = np.floor(low / step) * step
    shape = np.ceil((high - low) / step).astype(int) + 1
    grid = _Grid(low, (int(shape[0]), int(shape[1])), step, plane)
    measured, height, lower = _probe(mesh, grid)
    walker = masks.distance_from(grid.mark(_standing(track, grid))) <= WALKER / step
    above = plane.distance(mesh.vertices)
    walls = grid.mark(mesh.vertices[(above > OBSTACLE[0]) & (above < OBSTACLE[1])])
    # the hole-free hull of floor, walls and walker, in parts that have floor or walker in them
    parts, count = masks.parts(masks.without_holes(masks.closed(measured | walls | walker, gap / step)))
    seeded = np.zeros(count + 1, bool)
    seeded[parts[measured | walker]] = True
    seeded[0] = False
    near = masks.distance_from(measured | walker) <= REACH / step
    missing = seeded[parts] & ~measured & ~lower & near
    patch, area = _patch(mesh, grid, measured, missing, height)
    middle = grid.lifted(np.median(centres[level][plane.inliers][:, :2], axis=0))
    report = FloorReport(
        measured_area=float(measured.sum() * grid.step**2),
        closed_area=area,
        holes=masks.parts(missing)[1],
        height=float(middle[2]),
        tilt_deg=float(np.rad2deg(np.arccos(np.clip(plane.normal[2], -1, 1)))),
    )
    return (canonical(mesh.joined(patch)) if len(patch.triangles) else mesh), report


def close_levels(mesh: Mesh, levels: Levels, is_free: Callable[[F64], Mask]) -> tuple[Mesh, float]:
    """The mesh with level surfaces where it lacks them, and the area of that [m^2].

    Things hide them, and what views see flat lies between voxels that they see nothing below of. `is_free` says which
    points (N, 3) depth looks through: nothing is there. The mesh is oriented and undecimated [m, world frame].
    """
    closed = 0.0
    for height, cells, hidden in zip(levels.heights, levels.cells, levels.hidden, strict=True):
        plane = Plane(np.array([0, 0, 1.0]), float(height))
        grid = _Grid(levels.origin, cells.shape, levels.step, plane)
        found, over, _ = _probe(mesh, grid, LEVEL_BAND)
        missing = ~found & (hidden | cells)
        missing[missing] = ~is_free(grid.positions()[missing])
        patch, area = _patch(mesh, grid, found & cells, missing, over)
        mesh, closed = mesh.joined(patch), closed + area
    return (canonical(mesh) if closed else mesh), closed


def _probe(mesh: Mesh, grid: _Grid, band: float = BAND) -> tuple[Mask, F64, Mask]:
    """Which nodes have a floor that all of nine rays find, its height (X, Y) [m], and which show real lower ground."""
    caster, normals = RayCaster(mesh), mesh.face_normals()
    nodes = grid.positions().reshape(-1, 3) + np.array([0, 0, band])
    measured, lower = np.ones(len(nodes), bool), np.zeros(len(nodes), bool)
    height = np.zeros(len(nodes))
    for i in (-1, 0, 1):
        for j in (-1, 0, 1):
            hits = caster.cast(nodes + np.array([i, j, 0]) * grid.step / 3, np.array([0, 0, -1.0]))
            upward = hits.hit & (normals[hits.triangle, 2] > 0.3)
            measured &= upward & (hits.distance < 2 * band)
            lower |= hits.hit & (hits.distance >= 2 * band)
            if i == j == 0:
                height = band - hits.distance.astype(np.float64)
    labels, _ = masks.parts(lower.reshape(grid.shape))
    large = np.bincount(labels.ravel()) * grid.step**2 >= LOWER_AREA
    large[0] = False
    return measured.reshape(grid.shape), np.where(measured, height, 0.0).reshape(grid.shape), large[labels]


def _standing(track: Floats, grid: _Grid) -> F64:
    """Track points (N, 3) of a camera held above this floor, steps between them filled in."""
    height = grid.plane.distance(track)
    pieces = [np.asarray(track, np.float64)[(height > 0.2) & (height < 2.5)]]
    for start, end, low, high in zip(track[:-1], track[1:], height[:-1], height[1:], strict=True):
        length = float(np.linalg.norm(end[:2] - start[:2]))
        if length < 1.0 and min(low, high) > 0.2 and max(low, high) < 2.5:
            pieces.append(start + np.linspace(0, 1, int(length / grid.step) + 2)[:, None] * (end - start))
    return np.concatenate(pieces)


def _patch(mesh: Mesh, grid: _Grid, measured: Mask, missing: Mask, height: F64) -> tuple[Mesh, float]:
    """Triangles over the missing nodes and one ring of measured ones, and the area of the missing part [m^2]."""
    usable = measured | missing
    corners = np.stack([usable[:-1, :-1], usable[1:, :-1], usable[1:, 1:], usable[:-1, 1:]])
    lacking = np.stack([missing[:-1, :-1], missing[1:, :-1], missing[1:, 1:], missing[:-1, 1:]])
    needed = np.asarray(corners.all(0) & lacking.any(0))
    cells = masks.grown(needed) & corners.all(0)
    over, missing = height - SINK, missing.copy()
    for sigma in (2.0, 8.0):  # continue the measured heights into the hole, then fade to the plane
        weight = masks.smoothed(measured.astype(np.float64), sigma)
        value = masks.smoothed(height * measured, sigma)
        fill = missing & (weight > 0.02)
        over = np.where(fill, value / np.maximum(weight, 1e-9) - SINK, over)
        missing &= ~fill
    nodes = grid.positions() + over[..., None] * [0, 0, 1.0]
    number = np.arange(usable.size).reshape(usable.shape)
    i, j = np.nonzero(cells)
    a, b, c, d = number[i, j], number[i + 1, j], number[i + 1, j + 1], number[i, j + 1]
    triangles = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    patch = Mesh.from_arrays(nodes.reshape(-1, 3), triangles).with_faces(np.ones(len(triangles), bool))
    if not len(triangles):
        return patch, 0.0
    near_floor = np.abs(grid.plane.distance(mesh.vertices)) < BAND
    index = KDTree(mesh.vertices[near_floor]).query(patch.vertices, k=8)[1]
    colors = mesh.colors[near_floor][np.minimum(index, near_floor.sum() - 1)].astype(np.float64).mean(1)
    colors, guessed = colors.round().astype(np.uint8), np.ones(len(patch.vertices), bool)
    return Mesh(patch.vertices, patch.triangles, colors, guessed), float(needed.sum() * grid.step**2)


SLIT_WIDTH = 0.045  # [m] across; the feet of small legged robots and castors are about as wide
MIN_UPWARD = 0.7  # least z of a floor's normal
RIM_OFFSET = 0.004  # [m] beyond the rim: a surface there leaves no slit
STEP = 0.005  # [m] between the points beyond the rim that are looked at
OVERLAP = 0.008  # [m] by which a strip goes on below or into what it leads to
RISE, FALL = 0.03, 0.05  # [m] that the other side may lie higher or lower
HEIGHTS = (0.02, -0.005, -0.02, -0.04)  # [m] over the rim at which a wall or riser is looked for
STRIP_SINK = 0.001  # [m] by which a strip ends under what it leads to


@dataclass(frozen=True)
class SlitReport:
    """What was closed."""

    edges: int  # number of edges of floors' rims along slits
    area: float  # area of the strips [m^2]


def close_slits(mesh: Mesh, beside: Mesh | None = None) -> tuple[Mesh, SlitReport]:
    """The mesh [m, Z up, vertices shared] with strips over slits up to 4.5 cm wide between floors' rims and beyond.

    `beside` is further surface that slits may lie at.
    """
    whole = mesh.joined(beside) if beside else mesh
    edges, outward = _rims(whole)
    if not len(edges):
        return mesh, SlitReport(0, 0.0)
    middles = whole.vertices[edges].mean(1).astype(np.float64)
    width, height = _across(whole, middles, outward)
    narrow = width <= SLIT_WIDTH
    if not narrow.any():
        return mesh, SlitReport(0, 0.0)
    edges, outward, width, height = edges[narrow], outward[narrow], width[narrow], height[narrow]
    strips = _strips(whole, edges, outward, width + OVERLAP, height)
    report = SlitReport(len(edges), float(strips.face_areas().sum()))
    return canonical(mesh.joined(strips)), report


def _rims(mesh: Mesh) -> tuple[I64, F64]:
    """Edges (E, 2) of floors at which nothing goes on, and the horizontal directions (E, 3) away from the floor."""
    triangle, side = np.nonzero(border_sides(mesh) & (mesh.face_normals()[:, 2] > MIN_UPWARD)[:, None])
    edges = np.stack([mesh.triangles[triangle, side], mesh.triangles[triangle, (side + 1) % 3]], 1).astype(np.int64)
    along = (mesh.vertices[edges[:, 1]] - mesh.vertices[edges[:, 0]]).astype(np.float64)
    away = np.stack([along[:, 1], -along[:, 0], np.zeros(len(along))], -1)  # the floor lies to the left of its edges
    length = np.linalg.norm(away, axis=1)
    return edges[length > 0], away[length > 0] / length[length > 0, None]


def _across(mesh: Mesh, rims: F64, outward: F64) -> tuple[F64, F64]:
    """How far (E,) it is from points (E, 3) on rims to what lies beyond, inf where no slit is; its height (E,) [m]."""
    caster, normals = RayCaster(mesh), mesh.face_normals()
    down, far = np.array([0, 0, -1.0]), SLIT_WIDTH + STEP
    width, height = np.full(len(rims), np.inf), rims[:, 2].copy()
    for offset in HEIGHTS:
        hits = caster.cast(rims + [0, 0, offset] + RIM_OFFSET * outward, outward)
        distance = np.where(hits.hit, hits.distance + RIM_OFFSET, np.inf)
        width = np.minimum(width, distance)
    bridged = np.zeros(len(rims), bool)
    for distance in np.arange(RIM_OFFSET, far, STEP):
        hits = caster.cast(rims + [0, 0, RISE] + distance * outward, down)
        floor = hits.hit & (hits.distance < RISE + FALL) & (normals[hits.triangle, 2] > 0)
        if distance == RIM_OFFSET:
            width[floor] = np.nan  # nothing is open here
        found = floor & ~bridged & (distance < width)
        width[found], height[found] = distance, (rims[:, 2] + RISE - hits.distance)[found]
        bridged |= found
    return np.where(np.isnan(width), np.inf, width), height


def _strips(mesh: Mesh, edges: I64, outward: F64, width: F64, height: F64) -> Mesh:
    """A strip (two triangles an edge) from each edge outwards; neighbouring strips share their sides."""
    used, index = np.unique(edges, return_inverse=True)
    index = index.reshape(edges.shape)
    direction, reach = np.zeros((len(used), 3)), np.zeros(len(used))
    end = np.full(len(used), np.inf)
    for side in (0, 1):
        np.add.at(direction, index[:, side], outward)
        np.maximum.at(reach, index[:, side], width)
        np.minimum.at(end, index[:, side], height)
    direction /= np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-9)
    inner = mesh.vertices[used].astype(np.float64)
    outer = inner + reach[:, None] * direction
    outer[:, 2] = np.minimum(inner[:, 2], end) - STRIP_SINK
    a, b = index.T
    c, d = b + len(used), a + len(used)
    triangles = np.concatenate([np.stack([a, d, c], 1), np.stack([a, c, b], 1)]).astype(np.int32)
    vertices = np.concatenate([inner, outer]).astype(np.float32)
    return Mesh(vertices, triangles, np.tile(mesh.colors[used], (2, 1)), np.ones(len(vertices), bool))
