"""Ways over the levels of a place: on floor that is asymmetric, by stairs that turn; and what is said without any."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.errors import SimError
from pipeline.geometry import masks
from pipeline.regions.regions import Regions
from sim.climbing.guide import LOOK, Guide, Route, rotated
from sim.climbing.levels import BEFORE, Levels

CELL, TREAD = 0.05, 0.3
ORIGIN = (-1.0, 2.0)
LOW, LANDING, TOP = (0.5, 3.5), (4.9, 2.5), (5.0, 5.9)
"""Places on each level, from the low corner of the grid [m]."""


def house(risers: tuple[float, float] = (0.16, 0.14)) -> Regions:
    """A floor (4 m, 5 m), three steps along x from it to a landing, four along y to the top; a wall before the first.

    The wall stands in the middle of the floor and is open at one end. Beside all that is floor which no stairs lead to.
    """
    x, y = np.meshgrid(*((np.arange(n) + 0.5) * CELL for n in (160, 140)), indexing="ij")
    first, second = risers
    height = np.full(x.shape, np.nan)
    height[(x < 4) & (y < 5)] = 0
    flight = (y > 2) & (y < 3.2) & (x >= 4) & (x < 5.5)
    height[flight] = (first * np.clip(np.floor((x - 4) / TREAD) + 1, 0, 3))[flight]
    turned = (x > 4.4) & (x < 5.6) & (y >= 3.2) & (y < 6.6)
    height[turned] = (3 * first + second * np.clip(np.floor((y - 3.2) / TREAD) + 1, 0, 4))[turned]
    height[(x > 6.5) & (y > 1)] = 0.9
    wall = (np.abs(x - 2) < 0.15) & (y > 0.8)
    height[wall] = np.nan
    ends = np.isnan(height)
    for axis, side in ((0, 1), (0, -1), (1, 1), (1, -1)):
        ends |= np.abs(np.roll(height, side, axis) - height) > 0.4  # drops
    room = masks.distance_from(ends) * CELL > 0.2
    return Regions(ORIGIN, CELL, height.astype(np.float32), room, room, ends, 0.0, (), ())


def world(xy: tuple[float, float]) -> np.ndarray:
    """A place in the world frame."""
    return np.array(ORIGIN) + xy


def label(levels: Levels, xy: tuple[float, float]) -> int:
    """The level of a place."""
    return int(levels.label[tuple(levels.cell(world(xy)))])


def test_levels_and_passages():
    """Each flight leads up and down between two levels, from before its first edge to behind its last."""
    levels = Levels(house())
    low, landing, top, apart = (label(levels, xy) for xy in (LOW, LANDING, TOP, (7.2, 3.0)))
    assert len({low, landing, top, apart}) == 4
    ends = {(passage.levels, passage.sign): passage for passage in levels.passages}
    assert set(ends) == {((low, landing), 1), ((landing, low), -1), ((landing, top), 1), ((top, landing), -1)}
    up, down = ends[(low, landing), 1], ends[(top, landing), -1]
    assert (len(up.stairs.edges), len(down.stairs.edges)) == (3, 4)
    assert up.rise == pytest.approx(0.48, abs=0.01)
    assert down.rise == pytest.approx(-0.56, abs=0.01)
    np.testing.assert_allclose(up.ahead, [1, 0], atol=0.05)
    np.testing.assert_allclose(down.ahead, [0, -1], atol=0.05)
    np.testing.assert_allclose(levels.place(up.before), world((4 - BEFORE, 2.6)), atol=0.15)
    assert str(up) == "up 3 steps of 16 cm from 0.00 to 0.48 m"


def passed(levels: Levels, start: tuple[float, float], goal: tuple[float, float]) -> list[str]:
    """The stairs on the way."""
    cell = levels.cell(world(start))
    way, found = levels.way_to(levels.cell(world(goal))), list[str]()
    while (following := int(way.following[tuple(cell)])) >= 0:
        if passage := levels.passage_at(cell, following):
            found.append(str(passage))
        else:
            assert np.abs(np.subtract(divmod(following, levels.label.shape[1]), cell)).max() == 1
        cell = np.array(divmod(following, levels.label.shape[1]))
    np.testing.assert_allclose(levels.place(cell), world(goal), atol=CELL)
    return found


def test_ways_over_both_flights():
    """Up by the one and the other, and down in the reverse order; on one level by none."""
    levels = Levels(house())
    up = ["up 3 steps of 16 cm from 0.00 to 0.48 m", "up 4 steps of 14 cm from 0.48 to 1.04 m"]
    assert passed(levels, LOW, TOP) == up
    assert passed(levels, TOP, LOW) == [
        "down 4 steps of 14 cm from 1.04 to 0.48 m",
        "down 3 steps of 16 cm from 0.48 to 0.00 m",
    ]
    assert passed(levels, LANDING, TOP) == up[1:]
    assert passed(levels, LOW, (3.5, 4.5)) == []


def test_ways_cost_what_they_are_long():
    """Round the wall's open end: about 3.9 m beside it and 3 m to where robots line up; not straight through it."""
    levels = Levels(house())
    way = levels.way_to(levels.cell(world((3.2, 4.5))))
    round_it = np.hypot(1.5, 3.1) + np.hypot(1.2, 4.1)
    assert round_it < way.cost[tuple(levels.cell(world((0.5, 3.5))))] < 1.5 * round_it


