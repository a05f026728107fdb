"""Stairs in the floor of a scan: where their edges are, and ways over them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pipeline.regions.regions import Regions
from pipeline.types import F32, F64, I64
from sim.climbing.flight import alike
from sim.climbing.surroundings import CELL, bridged, clearances, slopes
from sim.scene.flights import ASIDE, ASKEW, COUNT, DISTANCE, OVER, way_over
from sim.scene.terrain import Flight

LEAST_CELLS = 12
"""Slopes of fewer cells are no stairs."""
AROUND = 1.0
"""So far before and behind where the floor is steep edges are looked for [m]."""
ALONG = 0.01
"""Heights along stairs are looked at so closely [m]."""
HALF, EDGE = 0.05, 0.06
"""From so far before an edge to so far behind it [m], the floor rises by this [m] or more."""
PLATEAU = (0.12, 0.4)
"""So far from the first edge and the last the floor is level [m],"""
LEVEL = 0.05
"""to so much [m]."""
HALF_WIDTH, ALL_ROUND = 0.2, 0.4
"""Half of the width that robots need where they go straight on, and where they begin [m]."""
TRIES = 200
"""So many starts are drawn for each that is wanted."""


@dataclass(frozen=True, eq=False)
class Stairs:
    """Steps of a floor that lead one way, upward.

    Attributes:
        edges: (E, 2) where the middle of each edge is [m].
        tops: (E + 1,) heights of the floor before the first edge, between them, and behind the last [m].
        rise: (2,) direction.
        sides: How far they are known to reach to the right and to the left of their middle [m].
    """

    edges: F64
    tops: F64
    rise: F64
    sides: tuple[float, float]

    @property
    def riser(self) -> float:
        """Height of the highest step [m]."""
        return float(np.diff(self.tops).max())


def stairs_of(regions: Regions) -> tuple[Stairs, ...]:
    """All steps, single ones too, with level floor before and behind them."""
    height, origin, cell = regions.height, np.array(regions.origin), regions.cell
    coarse, at = halved_regions(regions)
    slope = slopes(coarse, clearances(coarse)[0])
    slope[~regions.walkable[np.ix_(*at)]] = np.nan
    found = list[Stairs]()
    while np.isfinite(slope[..., 0]).any():
        row, column = np.argwhere(np.isfinite(slope[..., 0]))[0].tolist()
        cells = np.stack(np.divmod(np.array(alike(slope, row, column)), slope.shape[1]), 1)
        rise = slope[cells[:, 0], cells[:, 1]].mean(0)
        rise = rise / np.linalg.norm(rise)
        slope[cells[:, 0], cells[:, 1]] = np.nan
        if len(cells) >= LEAST_CELLS:
            centre = origin + (cells + 0.5).mean(0) * CELL
            around = (cells + 0.5) * CELL + origin - centre
            along, aside = around @ rise, around @ [-rise[1], rise[0]]
            edges = _edges(height, origin, cell, centre, rise, along.min(), along.max())
            if edges is not None:
                found.append(Stairs(*edges, rise, (float(aside.min()), float(aside.max()))))
    return tuple(found)


def halved_regions(regions: Regions) -> tuple[F32, list[I64]]:
    """Heights (X, Y) in cells as maps of robots have them, and which rows and columns of the floor's grid these are."""
    size = np.floor(np.array(regions.height.shape) * regions.cell / CELL).astype(np.int64)
    at = [np.clip(((np.arange(n) + 0.5) * CELL / regions.cell).astype(np.int64), 0, None) for n in size]
    return bridged(np.ascontiguousarray(regions.height[np.ix_(*at)], np.float32)), at


def find_stairs(regions: Regions, seed: int = 0) -> tuple[Flight, ...]:
    """Ways up and down all stairs of two steps or more, as many up as down, each from a drawn start of its own."""
    height, origin, cell = regions.height, np.array(regions.origin), regions.cell
    found, rng = [stairs for stairs in stairs_of(regions) if len(stairs.edges) > 1], np.random.default_rng(seed)
    return tuple(
        flight
        for way in ("up", "down")
        for stairs in found
        for flight in _ways(way, stairs.edges, stairs.tops, height, origin, cell, rng)
    )


