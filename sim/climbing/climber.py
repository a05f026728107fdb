"""Where robots go that are told up or down: to the nearest stairs, square over them, and on to look for the next.

Those that know the place are told more: which way the stairs lead, and where to go as long as they see none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.geometry.jit import njit, prange, put
from pipeline.types import F32, F64, I64, Floats, Mask
from sim.climbing.flight import nearest_flight
from sim.climbing.surroundings import BODY, CELL, bridged, clearances, costs, halved, on_the_way, rims, slopes
from sim.robots.state import turned_to
from sim.saved import Saved
from sim.sensors.ground import elevation
from sim.sensors.ground.elevation import Elevation
from sim.sensors.ground.mapping import GroundMap

SQUARE = 0.5
"""So far before the first edge robots stand square to it [m],"""
NEAR, ASIDE = 0.15, 0.3
"""as near as this [m]; and those go back to there that are before it, but so far to a side [m]."""
AHEAD = 0.45
"""How far ahead on its way a robot heads for [m]."""
BEYOND, THERE, BESIDE = 0.9, 0.05, 0.4
"""When no edge is left robots go on so far if there is room, by more than this, and no farther aside [m]: their hind
legs have to come up, too."""
SEES, LOOKS = 0.6, 0.35
"""A robot sees what is behind a rim from so far [m], when it looks there so well [rad],"""
WAITS, SEEN = 0.4, 0.5
"""after so long [s]; and then it knows all rims so near to that one [m]."""
FARTHEST = 3.0
"""Farther rims are alike [m]."""
TURN_PRICE = 1.0
"""Turning to a rim is worth so much of its distance [m/rad],"""
ASIDE_PRICE = 0.7
"""and so much that what is unknown lies to its side [m]."""
SAME, KEPT = 0.3, 0.5
"""So near to where it goes already [m], a rim is worth so much more of its distance [m]."""
STRAIGHT = 0.7
"""Cosine of the angle between stairs that robots turn to only when they are off the last ones."""
ROUND = 2 * np.pi
"""How far robots turn that know no place to go to, before they stand [rad]."""
REMEMBERED = 24
"""So many rims where nothing was are remembered."""
SPEED, TURN, TURN_GAIN = 0.4, 1.0, 1.8
"""Speed [m/s], largest yaw rate [rad/s], and yaw rate by the angle to where a robot heads for [1/s]."""
PATIENCE = 0.5
"""Who has seen nothing for so long stops [s]."""
STILL, ENOUGH_WAY, ENOUGH_TURN = 2.5, 0.15, 0.5
"""Who is on the way, and gets no farther in so long [s] than this [m], nor turns by this [rad],"""
BACK, BACKWARD = 1.5, 0.25
"""goes back for so long [s], so fast [m/s];"""
BEHIND, LEVEL = (0.3, 0.45, 0.6), 0.12
"""or turns, where the ground so far behind [m] isn't level to so much [m]."""
NOTHING, STAIRS, ON, RIM, PLACE = range(5)
"""What robots go by: nothing, stairs, the way on beyond them, a rim of what they know, or a place they are told."""
THE_STAIRS = 0.5
"""Least cosine of the angle between stairs and those that a robot is told."""
FAR_PRICE = 0.02
"""To get a metre nearer to a place that it is told, a robot goes 50 metres round."""


@dataclass(frozen=True, eq=False)
class Orders:
    """What N robots are told, frame of their maps.

    Attributes:
        sign: (N,) 1 for up, -1 for down, 0 for neither.
        ahead: (N, 2) direction of the stairs that are meant; NaN for any.
        to: (N, 2) where to go as long as no stairs are seen [m]; NaN to look for stairs.
    """

    sign: Floats
    ahead: Floats
    to: Floats

    @staticmethod
    def only(sign: Floats) -> Orders:
        """Up or down (N,) by any stairs."""
        anywhere = np.full((len(sign), 2), np.nan)
        return Orders(sign, anywhere, anywhere)


