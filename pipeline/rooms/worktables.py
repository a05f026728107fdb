"""A table with room for an arm: a top that cameras see from near, clutter at its border, air on all sides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipeline.rooms.floors import Rectangle
from pipeline.rooms.furniture import Piece, put, put_legs
from pipeline.rooms.paints import Paints
from pipeline.rooms.shell import Space
from pipeline.rooms.surfaces import Builder, Paint

AROUND = 0.6
"""What is kept free on all sides: cameras stand there, before the arm [m]."""
FREE = 0.53, 0.48
"""Half the length and width of what is free of clutter: an arm moves in nearly as much, turned by 8 degrees [m]."""
HEIGHTS = 0.45, 1.0
DETAIL = 16.0
"""Gaussians for an area of the board, relative to other furniture: a camera at a wrist is as near as 10 cm, and large
ones of its lower side would show through the top."""
PATCHES, CONTRASTS = (0.015, 0.4), (0.004, 0.2)
"""Size [m] and contrast of a top's patches: from plain to a print."""
TRIES = 60


def place_table(b: Builder, space: Space, paints: Paints) -> bool:
    """Put a table with room for an arm somewhere on a floor, which it takes; says whether there was room."""
    rng = paints.rng
    for _ in range(TRIES):
        size = float(rng.uniform(*TABLE.width)), float(rng.uniform(*TABLE.depth))
        quarter = int(rng.integers(4))
        yaw = quarter * np.pi / 2 + float(rng.uniform(-0.5, 0.5) if rng.random() < 0.3 else 0.0)
        half = np.abs([[np.cos(yaw), np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]) @ size / 2
        area = space.area.grown(-AROUND)
        low, high = np.array([area.x0, area.y0]) + half, np.array([area.x1, area.y1]) - half
        if (low > high).any():
            continue
        middle = rng.uniform(low, high)
        spot = Rectangle(*map(float, middle - half), *map(float, middle + half))
        if space.take(spot.grown(AROUND - 0.02)):
            put(b, TABLE, size, np.append(middle, space.z), yaw, paints)
            return True
    return False


def _table(b: Builder, width: float, depth: float, paints: Paints) -> None:
    """A top on legs or on a body, with clutter where no arm moves."""
    rng, top, board = paints.rng, _top(paints), replace(paints.thing(), detail=DETAIL)
    height, thick = float(rng.uniform(*HEIGHTS)), float(rng.uniform(0.02, 0.06))
    b.box((0, 0, height - thick), (width, depth, height), top, board, hangs=True)
    if rng.random() < 0.75:
        put_legs(b, width, depth, height - thick, float(rng.uniform(0.035, 0.07)), paints.thing())
    else:
        b.box((0.04, 0.04, 0), (width - 0.04, depth - 0.04, height - thick), paints.thing())
    free = np.array([width, depth]) / 2 + rng.uniform(-0.2, 0.2, 2)
    for _ in range(int(rng.integers(0, 7))):
        w, d, h = rng.uniform(0.04, 0.25), rng.uniform(0.04, 0.2), rng.uniform(0.02, 0.35)
        reach = np.hypot(w, d) / 2
        middle = rng.uniform([reach, reach], [width - reach, depth - reach])
        if (np.abs(middle - free) > np.array(FREE) + reach).any():
            low = np.array([middle[0] - w / 2, middle[1] - d / 2, height])
            paint = paints.print() if rng.random() < 0.3 else paints.thing()
            b.box(low, low + np.array([w, d, h]), paint, yaw=rng.uniform(0, np.pi))


def _top(paints: Paints) -> Paint:
    """Of any colour that furniture, prints, floors or walls have, in patches of any size and contrast."""
    rng = paints.rng
    draw = (paints.thing, paints.print, paints.floor, paints.wall)[rng.integers(4)]
    side, contrast = (float(np.exp(rng.uniform(*np.log(bounds)))) for bounds in (PATCHES, CONTRASTS))
    ratio = float(np.exp(rng.uniform(-1.2, 1.2)) if rng.random() < 0.5 else 1.0)
    return replace(draw(), patch=(side, side * ratio), contrast=contrast, detail=DETAIL)


TABLE = Piece((0.95, 1.9), (0.75, 1.2), 0.0, 1.0, _table, broad=True)
