"""Maps of exact depth images."""

from __future__ import annotations

import numpy as np
import pytest

from sim.finding.maps import BARRED, CELL, IS_HOLE, IS_TAKEN, LEAST_BALL, MOST_BALL, MOST_TAKEN, SIDE, Maps
from tests.sim.finding.views import HEIGHT, LENS, MOUNT, RADIUS, View, camera_at, cell, places

NO_ODDS = np.zeros((1, 12, 24), np.float32)
BOX = np.array([[0.12, 0.53, 0.0], [0.57, 0.88, 0.6]])
BALL = np.array([1.62, 0.53, 0.16, 0.16])


def seen(view: View, at: tuple[float, float, float], *tilt: float, looks: int = 1, odds: np.ndarray = NO_ODDS) -> Maps:
    """A map of one place from one pose."""
    maps = Maps(1, LENS, RADIUS, HEIGHT)
    look(maps, view, at, *tilt, looks=looks, odds=odds)
    return maps


def look(
    maps: Maps, view: View, at: tuple[float, float, float], *tilt: float, looks: int = 1, odds: np.ndarray = NO_ODDS
) -> None:
    """From a place, so often."""
    pose = camera_at(*at, *tilt)
    for _ in range(looks):
        maps.see(view.depth(pose)[None], odds, pose[None], np.array([at]))


def parts_of(mask: np.ndarray) -> np.ndarray:
    """Which parts of an image show something of a mask (1, h, w)."""
    return mask.reshape(1, 12, 4, 24, 4).any((2, 4))


@pytest.mark.parametrize("tilt", [(0.0, 0.0), (0.12, 0.0), (-0.1, 0.0), (0.05, 0.15), (0.0, -0.2)])
def test_a_box_is_taken_and_the_floor_before_it_is_free(tilt: tuple[float, float]):
    """Seen by a robot that looks along +y, level, pitched or rolled; what is behind stays unknown."""
    maps = seen(View(boxes=(BOX,)), (0.4, -0.72, np.pi / 2), *tilt)
    taken, (x, y) = maps.taken[0] > IS_TAKEN, places()
    half = CELL / 2 + 1e-9
    touches = (x > BOX[0, 0] - half) & (x < BOX[1, 0] + half) & (y > BOX[0, 1] - half) & (y < BOX[1, 1] + half)
    assert not taken[~touches].any()
    assert all(taken[cell(place, 0.55)] for place in (0.15, 0.25, 0.35, 0.45, 0.55))
    before = [cell(0.42, place) for place in np.arange(-0.7, 0.45, 0.1)]
    assert all(maps.floor[0][at] > 0 for at in before)
    assert all(maps.taken[0][at] <= 0 for at in before)
    assert maps.floor[0][cell(-0.35, 0.65)] > 0
    assert maps.floor[0][cell(0.95, 0.65)] > 0
    assert all(maps.floor[0][cell(place, 1.25)] == 0 for place in (0.25, 0.45))
    assert not (maps.floor[0] < 0).any()


def test_a_tilt_that_is_not_known_makes_floor_an_obstacle_or_a_hole():
    """So that the test above says something."""
    maps, depth = Maps(1, LENS, RADIUS, HEIGHT), View().depth(camera_at(0, 0, 0, 0.2))
    maps.see(depth[None], NO_ODDS, camera_at(0, 0, 0)[None], np.zeros((1, 3)))
    assert (maps.taken[0] > IS_TAKEN).any() or (maps.floor[0] < 0).any()


@pytest.mark.parametrize(("below", "looks"), [(-0.6, 2), (None, 3)])
def test_where_the_floor_ends_there_is_a_hole(below: float | None, looks: int):
    """Before a robot that looks along -x, whether something is seen below or nothing; not where it stands."""
    view = View(floor=lambda x, y: x > -1.03, below=below)
    maps, (x, y) = seen(view, (0.1, 0.25, np.pi), looks=looks + 1), places()
    hole = maps.floor[0] < IS_HOLE
    assert not hole[x > -0.9].any()
    edge = hole & (x < -1) & (x > -1.4)
    assert all(edge[np.abs(y - place) < 0.01].any() for place in np.arange(-0.35, 0.9, 0.1))  # all along it
    assert (maps.floor[0][(x - 0.1) ** 2 + (y - 0.25) ** 2 < RADIUS**2] > 0).all()
    assert not (maps.taken[0] > IS_TAKEN).any()
    assert not (seen(view, (0.1, 0.25, np.pi), looks=1).floor[0] < IS_HOLE).any()  # one image may be wrong


def test_what_is_over_the_robot_is_in_nobodys_way():
    """A board that it can drive below; one a little lower is an obstacle."""
    wall = np.array([[2.05, -3.0, 0.0], [2.2, 3.0, 1.0]])
    high, low = (np.array([[0.92, -0.4, bottom], [1.2, 0.5, bottom + 0.3]]) for bottom in (0.45, 0.3))
    for board, taken in ((high, False), (low, True)):
        maps = seen(View(boxes=(wall, board)), (0, 0, 0))
        assert (maps.taken[0][cell(0.95, 0.05)] > IS_TAKEN) == taken
        assert maps.taken[0][cell(2.07, 0.05)] > IS_TAKEN


def test_what_goes_away_gets_free():
    """After many more images than showed it."""
    maps = seen(View(boxes=(BOX,)), (0.4, -0.72, np.pi / 2))
    look(maps, View(), (0.4, -0.72, np.pi / 2), looks=5)
    assert maps.taken[0][cell(0.35, 0.55)] < IS_TAKEN
    assert maps.floor[0][cell(0.35, 0.55)] > 0