class Climber(Saved):
    """What N robots are about.

    Attributes:
        goes_by: (N,) what they go by now.
        end: (N, 2) where they go on to after stairs, frame of the map [m]; NaN if there were none.
        along: (N, 2) direction of these stairs.
        rim: (N, 2) to which they go, or the place that they are told [m]; or NaN.
    """

    ROWS = ("goes_by", "end", "along", "rim", "_known", "_next", "_waited", "_spun", "_spot", "_still")

    def __init__(self, count: int, period: float) -> None:
        self._period = period
        self.goes_by, self._next = np.zeros(count, np.int64), np.zeros(count, np.int64)
        self.end, self.along, self.rim = (np.full((count, 2), np.nan) for _ in range(3))
        self._known = np.full((count, REMEMBERED, 2), np.nan)
        self._waited, self._spun = np.zeros(count), np.zeros(count)
        self._spot, self._still = np.zeros((count, 3)), np.zeros(count)

    def reset(self, robots: I64) -> None:
        """Begin episodes of robots (M,)."""
        for nowhere in (self.end, self.along, self.rim, self._known):
            nowhere[robots] = np.nan
        for none in (self.goes_by, self._next, self._waited, self._spun, self._still):
            none[robots] = 0

    def steer(self, ground: GroundMap, orders: Orders, seconds: Floats) -> tuple[F64, F64]:
        """As `speeds`, by what the robots know of the ground at times (N,) [s]; who has seen nothing for long stops."""
        level = np.where(orders.sign > 0, ground.highest, ground.lowest)
        forward, turn = self.speeds(ground.maps, ground.planar, level, orders)
        blind = seconds - ground.looked > PATIENCE
        return np.where(blind, 0, forward), np.where(blind, 0, turn)

    def speeds(self, maps: Elevation, pose: F64, level: Floats, orders: Orders) -> tuple[F64, F64]:
        """Speeds ahead (N,) [m/s] and yaw rates to the left (N,) [rad/s].

        Args:
            maps: Of the ground.
            pose: (N, 3) x, y [m] and heading [rad] of the robots, frame of the maps.
            level: (N,) height of the ground under the feet that are farthest on the way, up or down [m].
            orders: What they are told; who is told nothing stands.
        """
        way = np.column_stack([level, orders.sign, orders.ahead, orders.to]).astype(np.float64)
        place = np.stack([self.end, self.along, self.rim], 1)
        found = _decide(maps.height, maps.variance, maps.corner, pose, way, place, self._known)
        by, to, close = found[:, 0].astype(np.int64), found[:, 1:3], found[:, 9] > 0
        self.end, self.along, self.rim = found[:, 3:5], found[:, 5:7], found[:, 7:9]
        off = turned_to(np.where(close[:, None], self.rim, to) - pose[:, :2], pose[:, 2])
        forward, turn = towards(off)
        told, nothing = orders.sign != 0, by == NOTHING
        self._look_behind(close & (np.abs(off) < LOOKS))
        self._spun = np.where(nothing & told, self._spun + self._period * TURN, 0)
        spin = np.where(self.given_up | ~told, 0.0, TURN)
        self.goes_by = by
        forward, turn = np.where(nothing | close, 0, forward), np.where(nothing, spin, turn)
        stuck = self._stuck(pose, ~nothing & (by != STAIRS))
        if not stuck.any():
            return forward, turn
        back = stuck & self._level_behind(maps, pose, level)
        return np.where(back, -BACKWARD, np.where(stuck, 0, forward)), np.where(stuck, np.where(back, 0, TURN), turn)

    @property
    def given_up(self) -> Mask:
        """Who has looked everywhere (N,), sees no stairs that lead on, and stands."""
        return self._spun >= ROUND

    def _stuck(self, pose: F64, on_the_way: Mask) -> Mask:
        """Who got no farther for long (N,), until they have gone back for long enough."""
        off = np.abs((pose[:, 2] - self._spot[:, 2] + np.pi) % (2 * np.pi) - np.pi)
        gone = (np.linalg.norm(pose[:, :2] - self._spot[:, :2], axis=1) > ENOUGH_WAY) | (off > ENOUGH_TURN)
        stuck = self._still > STILL
        anew = ~on_the_way | (self._still > STILL + BACK) | (gone & ~stuck)
        self._spot = np.where(anew[:, None], pose, self._spot)
        self._still = np.where(anew, 0, self._still + self._period)
        return stuck & ~anew

    def _level_behind(self, maps: Elevation, pose: F64, level: Floats) -> Mask:
        """Who may go backward (N,)."""
        back = np.stack([np.cos(pose[:, 2]), np.sin(pose[:, 2])], 1)[:, None] * -np.array(BEHIND)[:, None]
        off = np.abs(maps.at(pose[:, None, :2] + back) - level[:, None])
        return np.asarray((off < LEVEL).all(1))  # false where nothing is known

    def _look_behind(self, looks: Mask) -> None:
        """Note rims behind which robots (N,) look long enough, and find no stairs, and places that they don't see."""
        self._waited = np.where(looks, self._waited + self._period, 0)
        for robot in np.flatnonzero(self._waited > WAITS).tolist():
            self._known[robot, self._next[robot] % REMEMBERED] = self.rim[robot]
            self._next[robot] += 1
            self.rim[robot], self._waited[robot] = np.nan, 0


