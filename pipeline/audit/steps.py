"""How high steps are seen to be, and how high they are to feet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from pipeline.audit.looking import Looks, Samples
from pipeline.audit.patches import VIEWS, deviation, numbered, percentile_by
from pipeline.regions.regions import Regions
from pipeline.types import F64, I64, Mask

EVEN = 0.025
"""Neighbouring cells of floor whose heights differ by less are of one tread [m]."""
CELLS, EDGES = 6, 4
"""Least cells of a tread, and least edges of cells that it shares with the next one."""
RISERS = (0.06, 0.3)
"""Heights of steps [m]."""
ON = 0.1
"""What is touched so near to a tread's height is the tread [m]."""
BESIDE = 0.8
"""Floor is compared with treads so near to them: far off it is seen at other angles [m]."""
FAR, PIXELS, FLIGHT = 0.15, 3, 3
"""Errors of risers add up to so much [m]; pixels of a tread in a view, and edges of a flight, at least."""


@dataclass(frozen=True, eq=False)
class Steps:
    """Edges between two treads.

    Attributes:
        place: (E, 3) middles of the edges [m].
        riser: (E,) height between the treads that is touched [m].
        error: (E,) by how much it is higher than what is seen [m].
        stretch: By how much all heights are larger than what is seen, as a share of it.
        sigma: Of that.
    """

    place: F64
    riser: F64
    error: F64
    stretch: float
    sigma: float

    @property
    def typical(self) -> tuple[float, float]:
        """Error of a riser, and its sigma [m]."""
        riser = float(np.median(self.riser))
        return self.stretch * riser, self.sigma * riser


def measure_steps(looks: Looks, regions: Regions, noise: float) -> Steps | None:
    """The steps that robots' floor has, as far as both treads are seen; None without any.

    `noise` is the deviation of gaps from patch to patch of the floor [m]. Where all risers are wrong alike, the error
    grows from tread to tread; so it is told from heights and gaps of all treads of a flight. They rise out of robots'
    sight: where the capture's views show a flight, these tell.
    """
    tread, heights = treads(regions)
    pairs, places = _edges(tread, heights, regions)
    if not len(pairs):
        return None
    samples = looks.samples(np.abs(looks.gaps) < FAR)
    samples = samples.chosen(KDTree(places[:, :2]).query(samples.point[:, :2])[0] < BESIDE)
    for chosen in (samples.chosen(samples.view >= looks.captured), samples):
        seen = _seen_treads(chosen, tread, heights, regions)
        both = np.isfinite(seen.gap[pairs].sum(1))
        if both.sum() >= FLIGHT:
            return _steps(pairs[both], places[both], seen, noise)
    return _steps(pairs[both], places[both], seen, noise) if both.any() else None


@dataclass(frozen=True, eq=False)
class _Seen:
    """Of treads (T,): median gap, its sigma, and the height that is touched [m]; NaN where too few views show one."""

    gap: F64
    sigma: F64
    top: F64


def _steps(pairs: I64, places: F64, seen: _Seen, noise: float) -> Steps:
    """Edges (E, 2) between treads; the stretch is that of gaps by heights, each flight about its own middle."""
    low, high = pairs.T
    linked = coo_array((np.ones(len(low)), (low, high)), shape=(len(seen.gap),) * 2)
    used = np.unique(pairs)
    flight = np.unique(connected_components(linked, directed=False)[1][used], return_inverse=True)[1]
    weight = 1 / (seen.sigma[used] ** 2 + noise**2 + 1e-8)
    total = np.bincount(flight, weight)
    z, gap = (x - (np.bincount(flight, weight * x) / total)[flight] for x in (seen.top[used], seen.gap[used]))
    spread = float((weight * z * z).sum())
    stretch = float((weight * z * gap).sum()) / spread
    off = (weight * (gap - stretch * z) ** 2).sum() / max(1, len(used) - len(total) - 1)
    sigma = float(np.sqrt(max(1.0, off) / spread))
    return Steps(places, seen.top[high] - seen.top[low], seen.gap[low] - seen.gap[high], -stretch, sigma)


