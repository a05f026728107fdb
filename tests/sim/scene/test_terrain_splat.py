"""Cameras see procedural ground where it is."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.geometry import Camera
from pipeline.geometry.rays import RayCaster
from sim.scene.opening import open_scene
from sim.scene.terrain import TILE
from sim.sensors.cameras.renderer import CpuRenderer

CAMERA = Camera(64, 48, 32.0, 32.0, 32.0, 24.0)


def looking(x: float, y: float, z: float, yaw: float, down: float) -> np.ndarray:
    """Pose (4, 4) of a camera in the world."""
    ahead = np.array([np.cos(yaw) * np.cos(down), np.sin(yaw) * np.cos(down), -np.sin(down)])
    right = np.array([np.sin(yaw), -np.cos(yaw), 0])
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(ahead, right), ahead], 1)
    pose[:3, 3] = [x, y, z]
    return pose


@pytest.mark.parametrize("reference", ["terrain:0:stairs:7", "terrain:0:steep stairs:9", "terrain:3:ramp:6"])
def test_depth_is_that_of_the_boxes(reference: str):
    """From a robot's height before the hill, and beside it; a Gaussian has one depth for all of its pixels."""
    scene = open_scene(reference)
    poses = np.stack([looking(1.1, 4.3, 0.45, 0.1, 0.5), looking(2.6, 0.9, 0.5, 1.9, 0.3)])
    depth = CpuRenderer([scene.gaussians]).render(CAMERA, poses, np.zeros(2, np.int64))[1]
    u, v = np.meshgrid(np.arange(64) + 0.5, np.arange(48) + 0.5)
    rays = np.stack([(u - 32) / 32, (v - 24) / 32, np.ones_like(u)], -1)
    caster = RayCaster(scene.collision)
    for pose, seen in zip(poses, depth, strict=True):
        world = (rays @ pose[:3, :3].T).reshape(-1, 3)
        length = np.linalg.norm(world, axis=1)
        hit = caster.cast(np.tile(pose[:3, 3], (len(world), 1)), world / length[:, None]).distance / length
        near = (hit < 2.5) & (seen.ravel() > 0)
        off = np.abs(seen.ravel() - hit)[near]
        assert near.mean() > 0.3
        assert np.median(off) < 0.05
        assert (off < 0.15).mean() > 0.9


def test_a_tile_alone_is_that_of_the_whole():
    """The same boxes, heights and hash each time."""
    alone, whole = open_scene("terrain:5:rubble:4"), open_scene("terrain:5:rubble")
    assert alone.terrain
    assert whole.terrain
    assert alone.terrain.levels == 1
    np.testing.assert_array_equal(alone.terrain.height[0, 0], whole.terrain.height[0, 4])
    xy, along = np.random.default_rng(0).uniform(0, TILE, (50, 2)), np.array([4 * TILE, 0])
    np.testing.assert_array_equal(alone.terrain.heights(xy), whole.terrain.heights(xy + along))
    assert open_scene("terrain:5:rubble:4").lock == alone.lock != whole.lock
    assert len(alone.gaussians.means) < 60_000
