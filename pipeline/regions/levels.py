"""Levels: the floors of a scene above each other, and the stairs and ramps between them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from pipeline.geometry import Mesh
from pipeline.geometry.jit import njit
from pipeline.mesh.params import WalkableParams
from pipeline.mesh.walkable import Columns, cliffs, distance_to, find_columns
from pipeline.regions.regions import Regions
from pipeline.types import F64, I32, I64, Mask

SEED = 0
EVEN, AROUND = 0.025, 0.2
"""Floor whose heights differ by no more than the first within the second [m] is level: ramps of 1 : 16 are not, nor are
treads of up to 0.4 m."""
SAME = 0.03
"""Around it floor that lies at most so much higher or lower is of it, too [m]."""
SMALLEST = 1.0
"""A floor of less area is part of the way that leads over it [m^2]."""
STOREY = 1.8
"""Platforms and landings that lie less above or below a floor, and not over it, are of its level [m]."""
OVERLAPPING = 0.05
"""Share of a floor that may lie over another one of its level: edges do."""
STEP = 0.05
"""Treads of stairs lie farther apart [m]."""
TREAD_CELLS = 4
"""Treads have so many cells at least."""
NEIGHBOURS = ((1, 0), (-1, 0), (0, 1), (0, -1))


@dataclass(frozen=True, eq=False)
class Way:
    """Stairs, a ramp, or a single step from one floor to the next.

    Attributes:
        kind: What it is.
        risers: How often the floor rises at once; 0 on a ramp.
        levels: Index of the level where it begins, and of the one where it ends; a landing may be of the same one.
        low: (3,) middle of its lower end [m].
        high: (3,) middle of its upper end [m].
        cells: (N, 2) cells of the grid that it covers.
        heights: (N,) their heights [m].
        treads: (risers - 1,) heights of the treads [m], from below.
    """

    kind: Literal["stairs", "ramp", "step"]
    risers: int
    levels: tuple[int, int]
    low: F64
    high: F64
    cells: I64
    heights: F64
    treads: tuple[float, ...]

    @property
    def rise(self) -> float:
        """Difference in height of its ends [m]."""
        return float(self.high[2] - self.low[2])


@dataclass(frozen=True, eq=False)
class Level:
    """One floor of a scene with its platforms and landings, on the grid of `Levels`.

    Attributes:
        height: Of its largest part [m].
        surface: (X, Y) heights of its floor [m], NaN where it has none.
        guessed: (X, Y) whether floor was closed, not measured.
        walkable: (X, Y) where a legged robot's centre may be.
    """

    height: float
    surface: F64
    guessed: Mask
    walkable: Mask


@dataclass(frozen=True, eq=False)
class Levels:
    """All levels of a scene, from below, and the ways between their floors; cells as in `Regions`.

    Attributes:
        columns: What the grid's columns hold.
        cell: Edge of a cell [m].
        levels: From below; none where nobody can stand.
        ways: From below.
        ground: Index of the level that the bundle's floor belongs to.
    """

    columns: Columns
    cell: float
    levels: tuple[Level, ...]
    ways: tuple[Way, ...]
    ground: int

    def number(self, index: int) -> int:
        """A level's number: 0 is the ground, negative is below."""
        return index - self.ground

    def centres(self) -> F64:
        """The cells' centres (X, Y, 2) [m]."""
        x, y = np.meshgrid(*((np.arange(n) + 0.5) * self.cell for n in self.columns.layers.shape[:2]), indexing="ij")
        return np.stack([x, y], -1) + self.columns.origin


