"""The walkable floor of the exact room: every cell's answer is known."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from pipeline.errors import ReconstructionError
from pipeline.geometry import Mesh
from pipeline.regions.params import RegionsParams
from pipeline.regions.walkable import WalkableGrid, find_walkable
from tests.mesh.scenes import box, built, grid_floor, room, track, without

PARAMS = RegionsParams()


@cache
def exact() -> WalkableGrid:
    return find_walkable(room().mesh, track(), PARAMS, np.random.default_rng(0))


def at(grid: WalkableGrid, values: np.ndarray, x: float, y: float):
    i, j = np.floor((np.array([x, y]) - grid.origin) / PARAMS.cell).astype(int)
    return values[i, j]


def test_open_floor_is_walkable_at_its_height():
    """The middle of the room."""
    assert at(exact(), exact().walkable, 2.5, 1.2)
    assert at(exact(), exact().drivable, 2.5, 1.2)
    assert at(exact(), exact().height, 2.5, 1.2) == pytest.approx(0, abs=1e-5)


def test_under_the_crate_is_not():
    """Neither in it nor nearer to it than the robot's radius."""
    for x, y in ((3.45, 0.6), (3.45, 1.0), (3.05, 0.6)):
        assert not at(exact(), exact().walkable, x, y)


def test_under_the_table_is_when_the_robot_is_low_enough():
    """The table's underside is at 0.68 m: room for 0.5 m, not for 0.8 m."""
    tall = find_walkable(room().mesh, track(), RegionsParams(height=0.8), np.random.default_rng(0))
    assert at(exact(), exact().walkable, 1.7, 2.25)
    assert not at(tall, tall.walkable, 1.7, 2.25)
    assert at(tall, tall.walkable, 2.5, 1.2)


def test_table_legs_are_obstacles():
    """5 cm thick, thinner than the rays' spacing could miss."""
    for x, y in ((1.17, 1.97), (2.22, 1.97), (1.17, 2.3), (2.22, 1.8)):
        assert not at(exact(), exact().walkable, x, y)


def test_walls_keep_their_distance():
    """No walkable cell within 0.25 m of a wall."""
    i, j = np.nonzero(exact().walkable)
    xy = exact().origin + (np.stack([i, j], 1) + 0.5) * PARAMS.cell
    assert (xy > 0.25).all() and (xy < np.array([4.0, 3.0]) - 0.25).all()


def test_steps_are_walkable_but_not_drivable():
    """17 cm is climbed on legs, not on wheels."""
    place = 0.42, 1.4
    assert at(exact(), exact().walkable, *place)
    assert at(exact(), exact().height, *place) == pytest.approx(0.17, abs=1e-4)
    assert not at(exact(), exact().drivable, *place)
    low = find_walkable(room().mesh, track(), RegionsParams(max_step=0.1), np.random.default_rng(0))
    assert not at(low, low.walkable, *place)


def test_the_reconstruction_agrees_with_the_exact_room():
    """Over 93 % of the cells alike, 99 % of the heights within 1 cm (the steps' edges are rounded)."""
    rebuilt = find_walkable(built().collision, track(), PARAMS, np.random.default_rng(0))
    i, j = np.nonzero(exact().walkable)
    xy = exact().origin + (np.stack([i, j], 1) + 0.5) * PARAMS.cell
    a, b = np.floor((xy - rebuilt.origin) / PARAMS.cell).astype(int).T
    union = exact().walkable.sum() + rebuilt.walkable.sum() - rebuilt.walkable[a, b].sum()
    assert rebuilt.walkable[a, b].sum() / union > 0.93
    both = rebuilt.walkable[a, b]
    assert np.percentile(np.abs(rebuilt.height[a, b][both] - exact().height[i, j][both]), 99) < 0.01


def test_guessed_floor_is_marked():
    """Where all corners were guessed, and only there."""
    mesh = grid_floor((0, 0), (3, 3))
    guessed = np.hypot(*(mesh.vertices[:, :2] - [1.5, 1.5]).T) < 0.4
    marked = Mesh(mesh.vertices, mesh.triangles, mesh.colors, guessed)
    path = np.array([[0.6, 0.6, 1.2], [2.4, 0.6, 1.2]])
    grid = find_walkable(marked, path, PARAMS, np.random.default_rng(0))
    assert at(grid, grid.guessed, 1.5, 1.5)
    assert not at(grid, grid.guessed, 0.6, 0.6)


def test_a_hole_keeps_the_robot_away():
    """No walkable cell within its radius of the hole."""
    path = np.array([[0.6, 0.6, 1.2], [2.4, 0.6, 1.2]])
    grid = find_walkable(without(grid_floor((0, 0), (3, 3)), (1.5, 1.5), 0.3), path, PARAMS, np.random.default_rng(0))
    assert not at(grid, grid.walkable, 1.5, 1.5)
    assert not at(grid, grid.walkable, 1.5, 1.0)
    assert at(grid, grid.walkable, 1.5, 0.8)


def test_another_room_is_not_reached():
    """Floor behind a wall without a door is not part of the walkable region."""
    two = grid_floor((0, 0), (4, 2)).joined(box((1.95, -0.1, 0), (2.05, 2.1, 2)))
    grid = find_walkable(two, np.array([[0.8, 1.0, 1.2], [1.2, 1.0, 1.2]]), PARAMS, np.random.default_rng(0))
    assert at(grid, grid.walkable, 1.0, 1.0)
    assert not at(grid, grid.walkable, 3.0, 1.0)


def test_no_floor_under_the_cameras_is_an_error():
    """A wall alone."""
    with pytest.raises(ReconstructionError, match="carried over a floor"):
        find_walkable(box((0, 0, 0), (0.01, 3, 0.4)), np.array([[2.0, 1, 1]]), PARAMS, np.random.default_rng(0))


def test_no_room_for_the_robot_is_an_error():
    """A floor of half a metre for a robot of one."""
    with pytest.raises(ReconstructionError, match="must have room"):
        find_walkable(
            grid_floor((0, 0), (0.5, 0.5)),
            np.array([[0.2, 0.3, 1]]),
            RegionsParams(radius=0.5),
            np.random.default_rng(0),
        )
