"""The levels of a place that is known, the stairs between them, and ways from any of them to any other."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush

import numpy as np

from pipeline.errors import SimError
from pipeline.geometry import masks
from pipeline.geometry.jit import njit
from pipeline.regions.regions import Regions
from pipeline.types import F32, F64, I32, I64, Floats
from sim.climbing.stairs import EDGE, Stairs, halved_regions, stairs_of
from sim.climbing.surroundings import high_steps

HIGHEST = 0.21
"""Ways lead over no higher steps [m]: the gait was taught steps of 20 cm."""
BEFORE, BEHIND = 0.8, 0.3
"""So far before the first edge robots line up, and so far behind the last they go on [m]; nearer where floor ends."""
FARTHEST = 0.9
"""Stairs whose floor is farther from there than this lead nowhere [m]."""
MARGIN = 0.05
"""Stairs begin and end so far beyond their edges, and reach so far beyond what is known of their sides [m]."""
ROOM, ROOM_PRICE = 0.4, 2.0
"""Nearer than this to where a level ends [m] a metre is dearer, by so much at its end."""


@dataclass(frozen=True, eq=False)
class Passage:
    """Stairs, one way.

    Attributes:
        stairs: The stairs.
        sign: 1 for up, -1 for down.
        levels: From which level they lead, and to which.
        before: (2,) cell where robots line up.
        behind: (2,) cell where they go on.
    """

    stairs: Stairs
    sign: float
    levels: tuple[int, int]
    before: I64
    behind: I64

    @property
    def ahead(self) -> F64:
        """Direction (2,)."""
        return self.sign * self.stairs.rise

    @property
    def first(self) -> F64:
        """Middle (2,) of the first edge [m]."""
        return self.stairs.edges[0 if self.sign > 0 else -1]

    @property
    def rise(self) -> float:
        """How much higher the next level is; negative for lower [m]."""
        return self.sign * float(self.stairs.tops[-1] - self.stairs.tops[0])

    @property
    def length(self) -> float:
        """From where robots line up to where they go on [m]."""
        return float(np.linalg.norm(self.stairs.edges[-1] - self.stairs.edges[0])) + BEFORE + BEHIND

    def __str__(self) -> str:
        steps, tops = len(self.stairs.edges), self.stairs.tops[:: int(self.sign)]
        way = f"{'up' if self.sign > 0 else 'down'} {steps} step{'s' if steps > 1 else ''} of "
        return f"{way}{100 * self.stairs.riser:.0f} cm from {tops[0]:.2f} to {tops[-1]:.2f} m"


@dataclass(frozen=True, eq=False)
class Way:
    """The cheapest way from anywhere in a place to one goal.

    Attributes:
        cost: (X, Y) price [m]; inf where no way leads.
        following: (X, Y) the cell that follows, as row * Y + column, -1 at the goal and where there is no way; behind
            stairs, where a way leads over them.
    """

    cost: F32
    following: I32


class Levels:
    """Level floor of a place, parted by steps, and the passages between its parts.

    Attributes:
        label: (X, Y) the level of each cell of the regions, 0 for none.
        passages: All that robots get over, both ways.
        steep: Those with steps that are too high.
    """

    def __init__(self, regions: Regions) -> None:
        self.regions = regions
        stairs = stairs_of(regions)
        self.label = _labels(regions, stairs)
        found = [passage for one in stairs for sign in (1, -1) if (passage := self._passage(one, sign))]
        self.passages = [passage for passage in found if passage.stairs.riser <= HIGHEST]
        self.steep = [passage for passage in found if passage.stairs.riser > HIGHEST]
        near = masks.distance_from(self.label == 0) * regions.cell / ROOM
        self._price = np.where(self.label > 0, 1 + ROOM_PRICE * np.clip(1 - near, 0, 1), np.inf).astype(np.float32)
        self._before, self._behind = (
            np.array([getattr(one, name) for one in self.passages], np.int64).reshape(-1, 2)
            for name in ("before", "behind")
        )
        self._length = np.array([one.length for one in self.passages], np.float64)

    def cell(self, xy: Floats, level: int | None = None) -> I64:
        """The cell (2,) of a level, or of any, that is nearest to a position (2,) [m]."""
        cells = np.argwhere(self.label == level if level else self.label > 0)
        away = self.place(cells) - np.asarray(xy)[:2]
        return cells[(away**2).sum(1).argmin()]

    def place(self, cells: I64) -> F64:
        """Middles (..., 2) of cells (..., 2) [m]."""
        return np.asarray(np.array(self.regions.origin) + (cells + 0.5) * self.regions.cell, np.float64)

    def straight(self, start: I64, end: I64) -> bool:
        """Whether all between two cells (2,) is level."""
        share = np.linspace(0, 1, 2 * int(np.abs(end - start).max()) + 1)[:, None]
        return bool((self.label[tuple(np.round(start + share * (end - start)).astype(np.int64).T)] > 0).all())

    def way_to(self, goal: I64) -> Way:
        """The way to a cell (2,)."""
        return Way(*_ways(self._price, self._before, self._behind, self._length, goal, self.regions.cell))

    def passage_at(self, cell: I64, following: int) -> Passage | None:
        """The passage that leads from a cell (2,) to the following one of a way; None where that is beside it."""
        for one in self.passages:
            if (one.before == cell).all() and one.behind @ [self.label.shape[1], 1] == following:
                return one
        return None

    def no_way(self, place: str, start: I64 | None = None, goal: I64 | None = None) -> SimError:
        """What to say of a place with no way from a cell to another, or from any level to another."""
        ends = "no way"
        if start is not None and goal is not None:
            low, high = (float(self.regions.height[tuple(cell)]) for cell in (start, goal))
            ends = f"no way from {low:.2f} m to {high:.2f} m"
        ways = "; ".join(map(str, self.passages)) or "none"
        if self.steep:
            ways += f"; {self.steep[0]} is too high"
        elif not self.passages and np.isfinite(step := high_steps(halved_regions(self.regions)[0])):
            ways += f"; steps of {100 * step:.0f} cm are too high"
        return SimError(
            f"a goal on another level needs stairs with steps of at most {100 * HIGHEST:.0f} cm that lead there",
            found=f"{ends} in {place}; ways there are: {ways}",
            remedy="take a goal that these ways lead to, or a scan with the stairs and the floor at both ends",
        )

    def _passage(self, stairs: Stairs, sign: int) -> Passage | None:
        """Stairs one way, if they lead from one level to another."""
        first, last = stairs.edges[:: int(sign)][[0, -1]]
        ends = [first - BEFORE * sign * stairs.rise, last + BEHIND * sign * stairs.rise]
        tops = stairs.tops[:: int(sign)][[0, -1]]
        cells, levels = list[I64](), list[int]()
        for end, top, edge in zip(ends, tops, (first, last), strict=True):
            known = np.argwhere((self.label > 0) & (np.abs(self.regions.height - top) < EDGE))
            away = np.linalg.norm(self.place(known) - end, axis=1)
            if not len(known) or np.linalg.norm(self.place(known[away.argmin()]) - edge) > FARTHEST:
                return None
            cells.append(known[away.argmin()])
            levels.append(int(self.label[tuple(cells[-1])]))
        return Passage(stairs, sign, (levels[0], levels[1]), *cells) if levels[0] != levels[1] else None


def _labels(regions: Regions, stairs: tuple[Stairs, ...]) -> I32:
    """Numbers (X, Y) of the parts of the walkable floor that are parted by steps and by stairs; 0 for no level."""
    level, height = regions.walkable.copy(), regions.height
    for axis in (0, 1):
        step = np.abs(np.diff(height, axis=axis)) > EDGE  # false beside what is unknown
        ends = [[(0, 0), (0, 0)], [(0, 0), (0, 0)]]
        ends[0][axis], ends[1][axis] = (0, 1), (1, 0)
        level &= ~(np.pad(step, ends[0]) | np.pad(step, ends[1]))
    centres = regions.centres()
    for one in stairs:
        around = centres - one.edges[0]
        along, aside = around @ one.rise, around @ [-one.rise[1], one.rise[0]]
        length = float((one.edges[-1] - one.edges[0]) @ one.rise)
        beside = (aside > one.sides[0] - MARGIN) & (aside < one.sides[1] + MARGIN)
        level &= ~((along > -MARGIN) & (along < length + MARGIN) & beside)
    return masks.parts(level)[0]


@njit(cache=True, nogil=True)
def _ways(price: F32, before: I64, behind: I64, length: F64, goal: I64, cell: float) -> tuple[F32, I32]:
    """Price (X, Y) of the ways to a goal [m], and the cell that follows on each; passages (P,) lead over stairs."""
    rows, columns = price.shape
    cost, following = np.full(price.shape, np.float32(np.inf)), np.full(price.shape, np.int32(-1))
    cost[goal[0], goal[1]] = 0
    heap = [(np.float32(0), goal[0] * columns + goal[1])]
    while len(heap):
        so_far, at = heappop(heap)
        a, b = at // columns, at % columns
        if so_far > cost[a, b]:
            continue
        for p in range(len(before)):
            u, v = before[p]
            new = np.float32(so_far + length[p])
            if behind[p, 0] == a and behind[p, 1] == b and new < cost[u, v]:
                cost[u, v], following[u, v] = new, at
                heappush(heap, (new, u * columns + v))
        for u in range(max(a - 1, 0), min(a + 2, rows)):
            for v in range(max(b - 1, 0), min(b + 2, columns)):
                aslant = u != a and v != b
                if not np.isfinite(price[u, v]) or (aslant and not np.isfinite(price[a, v] + price[u, b])):
                    continue
                new = np.float32(so_far + price[u, v] * cell * (np.sqrt(2) if aslant else 1.0))
                if new < cost[u, v]:
                    cost[u, v], following[u, v] = new, at
                    heappush(heap, (new, u * columns + v))
    return cost, following