def find_levels(collision: Mesh, regions: Regions, params: WalkableParams) -> Levels:
    """The levels of a collision mesh [m, world frame] that steps, stairs and ramps lead to from its walkable floor.

    Raises:
        ReconstructionError: When the floor's grid would have too many cells.
    """
    starts = np.concatenate([regions.centres(), regions.height[..., None].astype(np.float64)], -1)[regions.walkable]
    columns = find_columns(collision, starts, params, np.random.default_rng(SEED))
    if not len(starts):
        return Levels(columns, params.cell, (), (), 0)
    layers = columns.open_to_legs(params)
    joined = _parts(layers, np.isfinite(layers), params.max_step)
    nearest = np.argmin(np.nan_to_num(np.abs(_at(layers, columns, params.cell, starts) - starts[:, 2:]), nan=np.inf), 1)
    cells = _cells(columns, params.cell, starts)
    reached = np.isin(joined, np.unique(joined[cells[:, 0], cells[:, 1], nearest])) & (joined > 0)
    parts = _floors(np.where(reached, layers, np.nan), params)
    groups = _grouped(layers, parts, params.cell)
    owner = np.full(parts.max() + 1, -1)
    for level, members in enumerate(groups):
        owner[members] = level
    ways = tuple(_ways(layers, reached, parts, owner, columns, params))
    levels = tuple(_level(columns, layers, parts, members, ways, params) for members in groups)
    on_ground = [int(np.isin(parts[cells[:, 0], cells[:, 1], nearest], members).sum()) for members in groups]
    return Levels(columns, params.cell, levels, ways, int(np.argmax(on_ground)) if groups else 0)


def _cells(columns: Columns, cell: float, places: F64) -> I64:
    return np.floor((places[:, :2] - columns.origin) / cell).astype(np.int64)


def _at(layers: F64, columns: Columns, cell: float, places: F64) -> F64:
    index = _cells(columns, cell, places)
    return layers[index[:, 0], index[:, 1]]


@njit(cache=True)
def _parts(layers: F64, mask: Mask, step: float) -> I32:
    """Numbers (X, Y, L) of the parts of masked floors between whose neighbouring cells no step is higher; 0 outside."""
    width, depth, count = layers.shape
    labels = np.zeros(layers.shape, np.int32)
    queue = np.empty((layers.size, 3), np.int64)
    number = 0
    for i0 in range(width):
        for j0 in range(depth):
            for k0 in range(count):
                if not mask[i0, j0, k0] or labels[i0, j0, k0]:
                    continue
                number += 1
                labels[i0, j0, k0] = number
                queue[0, 0], queue[0, 1], queue[0, 2] = i0, j0, k0
                head, tail = 0, 1
                while head < tail:
                    i, j, k = queue[head]
                    head += 1
                    for side in range(4):
                        a = i + (1 if side == 0 else -1 if side == 1 else 0)
                        b = j + (1 if side == 2 else -1 if side == 3 else 0)
                        if a < 0 or b < 0 or a >= width or b >= depth:
                            continue
                        for m in range(count):
                            if mask[a, b, m] and not labels[a, b, m] and abs(layers[a, b, m] - layers[i, j, k]) <= step:
                                labels[a, b, m] = number
                                queue[tail, 0], queue[tail, 1], queue[tail, 2] = a, b, m
                                tail += 1
    return labels


@njit(cache=True)
def _unevenness(layers: F64, reach: int, step: float) -> F64:
    """Range of heights (X, Y, L) around every floor, of those at most a step from it; NaN where there is none."""
    width, depth, count = layers.shape
    result = np.full(layers.shape, np.nan)
    for i in range(width):
        for j in range(depth):
            for k in range(count):
                height = layers[i, j, k]
                if np.isnan(height):
                    continue
                low, high = height, height
                for a in range(max(0, i - reach), min(width, i + reach + 1)):
                    for b in range(max(0, j - reach), min(depth, j + reach + 1)):
                        if (a - i) ** 2 + (b - j) ** 2 > reach * reach:
                            continue
                        for m in range(count):
                            if abs(layers[a, b, m] - height) <= step:
                                low, high = min(low, layers[a, b, m]), max(high, layers[a, b, m])
                result[i, j, k] = high - low
    return result


