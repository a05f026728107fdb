"""Staircases drawn by a seed, to test on what legs learned: straight between walls, open at the sides, or turned."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipeline.types import F64
from sim.scene.terrain import Flight, Terrain, TileMaker

COUNT = 50
"""Staircases to go up, and as many to go down."""
WAYS, KINDS = ("up", "down"), ("walled", "open", "turned")
RISER, TREAD, RISERS = (0.10, 0.20), (0.22, 0.32), (4, 7)
"""Ranges of the height and depth of steps [m], and of their number."""
UNEVEN = 0.01
"""By how much steps of a flight differ from their mean [m]."""
WIDTH = (0.9, 1.4)
DISTANCE, ASIDE, ASKEW = (0.5, 3.0), 0.3, np.deg2rad(40)
"""How far before the first edge robots begin [m], how far beside the middle [m], and turned by how much, at most."""
SQUARE = 0.5
"""So far before an edge the way is square to it [m]."""
OVER = 0.45
"""A way is over so far beyond the last edge [m];"""
SPARE = 0.5
"""it leads farther by so much [m]."""
PLATFORM, BEHIND = 1.8, 1.0
"""Length of the platform on top where a way ends, and beyond the start of one that begins there [m]."""
WALL, THICK = 1.2, 0.3
"""How far walls rise above the steps beside them, and how thick they are [m]."""


def make_flights(seed: int, riser: float | None = None, count: int = COUNT) -> Terrain:
    """A row of staircases to go up and a row to go down, so many each; of one riser [m], or each of its own."""
    made = [
        [_drawn(way, riser, np.random.default_rng([seed, row, number])) for number in range(count)]
        for row, way in enumerate(WAYS)
    ]
    boxes = tuple(tuple(np.array(tile.boxes, np.float64) for tile, _ in row) for row in made)
    height = np.array([[tile.height for tile, _ in row] for row in made])
    terrain = Terrain(WAYS, boxes, height)
    flights = [flight for row in made for _, flight in row]
    centres = terrain.centre(*np.divmod(np.arange(len(flights)), count))
    return replace(terrain, flights=tuple(map(_moved, flights, centres)))


def way_over(stairs: F64, distance: float, aside: float, askew: float) -> tuple[F64, F64]:
    """A start (3,), x, y, yaw, and the way (P, 2) from there square over stairs and beyond.

    Args:
        stairs: (Q, 2) from the first edge to the last, along their middle [m].
        distance: Of the start from the first edge [m].
        aside: How far the start lies to the left [m].
        askew: How far robots begin turned to the left [rad].
    """
    ahead, lead = stairs[1] - stairs[0], stairs[-1] - stairs[-2]
    ahead, lead = ahead / np.linalg.norm(ahead), lead / np.linalg.norm(lead)
    place = stairs[0] - distance * ahead + aside * np.array([-ahead[1], ahead[0]])
    path = np.array([place, stairs[0] - min(distance, SQUARE) * ahead, *stairs, stairs[-1] + (OVER + SPARE) * lead])
    return np.array([*place, np.arctan2(ahead[1], ahead[0]) + askew]), path


def _moved(flight: Flight, by: F64) -> Flight:
    return replace(flight, start=flight.start + np.array([by[0], by[1], 0]), path=flight.path + by[:2])


def _drawn(way: str, riser: float | None, rng: np.random.Generator) -> tuple[TileMaker, Flight]:
    """A staircase in the middle of its tile."""
    kind = str(rng.choice(KINDS))
    rise, tread = riser or rng.uniform(*RISER), rng.uniform(*TREAD)
    risers = int(rng.integers(RISERS[0], RISERS[1] + 1))
    tops = np.cumsum(rise + rng.uniform(-UNEVEN, UNEVEN, risers))
    depths = tread + rng.uniform(-UNEVEN, UNEVEN, risers)
    distance = rng.uniform(*DISTANCE)
    stairs = _Staircase(kind, tops, depths, rng.uniform(*WIDTH), float(rng.choice([-1, 1])))
    stairs.end_in_platform(
        PLATFORM if way == "up" else distance + BEHIND, wider=rng.uniform(0, 0.7) if way == "down" else 0.0
    )
    path, level = (stairs.path, tops[-1]) if way == "up" else (stairs.path[::-1], 0.0)
    start, path = way_over(path, distance, rng.uniform(-ASIDE, ASIDE), rng.uniform(-ASKEW, ASKEW))
    corners = np.array([[x - u, y - v, x + u, y + v] for x, y, u, v, _ in stairs.boxes])
    low, high = np.minimum(corners[:, :2].min(0), path.min(0)), np.maximum(corners[:, 2:].max(0), path.max(0))
    middle = (low + high) / 2
    tile = TileMaker()
    for x, y, half_x, half_y, top in stairs.boxes:
        tile.put(x - middle[0], y - middle[1], half_x, half_y, top)
    flight = Flight(way, kind, rise, tread, risers, start, path, float(level))
    return tile, _moved(flight, -middle)


class _Staircase:
    """Boxes of a flight that goes up along x from its first edge at 0, or that turns to a side on a landing.

    Attributes:
        boxes: x, y, half edges along x and y, top [m].
        path: (P, 2) along the middle, from the first edge to the last.
    """

    def __init__(self, kind: str, tops: F64, depths: F64, width: float, side: float) -> None:
        self._kind, self._top, self._side, self._half = kind, float(tops[-1]), side, width / 2
        self.boxes = list[tuple[float, float, float, float, float]]()
        first = max(2, len(tops) // 2) if kind == "turned" else len(tops)
        x, half = 0.0, width / 2
        for top, depth in zip(tops[: first - 1], depths, strict=False):
            self._box(x, x + depth, -half, half, top)
            if kind == "walled":
                for wall in (-half - THICK, half):
                    self._box(x, x + depth, wall, wall + THICK, top + WALL)
            x += depth
        self.path = np.array([[0.0, 0.0], [x, 0.0]])
        self._edge = x
        if kind == "turned":
            landing = max(width, 1.0)
            self._box(x, x + landing, -half, half, tops[first - 1])
            self._middle, y = x + landing / 2, half
            for top, depth in zip(tops[first:-1], depths[first:], strict=False):
                self._box(x, x + landing, side * y, side * (y + depth), top)
                y += depth
            self._edge, self._half = y, landing / 2
            self.path = np.array([[0.0, 0.0], [x + landing / 2, 0.0], [x + landing / 2, side * y]])

    def _box(self, x0: float, x1: float, y0: float, y1: float, top: float) -> None:
        low, high = min(y0, y1), max(y0, y1)
        self.boxes.append(((x0 + x1) / 2, (low + high) / 2, (x1 - x0) / 2, (high - low) / 2, top))

    def _beyond(self, near: float, far: float, half: float) -> tuple[float, float, float, float]:
        """From so far beyond the last edge to so far [m]: x0, x1, y0, y1."""
        if self._kind == "turned":
            return (
                self._middle - half,
                self._middle + half,
                self._side * (self._edge + near),
                self._side * (self._edge + far),
            )
        return self._edge + near, self._edge + far, -half, half

    def end_in_platform(self, length: float, wider: float) -> None:
        """Put the last step there, so long and so much wider to both sides [m]."""
        self._box(*self._beyond(0, length, self._half + wider), self._top)
