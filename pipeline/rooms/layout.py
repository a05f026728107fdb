"""One room, drawn by its seed: the shell, what stands and hangs in it, its lamps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.rooms.floors import Rectangle
from pipeline.rooms.furniture import PIECES, Piece, put
from pipeline.rooms.light import Lamp, Light, draw_light
from pipeline.rooms.paints import Paints, Palette
from pipeline.rooms.recipe import Feature
from pipeline.rooms.shell import STAIRS, USUAL, VARIED, Space, draw_shell, strip
from pipeline.rooms.surfaces import Builder, Paint, Surfaces
from pipeline.rooms.worktables import place_table
from pipeline.types import F64

STREAM = 7_301
"""Keeps the numbers that are drawn for rooms apart from what equal seeds draw elsewhere."""
SHARE_ALIKE = 0.25
"""Rooms that hold things of the colour of the ball that robots look for."""
SHARE_ENDING = 0.35
"""Rooms whose floor ends without a wall somewhere."""
ENDS = {"ragged": 0.6, "holes": 0.35, "cliff": 0.3}
"""The ways in which it does, and how often each; at least one."""
EYES, EYE_STEP = 1.3, 0.4
"""Height of where somebody looked from, which tells what is floor, and distance between such places [m]."""
TRIES = 25
SMALLER = tuple(piece for piece in PIECES if not piece.broad)
"""What stands in a room with a table for an arm, so that it is the only one."""


@dataclass(frozen=True, eq=False)
class Room:
    """A drawn room in its world frame [m], z up, its main floor at z = 0.

    Attributes:
        surfaces: All that can be seen and touched.
        light: What falls on it.
        eyes: (N, 3) positions over the main floor from which a person saw it.
        alike: Whether it holds things of the colour of the ball.
        ends: The ways in which its floor ends without a wall.
        features: What it has of what may be asked for.
    """

    surfaces: Surfaces
    light: Light
    eyes: F64
    alike: bool
    ends: tuple[str, ...]
    features: frozenset[Feature]


def draw_room(seed: int, attempt: int = 0, palette: Palette | None = None, feature: Feature | None = None) -> Room:
    """Draw the room of a seed; further attempts give others of the same traits.

    It gets the feature, if there is a place for it.
    """
    traits = np.random.default_rng((STREAM, seed))  # not by the attempt, so that none is rarer for being redrawn
    alike, ending = bool(traits.random() < SHARE_ALIKE), bool(traits.random() < SHARE_ENDING)
    ends = tuple(name for name, share in ENDS.items() if traits.random() < share) or ("ragged",)
    ends = ends if ending else ()
    if feature == "stairs":
        ends = ends[:1]  # or there is no room for them
    rng = np.random.default_rng((STREAM, seed, attempt))
    b, paints = Builder(), Paints(rng, alike, palette)
    stairs = {"table": 0.0, "stairs": 1.0}.get(feature or "", STAIRS)  # a landing is as good a place for an arm
    spaces, has_stairs = draw_shell(b, paints, ends, stairs, VARIED if feature == "stairs" else USUAL)
    has_table = feature == "table" and place_table(b, spaces[0], paints)
    features: dict[Feature, bool] = {"stairs": has_stairs, "table": has_table}
    lamps = list[Lamp]()
    for space in spaces:
        if space.main:
            lamps += _hang_lamps(b, space, paints)
            lamps += _on_walls(b, space, paints)
        _furnish(b, space, paints, PIECES if not has_table else SMALLER)
        _on_floor(b, space, paints)
    if alike:
        for _ in range(int(rng.integers(2, 6))):
            _add_alike(b, spaces[0], paints)
    surfaces = Surfaces.of(b.faces)
    return Room(
        surfaces,
        draw_light(lamps, palette, rng),
        _eyes(spaces),
        alike,
        ends,
        frozenset(name for name, has in features.items() if has),
    )


def _eyes(spaces: list[Space]) -> F64:
    """Positions (N, 3) over the floors on which people walk [m]."""
    found = []
    for space in spaces:
        if space.main:
            places = space.area.grown(-0.3).grid(EYE_STEP).reshape(-1, 2)
            places = places[space.floor(places) > 0.15]
            found.append(np.column_stack([places, np.full(len(places), space.z + EYES)]))
    return np.concatenate(found)


def _furnish(b: Builder, space: Space, paints: Paints, pieces: Sequence[Piece]) -> None:
    """Put pieces at walls and anywhere, as many as leave room to drive."""
    rng, (width, depth) = paints.rng, space.area.size
    floor = width * depth
    count = int(rng.integers(0, 2) + floor * rng.uniform(0.12, 0.42)) if space.main else int(rng.integers(0, 3))
    often = np.array([piece.often for piece in pieces])
    for _ in range(count):
        piece = pieces[rng.choice(len(pieces), p=often / often.sum())]
        size = float(rng.uniform(*piece.width)), float(rng.uniform(*piece.depth))
        found = _spot(space, piece, size, rng)
        if found is not None:
            middle, yaw = found
            put(b, piece, size, np.array([*middle, space.z]), yaw, paints)


def _spot(
    space: Space, piece: Piece, size: tuple[float, float], rng: np.random.Generator
) -> tuple[tuple[float, float], float] | None:
    """Middle (x, y) [m] and yaw [rad] of a free place for a piece, which is taken; None where none is found."""
    by_wall = rng.random() < piece.by_wall
    for _ in range(TRIES):
        if by_wall:
            if not space.closed:
                return None
            side = int(rng.choice(space.closed))
            length = space.area.size[side % 2]
            if length < size[0] + 0.05:
                continue
            start = float(rng.uniform(0.02, length - size[0] - 0.02))
            spot = strip(space.area, side, start, start + size[0], 0.015, 0.015 + size[1])
            yaw = (side + 2) * np.pi / 2  # its back, at high y, to the wall
        else:
            yaw = float(rng.uniform(0, 2 * np.pi) if rng.random() < 0.6 else rng.integers(4) * np.pi / 2)
            half = np.abs([[np.cos(yaw), np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]) @ size / 2
            area = space.area.grown(-0.02)
            if any(length < 2 * reach for length, reach in zip(area.size, half, strict=True)):
                continue
            x, y = rng.uniform(area.x0 + half[0], area.x1 - half[0]), rng.uniform(area.y0 + half[1], area.y1 - half[1])
            spot = Rectangle(*map(float, (x - half[0], y - half[1], x + half[0], y + half[1])))
        if space.take(spot, 0.0 if by_wall else 0.05):
            return ((spot.x0 + spot.x1) / 2, (spot.y0 + spot.y1) / 2), float(yaw)
    return None


def _panel(
    b: Builder, space: Space, size: tuple[float, float], bottom: float, paint: Paint, rng: np.random.Generator
) -> tuple[F64, F64]:
    """A thin panel on a wall, from a height over the floor on [m]; its middle (3,) and the wall's normal (3,)."""
    side = int(rng.choice(space.closed))
    length = space.area.size[side % 2]
    width = min(size[0], length - 0.1)
    start = float(rng.uniform(0.03, length - width - 0.03))
    (ax, ay), (bx, by) = space.area.side(side)
    along = np.array([bx - ax, by - ay, 0.0]) / length
    inward = np.array([-along[1], along[0], 0.0])
    corner = np.array([ax, ay, space.z + bottom]) + along * start + inward * 0.006
    height = min(size[1], space.ceiling - space.z - bottom - 0.05)
    b.quad(corner, along * width, (0, 0, height), paint)
    return corner + along * width / 2 + [0, 0, height / 2], inward


