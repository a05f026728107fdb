"""Elevation maps of exact and of noisy depth images."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.geometry import Camera
from sim.sensors.ground.elevation import CELL, OFF_CENTRE, SIDE, Elevation, filled

LENS = Camera(48, 36, 30.0, 32.0, 23.5, 18.5)
RISER, EDGE = 0.17, 0.9
"""A step up beyond x = EDGE [m]."""


def ground(x: np.ndarray) -> np.ndarray:
    """Height at positions along x [m]."""
    return np.where(x > EDGE, RISER, 0.0)


def camera(yaw: float, at: tuple[float, float, float], pitch: float = 0.6) -> np.ndarray:
    """Pose (4, 4) of a camera that looks along a heading, and down."""
    cos, sin, turn = np.cos(pitch), np.sin(pitch), np.eye(4)
    turn[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    turn[:3, 3] = at
    look = np.eye(4)
    look[:3, :3] = np.array([[0, -sin, cos], [-1, 0, 0], [0, -cos, -sin]])
    return turn @ look


def depths(pose: np.ndarray) -> np.ndarray:
    """Exact depths (H, W) of the step, by marching along each ray."""
    u, v = np.meshgrid((np.arange(48) + 0.5 - LENS.cx) / LENS.fx, (np.arange(36) + 0.5 - LENS.cy) / LENS.fy)
    rays = np.stack([u, v, np.ones_like(u)], -1) @ pose[:3, :3].T
    far = np.linspace(0.05, 4, 8000)
    result = np.zeros(u.shape, np.float32)
    for step in far:
        point = pose[:3, 3] + step * rays
        result[(result == 0) & (point[..., 2] < ground(point[..., 0]))] = step
    return result


def mapped(count: int = 2) -> Elevation:
    """Maps around the origin."""
    maps = Elevation(count)
    maps.reset(np.arange(count), np.zeros((count, 2)))
    return maps


def see(maps: Elevation, robot: int, pose: np.ndarray, depth: np.ndarray, now: float = 0.0) -> None:
    """Take an image of one robot."""
    bounds = np.array([-1.0]), np.array([1.0]), np.array([now])
    maps.see(np.array([robot]), depth[None], LENS, pose[None], *bounds)


@pytest.mark.parametrize(("yaw", "x", "y"), [(0.0, 0.1, 0.0), (0.5, -0.2, -0.4), (-0.7, 0.3, 0.5)])
def test_a_step_is_where_it_is(yaw: float, x: float, y: float):
    """Tops and the floor before them, whatever the heading; the other robot knows nothing."""
    maps, pose = mapped(), camera(yaw, (x, y, 0.5))
    see(maps, 1, pose, depths(pose))
    i, j = np.nonzero(np.isfinite(maps.variance[1]))
    place = (np.column_stack([i, j]) + maps.corner[1] + 0.5) * CELL
    off = np.abs(maps.height[1, i, j] - ground(place[:, 0]))
    clear = np.abs(place[:, 0] - EDGE) > 1.5 * CELL
    assert clear.sum() > 100
    assert off[clear].max() < 0.01
    assert (maps.height[1, i, j] > RISER / 2).sum() > 50
    assert not np.isfinite(maps.variance[0]).any()


def test_many_noisy_images_are_better_than_one():
    """Of noise that goes on the mean is left, and what changed is believed at once."""
    rng, pose, maps = np.random.default_rng(0), camera(0.0, (0.0, 0.0, 0.5)), mapped(1)
    true, off = depths(pose), []
    for image in range(20):
        noise = 0.006 * true**2 * rng.standard_normal(true.shape)
        see(maps, 0, pose, np.where(true > 0, true + noise, 0).astype(np.float32), 0.1 * image)
        place = np.array([[[0.5, 0.02], [0.6, -0.1], [1.1, 0.06], [0.45, 0.1]]])
        off.append(np.abs(maps.at(place)[0] - ground(place[0, :, 0])).mean())
    assert np.mean(off[10:]) < 0.006
    higher = camera(0.0, (0.0, 0.0, 0.7))
    see(maps, 0, higher, depths(pose), 2.0)
    assert maps.at(np.array([[[0.5, 0.02]]]))[0, 0] == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize(("pitch", "most"), [(0.6, 2), (0.8, 5)])
def test_a_wall_that_the_image_cuts_off_is_no_step(pitch: float, most: int):
    """Beside a robot its foot alone is seen, through holes and noise: ten of these cells were known as ledges."""
    rng, pose, maps = np.random.default_rng(0), camera(0.5, (0.0, 0.0, 0.4), pitch), mapped(1)
    u, v = np.meshgrid((np.arange(48) + 0.5 - LENS.cx) / LENS.fx, (np.arange(36) + 0.5 - LENS.cy) / LENS.fy)
    rays = np.stack([u, v, np.ones_like(u)], -1) @ pose[:3, :3].T
    with np.errstate(divide="ignore"):
        floor, wall = -0.4 / rays[..., 2], (0.5 - pose[1, 3]) / rays[..., 1]
    true = np.minimum(np.where(floor > 0, floor, np.inf), np.where(wall > 0, wall, np.inf))
    assert (true == wall).any() and (true == floor).any()
    for image in range(30):
        depth = true + 0.004 * true**2 * rng.standard_normal(true.shape)
        depth[(rng.random(true.shape) < 0.3) | (true > 3)] = 0
        see(maps, 0, pose, depth.astype(np.float32), 0.1 * image)
    i, j = np.nonzero(np.isfinite(maps.variance[0]))
    place = (np.column_stack([i, j]) + maps.corner[0] + 0.5) * CELL
    assert (place[:, 1] < 0.4).sum() > 200
    low = (np.abs(place[:, 1] - 0.5) < 2 * CELL) & (place[:, 0] < 0.8) & (maps.height[0, i, j] > 0.04)
    assert low.sum() <= most


def test_a_map_goes_with_its_robot():
    """What was seen stays where it is, and what is left far behind is forgotten."""
    maps, pose = mapped(), camera(0.3, (0.0, 0.0, 0.5))
    see(maps, 0, pose, depths(pose))
    place = np.array([[[0.6, 0.2], [0.8, 0.25]], [[0.6, 0.2], [0.8, 0.25]]])
    before = maps.at(place)
    maps.follow(np.array([[OFF_CENTRE + 0.1, -0.9], [0.0, 0.0]]))
    np.testing.assert_array_equal(maps.at(place), before)
    assert np.isfinite(before[0]).all()
    maps.follow(np.array([[OFF_CENTRE + 0.1 + SIDE * CELL, -0.9], [0.0, 0.0]]))
    assert np.isnan(maps.at(place)).all()
    maps.follow(np.array([[0.0, 0.0], [0.0, 0.0]]))
    assert np.isnan(maps.at(place)).all()


def test_feet_write_what_they_stand_on():
    """Those that are down, at their place, of their robot."""
    maps = mapped()
    feet = np.array([[[0.2, 0.1, 0.05], [-0.2, 0.1, 0.3]], [[0.5, -0.3, 0.1], [0.0, 0.0, 0.2]]])
    maps.stand(feet, np.array([[True, False], [False, True]]), np.zeros(2))
    found = maps.at(feet[..., :2])
    assert found[0, 0] == pytest.approx(0.05)
    assert found[1, 1] == pytest.approx(0.2)
    assert np.isnan([found[0, 1], found[1, 0]]).all()


def test_what_is_hidden_goes_on_as_it_was():
    """The lowest known neighbour; where nothing is known at all, what is said."""
    grid = np.full((2, 3, 4), np.nan, np.float32)
    grid[0, :, :2] = [[0, 0.2], [0, 0.2], [0, 0.1]]
    found = filled(grid, np.array([5.0, -0.3], np.float32))
    np.testing.assert_allclose(found[0, :, 2], [0.2, 0.1, 0.1])
    np.testing.assert_allclose(found[0, :, 3], 0.1)
    np.testing.assert_allclose(found[1], -0.3)
