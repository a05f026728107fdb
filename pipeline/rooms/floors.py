"""Floors that end without a wall, as scans do: ragged edges and holes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pipeline.rooms.surfaces import Builder, Paint
from pipeline.types import F64, Floats, Mask

Field = Callable[[F64], F64]
"""Of places (..., 2) [m]: how far floor goes on from there (...) [m], negative where there is none; roughly."""
CELL = 0.125
"""Edge of the cells by which an edge is followed [m]."""
SIDES = 4
"""A rectangle's: at low y, high x, high y, low x, counter-clockwise."""


@dataclass(frozen=True)
class Rectangle:
    """Part of the plan, [x0, x1] x [y0, y1] [m]."""

    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def size(self) -> tuple[float, float]:
        """Lengths along x and y [m]."""
        return self.x1 - self.x0, self.y1 - self.y0

    def grown(self, margin: float) -> Rectangle:
        """With so much more on all sides [m]; less if negative."""
        return Rectangle(self.x0 - margin, self.y0 - margin, self.x1 + margin, self.y1 + margin)

    def meets(self, other: Rectangle) -> bool:
        """Whether both share some area."""
        return self.x0 < other.x1 and other.x0 < self.x1 and self.y0 < other.y1 and other.y0 < self.y1

    def side(self, number: int) -> tuple[tuple[float, float], tuple[float, float]]:
        """Start and end of a side, counter-clockwise."""
        ends = [(self.x0, self.y0), (self.x1, self.y0), (self.x1, self.y1), (self.x0, self.y1)]
        return ends[number], ends[(number + 1) % SIDES]

    def grid(self, step: float) -> F64:
        """Places (X, Y, 2) spread evenly over it, corners included, at most `step` apart [m]."""
        counts = (max(2, int(np.ceil(length / step)) + 1) for length in self.size)
        ends = ((self.x0, self.x1), (self.y0, self.y1))
        axes = (np.linspace(low, high, count) for (low, high), count in zip(ends, counts, strict=True))
        return np.stack(np.meshgrid(*axes, indexing="ij"), -1)


def everywhere(places: F64) -> F64:
    """A floor without an end."""
    return np.full(places.shape[:-1], 1e3)


def both(first: Field, second: Field) -> Field:
    """The floor that both have."""
    return lambda places: np.minimum(first(places), second(places))


def ragged_side(area: Rectangle, side: int, depth: float, rng: np.random.Generator) -> Field:
    """Floor that ends irregularly, about `depth` before a side of the area [m]."""
    start, end = (np.array(point) for point in area.side(side))
    length = float(np.linalg.norm(end - start))
    along = (end - start) / length
    inward = np.array([-along[1], along[0]])
    coarse, fine = rng.normal(0, 0.35, int(length / 0.7) + 3), rng.normal(0, 0.08, int(length / 0.2) + 3)

    def field(places: F64) -> F64:
        t, away = (places - start) @ along, (places - start) @ inward
        off = np.interp(t / 0.7 + 0.5, np.arange(len(coarse)), coarse) * min(1.0, depth)
        return away - np.maximum(depth + off + np.interp(t / 0.2 + 0.5, np.arange(len(fine)), fine), 0.05)

    return field


def hole(middle: Floats, radius: float, rng: np.random.Generator) -> Field:
    """Floor with an irregular hole at a place (2,) [m]."""
    turns, sizes = rng.uniform(0, 2 * np.pi, 3), rng.uniform(0, 0.25, 3)

    def field(places: F64) -> F64:
        offset = places - np.asarray(middle)
        angle = np.arctan2(offset[..., 1], offset[..., 0])
        waves = np.cos((np.arange(3) + 2) * angle[..., None] + turns) @ sizes
        return np.linalg.norm(offset, axis=-1) - radius * (1 + waves)

    return field


def lay(b: Builder, area: Rectangle, z: float, paint: Paint, field: Field | None = None, *, down: bool = False) -> None:
    """A level surface at height z [m] over an area, where the field is positive; facing down as a ceiling."""
    if field is None:
        dx, dy = (area.x1 - area.x0, 0, 0), (0, area.y1 - area.y0, 0)
        b.quad((area.x0, area.y0, z), *((dy, dx) if down else (dx, dy)), paint)
        return
    places = area.grid(CELL)
    value = field(places)
    above = value > 0
    count = above[:-1, :-1].astype(int) + above[1:, :-1] + above[1:, 1:] + above[:-1, 1:]
    for i0, j0, i1, j1 in _blocks(count == 4):
        corner, opposite = places[i0, j0], places[i1, j1]
        lay(b, Rectangle(*corner, *opposite), z, paint, down=down)
    for i, j in np.argwhere((count > 0) & (count < 4)):
        ring = [(i, j), (i + 1, j), (i + 1, j + 1), (i, j + 1)]
        outline = _clipped([places[node] for node in ring], [float(value[node]) for node in ring])
        for second, third in pairwise(outline[1:]):
            edges = [np.append(point - outline[0], 0.0) for point in ((third, second) if down else (second, third))]
            if abs(np.cross(edges[0], edges[1])[2]) > 1e-6:  # else no triangle is left of the cell
                b.quad((*outline[0], z), edges[0], edges[1], paint, half=True)


def _blocks(whole: Mask) -> list[tuple[int, int, int, int]]:
    """Rectangles of cells (i0, j0, i1, j1), ends excluded, that cover all that are whole: few, not fewest."""
    left, blocks = whole.copy(), []
    for i, j in np.argwhere(whole):
        if not left[i, j]:
            continue
        row = left[i, j:]
        j1 = j + (len(row) if row.all() else int(row.argmin()))
        i1 = i + 1
        while i1 < len(left) and left[i1, j:j1].all():
            i1 += 1
        left[i:i1, j:j1] = False
        blocks.append((int(i), int(j), int(i1), int(j1)))
    return blocks


def _clipped(ring: Sequence[F64], values: Sequence[float]) -> list[F64]:
    """Corners of what a closed outline of places (2,) has on the positive side, by linear interpolation of values."""
    kept = []
    for (here, v), (there, w) in zip(
        zip(ring, values, strict=True), zip([*ring[1:], ring[0]], [*values[1:], values[0]], strict=True), strict=True
    ):
        if v > 0:
            kept.append(here)
        if (v > 0) != (w > 0):
            kept.append(here + (there - here) * (v / (v - w)))
    return kept
