"""Heights of the ground around robots, against stairs whose heights are known by formula."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.geometry import Mesh, matrix_from_rotvec, quaternion_from_matrix
from pipeline.types import F64
from sim.sensors.height_scan import HeightScanner
from sim.sensors.scan_grid import ScanGrid
from tests.synthetic import box_faces

EDGES, TREADS = np.array([0.7, 1.0, 1.45, 1.9]), np.array([0.0, 0.17, 0.3, 0.48, 0.9])
"""Where stairs rise along their own x [m], and the levels before, between and after [m]."""
TURN = 0.4
"""Of the stairs about the vertical [rad]: they rise along no axis of the world."""
GRID = ScanGrid(ahead=(-0.4, 0.9), aside=(-0.3, 0.5), spacing=0.1, clip=0.7)


def stairs(level: float = 0.0) -> Mesh:
    """One sheet of treads and risers, open below as scans are, 8 m wide."""
    x = np.concatenate([[-4], np.repeat(EDGES, 2), [6]])
    z = np.repeat(TREADS, 2) + level
    profile = np.column_stack([x, np.full(len(x), -4.0), z])
    vertices = np.concatenate([profile, profile + np.array([0, 8, 0])])
    count = len(x)
    first = np.arange(count - 1)
    low = np.stack([first, first + 1, first + 1 + count], -1)
    high = np.stack([first, first + 1 + count, first + count], -1)
    return Mesh.from_arrays(vertices @ turn(TURN).T, np.concatenate([low, high]))


def turn(angle: float) -> F64:
    """About the vertical."""
    return matrix_from_rotvec(np.array([[0, 0, angle]]))[0]


def truth(xy: F64) -> F64:
    """Heights of the stairs at points (..., 2) [m]."""
    along = xy @ [np.cos(TURN), np.sin(TURN)]
    return TREADS[np.searchsorted(EDGES, along)]


def quaternions(*angles: tuple[float, float, float]) -> F64:
    """World from base of robots with these yaws, then pitches, then rolls (N, 4)."""
    turns = [
        turn(yaw) @ matrix_from_rotvec(np.array([[0, pitch, 0]]))[0] @ matrix_from_rotvec(np.array([[roll, 0, 0]]))[0]
        for yaw, pitch, roll in angles
    ]
    return quaternion_from_matrix(np.array(turns))


def points(position: F64, yaw: float) -> F64:
    """Where the scan of a robot looks (K, 2) [m], one after the other."""
    ahead, aside = np.arange(-4, 10) * 0.1, np.arange(-3, 6) * 0.1
    return np.array([position[:2] + (turn(yaw) @ [a, b, 0])[:2] for a in ahead for b in aside])


def test_heights_are_those_of_the_stairs():
    """From in front of them, on them, across them and tilted; in the order of the grid, as the base sees it."""
    yaws, tilts = (0.4, 2.0, -2.6, -0.5), ((0, 0), (0.2, -0.3), (0, 0.25), (-0.3, 0))
    position = np.array([[0.5, 0.3, 0.15], [1.2, 0.2, 0.6], [0.5, -0.4, 0.25], [1.1, 0.9, 0.75]])
    turned = quaternions(*((yaw, pitch, roll) for yaw, (pitch, roll) in zip(yaws, tilts, strict=True)))
    heights = HeightScanner([stairs()], GRID).read(position, turned, np.zeros(4, np.int64))
    assert heights.shape == (4, GRID.size) == (4, 14 * 9)
    assert heights.dtype == np.float32
    expected = [np.clip(truth(points(p, yaw)) - p[2], -0.7, 0.7) for p, yaw in zip(position, yaws, strict=True)]
    near_edge = np.array(
        [
            np.abs((points(p, yaw) @ [np.cos(TURN), np.sin(TURN)])[:, None] - EDGES).min(1) < 1e-4
            for p, yaw in zip(position, yaws, strict=True)
        ]
    )
    assert near_edge.mean() < 0.01
    np.testing.assert_allclose(heights[~near_edge], np.array(expected)[~near_edge], atol=1e-5)
    assert len(np.unique(np.round(heights[0], 3))) >= 4  # it sees several steps, those above the rays' start too


def test_each_robot_reads_its_own_scene():
    """The second scene's stairs lie 2 m deeper."""
    position = np.array([[0.6, 0, 0.3], [0.6, 0, -1.7], [0.6, 0, 0.3]])
    turned = quaternions((0.7, 0, 0), (0.7, 0, 0), (0.7, 0, 0))
    heights = HeightScanner([stairs(), stairs(-2.0)], GRID).read(position, turned, np.array([0, 1, 1]))
    np.testing.assert_allclose(heights[0], heights[1], atol=1e-5)
    assert (heights[2] == np.float32(-0.7)).all()