def _on_walls(b: Builder, space: Space, paints: Paints) -> list[Lamp]:
    """Posters, panels, closed doors and windows; returns the windows' light."""
    rng, lamps = paints.rng, list[Lamp]()
    if not space.closed:
        return lamps
    for _ in range(int(rng.integers(0, 5))):
        size = float(rng.uniform(0.3, 1.2)), float(rng.uniform(0.3, 1.0))
        _panel(b, space, size, float(rng.uniform(0.5, 1.5)), paints.print(), rng)
    for _ in range(int(rng.integers(0, 3))):
        _panel(b, space, (float(rng.uniform(0.8, 0.95)), 2.02), 0.01, paints.thing(), rng)
    for _ in range(int(rng.integers(0, 3))):
        size = float(rng.uniform(0.7, 1.6)), float(rng.uniform(0.8, 1.3))
        middle, inward = _panel(b, space, size, 0.9, paints.lit(), rng)
        tint = rng.uniform([0.85, 0.95, 1.0], [1.0, 1.0, 1.15])
        lamps.append(Lamp(middle + 0.05 * inward, rng.uniform(0.5, 1.6) * size[0] * size[1] * tint, inward))
    return lamps


def _on_floor(b: Builder, space: Space, paints: Paints) -> None:
    """Rugs and mats, flat on the floor."""
    for _ in range(int(paints.rng.integers(0, 3))):
        _rug(b, space, (0.5, 2.2), paints.print() if paints.rng.random() < 0.4 else paints.thing(), paints.rng)