def _seen_treads(samples: Samples, tread: I64, heights: F64, regions: Regions) -> _Seen:
    """What of treads is seen."""
    seen = _Seen(*(np.full(len(heights), np.nan) for _ in range(3)))
    index, inside = regions.cells_of(samples.point)
    level = inside & (samples.normal[:, 2] > 0.9)
    level[level] = tread[tuple(index[level].T)] >= 0
    samples, owner = samples.chosen(level), tread[tuple(index[level].T)]
    on = np.abs(samples.point[:, 2] - heights[owner]) < ON
    samples, owner = samples.chosen(on), owner[on]
    look, first = numbered(owner, samples.view)
    enough = np.bincount(look, minlength=len(first)) >= PIXELS
    middle, whose = percentile_by(look, samples.gap, 0.5)[enough], owner[first][enough]
    for one in np.unique(whose):
        gaps = middle[whose == one]
        if len(gaps) >= VIEWS:
            seen.gap[one] = np.median(gaps)
            seen.sigma[one] = deviation(gaps) / np.sqrt(len(gaps))
            seen.top[one] = np.median(samples.point[owner == one, 2])
    return seen


def treads(regions: Regions) -> tuple[I64, F64]:
    """Number (X, Y) of the tread that each cell belongs to, -1 for none, and the treads' heights [m]."""
    height = regions.height.astype(np.float64)
    numbers = np.arange(height.size).reshape(height.shape)
    links = []
    for here, there in _sides():
        same = np.abs(height[here] - height[there]) < EVEN
        links.append(np.column_stack([numbers[here][same], numbers[there][same]]))
    linked = np.concatenate(links)
    joined = coo_array((np.ones(len(linked)), (linked[:, 0], linked[:, 1])), shape=(height.size,) * 2)
    label = connected_components(joined, directed=False)[1]
    floor = np.isfinite(height).ravel()
    large = floor & (np.bincount(label)[label] >= CELLS)
    tread = np.full(height.size, -1)
    tread[large] = np.unique(label[large], return_inverse=True)[1]
    heights = percentile_by(tread[large], height.ravel()[large], 0.5) if large.any() else np.zeros(0)
    return tread.reshape(height.shape), heights


def _sides() -> tuple[tuple[tuple[slice, slice], tuple[slice, slice]], ...]:
    """Cells and their neighbours along x, and along y."""
    every = slice(None)
    return (
        ((slice(None, -1), every), (slice(1, None), every)),
        ((every, slice(None, -1)), (every, slice(1, None))),
    )


def _edges(tread: I64, heights: F64, regions: Regions) -> tuple[I64, F64]:
    """The lower and the upper tread (E, 2) of each edge, and its middle (E, 3)."""
    centres, pairs, places = regions.centres(), list[I64](), list[F64]()
    for here, there in _sides():
        first, second = tread[here], tread[there]
        at: Mask = (first >= 0) & (second >= 0) & (first != second)
        pairs.append(np.column_stack([first[at], second[at]]))
        places.append((centres[here][at] + centres[there][at]) / 2)
    pair, place = np.concatenate(pairs), np.concatenate(places)
    swap = heights[pair[:, 0]] > heights[pair[:, 1]]
    pair[swap] = pair[swap][:, ::-1]
    rise = heights[pair[:, 1]] - heights[pair[:, 0]]
    step = (rise > RISERS[0]) & (rise < RISERS[1])
    pair, place = pair[step], place[step]
    if not len(pair):
        return np.zeros((0, 2), np.int64), np.zeros((0, 3))
    number, first = numbered(pair[:, 0], pair[:, 1])
    count = np.bincount(number)
    middle = np.column_stack([np.bincount(number, column) / count for column in place.T])
    long = count >= EDGES
    low = heights[pair[first][:, 0]]
    return pair[first][long], np.column_stack([middle, low])[long]