def test_what_hangs_over_the_robot_is_no_ground():
    """Under a table and a ceiling; a box beside it is ground, though it is higher than where the rays start."""
    low, high = -0.5, 0.45
    table = box_faces(np.array([-0.5, -0.5, 0.68]), np.array([2, 2, 0.72]))
    ceiling = box_faces(np.array([-3.0, -3, 2.4]), np.array([3, 3, 2.5]))
    tall = box_faces(np.array([-0.9, -3, low]), np.array([-0.25, 3, high]))
    ground = box_faces(np.array([-0.25, -3, low]), np.array([3, 3, 0.0]))
    vertices, triangles = [], []
    for corners, faces in (table, ceiling, tall, ground):
        triangles.append(faces + 8 * len(vertices))
        vertices.append(corners)
    mesh = Mesh.from_arrays(np.concatenate(vertices), np.concatenate(triangles))
    heights = HeightScanner([mesh], GRID).read(np.array([[0.03, 0.04, 0.1]]), quaternions((0, 0, 0)), np.zeros(1, int))
    behind = GRID.points[:, 0] + 0.03 < -0.25
    assert 0 < behind.sum() < GRID.size
    assert heights[0, ~behind] == pytest.approx(-0.1, abs=1e-5)
    assert heights[0, behind] == pytest.approx(high - 0.1, abs=1e-5)


@pytest.mark.parametrize(
    ("guessed", "from_above", "expected"), [(False, True, -0.1), (True, True, 0.5), (True, False, -0.1)]
)
def test_a_sheet_over_guessed_floor_is_the_top_of_a_thing(guessed: bool, from_above: bool, expected: float):
    """Over floor that a camera saw it is a table: both were seen from above only. From below, it is a ceiling."""
    low, high = np.array([[-3.0, -2], [4, -3], [3, 3], [-4, 3]]), np.array([[-2.0, -2], [2, -2], [2, 2], [-2, 2]])
    vertices = np.concatenate([np.c_[low, np.zeros(4)], np.c_[high, np.full(4, 0.6)]])
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    plain = Mesh.from_arrays(vertices, np.concatenate([faces, faces[:, :: 1 if from_above else -1] + 4]))
    mesh = Mesh(plain.vertices, plain.triangles, plain.colors, np.repeat([guessed, False], 4))
    heights = HeightScanner([mesh], GRID).read(np.array([[0.1, 0.2, 0.1]]), quaternions((1, 0, 0)), np.zeros(1, int))
    assert heights[0] == pytest.approx(expected, abs=1e-5)


def test_where_nothing_is_known_it_is_as_deep_as_can_be():
    """Beyond the end of the mesh."""
    heights = HeightScanner([stairs()], GRID).read(np.array([[50.0, 0, 0.3]]), quaternions((0, 0, 0)), np.zeros(1, int))
    assert (heights == np.float32(-0.7)).all()


@pytest.mark.parametrize("values", [{"ahead": (1.0, 0.5)}, {"aside": (-9.0, 1.0)}, {"spacing": 0.0}, {"clip": -1.0}])
def test_refuses_impossible_grids(values: dict):
    """With the value."""
    with pytest.raises(ValueError, match=next(iter(values))):
        ScanGrid(**values)


def test_default_grid():
    """1.6 m by 1 m, 10 cm apart, both ends included, the base's own place in the middle."""
    points = ScanGrid().points
    assert points.shape == (17 * 11, 2)
    assert points.min(0) == pytest.approx([-0.8, -0.5]) and points.max(0) == pytest.approx([0.8, 0.5])
    assert points[len(points) // 2] == pytest.approx([0, 0], abs=1e-9)


def test_the_scan_of_one_who_moved():
    """On a slanted plane, exactly that of the new place, as far as the old one reaches; beyond, the edge goes on."""
    motion = np.array([[0.13, -0.07, 0.3], [-0.02, 0.05, -0.2]])
    points = GRID.points

    def plane(ahead: F64, left: F64) -> F64:
        return 0.2 * ahead - 0.35 * left - 0.3

    before = np.tile(plane(*points.T), (2, 1)).astype(np.float32)
    found = GRID.moved(before, motion)
    for row, (ahead, left, yaw) in enumerate(motion):
        place = points @ turn(yaw)[:2, :2].T + [ahead, left]
        inside = (place > [GRID.ahead[0], GRID.aside[0]]).all(1) & (place < [GRID.ahead[1], GRID.aside[1]]).all(1)
        assert 0.6 < inside.mean() < 1
        np.testing.assert_allclose(found[row, inside], plane(*place[inside].T), atol=1e-6)
        edge = np.clip(place, [GRID.ahead[0], GRID.aside[0]], [GRID.ahead[1], GRID.aside[1]])
        np.testing.assert_allclose(found[row], plane(*edge.T), atol=1e-6)


def test_the_scan_of_one_who_stayed():
    """Is the same."""
    heights = np.random.default_rng(3).normal(size=(4, GRID.size)).astype(np.float32)
    np.testing.assert_allclose(GRID.moved(heights, np.zeros((4, 3))), heights, atol=1e-6)