def _rug(b: Builder, space: Space, sizes: tuple[float, float], paint: Paint, rng: np.random.Generator) -> None:
    """A flat rectangle just over the floor, where all of it has floor below."""
    w, d = (float(v) for v in rng.uniform(*sizes, 2))
    yaw, height = float(rng.integers(2) * np.pi / 2 if rng.random() < 0.5 else rng.uniform(0, np.pi)), 0.004
    along, across = w * np.array([np.cos(yaw), np.sin(yaw)]), d * np.array([-np.sin(yaw), np.cos(yaw)])
    reach = (np.abs(along) + np.abs(across)) / 2
    low, high = np.array([space.area.x0, space.area.y0]) + reach, np.array([space.area.x1, space.area.y1]) - reach
    if (low >= high).any():
        return
    middle = rng.uniform(low, high)
    spot = Rectangle(*map(float, middle - reach), *map(float, middle + reach))
    if (space.floor(spot.grid(0.15)) > 0.05).all():
        height += 0.004 * rng.random()  # those that overlap lie on each other
        corner = np.append(middle - (along + across) / 2, space.z + height)
        b.quad(corner, np.append(along, 0), np.append(across, 0), paint)


def _hang_lamps(b: Builder, space: Space, paints: Paints) -> list[Lamp]:
    """Lamps at the ceiling; one in each six square metres at most."""
    rng, lamps = paints.rng, list[Lamp]()
    area = space.area.grown(-min(0.5, 0.4 * min(space.area.size)))
    for _ in range(int(rng.integers(1, 2 + max(1, round(area.size[0] * area.size[1] / 8))))):
        x, y = float(rng.uniform(area.x0, area.x1)), float(rng.uniform(area.y0, area.y1))
        half, drop = rng.uniform(0.08, 0.5, 2), float(rng.uniform(0.03, 0.25))
        low = (x - half[0], y - half[1], space.ceiling - drop)
        b.box(low, (x + half[0], y + half[1], space.ceiling - 0.01), paints.lit(), hangs=True)
        power = rng.uniform(0.6, 2.2) * rng.uniform([1, 0.85, 0.6], [1, 1, 1.05])
        lamps.append(Lamp(np.array([x, y, low[2] - 0.03]), power, np.array([0, 0, -1.0])))
    return lamps


def _add_alike(b: Builder, space: Space, paints: Paints) -> None:
    """One thing of the colour of the ball: a box on the floor or higher, a panel down to the floor, or a rug."""
    rng = paints.rng
    kind, paint = rng.random(), paints.like_a_ball()
    if kind < 0.5:
        w, d, h = (float(v) for v in rng.uniform(0.06, 0.35, 3))
        x = float(rng.uniform(space.area.x0 + 0.1, space.area.x1 - 0.5))
        y = float(rng.uniform(space.area.y0 + 0.1, space.area.y1 - 0.5))
        if space.take(Rectangle(x, y, x + w, y + d).grown(0.04)):
            b.box((x, y, space.z), (x + w, y + d, space.z + h), paint, yaw=rng.uniform(0, 0.4))
    elif kind < 0.75 and space.closed:
        size = float(rng.uniform(0.1, 0.8)), float(rng.uniform(0.1, 0.9))
        _panel(b, space, size, float(rng.choice([0.005, rng.uniform(0, 1.2)])), paint, rng)
    else:
        _rug(b, space, (0.15, 0.9), paint, rng)
