"""The walkable floor: what the ground under the camera track connects to, where a robot has room.

Every cell of a grid knows the upward surfaces in its column that leave headroom. From the ground under the cameras the
floor is grown from cell to cell over steps that can be climbed; cells nearer to an obstacle than the robot's radius are
then taken off.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from pipeline.errors import ReconstructionError
from pipeline.geometry import Mesh, masks
from pipeline.geometry.jit import njit
from pipeline.geometry.rays import RayCaster, sample_surface
from pipeline.mesh.params import WalkableParams
from pipeline.types import F32, F64, I64, Floats, Mask

logger = logging.getLogger(__name__)

# vertical lines [cells]: the edge of a step, which carries nothing itself, must not hide what is before and behind it
_PROBES = np.array([[0.5, 0.5], [0.2, 0.2], [0.2, 0.8], [0.8, 0.2], [0.8, 0.8]])
LAYERS = 6  # surfaces above each other that are kept in a column
LAYER_GAP = 0.03  # [m] between surfaces that are two floors and not one uneven floor
UPWARD = 0.6  # least z of a floor's normal: 53 degrees
FRONT = 0.05  # least z of the normal of a leaning step front
OBSTACLE_SAMPLES_PER_CELL = 8  # per cell's area of surface
FENCE_REACH = 2  # cells from a step's front in which its floor begins
STEP_EDGE = 0.05  # [m] by which a step's front may stand over its floor
MAX_CAMERA_HEIGHT = 3.0  # [m] over the ground it was carried on
TRACK_RADIUS = 0.3  # [m] round the track that the walker covered
NEAR_TRACK = 1.0  # [m] from there at which a robot, which needs more room than the walker's feet, may start


@dataclass(frozen=True, eq=False)
class WalkableGrid:
    """The grids of `Regions`, without poses."""

    origin: F64  # (2,) low corner [m]
    height: F32  # (X, Y) float32 [m], NaN where no floor is in reach
    walkable: Mask  # (X, Y) bool
    drivable: Mask  # (X, Y) bool
    guessed: Mask  # (X, Y) bool
    clearance: F64  # (X, Y) float64, distance from the cell to what blocks a robot or ends the floor [m]


@dataclass(frozen=True, eq=False)
class Columns:
    """All floors of a mesh above each other, in the columns over a grid's cells, and the surface around them.

    Attributes:
        origin: (2,) low corner of the grid [m].
        layers: (X, Y, LAYERS) heights of upward surfaces with headroom from above [m], NaN where there are fewer.
        guessed: (X, Y, LAYERS) whether each was closed, not measured.
        index: (N, 2) cells of places spread over all surface.
        heights: (N,) their heights [m].
    """

    origin: F64
    layers: F64
    guessed: Mask
    index: I64
    heights: F32

    def blocked(self, step: float, robot: float) -> Mask:
        """Floors (X, Y, LAYERS) under surface that is over a step [m] and lower than the robot [m]."""
        return _blocked(self.index, self.heights, self.layers, step, robot)

    def open_to_legs(self, params: WalkableParams) -> F64:
        """The layers, NaN where a legged robot has no room."""
        closed = self.blocked(params.max_step, params.height)
        return np.where(closed | _fenced(self.index, self.heights, self.layers, params), np.nan, self.layers)


def find_columns(mesh: Mesh, around: Floats, params: WalkableParams, rng: np.random.Generator) -> Columns:
    """The floors of an oriented mesh [m, world frame], on a grid over it and places (N, >= 2).

    Raises:
        ReconstructionError: When the grid would have too many cells.
    """
    origin, shape = _extent(mesh, around, params.cell)
    layers, guessed = _columns(mesh, origin, shape, params)
    # dense enough that no cell with surface goes without: vertical lines miss thin legs and upright sheets
    count = np.clip(mesh.face_areas().sum() * OBSTACLE_SAMPLES_PER_CELL / params.cell**2, 1000, 4_000_000)
    samples = np.concatenate([sample_surface(mesh, int(count), rng)[0], mesh.vertices])
    index = np.floor((samples[:, :2] - origin) / params.cell).astype(int)
    inside = ((index >= 0) & (index < shape)).all(1)
    return Columns(origin, layers, guessed, index[inside], samples[inside, 2])


def find_walkable(mesh: Mesh, track: Floats, params: WalkableParams, rng: np.random.Generator) -> WalkableGrid:
    """Where the robot's centre may be on an oriented collision mesh [m, world frame], by the camera centres (N, 3) [m].

    Raises:
        ReconstructionError: When no floor lies under the cameras, or none of it has room for the robot.
    """
    columns = find_columns(mesh, track, params, rng)
    origin, layers, shape = columns.origin, columns.layers, columns.layers.shape[:2]
    seeds = _ground_under(track, layers, origin, params)
    if not (seeds >= 0).any():
        raise ReconstructionError(
            "the cameras must have been carried over a floor",
            found=f"no level surface within {MAX_CAMERA_HEIGHT} m below any of {len(track)} camera positions",
            remedy="capture the ground as well; or check gravity in alignment.json",
        )
    open_layers = columns.open_to_legs(params)
    height, chosen = _grow(open_layers, seeds, params.max_step)
    free = np.isfinite(height)
    clearance = distance_to(~free | cliffs(height, params.max_step)) * params.cell
    open_layers[columns.blocked(params.max_drive_step, params.height)] = np.nan
    level, _ = _grow(open_layers, seeds, params.max_drive_step)
    drive_clearance = distance_to(~(np.abs(level - height) < 1e-6)) * params.cell
    starts = masks.distance_from(seeds >= 0) * params.cell <= NEAR_TRACK
    walkable = _connected(clearance > params.radius, starts)
    drivable = _connected((drive_clearance > params.radius) & walkable, starts)
    if not walkable.any():
        raise ReconstructionError(
            f"somewhere near the camera track a robot of radius {params.radius} m must have room",
            found=f"{free.sum() * params.cell**2:.2f} m^2 of floor in reach, nowhere wide enough",
            remedy="capture more of the floor, or set regions.radius for a smaller robot",
        )
    guessed = np.zeros(shape, bool)
    i, j = np.nonzero(np.isfinite(height))
    guessed[i, j] = columns.guessed[i, j, chosen[i, j]]
    return WalkableGrid(origin, height.astype(np.float32), walkable, drivable, guessed, clearance)


def _extent(mesh: Mesh, track: Floats, cell: float) -> tuple[F64, tuple[int, int]]:
    """Low corner and shape of the grid over the mesh and the track."""
    every = np.concatenate([mesh.vertices[:, :2], track[:, :2]]).astype(np.float64)
    low = np.floor(every.min(0) / cell - 1) * cell
    shape = np.ceil((every.max(0) - low) / cell).astype(int) + 2
    if shape.prod() > 4_000_000:
        raise ReconstructionError(
            "the floor grid must have at most 4 million cells",
            found=f"{shape[0]} x {shape[1]} cells of {cell} m",
            remedy="set a larger regions.cell",
        )
    return low, (int(shape[0]), int(shape[1]))


def _columns(mesh: Mesh, origin: F64, shape: tuple[int, int], params: WalkableParams) -> tuple[F64, Mask]:
    """Heights (X, Y, LAYERS) [m] of upward surfaces with headroom, NaN-padded, and whether each was guessed."""
    cells = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1).reshape(-1, 1, 2)
    xy = ((cells + _PROBES) * params.cell + origin).reshape(-1, 2)
    top = float(mesh.vertices[:, 2].max()) + 1.0
    start = np.column_stack([xy, np.full(len(xy), top)])
    ray, distance, triangle = RayCaster(mesh).all_hits(start, np.array([0, 0, -1.0]))
    height = top - distance.astype(np.float64)
    # hits come from above: the room over a surface ends at the hit before it, of whatever orientation
    above = np.full(len(ray), np.inf)
    same = ray[1:] == ray[:-1]
    above[1:][same] = (height[:-1] - height[1:])[same]
    slope, roomy = mesh.face_normals()[triangle, 2], above > params.height
    front = roomy & (slope > FRONT) & (slope <= UPWARD)
    fronts = np.full(len(cells), np.nan)
    fronts[ray[front][::-1] // len(_PROBES)] = height[front][::-1]  # of several the first
    usable = roomy & (slope > UPWARD)
    cell, height, triangle = ray[usable] // len(_PROBES), height[usable], triangle[usable]
    order = np.lexsort((-height, cell))
    cell, height, triangle = cell[order], height[order], triangle[order]
    new_cell = np.diff(cell, prepend=-1) != 0
    new_layer = new_cell | (np.diff(height, prepend=np.inf) < -LAYER_GAP)
    layer = np.cumsum(new_layer) - 1
    mean = np.bincount(layer, height) / np.maximum(np.bincount(layer), 1)
    marked = np.bincount(layer, mesh.guessed[mesh.triangles[triangle]].mean(1)) / np.maximum(np.bincount(layer), 1)
    owner = cell[new_layer]
    rank = np.arange(len(owner)) - np.searchsorted(owner, owner)
    kept = rank < LAYERS
    layers = np.full((len(cells), LAYERS), np.nan)
    guessed = np.zeros((len(cells), LAYERS), bool)
    layers[owner[kept], rank[kept]] = mean[kept]
    guessed[owner[kept], rank[kept]] = marked[kept] > 0.5
    layers = layers.reshape(*shape, LAYERS)
    return _with_fronts(layers, fronts.reshape(shape), params.max_step), guessed.reshape(*shape, LAYERS)


def _with_fronts(layers: F64, fronts: F64, max_step: float) -> F64:
    """The layers, and in cells without any the heights (X, Y) of leaning step fronts with floor on opposite sides."""
    padded = np.pad(layers, ((1, 1), (1, 1), (0, 0)), constant_values=np.nan)
    near = np.zeros((2, 2, *fronts.shape), bool)
    for axis in (0, 1):
        for side in (0, 2):
            rows = [slice(1, -1), slice(1, -1)]
            rows[axis] = slice(side, side + fronts.shape[axis])
            near[axis, side // 2] = (np.abs(padded[tuple(rows)] - fronts[..., None]) <= max_step).any(-1)
    bridged = np.isnan(layers).all(-1) & near.all(1).any(0)
    result = layers.copy()
    result[bridged, 0] = fronts[bridged]
    return result


def _ground_under(track: Floats, layers: F64, origin: F64, params: WalkableParams) -> I64:
    """Layer (X, Y) of the lowest level that many cameras have next below, `TRACK_RADIUS` round them; -1 elsewhere."""
    shape = layers.shape[:2]
    index = np.floor((np.asarray(track)[:, :2] - origin) / params.cell).astype(int)
    spread = int(np.ceil(TRACK_RADIUS / params.cell))
    offsets = np.stack(np.meshgrid(*[np.arange(-spread, spread + 1)] * 2, indexing="ij"), -1).reshape(-1, 2)
    offsets = offsets[np.hypot(*offsets.T) * params.cell <= TRACK_RADIUS]
    cells = (index[:, None] + offsets).reshape(-1, 2)
    camera = np.repeat(np.asarray(track)[:, 2], len(offsets))
    inside = ((cells >= 0) & (cells < shape)).all(1)
    cells, camera = cells[inside], camera[inside]
    below = camera[:, None] - layers[cells[:, 0], cells[:, 1]]
    under = below > 0.2
    candidate = under & (below < MAX_CAMERA_HEIGHT) & (np.cumsum(under, 1) == 1)  # what it stood on hides what is below
    heights = layers[cells[:, 0], cells[:, 1]][candidate]
    seeds = np.full(shape, -1)
    if not len(heights):
        return seeds
    width = max(params.max_drive_step, 0.04)
    bins = np.floor(heights / width).astype(int)
    levels, counts = np.unique(bins, return_counts=True)
    ground = (levels[np.argmax(counts >= 0.3 * counts.max())] + 0.5) * width
    chosen = candidate & (np.abs(layers[cells[:, 0], cells[:, 1]] - ground) < 1.5 * width)
    rows = chosen.any(1)
    seeds[cells[rows, 0], cells[rows, 1]] = chosen[rows].argmax(1)
    return seeds


@njit(cache=True)
def _grow(layers: F64, seeds: I64, max_step: float) -> tuple[F64, I64]:
    """Flood the floor from the seeds over steps of at most `max_step`: height (X, Y), NaN = not reached, and layer."""
    width, depth, count = layers.shape
    height = np.full((width, depth), np.nan)
    chosen = np.full((width, depth), -1)
    queue = np.empty((width * depth, 2), np.int64)
    head, tail = 0, 0
    for i in range(width):
        for j in range(depth):
            if seeds[i, j] >= 0 and not np.isnan(layers[i, j, seeds[i, j]]):
                height[i, j] = layers[i, j, seeds[i, j]]
                chosen[i, j] = seeds[i, j]
                queue[tail, 0], queue[tail, 1] = i, j
                tail += 1
    while head < tail:
        i, j = queue[head]
        head += 1
        for side in range(4):
            a = i + (1 if side == 0 else -1 if side == 1 else 0)
            b = j + (1 if side == 2 else -1 if side == 3 else 0)
            if a < 0 or b < 0 or a >= width or b >= depth or chosen[a, b] >= 0:
                continue
            best, least = -1, max_step
            for layer in range(count):
                step = abs(layers[a, b, layer] - height[i, j])
                if step <= least:  # false for NaN
                    best, least = layer, step
            if best >= 0:
                height[a, b] = layers[a, b, best]
                chosen[a, b] = best
                queue[tail, 0], queue[tail, 1] = a, b
                tail += 1
    return height, chosen


def cliffs(height: F64, max_step: float) -> Mask:
    """Cells (X, Y) next to which the floor drops by more than a step: a floor ends there."""
    cliff = np.zeros(height.shape, bool)
    for axis in (0, 1):
        drop = np.diff(height, axis=axis)
        first = [(0, 0), (0, 0)]
        first[axis] = (0, 1)
        cliff |= np.pad(drop < -max_step, first)
        first[axis] = (1, 0)
        cliff |= np.pad(drop > max_step, first)
    return cliff


def _blocked(index: I64, heights: F32, layers: F64, step: float, robot: float) -> Mask:
    """Floors (X, Y, LAYERS) below surface in their cells (N, 2) at heights (N,), over a step and under the robot's."""
    i, j = index.T
    blocked = np.zeros(layers.shape, bool)
    for layer in range(LAYERS):
        above = heights - layers[i, j, layer]
        hit = (above > step) & (above < robot)
        blocked[i[hit], j[hit], layer] = True
    return blocked


