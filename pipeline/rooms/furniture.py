"""Furniture of boxes: each function builds one piece on a rectangle of floor, its back at the high y."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pipeline.rooms.paints import Paints
from pipeline.rooms.surfaces import Builder, Face, Paint
from pipeline.types import F64

Make = Callable[[Builder, float, float, Paints], None]
"""Builds a piece of the given width (along x) and depth (along y) [m] in a frame of its own, standing on z = 0."""


@dataclass(frozen=True)
class Piece:
    """A kind of furniture.

    Attributes:
        width: Least and largest [m].
        depth: Least and largest [m].
        by_wall: How often its back stands at a wall; it stands askew otherwise.
        often: How often it is drawn, relative to the others.
        make: Builds it.
        broad: Whether an arm finds room on its top.
    """

    width: tuple[float, float]
    depth: tuple[float, float]
    by_wall: float
    often: float
    make: Make
    broad: bool = False


def put_legs(b: Builder, width: float, depth: float, height: float, thick: float, paint: Paint) -> None:
    """Four legs at the corners of [0, width] x [0, depth]."""
    for x in (0.0, width - thick):
        for y in (0.0, depth - thick):
            b.box((x, y, 0), (x + thick, y + thick, height), paint)


def _table(b: Builder, width: float, depth: float, paints: Paints) -> None:
    """A top on thin legs, with something on it."""
    rng, top, legs = paints.rng, paints.thing(), paints.thing()
    height, leg = rng.uniform(0.6, 0.78), rng.uniform(0.035, 0.07)
    b.box((0, 0, height - 0.035), (width, depth, height), top, hangs=True)
    put_legs(b, width, depth, height - 0.035, leg, legs)
    for _ in range(int(rng.integers(0, 4))):
        _on_top(b, width, depth, height, paints)


def _on_top(b: Builder, width: float, depth: float, height: float, paints: Paints) -> None:
    """A small box somewhere on a top."""
    rng = paints.rng
    w, d, h = rng.uniform(0.05, 0.3), rng.uniform(0.04, 0.25), rng.uniform(0.03, 0.35)
    x, y = rng.uniform(0, max(width - w, 0.01)), rng.uniform(0, max(depth - d, 0.01))
    b.box((x, y, height), (x + w, y + d, height + h), paints.thing(), yaw=rng.uniform(0, np.pi))


def _desk(b: Builder, width: float, depth: float, paints: Paints) -> None:
    """A top on legs, drawers below one end, a screen on it."""
    rng, top = paints.rng, paints.thing()
    b.box((0, 0, 0.7), (width, depth, 0.74), top, hangs=True)
    put_legs(b, width, depth, 0.7, 0.05, paints.thing())
    side = rng.uniform(0.35, 0.5)
    b.box((width - side - 0.06, 0.1, 0), (width - 0.06, depth - 0.05, 0.66), paints.thing())
    b.box((width * 0.3, depth * 0.6, 0.82), (width * 0.3 + 0.55, depth * 0.6 + 0.04, 1.15), paints.thing(), hangs=True)
    b.box((width * 0.3 + 0.2, depth * 0.6, 0.74), (width * 0.3 + 0.35, depth * 0.6 + 0.03, 0.82), top)


def _chair(b: Builder, width: float, depth: float, paints: Paints) -> None:
    """A seat on thin legs with a back."""
    rng, seat = paints.rng, paints.thing()
    height, leg = rng.uniform(0.42, 0.48), rng.uniform(0.025, 0.045)
    b.box((0, 0, height - 0.04), (width, depth, height), seat, hangs=True)
    put_legs(b, width, depth, height - 0.04, leg, paints.thing())
    b.box((0, depth - 0.035, height), (width, depth, height + rng.uniform(0.35, 0.5)), seat)


def _stool(b: Builder, width: float, depth: float, paints: Paints) -> None:
    """A seat on thin legs."""
    height = paints.rng.uniform(0.4, 0.7)
    b.box((0, 0, height - 0.04), (width, depth, height), paints.thing(), hangs=True)
    put_legs(b, width, depth, height - 0.04, 0.035, paints.thing())


def _shelf(b: Builder, width: float, depth: float, paints: Paints) -> None:
    """Boards between two sides before a back, books on some."""
    rng, wood, back = paints.rng, paints.thing(), paints.thing()
    height, count = rng.uniform(0.9, 2.1), int(rng.integers(2, 6))
    b.box((0, 0, 0), (0.025, depth, height), wood)
    b.box((width - 0.025, 0, 0), (width, depth, height), wood)
    b.box((0.025, depth - 0.02, 0), (width - 0.025, depth, height), back)
    for level in np.linspace(0.08, height, count + 1):
        b.box((0.025, 0, level - 0.025), (width - 0.025, depth - 0.02, level), wood, hangs=True)
        tall = (height / count) * rng.uniform(0.4, 0.8)
        if level < height - 0.1 and rng.random() < 0.7:
            b.box((0.04, 0.05, level), (width * rng.uniform(0.3, 0.95), depth - 0.05, level + tall), paints.print())


def _cupboard(b: Builder, width: float, depth: float, paints: Paints) -> None:
    """A closed body, with doors of another paint at times."""
    rng, paint, height = paints.rng, paints.thing(), paints.rng.uniform(0.6, 2.1)
    b.box((0, 0, 0), (width, depth, height), paint)
    if rng.random() < 0.6:
        doors, count = paints.thing(), max(1, round(width / 0.5))
        for k in range(count):
            x = k * width / count
            b.quad((x + 0.02, -0.006, 0.08), (width / count - 0.04, 0, 0), (0, 0, height - 0.12), doors)
    if height < 1.3:
        for _ in range(int(rng.integers(0, 4))):
            _on_top(b, width, depth, height, paints)


def _counter(b: Builder, width: float, depth: float, paints: Paints) -> None:
    """A worktop over cupboards, cupboards above it at times."""
    b.box((0, 0.04, 0), (width, depth, 0.86), paints.thing())
    b.box((0, 0, 0.86), (width, depth, 0.9), paints.thing(), hangs=True)
    for _ in range(int(paints.rng.integers(0, 4))):
        _on_top(b, width, depth, 0.9, paints)
    if paints.rng.random() < 0.5:
        b.box((0, depth - 0.33, 1.45), (width, depth, 2.1), paints.thing(), hangs=True)


def _sofa(b: Builder, width: float, depth: float, paints: Paints) -> None:
    """A seat with a back and arms."""
    rng, cloth = paints.rng, paints.thing()
    seat, arm = rng.uniform(0.36, 0.46), rng.uniform(0.12, 0.2)
    b.box((0, 0, 0), (width, depth, seat), cloth)
    b.box((0, depth - 0.2, seat), (width, depth, seat + rng.uniform(0.3, 0.45)), cloth)
    for x in (0.0, width - arm):
        b.box((x, 0, seat), (x + arm, depth - 0.2, seat + 0.18), cloth)
    for _ in range(int(rng.integers(0, 3))):
        x = rng.uniform(arm, width - arm - 0.4)
        b.box((x, depth - 0.35, seat), (x + 0.4, depth - 0.22, seat + 0.35), paints.thing())


def _bed(b: Builder, width: float, depth: float, paints: Paints) -> None:
    """A frame, a mattress with a blanket, a head."""
    rng, frame = paints.rng, paints.thing()
    b.box((0, 0, 0), (width, depth, 0.28), frame)
    b.box((0.03, 0.03, 0.28), (width - 0.03, depth - 0.03, 0.5), paints.thing())
    b.box((0.02, 0.02, 0.5), (width - 0.02, depth * 0.65, 0.53), paints.thing())
    b.box((0, depth - 0.05, 0.28), (width, depth, rng.uniform(0.7, 1.2)), frame)


def _crate(b: Builder, width: float, depth: float, paints: Paints) -> None:
    """A box or two."""
    rng, height = paints.rng, paints.rng.uniform(0.15, 0.9)
    b.box((0, 0, 0), (width, depth, height), paints.thing(), paints.thing() if rng.random() < 0.3 else None)
    if rng.random() < 0.25:
        top = height + rng.uniform(0.15, 0.5)
        low, high = (width * 0.1, depth * 0.1, height), (width * 0.85, depth * 0.9, top)
        b.box(low, high, paints.thing(), yaw=rng.uniform(0, 0.6))


def _pillar(b: Builder, width: float, depth: float, paints: Paints) -> None:
    """From floor to ceiling, or to the height of such a thing."""
    b.box((0, 0, 0), (width, depth, 2.3), paints.wall() if paints.rng.random() < 0.6 else paints.thing())


def _lamp(b: Builder, width: float, depth: float, paints: Paints) -> None:
    """A shade on a thin pole with a foot."""
    metal, shade, top = paints.thing(), paints.lit(), paints.rng.uniform(1.3, 1.7)
    x, y = width / 2, depth / 2
    b.box((x - 0.13, y - 0.13, 0), (x + 0.13, y + 0.13, 0.025), metal)
    b.box((x - 0.012, y - 0.012, 0.025), (x + 0.012, y + 0.012, top), metal)
    b.box((x - 0.16, y - 0.16, top), (x + 0.16, y + 0.16, top + 0.28), shade, hangs=True)


def _bin(b: Builder, width: float, depth: float, paints: Paints) -> None:
    """A small bin or pot, with leaves at times."""
    height = paints.rng.uniform(0.2, 0.45)
    b.box((0, 0, 0), (width, depth, height), paints.thing())
    if paints.rng.random() < 0.4:
        for k in range(5):
            low = height + 0.08 * k
            corners = (width * 0.1, depth * 0.3, low), (width * 0.9, depth * 0.7, low + 0.12)
            b.box(*corners, paints.print(), yaw=k * 0.9)


PIECES = (
    Piece((0.8, 1.7), (0.5, 0.9), 0.3, 1.4, _table, broad=True),
    Piece((1.1, 1.7), (0.6, 0.8), 0.9, 0.8, _desk),
    Piece((0.38, 0.5), (0.38, 0.5), 0.15, 2.6, _chair),
    Piece((0.28, 0.4), (0.28, 0.4), 0.1, 0.6, _stool),
    Piece((0.6, 1.6), (0.25, 0.4), 0.95, 1.0, _shelf),
    Piece((0.5, 1.8), (0.35, 0.65), 0.95, 1.2, _cupboard),
    Piece((1.2, 2.6), (0.55, 0.68), 1.0, 0.6, _counter),
    Piece((1.4, 2.2), (0.75, 0.95), 0.8, 0.8, _sofa),
    Piece((0.9, 1.7), (1.9, 2.1), 1.0, 0.5, _bed, broad=True),
    Piece((0.2, 0.7), (0.2, 0.7), 0.3, 1.8, _crate),
    Piece((0.15, 0.5), (0.15, 0.5), 0.1, 0.4, _pillar),
    Piece((0.3, 0.35), (0.3, 0.35), 0.5, 0.5, _lamp),
    Piece((0.2, 0.35), (0.2, 0.35), 0.5, 0.8, _bin),
)


def put(b: Builder, piece: Piece, size: tuple[float, float], middle: F64, yaw: float, paints: Paints) -> None:
    """Build a piece of a width and depth [m] with the middle of its floor at (3,) [m], turned by yaw [rad]."""
    own = Builder()
    piece.make(own, *size, paints)
    c, s = np.cos(yaw), np.sin(yaw)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    shift = middle - turn @ [size[0] / 2, size[1] / 2, 0]
    for face in own.faces:
        b.faces.append(Face(shift + turn @ face.corner, turn @ face.along, turn @ face.across, face.paint, face.half))
