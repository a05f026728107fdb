"""Budgets that grow with the place."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from pipeline.geometry import Mesh
from pipeline.place import MOST_ROOMS, ROOM, by_place, rooms, seen_cells, seen_surface, surface_of


def test_a_room_gets_a_rooms(caplog):
    """Whatever its size, exactly, and nothing is said."""
    with caplog.at_level(logging.INFO):
        assert [by_place(30_000, surface, "Gaussians") for surface in (0.0, 20.0, ROOM)] == [30_000] * 3
    assert not caplog.records


def test_each_square_metre_of_a_larger_place_gets_as_much(caplog):
    """In proportion to its surface, up to a stated memory; the log has the number and why."""
    with caplog.at_level(logging.INFO):
        assert by_place(30_000, 2.5 * ROOM, "Gaussians") == 75_000
        assert by_place(30_000, 100 * ROOM, "Gaussians") == round(30_000 * MOST_ROOMS)
    assert "a place of 400 m² of seen surface: 75,000 Gaussians" in caplog.text
    assert "bounded by 4 GiB" not in caplog.records[0].message
    assert "bounded by 4 GiB" in caplog.records[1].message
    assert rooms(1e9) == MOST_ROOMS > 3


def test_guessed_surface_is_not_seen():
    """Two square metres, of which one closes a hole."""
    corners = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [2, 0, 0], [2, 1, 0.0]])
    triangles = np.array([[0, 1, 2], [0, 2, 3]])
    far = Mesh.from_arrays(corners + np.array([5.0, 0, 0]), triangles)
    closing = Mesh(far.vertices, far.triangles, far.colors, np.ones(len(far.vertices), bool))
    assert seen_surface(Mesh.from_arrays(corners, triangles).joined(closing)) == pytest.approx(1)


def _looking_round(size: tuple[float, float, float], eyes: np.ndarray) -> list[np.ndarray]:
    """Cells that a camera sees all round from each of these places (N, 3) in an empty room [m]."""
    rng = np.random.default_rng(0)
    views = []
    for eye in eyes:
        rays = rng.standard_normal((4000, 3))
        rays /= np.linalg.norm(rays, axis=1)[:, None]
        ends = np.where(rays > 0, np.array(size) - eye, -eye) / rays
        distance = ends.min(1) + 0.01 * rng.standard_normal(4000)
        views.append(seen_cells(eye + rays * distance[:, None], eye))
    return views


@pytest.mark.parametrize("size", [(5.0, 4.0, 2.6), (7.0, 5.0, 2.8), (16.1, 2.2, 2.7)])
def test_the_surface_of_a_room_is_told_by_its_depth(size):
    """Within a fifth, and twice the views of a room are no more surface."""
    x, y, z = size
    eyes = np.random.default_rng(1).uniform([0.5, 0.5, 1.2], [x - 0.5, y - 0.5, 1.6], (20, 3))
    true = 2 * (x * y + x * z + y * z)
    views = _looking_round(size, eyes)
    assert surface_of(views) == pytest.approx(true, rel=0.3)
    assert surface_of([*views, *views]) == surface_of(views)


def test_a_wall_from_its_two_sides_is_two_views():
    """The cells are the same; what shows them differs."""
    wall = np.stack(np.meshgrid([0.0], np.linspace(0, 2, 20), np.linspace(0, 2, 20)), -1).reshape(-1, 3) + 0.1
    here, there = seen_cells(wall, np.array([3.0, 5, 5])), seen_cells(wall, np.array([-3.0, 5, 5]))
    assert not np.isin(here, there).any()
    assert surface_of([here]) == surface_of([here, there])