def towards(off: F64) -> tuple[F64, F64]:
    """Speeds ahead (N,) [m/s] and yaw rates (N,) [rad/s] of who has to turn by so much to the left (N,) [rad]."""
    return SPEED * np.clip(1.2 - 1.6 * np.abs(off), 0, 1), np.clip(TURN_GAIN * off, -TURN, TURN)


@njit(cache=True, nogil=True)
def _is_known(known: F64, place: F64) -> bool:
    """Whether a robot has looked there."""
    away = known - place
    return bool((away[:, 0] ** 2 + away[:, 1] ** 2 < SEEN**2).any())


@njit(cache=True, nogil=True)
def _best_rim(rim: F32, place: F64, heading: float, before: F64, known: F64) -> tuple[int, int]:
    """The rim that is farthest and best ahead of those that aren't known; -1, -1 without any."""
    best, row, column = -1e9, -1, -1
    for a in range(rim.shape[0]):
        for b in range(rim.shape[1]):
            if np.isnan(rim[a, b, 0]):
                continue
            x, y = (a + 0.5) * CELL, (b + 0.5) * CELL
            if _is_known(known, np.array([x, y])):
                continue
            u, v = x - place[0], y - place[1]
            off = abs((np.arctan2(v, u) - heading + np.pi) % (2 * np.pi) - np.pi)
            length = max(np.hypot(u, v), CELL)
            facing = (rim[a, b, 0] * u + rim[a, b, 1] * v) / length
            value = min(length, FARTHEST) - TURN_PRICE * off - ASIDE_PRICE * (1 - facing)
            if (before[0] - x) ** 2 + (before[1] - y) ** 2 < SAME**2:
                value += KEPT
            if value > best:
                best, row, column = value, a, b
    return row, column


@njit(cache=True, nogil=True)
def _cell(place: F64) -> tuple[int, int]:
    most = elevation.SIDE // 2 - 1
    return min(max(int(place[0] / CELL), 0), most), min(max(int(place[1] / CELL), 0), most)


@njit(cache=True, nogil=True)
def _on(end: F64, along: F64, place: F64, cost: F32, edge: F32) -> tuple[F64, bool]:
    """The place nearest to where a robot goes on to after stairs, and whether it leads on: one with room and a way."""
    best, x, y = THERE, 0.0, 0.0
    for a in range(edge.shape[0]):
        for b in range(edge.shape[1]):
            u, v = (a + 0.5) * CELL, (b + 0.5) * CELL
            left = along[0] * (end[0] - u) + along[1] * (end[1] - v)
            aside = abs(along[0] * (end[1] - v) - along[1] * (end[0] - u))
            on = along[0] * (u - place[0]) + along[1] * (v - place[1])
            if left < 0 or aside > BESIDE or edge[a, b] < BODY or not np.isfinite(cost[a, b]):
                continue
            if on - aside / 2 > best:
                best, x, y = on - aside / 2, u, v
    return np.array([x, y]), best > THERE


@njit(cache=True, nogil=True)
def _nearest_to(to: F64, place: F64, cost: F32, edge: F32) -> tuple[F64, bool]:
    """Where with room a way leads that is nearest to a place; and whether it is worth going there."""
    row, column = _cell(place)
    here = np.hypot(to[0] - place[0], to[1] - place[1])
    best = here
    for a in range(cost.shape[0]):
        for b in range(cost.shape[1]):
            if not np.isfinite(cost[a, b]) or edge[a, b] < BODY:
                continue
            away = np.hypot(to[0] - (a + 0.5) * CELL, to[1] - (b + 0.5) * CELL) + FAR_PRICE * cost[a, b]
            if away < best:
                best, row, column = away, a, b
    return np.array([(row + 0.5) * CELL, (column + 0.5) * CELL]), best < here - THERE or here < THERE


