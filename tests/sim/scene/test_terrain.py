"""Procedural ground: heights, boxes and mesh agree, and levels get harder."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.errors import SimError
from pipeline.geometry.rays import RayCaster
from sim.scene.opening import open_scene
from sim.scene.terrain import KINDS, LEVELS, RASTER, TILE, make_terrain
from sim.sensors.height_scan import HeightScanner, RasterScanner
from sim.sensors.scan_grid import ScanGrid


def test_heights_are_those_of_the_mesh():
    """Rays from above meet the boxes where the raster says, apart from cells that an edge runs through."""
    terrain, rng = make_terrain(seed=3), np.random.default_rng(0)
    xy = rng.uniform([0, 0], [LEVELS * TILE, len(KINDS) * TILE], (4000, 2))
    caster = RayCaster(terrain.mesh())
    down = caster.cast(np.column_stack([xy, np.full(len(xy), 3.0)]), np.array([0, 0, -1.0]))
    found = 3 - down.distance
    apart = np.abs(found - terrain.heights(xy))
    assert np.median(apart) < 1e-6
    beside = [terrain.heights(xy + offset) for offset in RASTER * np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])]
    low, high = np.min(beside, 0) - 0.02, np.max(beside, 0) + 0.02
    assert ((found > low) & (found < high)).all()


@pytest.mark.parametrize("kind", KINDS[1:])
def test_levels_get_harder(kind: str):
    """The steepest step of a tile grows from level to level; gaps get wider."""
    terrain = make_terrain()
    height = terrain.height[KINDS.index(kind)]
    if kind == "gaps":
        deep = (height[:, height.shape[1] // 2] < 0.05).sum(1)
        assert (np.diff(deep) >= 0).all()
        assert deep[-1] > deep[0] + 10
        return
    top = height.max((1, 2))
    assert (np.diff(top) > 0).all()


def test_stairs_have_the_risers_of_their_level():
    """Five of 2 cm more in each level."""
    stairs = make_terrain().height[KINDS.index("stairs")]
    for level, tile in enumerate(stairs):
        steps = np.unique(tile.round(4))
        np.testing.assert_allclose(np.diff(steps), 0.02 * (level + 1), atol=1e-4)
        assert len(steps) == 6
    between = make_terrain(kinds=("stairs",), level=7.5).height
    np.testing.assert_allclose(np.diff(np.unique(between.round(4))), 0.17, atol=1e-4)


def test_outside_is_the_plane():
    """Robots may leave the tiles."""
    assert (make_terrain().heights(np.array([[-1.0, 3], [3, -1], [1e4, 1e4]])) == 0).all()


def test_the_raster_is_scanned_as_the_mesh_is():
    """Both scanners see the same ground, in the robot's own directions."""
    scene = open_scene("terrain:1")
    assert scene.terrain
    grid, rng = ScanGrid(ahead=(-0.3, 0.6), aside=(-0.2, 0.3)), np.random.default_rng(1)
    position = np.column_stack([rng.uniform(10, 30, (50, 2)), np.full(50, 0.8)])
    yaw = rng.uniform(-3, 3, 50)
    quaternion = np.column_stack([np.cos(yaw / 2), np.zeros((50, 2)), np.sin(yaw / 2)])
    nobody = np.zeros(50, np.int64)
    raster = RasterScanner(scene.terrain, grid).read(position, quaternion, nobody)
    mesh = HeightScanner([scene.collision], grid).read(position, quaternion, nobody)
    assert np.mean(np.abs(raster - mesh) < 1e-4) > 0.9, "but where an edge is near"
    assert raster.std() > 0.01


def test_references():
    """The same seed is the same scene, and what is no seed is refused."""
    assert open_scene("terrain:2").lock == open_scene("terrain:2").lock
    assert open_scene("terrain:2").lock.sha256 != open_scene("terrain:3").lock.sha256
    levels = [f"0:stairs:{level}" for level in ("11", "10.5", "nan", "7.", "-1", "1:2")]
    for wrong in ("hills", "0:hills", "0::3", "9999999999", *levels):
        with pytest.raises(SimError, match="has a seed"):
            open_scene(f"terrain:{wrong}")