@njit(cache=True)
def _regrown(layers: F64, parts: I32, same: float) -> I32:
    """The parts (X, Y, L) with the floor around them that is as high as where they ended, within `same`."""
    width, depth, count = layers.shape
    result = parts.copy()
    queue = np.empty((layers.size, 3), np.int64)
    begun = np.empty(layers.size)
    head, tail = 0, 0
    for i in range(width):
        for j in range(depth):
            for k in range(count):
                if parts[i, j, k]:
                    queue[tail, 0], queue[tail, 1], queue[tail, 2] = i, j, k
                    begun[tail] = layers[i, j, k]
                    tail += 1
    while head < tail:
        i, j, k = queue[head]
        height = begun[head]
        head += 1
        for side in range(4):
            a = i + (1 if side == 0 else -1 if side == 1 else 0)
            b = j + (1 if side == 2 else -1 if side == 3 else 0)
            if a < 0 or b < 0 or a >= width or b >= depth:
                continue
            for m in range(count):
                if not result[a, b, m] and abs(layers[a, b, m] - height) <= same:
                    result[a, b, m] = result[i, j, k]
                    queue[tail, 0], queue[tail, 1], queue[tail, 2] = a, b, m
                    begun[tail] = height
                    tail += 1
    return result


def _floors(layers: F64, params: WalkableParams) -> I32:
    """Numbers (X, Y, L) of the level floors on which a robot has room; 0 elsewhere.

    Where no floor is level, as outdoors, all that is connected is one.
    """
    reach = max(1, round(AROUND / params.cell))
    even = _unevenness(layers, reach, params.max_step) <= EVEN
    parts = _regrown(layers, _parts(layers, even, EVEN), SAME)
    numbers = [number for number in range(1, parts.max() + 1) if _has_room(parts == number, params)]
    if not numbers:
        return np.isfinite(layers).astype(np.int32)
    renumbered = np.zeros(parts.max() + 1, np.int32)
    renumbered[numbers] = np.arange(len(numbers)) + 1
    return renumbered[parts]


def _has_room(part: Mask, params: WalkableParams) -> bool:
    plan = np.asarray(part.any(2))
    if plan.sum() * params.cell**2 < SMALLEST:
        return False
    return bool(distance_to(~plan).max() * params.cell > params.radius)


def _grouped(layers: F64, parts: I32, cell: float) -> list[list[int]]:
    """The numbers of the floors of each level, the largest first; levels come from below."""
    plans = {number: (parts == number).any(2) for number in range(1, parts.max() + 1)}
    heights = {number: float(np.median(layers[parts == number])) for number in plans}
    groups: list[list[int]] = []
    for number in sorted(plans, key=lambda one: -int(plans[one].sum())):
        for members in groups:
            covered = np.any([plans[member] for member in members], axis=0)
            over = float((plans[number] & covered).sum() / plans[number].sum())
            if abs(heights[number] - heights[members[0]]) < STOREY and over <= OVERLAPPING:
                members.append(number)
                break
        else:
            groups.append([number])
    return sorted(groups, key=lambda members: heights[members[0]])


def _ways(
    layers: F64, reached: Mask, parts: I32, owner: I64, columns: Columns, params: WalkableParams
) -> Iterator[Way]:
    """Ways over what is reached and is no floor of a level, and steps between floors that touch."""
    between = _parts(layers, reached & (parts == 0), params.max_step)
    contacts: dict[tuple[int, int], list[tuple[F64, F64]]] = {}
    for first, second, here, there in _touching(layers, between, parts, columns, params):
        contacts.setdefault((first, second), []).append((here, there))
    heights = {number: float(np.median(layers[parts == number])) for number in range(1, parts.max() + 1)}
    for number in range(1, between.max() + 1):
        ends = sorted((part for way, part in contacts if way == number), key=lambda part: heights[part])
        for low, high in pairwise(ends):
            if heights[high] - heights[low] > params.max_drive_step:
                cells = np.argwhere(between == number)
                middles = [np.mean([there for _, there in contacts[number, part]], axis=0) for part in (low, high)]
                yield _way(layers, cells, middles, (int(owner[low]), int(owner[high])), params)
    steps: dict[tuple[int, int], list[tuple[F64, F64]]] = {}
    for first, second, here, there in _touching(layers, parts, parts, columns, params):
        if heights[second] - heights[first] > params.max_drive_step:
            steps.setdefault((first, second), []).append((here, there))
    for (low, high), found in steps.items():
        if len(found) * params.cell >= 2 * params.radius:
            ends = [np.mean(side, axis=0) for side in zip(*found, strict=True)]
            nothing = np.zeros((0, 2), np.int64), np.zeros(0)
            yield Way("step", 1, (int(owner[low]), int(owner[high])), ends[0], ends[1], *nothing, ())