@pytest.mark.parametrize("turn", [0.0, 1.1, -2.8])
def test_robots_are_told_the_way(turn: float):
    """Points that walk as they are told, whose maps are turned: by where they line up, over the stairs, to the goal."""
    levels, goal = Levels(house()), world(TOP)
    start = np.array([*world(LOW), 0.3])
    guide = Guide(2)
    guide.routes[1] = Route.begin(levels, start, np.array([5.0, -3.0, 0.3 + turn]), goal, "house")
    xy, ground, told = start[:2], 0.0, list[str]()
    for _ in range(400):
        believed = rotated(xy - start[:2], turn) + np.array([5.0, -3.0])
        planar, feet = np.array([[0, 0, 0], [*believed, 0]]), np.array([0, ground])
        orders = guide.orders(planar, feet, feet)
        assert orders.sign[0] == 0
        assert np.isnan(orders.to[0]).all()
        x, y = rotated(orders.ahead[1], -turn)
        stairs = (
            f"{orders.sign[1]:.0f} along {'x' if x > 0.95 else 'y' if y > 0.95 else '?'}" if orders.sign[1] else "level"
        )
        told += [stairs] if [stairs] != told[-1:] else []
        if np.isnan(orders.to[1, 0]):
            break
        ahead = rotated(orders.to[1] - believed, -turn)
        assert np.linalg.norm(ahead) < LOOK + 0.35
        xy = xy + 0.05 * ahead / max(np.linalg.norm(ahead), 0.05)
        ground = float(levels.regions.height[tuple(levels.regions.cells_of(xy[None])[0][0])])
        assert np.isfinite(ground), (xy - ORIGIN, orders)
    assert np.linalg.norm(xy - goal) < 0.2
    assert [stairs for stairs in told if stairs != "level"] == ["1 along x", "1 along y"]
    assert (told[0], told[-1]) == ("level", "level")


def test_no_way_is_said_with_the_ways_there_are():
    """To floor that no stairs lead to; by stairs that are too high, whose steps are named."""
    levels, start = Levels(house()), np.array([*world(LOW), 0.0])
    with pytest.raises(SimError) as refused:
        Route.begin(levels, start, np.zeros(3), world((7.2, 3.0)), "house")
    assert "no way from 0.00 m to 0.90 m in house" in str(refused.value)
    assert "down 4 steps of 14 cm from 1.04 to 0.48 m" in str(refused.value)
    high = Levels(house((0.16, 0.24)))
    with pytest.raises(SimError, match=r"up 4 steps of 24 cm from 0\.48 to 1\.44 m is too high"):
        Route.begin(high, start, np.zeros(3), world(TOP), "house")
    walls = Levels(house((0.34, 0.34)))
    with pytest.raises(SimError, match="ways there are: none; steps of 34 cm are too high"):
        Route.begin(walls, start, np.zeros(3), world(TOP), "house")


def test_flat_floor_has_no_passages():
    """Nor has a place that was never walked."""
    known = np.ones((40, 60), bool)
    flat = Regions((0, 0), CELL, np.zeros(known.shape, np.float32), known, known, ~known, 0.0, (), ())
    assert Levels(flat).passages == []
