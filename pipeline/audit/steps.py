"""How high steps are seen to be, and how high they are to feet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pipeline.audit.looking import Samples
from pipeline.audit.patches import VIEWS, numbered, percentile_by
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


def measure_steps(samples: Samples, regions: Regions, noise: float) -> Steps | None:
    """The steps that robots' floor has, as far as both treads are seen; None without any.

    `noise` is the deviation of level surfaces' gaps [m]. Where all risers are wrong alike, the error grows from tread
    to tread; so it is told from heights and gaps of all treads of a flight.
    """
    tread, heights = treads(regions)
    pairs, places = _edges(tread, heights, regions)
    gaps, tops = _seen_treads(samples, tread, heights, regions)
    both = np.isfinite(gaps[pairs].sum(1))
    if not both.any():
        return None
    low, high = pairs[both].T
    flight = connected_components(coo_array((np.ones(len(low)), (low, high)), shape=(len(heights),) * 2), False)[1]
    used = np.unique(pairs[both])
    _, flight = np.unique(flight[used], return_inverse=True)
    z, gap = (values[used] - _mean(values[used], flight)[flight] for values in (tops, gaps))
    spread = float(z @ z)
    stretch = float(z @ gap) / spread
    off = np.sqrt(((gap - stretch * z) ** 2).sum() / max(1, len(used) - flight.max() - 2))
    return Steps(
        places[both], tops[high] - tops[low], gaps[low] - gaps[high], -stretch, max(noise, float(off)) / spread**0.5
    )


def _mean(values: F64, group: I64) -> F64:
    return np.bincount(group, values) / np.bincount(group)


def _seen_treads(samples: Samples, tread: I64, heights: F64, regions: Regions) -> tuple[F64, F64]:
    """Gaps (T,) of treads, and their heights as they are touched [m]; NaN where too few views show one."""
    gaps, tops = np.full(len(heights), np.nan), np.full(len(heights), np.nan)
    index, inside = regions.cells_of(samples.point)
    level = inside & (samples.normal[:, 2] > 0.9)
    samples, index = samples.chosen(level), index[level]
    owner = tread[tuple(index.T)]
    on = (owner >= 0) & (np.abs(samples.point[:, 2] - heights[owner]) < ON) if len(heights) else owner > len(heights)
    if on.any():
        look, first = numbered(owner[on], samples.view[on])
        known, number, views = np.unique(owner[on][first], return_inverse=True, return_counts=True)
        seen = views >= VIEWS
        gaps[known[seen]] = percentile_by(number, percentile_by(look, samples.gap[on], 0.5), 0.5)[seen]
        known, number = np.unique(owner[on], return_inverse=True)
        tops[known] = percentile_by(number, samples.point[on][:, 2], 0.5)
    return gaps, tops


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