def _fenced(index: I64, heights: F32, layers: F64, params: WalkableParams) -> Mask:
    """As `_blocked`, by low surface that leads up to no floor: fronts of objects whose tops, a guess, nobody saw."""
    i, j = index.T
    around = np.stack(np.meshgrid(*[np.arange(-FENCE_REACH, FENCE_REACH + 1)] * 2, indexing="ij"), -1).reshape(-1, 2)
    fenced = np.zeros(layers.shape, bool)
    for layer in range(LAYERS):
        above = heights - layers[i, j, layer]
        low = (above > params.max_drive_step) & (above <= params.max_step)
        top = np.zeros(layers.shape[:2])
        np.maximum.at(top, (i[low], j[low]), above[low])
        cells = np.argwhere(top > 0)
        near = np.clip(cells[:, None] + around, 0, np.array(top.shape) - 1)
        floor = layers[near[..., 0], near[..., 1]] - layers[cells[:, 0], cells[:, 1], layer][:, None, None]
        leads_up = (floor > top[tuple(cells.T)][:, None, None] - STEP_EDGE) & (floor < params.max_step + STEP_EDGE)
        fenced[(*cells[~leads_up.any((1, 2))].T, layer)] = True
    return fenced


def distance_to(mask: Mask) -> F64:
    """Distance (X, Y) [cells] from each cell's centre to the nearest edge of a masked cell; the outside is masked."""
    padded = np.pad(mask, 1, constant_values=True)
    return np.maximum(masks.distance_from(padded)[1:-1, 1:-1] - 0.5, 0)


def _connected(clear: Mask, starts: Mask) -> Mask:
    """The largest connected part of `clear` (X, Y) that begins at `starts`."""
    labels, count = masks.parts(clear)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    started = np.zeros(len(sizes), bool)
    started[labels[starts]] = True
    sizes[~started] = 0
    return (labels == sizes.argmax()) & (labels > 0) if sizes.max() else np.zeros_like(clear)