def _touching(
    layers: F64, ones: I32, others: I32, columns: Columns, params: WalkableParams
) -> Iterator[tuple[int, int, F64, F64]]:
    """Cells of two floors side by side, a step apart at most: their numbers and their middles (3,)."""
    for di, dj in NEIGHBOURS:
        shifted_layers, shifted = (np.roll(grid, (-di, -dj), (0, 1)) for grid in (layers, others))  # borders are empty
        for k in range(layers.shape[2]):
            for m in range(layers.shape[2]):
                near = np.abs(shifted_layers[..., m] - layers[..., k]) <= params.max_step
                pairs = (ones[..., k] > 0) & (shifted[..., m] > 0) & (ones[..., k] != shifted[..., m]) & near
                if ones is not others:
                    pairs = (ones[..., k] > 0) & (shifted[..., m] > 0) & near
                for i, j in np.argwhere(pairs):
                    here, there = ((np.array([i, j]) + off + 0.5) * params.cell for off in ((0, 0), (di, dj)))
                    yield (
                        int(ones[i, j, k]),
                        int(shifted[i, j, m]),
                        np.append(columns.origin + here, layers[i, j, k]),
                        np.append(columns.origin + there, shifted_layers[i, j, m]),
                    )


def _way(layers: F64, nodes: I64, ends: list[F64], levels: tuple[int, int], params: WalkableParams) -> Way:
    """The way over nodes (N, 3), between the middles of its ends."""
    low, high = ends
    own = np.full(layers.shape, np.nan)
    own[tuple(nodes.T)] = layers[tuple(nodes.T)]
    heights = own[tuple(nodes.T)]
    inner = _unevenness(own, 1, params.max_step)[tuple(nodes.T)] < EVEN
    between = np.sort(heights[inner & (heights > low[2] + STEP) & (heights < high[2] - STEP)])
    treads = [cluster for cluster in _clusters(between) if len(cluster) >= TREAD_CELLS]
    is_ramp = not treads or any(np.ptp(cluster) > params.max_step for cluster in treads)
    middles = () if is_ramp else tuple(float(np.median(cluster)) for cluster in treads)
    risers = 0 if is_ramp else len(middles) + 1
    if is_ramp and high[2] - low[2] <= params.max_step and len(nodes) * params.cell**2 < SMALLEST:
        return Way("step", 1, levels, low, high, nodes[:, :2], heights, ())  # its edge, blurred
    return Way("ramp" if is_ramp else "stairs", risers, levels, low, high, nodes[:, :2], heights, middles)


def _clusters(values: F64) -> list[F64]:
    """Sorted values in groups with gaps of `STEP` between them; none of none."""
    return [part for part in np.split(values, np.flatnonzero(np.diff(values) > STEP) + 1) if len(part)]


def _level(
    columns: Columns, layers: F64, parts: I32, members: list[int], ways: tuple[Way, ...], params: WalkableParams
) -> Level:
    """One level of floors with these numbers."""
    shape = layers.shape[:2]
    surface, guessed = np.full(shape, np.nan), np.zeros(shape, bool)
    for member in reversed(members):  # the largest last
        i, j, k = np.nonzero(parts == member)
        surface[i, j], guessed[i, j] = layers[i, j, k], columns.guessed[i, j, k]
    whole = surface.copy()
    for way in ways:
        i, j = way.cells.T
        unknown = np.isnan(whole[i, j])
        whole[i[unknown], j[unknown]] = way.heights[unknown]
    blocked = np.isnan(whole) | cliffs(whole, params.max_step)
    walkable = (distance_to(blocked) * params.cell > params.radius) & np.isfinite(surface)
    height = float(np.median(layers[parts == members[0]]))
    return Level(height, surface, guessed, walkable)