@njit(cache=True, nogil=True)
def _only(slope: F32, ahead: F64) -> None:
    """Forget slopes (X, Y, 2) that don't rise in a direction (2,), if there is one."""
    if np.isnan(ahead[0]):
        return
    for a in range(slope.shape[0]):
        for b in range(slope.shape[1]):
            g, h = slope[a, b]
            if g * ahead[0] + h * ahead[1] < THE_STAIRS * np.hypot(g, h):
                slope[a, b, 0] = slope[a, b, 1] = np.nan


@njit(cache=True, nogil=True)
def _by_way(came: np.ndarray, cost: F32, to: F64, place: F64) -> F64:
    """Where to head for on the way to a place, or the place if no way is known."""
    row, column = _cell(to)
    if not np.isfinite(cost[row, column]) or np.hypot(to[0] - place[0], to[1] - place[1]) < AHEAD:
        return to
    row, column = on_the_way(came, row, column, AHEAD)
    return np.array([(row + 0.5) * CELL, (column + 0.5) * CELL])


@njit(cache=True, nogil=True)
def _over(flight: F64, place: F64, came: np.ndarray, cost: F32) -> F64:
    """Where to head for on the way to stairs and over them."""
    along, left = flight[1:3], np.array([-flight[2], flight[1]])
    first, aside = flight[3], flight[4]
    if first > SQUARE + NEAR or (first > 0 and abs(aside) > ASIDE):
        return _by_way(came, cost, place + (first - SQUARE) * along + aside * left, place)
    return place + AHEAD * along + aside * left


@njit(parallel=True, cache=True, nogil=True)
def _decide(height: F32, variance: F32, corner: I64, pose: F64, way: F64, before: F64, known: F64) -> F64:
    """What robots go by and where they head for, places of theirs, and who stops before what it doesn't know (N, 10).

    `way` is (N, 6), the level that they stand on, and their orders; `before` are the places (N, 3, 2) of before: where
    they go on to after stairs, the direction of these, and the rim that they went to.
    """
    result = np.full((len(pose), 10), np.nan)
    for n in prange(len(pose)):
        ground, origin = bridged(halved(height[n], variance[n])), corner[n] * elevation.CELL
        place, heading = pose[n, :2] - origin, pose[n, 2]
        level, sign = way[n, :2]
        row, column = _cell(place)
        if np.isnan(ground[row, column]):
            ground[row, column] = level
        near, edge = clearances(ground)
        cost, came = costs(ground, near, edge, row, column)
        flight, along = np.zeros(5), before[n, 1]
        if sign != 0:
            slope = slopes(ground, near)
            _only(slope, sign * way[n, 2:4])
            flight = nearest_flight(ground, cost, slope, place, sign, level)
        on, goes_on = _on(before[n, 0] - origin, along, place, cost, edge)
        turns = along[0] * flight[1] + along[1] * flight[2] < STRAIGHT
        result[n, 0], result[n, 9] = NOTHING, 0
        if flight[0] and not (goes_on and turns):
            result[n, 0] = STAIRS
            put(result[n, 1:3], origin + _over(flight, place, came, cost))
            put(result[n, 3:5], pose[n, :2] + BEYOND * flight[1:3])
            put(result[n, 5:7], flight[1:3])
            continue
        if goes_on and sign != 0:
            result[n, 0] = ON
            put(result[n, 1:3], origin + _by_way(came, cost, on, place))
            put(result[n, 3:5], before[n, 0])
            put(result[n, 5:7], along)
            continue
        if np.isfinite(way[n, 4]):
            to = way[n, 4:] - origin
            nearest, nearer = _nearest_to(to, place, cost, edge)
            put(result[n, 1:3], origin + _by_way(came, cost, nearest, place))
            put(result[n, 7:9], way[n, 4:])
            unseen = np.isnan(ground[_cell(to)]) and not _is_known(known[n] - origin, to)
            result[n, 0], result[n, 9] = PLACE, unseen or not nearer
            continue
        if sign == 0:
            continue
        a, b = _best_rim(rims(ground, cost, near, level), place, heading, before[n, 2] - origin, known[n] - origin)
        if a >= 0:
            to = np.array([(a + 0.5) * CELL, (b + 0.5) * CELL])
            head = _by_way(came, cost, to, place)
            result[n, 0] = RIM
            put(result[n, 1:3], origin + head)
            put(result[n, 7:9], origin + to)
            result[n, 9] = np.hypot(to[0] - place[0], to[1] - place[1]) < SEES or edge[_cell(head)] < BODY
    return result
