"""Surfaces against unseen depth and planes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.check.surface import depth_difference, floor_flatness, table_flatness
from pipeline.geometry import Mesh
from tests.mesh.scenes import all_maps, box, built, grid_floor


def test_unseen_depth_is_near():
    """Median under 1 cm at held-out maps, which cover the mesh; a mesh 5 cm off shows it with its sign."""
    held_out = [m for m in all_maps() if m.held_out]
    near = depth_difference(built().mesh, held_out)
    assert near.median is not None and near.median < 0.01
    assert near.covered > 0.9
    nearer = [replace(m, depth=m.depth - 0.05) for m in held_out]
    assert depth_difference(built().mesh, nearer).bias == pytest.approx(0.05, abs=0.003)


def test_no_pixels_give_no_metric():
    """Not a number that passes."""
    empty = [replace(m, depth=np.zeros_like(m.depth)) for m in all_maps()[:1]]
    nothing = depth_difference(built().mesh, empty)
    assert (nothing.pixels, nothing.median, nothing.p90) == (0, None, None)


def test_flat_planes_and_their_angle(rng):
    """A floor with 4 mm noise and a table top tilted by 2 degrees."""
    floor = grid_floor((0, 0), (3, 2))
    noise = rng.normal(0, 0.004, len(floor.vertices)).astype(np.float32)
    floor = Mesh.from_arrays(floor.vertices + noise[:, None] * np.float32([0, 0, 1]), floor.triangles)
    top = grid_floor((1, 0.5), (2, 1.2), z=0.7)
    tilted = top.vertices.copy()
    tilted[:, 2] += (tilted[:, 0] - 1.5) * np.tan(np.deg2rad(2)).astype(np.float32)
    mesh = floor.joined(Mesh.from_arrays(tilted, top.triangles)).joined(box((0.1, 0.1, 0), (0.3, 0.3, 0.9)))
    ground, table = floor_flatness(mesh, 0.0, rng), table_flatness(mesh, 0.0, rng)
    assert ground is not None and table is not None
    assert ground.rms == pytest.approx(0.003, abs=0.001)  # samples within triangles average the vertices' noise
    assert table.height == pytest.approx(0.7, abs=0.002)
    assert ground.angle_to(table) == pytest.approx(2, abs=0.1)
    assert table.rms < 0.001
    assert table.area == pytest.approx(0.7, rel=0.05)


def test_no_table_is_none(rng):
    """Only a floor."""
    assert table_flatness(grid_floor((0, 0), (2, 2)), 0.0, rng) is None
    assert floor_flatness(grid_floor((0, 0), (2, 2), z=0.5), 0.0, rng) is None