def test_a_balls_evidence_lands_where_it_is():
    """Within a cell; what shows anything else is taken for none."""
    view, pose = View(balls=(BALL,)), camera_at(0.2, 0.1, 0.3)
    shown = parts_of(np.isfinite(view.ball_depth(pose)))
    maps = seen(view, (0.2, 0.1, 0.3), odds=np.where(shown, 2.0, -1.0).astype(np.float32))
    x, y = places()
    away = np.hypot(x - BALL[0], y - BALL[1])
    assert away[maps.ball[0] > 0].max() < BALL[3] + CELL
    assert away.flat[maps.ball[0].argmax()] < CELL
    assert maps.ball[0].max() == 2


def test_floor_is_no_ball():
    """Whatever the eyes say of it: the parts below a ball show floor, too, which is nearer."""
    everywhere = np.full((1, 12, 24), 3.0, np.float32)
    assert not seen(View(), (0.2, 0.1, 0.3), odds=everywhere).ball.any()
    view, pose = View(balls=(BALL,)), camera_at(0.2, 0.1, 0.3)
    shown = parts_of(np.isfinite(view.ball_depth(pose)))
    lowest = shown & ~np.roll(shown, -1, 1)
    assert (lowest & parts_of(~np.isfinite(view.ball_depth(pose)))).any()
    maps = seen(view, (0.2, 0.1, 0.3), odds=np.where(lowest, 2.0, 0.0).astype(np.float32))
    x, y = places()
    assert np.hypot(x - BALL[0], y - BALL[1])[maps.ball[0] > 0].max() < BALL[3] + CELL


def test_what_is_wide_is_no_ball():
    """A wall that the eyes take for one all over; a part of it as wide as a ball may be one."""
    wall = View(boxes=(np.array([[1.4, -3.0, 0.0], [1.6, 3.0, 1.0]]),))
    odds = np.full((1, 12, 24), 2.0, np.float32)
    assert (seen(wall, (0, 0, 0), odds=odds).ball <= 0).all()
    odds[..., :10], odds[..., 13:] = -1, -1
    assert seen(wall, (0, 0, 0), odds=odds).ball.max() == 2


def test_far_away_it_counts_less_that_there_is_none():
    """But near it counts, and as often as it is seen; never more than so much."""
    near, far = (
        seen(View(boxes=(np.array([[x, -0.3, 0.0], [x + 0.2, 0.4, 0.6]]),)), (0, 0, 0), odds=NO_ODDS - 1).ball.min()
        for x in (1.2, 3.0)
    )
    assert near == -1
    assert far == pytest.approx(-((1.5 / (3.0 - MOUNT.translation[0])) ** 2), rel=0.02)
    view, odds = View(boxes=(BOX,)), NO_ODDS - 1
    assert seen(view, (0.4, -0.72, np.pi / 2), looks=20, odds=odds).ball.min() == LEAST_BALL
    odds[..., 11:13] = 1
    assert seen(view, (0.4, -0.72, np.pi / 2), looks=20, odds=odds).ball.max() == MOST_BALL


def test_what_is_barred_stays_barred():
    """However sure eyes are; a cell beside it is none of this."""
    view, at = View(balls=(BALL,)), (0.2, 0.1, 0.3)
    odds = np.where(parts_of(np.isfinite(view.ball_depth(camera_at(*at)))), 2.0, 0.0).astype(np.float32)
    maps = seen(view, at, odds=odds)
    best, others = np.unravel_index(maps.ball[0].argmax(), maps.ball[0].shape), maps.ball[0] > 0
    others[best] = False
    assert others.any()
    maps.ball[0][best] = BARRED
    look(maps, view, at, looks=3, odds=odds)
    assert maps.ball[0][best] == BARRED
    assert (maps.ball[0][others] > 4).all()


@pytest.mark.parametrize("cells", [(30, -12), (-7, 45)])
def test_a_map_moves_on(cells: tuple[int, int]):
    """What was at a position is at that position less the shift; what comes in is unknown, what goes out forgotten."""
    maps, rng = seen(View(), (0, 0, 0)), np.random.default_rng(0)
    for grid in (maps.taken, maps.floor, maps.ball):
        grid[:] = rng.normal(size=grid.shape)
    before = maps.taken[0].copy()
    maps.shift(0, *cells)
    a, b = np.mgrid[:SIDE, :SIDE]
    inside = (a + cells[0] >= 0) & (a + cells[0] < SIDE) & (b + cells[1] >= 0) & (b + cells[1] < SIDE)
    expected = before[(a + cells[0]) % SIDE, (b + cells[1]) % SIDE]
    np.testing.assert_array_equal(maps.taken[0], np.where(inside, expected, 0))
    assert (maps.floor[0] == 0).sum() == (maps.ball[0] == 0).sum() == (~inside).sum()


def test_marks_and_resets_are_of_one_robot():
    """Of three; and off the map nothing happens."""
    maps = Maps(3, LENS, RADIUS, HEIGHT)
    maps.mark(1, np.array([[0.33, -0.58], [99.0, 0.0]]))
    assert maps.taken[1][cell(0.33, -0.58)] == MOST_TAKEN
    assert (maps.taken != 0).sum() == 2
    for grid in (maps.taken, maps.floor, maps.ball):
        grid[:] = np.array([1, 2, 3])[:, None, None]
    maps.reset(np.array([0, 2]))
    for grid in (maps.taken, maps.floor, maps.ball):
        assert grid.mean((1, 2)).tolist() == [0, 2, 0]