def _edges(
    height: F32, origin: F64, cell: float, centre: F64, rise: F64, first: float, last: float
) -> tuple[F64, F64] | None:
    """Edges (E, 2) of stairs, upward along a line, and the heights (E + 1,) of the floor between them; or None."""
    along = np.arange(first - AROUND, last + AROUND, ALONG)
    line = centre + along[:, None] * rise
    profile = _at(height, origin, cell, line)
    half = round(HALF / ALONG)
    steps = np.nan_to_num(profile[2 * half :] - profile[: -2 * half])
    edges = list[int]()
    for at in np.argsort(-steps).tolist():
        if steps[at] < EDGE:
            break
        if all(abs(at - other) > 2 * half + 2 for other in edges):
            edges.append(at)
    edges = sorted(at + half for at in edges)
    if not edges:
        return None
    near, far = (round(distance / ALONG) for distance in PLATEAU)
    before, behind = profile[max(edges[0] - far, 0) : edges[0] - near], profile[edges[-1] + near : edges[-1] + far]
    for plateau in (before, behind):
        if len(plateau) < far - near or not np.isfinite(plateau).all() or np.ptp(plateau) > LEVEL:
            return None
    between = [np.nanmedian(profile[a:b]) for a, b in pairwise(edges)]
    return line[edges], np.array([np.median(before), *between, np.median(behind)])


def _ways(
    way: str, line: F64, tops: F64, height: F32, origin: F64, cell: float, rng: np.random.Generator
) -> list[Flight]:
    """Ways over one staircase from where a robot has room; none if it has none beyond the end."""
    edges, levels = (line, tops) if way == "up" else (line[::-1], tops[::-1])
    riser, tread = float(np.abs(np.diff(tops)).mean()), float(np.linalg.norm(line[-1] - line[0]) / (len(line) - 1))
    stairs, result = edges[[0, -1]], list[Flight]()
    lead = (stairs[1] - stairs[0]) / np.linalg.norm(stairs[1] - stairs[0])
    if not _stands(height, origin, cell, stairs[1:] + OVER * lead, levels[-1]):
        return []
    for _ in range(TRIES):
        start, path = way_over(stairs, rng.uniform(*DISTANCE), rng.uniform(-ASIDE, ASIDE), rng.uniform(-ASKEW, ASKEW))
        before = path[0] + np.linspace(0, 1, 20)[:, None] * (path[1] - path[0])
        if _stands(height, origin, cell, before, levels[0]) and _stands(
            height, origin, cell, path[:1], levels[0], ALL_ROUND
        ):
            result.append(Flight(way, "found", riser, tread, len(line), start, path, float(levels[-1])))
        if len(result) == COUNT // 2:
            break
    return result


def _stands(height: F32, origin: F64, cell: float, xy: F64, level: float, around: float = HALF_WIDTH) -> bool:
    """Whether at positions (N, 2), and so far around them [m], the floor has a level [m]."""
    angle = np.arange(8) * np.pi / 4
    ring = around * np.concatenate([[[0, 0]], np.stack([np.cos(angle), np.sin(angle)], 1)])
    found = _at(height, origin, cell, (xy[:, None] + ring).reshape(-1, 2))
    return bool((np.abs(found - level) < LEVEL).all())


def _at(grid: np.ndarray, origin: F64, cell: float, xy: F64) -> np.ndarray:
    """Values (N,) of a grid's cells at positions (N, 2) [m]; those of its border beyond it, where there is no floor."""
    index = np.clip(np.floor((xy - origin) / cell).astype(np.int64), 0, np.array(grid.shape) - 1)
    return grid[index[:, 0], index[:, 1]]
