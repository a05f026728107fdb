"""Ways that GaussGym's robots follow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.interpolate import splev, splrep
from scipy.signal import savgol_filter

from pipeline.geometry.rays import RayCaster
from pipeline.types import F64
from sim.scene.export.gaussgym import CAMERA_HEIGHT, LENGTH, camera_paths
from sim.scene.scene import SimScene
from tests.synthetic import Room


@pytest.fixture(scope="module")
def ways(room_scene: SimScene) -> list[F64]:
    """Of the furnished room."""
    return camera_paths(room_scene.regions, room_scene.collision)


def test_ways_lead_over_the_floor(ways: list, room_scene: SimScene):
    """From each spawn pose, over cells where a robot has room, a little above the floor, not too far."""
    regions = room_scene.regions
    assert len(ways) >= 3
    near = np.pad(regions.drivable, 1)
    near = near[:-2, 1:-1] | near[2:, 1:-1] | near[1:-1, :-2] | near[1:-1, 2:] | near[1:-1, 1:-1]
    spawns = np.array([spawn.position[:2] for spawn in regions.spawn_poses])
    for way in ways:
        places = way[:, :3, 3]
        cells, inside = regions.cells_of(places)
        assert inside.all()
        assert near[tuple(cells.T)].all()
        assert np.linalg.norm(spawns - places[0, :2], axis=1).min() < 0.15
        np.testing.assert_allclose(places[:, 2], regions.height[tuple(cells.T)] + CAMERA_HEIGHT, atol=0.05)
        assert 0.8 < np.linalg.norm(np.diff(places, axis=0), axis=1).sum() < LENGTH + 0.2


def test_cameras_look_ahead_and_stand_upright(ways: list):
    """OpenCV: z along the way, y down."""
    for way in ways:
        ahead = np.diff(way[:, :2, 3], axis=0)
        ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
        assert ((way[:-1, :2, 2] * ahead).sum(1) > 0.95).all()
        np.testing.assert_allclose(way[:, :3, 1], np.tile([0, 0, -1.0], (len(way), 1)))
        np.testing.assert_allclose(np.linalg.det(way[:, :3, :3]), 1)


def as_gaussgym_smooths(places: F64) -> F64:
    """30 places of a way, as its math_utils.smooth_path makes them when it reads a slice."""
    smooth = savgol_filter(places, 11, 2, axis=0)
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(smooth, axis=0), axis=1))])
    share = length / length[-1]
    return np.column_stack(
        [splev(np.linspace(0, 1, 30), splrep(share, smooth[:, axis], k=3, s=1)) for axis in range(3)]
    )


def test_gaussgym_keeps_the_places(ways: list, room: Room):
    """It drops those with no mesh below a disc of half a metre, or with a ceiling lower than 2 m above the camera."""
    caster = RayCaster(room.mesh)
    grid = np.stack(np.meshgrid(*[np.linspace(-0.25, 0.25, 20)] * 2), -1).reshape(-1, 2)
    disc = np.column_stack([grid[np.hypot(*grid.T) <= 0.25], np.zeros((np.hypot(*grid.T) <= 0.25).sum())])
    shares = []
    for way in ways:
        places = as_gaussgym_smooths(way[:, :3, 3])
        starts = (places[:, None] + disc).reshape(-1, 3)
        down = caster.cast(starts, np.tile([0, 0, -1.0], (len(starts), 1)))
        up = caster.cast(starts, np.tile([0, 0, 1.0], (len(starts), 1)))
        shares.append((down.hit & (up.distance > 2.0)).reshape(len(places), -1).all(1).mean())
    assert min(shares) > 0.85  # its smoothing cuts corners
    assert np.mean(shares) > 0.95


def test_no_goal_no_way(room_scene: SimScene):
    """Nothing to lead to."""
    assert camera_paths(replace(room_scene.regions, goals=()), room_scene.collision) == []
