"""Lines of sight."""

from __future__ import annotations

import numpy as np

from pipeline.geometry import Mesh
from sim.scene.scene import SimScene
from sim.scene.sight import in_sight
from tests.sim.floors import floor_scene


def blocked(mesh: Mesh, eye: np.ndarray, point: np.ndarray) -> bool:
    """Whether a triangle is between two points, by solving for where the line crosses each of them."""
    corners = mesh.corners().astype(np.float64)
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    system = np.stack([first, second, np.broadcast_to(eye - point, first.shape)], -1)
    usable = np.abs(np.linalg.det(system)) > 1e-12
    u, v, t = np.linalg.solve(system[usable], (eye - corners[usable, 0])[..., None])[..., 0].T
    return bool(((u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0) & (t < 1)).any())


def screen(x: float) -> SimScene:
    """A scene with nothing but a screen across x, 1 m high, from y = -1 on."""
    corners = np.array([[x, -1, 0], [x, 9, 0], [x, 9, 1], [x, -1, 1]])
    mesh = Mesh.from_arrays(corners, np.array([[0, 1, 2], [0, 2, 3]]))
    return floor_scene(np.ones((4, 4), bool), mesh=mesh)


def test_a_screen_hides_what_is_behind_it():
    """Not what is before it, beside it or above; in each scene its own, in any order."""
    screens = [screen(1.0), screen(3.0)]
    eye = np.array([0.0, 0.0, 0.3])
    points = np.array([[2, 0.5, 0.4], [0.9, 0.5, 0.4], [2, -4, 0.4], [2, 0.5, 2.5], [4, 0.5, 0.3], [2, 0.5, 0.4]])
    scenes = np.array([0, 0, 0, 0, 1, 1])
    expected = np.array([False, True, True, True, False, True])
    order = np.array([4, 1, 5, 0, 3, 2])
    found = in_sight(screens, scenes[order], np.tile(eye, (6, 1)), points[order])
    np.testing.assert_array_equal(found, expected[order])
    np.testing.assert_array_equal(in_sight(screens, scenes, points, np.tile(eye, (6, 1))), expected)


def test_lines_in_a_room_are_those_that_no_triangle_crosses(room_scene: SimScene, rng: np.random.Generator):
    """Between places anywhere in it."""
    eyes, points = (rng.uniform([0.2, 0.2, 0.05], [3.8, 2.8, 0.7], (200, 3)) for _ in range(2))
    found = in_sight([room_scene], np.zeros(200, int), eyes, points)
    expected = [not blocked(room_scene.collision, *ends) for ends in zip(eyes, points, strict=True)]
    np.testing.assert_array_equal(found, expected)
    assert 0.1 < found.mean() < 0.9


def test_without_lines_there_is_nothing_to_say():
    """An empty answer."""
    assert in_sight([screen(1.0)], np.zeros(0, int), np.zeros((0, 3)), np.zeros((0, 3))).shape == (0,)
