"""What robots are told on their way over the levels of a place that they know, by where they believe they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.types import F64, I64, Floats
from sim.climbing.climber import Orders
from sim.climbing.levels import Levels, Passage, Way

LOOK = 1.0
"""How far along their way robots look [m]."""
LINED_UP, ASIDE = (0.2, 1.2), 0.4
"""So far before the first edge, and no farther aside, robots go by the stairs [m]: these line them up."""
ON_STAIRS = 0.6
"""How far along stairs robots go on as long as they see none [m]."""
ARRIVED = 0.15
"""So near to their goal robots stand [m]."""


@dataclass(eq=False)
class Route:
    """The way of one robot.

    Attributes:
        goal: Its cell (2,).
        level: On which it is.
        world_from_map: Turn [rad], then shift (2,) [m], of what it knows against the place.
        passage: The stairs that it is on, or just before.
        ground: Height of the ground where it lined up, in its map [m].
    """

    levels: Levels
    goal: I64
    way: Way
    level: int
    world_from_map: tuple[float, F64]
    passage: Passage | None = None
    ground: float = 0.0

    @staticmethod
    def begin(levels: Levels, start: Floats, believed: Floats, goal: Floats, place: str) -> Route:
        """The way to a goal (2,) from a pose (3,), x, y [m] and heading [rad], that a robot believes to be another one.

        Raises:
            SimError: When none leads there.
        """
        first, last = levels.cell(start), levels.cell(goal)
        way = levels.way_to(last)
        if not np.isfinite(way.cost[tuple(first)]):
            raise levels.no_way(place, first, last)
        turn = float(start[2] - believed[2])
        shift = np.asarray(start[:2], np.float64) - rotated(believed[:2], turn)
        return Route(levels, last, way, int(levels.label[tuple(first)]), (turn, shift))

    def told(self, believed: Floats, lowest: float, highest: float) -> tuple[float, F64, F64]:
        """Orders of a robot with a believed pose (3,), and the ground under its lowest and highest foot [m]."""
        turn, shift = self.world_from_map
        xy = rotated(believed[:2], turn) + shift
        self._pass(lowest, highest)
        to = self._walk(xy, (lowest + highest) / 2)
        if (passage := self.passage) is None:
            here = np.linalg.norm(self.levels.place(self.goal) - xy) < ARRIVED
            nowhere = np.full(2, np.nan)
            return 0.0, nowhere, nowhere if here else rotated(to - shift, -turn)
        to = passage.first + ((xy - passage.first) @ passage.ahead + ON_STAIRS) * passage.ahead
        return passage.sign, rotated(passage.ahead, -turn), rotated(to - shift, -turn)

    def _pass(self, lowest: float, highest: float) -> None:
        """Leave stairs when all feet stand beyond them."""
        if (passage := self.passage) is None:
            return
        left = self.ground + passage.rise - (lowest if passage.sign > 0 else highest)
        if passage.sign * left < passage.stairs.riser / 2:
            self.level, self.passage = passage.levels[1], None

    def _walk(self, xy: F64, ground: float) -> F64:
        """Where to go on the level from a position (2,) [m]; stairs begin where the way leads over some."""
        levels, path = self.levels, [self.levels.cell(xy, self.level)]
        begin, columns = levels.place(path[0]), levels.label.shape[1]
        while (following := int(self.way.following[tuple(path[-1])])) >= 0:
            if self.passage or np.linalg.norm(levels.place(path[-1]) - begin) > LOOK:
                break
            if passage := levels.passage_at(path[-1], following):
                before = passage.first - xy
                ahead, left = before @ passage.ahead, before @ rotated(passage.ahead, np.pi / 2)
                if LINED_UP[0] < ahead < LINED_UP[1] and abs(left) < ASIDE:
                    self.passage, self.ground = passage, ground
                break
            path.append(np.array(divmod(following, columns)))
        return levels.place(next(cell for cell in path[::-1] if levels.straight(path[0], cell)))


class Guide:
    """Tells N robots where to go."""

    def __init__(self, count: int) -> None:
        self.routes = list[Route | None]([None] * count)

    def orders(self, planar: F64, lowest: F64, highest: F64) -> Orders:
        """What they are told, by believed poses (N, 3), and heights (N,) of the ground under their feet [m]."""
        told = [
            route.told(planar[row], float(lowest[row]), float(highest[row]))
            if route
            else (0.0, *np.full((2, 2), np.nan))
            for row, route in enumerate(self.routes)
        ]
        sign, ahead, to = zip(*told, strict=True)
        return Orders(np.array(sign), np.array(ahead), np.array(to))


def rotated(vector: Floats, angle: float) -> F64:
    """A vector (2,) turned to the left by an angle [rad]."""
    c, s = np.cos(angle), np.sin(angle)
    return np.asarray(np.array([[c, -s], [s, c]]) @ vector, np.float64)
