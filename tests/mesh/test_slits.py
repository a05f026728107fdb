"""Slits and holes in floors: what no foot or wheel falls into is closed, and what one falls into stays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.check.floor import measure_floor_holes
from pipeline.check.gates import THRESHOLDS
from pipeline.geometry import Mesh
from pipeline.mesh.decimate import decimate
from pipeline.mesh.rays import RayCaster
from pipeline.mesh.slits import WIDEST, close_slits
from pipeline.regions.params import RegionsParams
from pipeline.regions.stage import find_regions
from tests.mesh.scenes import grid_floor
from tests.regions.test_stage import everywhere

STEP = 0.12
"""Of the stairs [m]: a robot with legs climbs it."""
TRACK = np.array([[0.6, 0.7, 1.2], [2.4, 0.7, 1.2]])


def sheet(x: np.ndarray, y: np.ndarray, z: float) -> Mesh:
    """A level sheet facing up with its vertices at these places."""
    flat = grid_floor((0, 0), (len(x) - 1, len(y) - 1), 1.0, z)
    index = flat.vertices[:, :2].round().astype(int)
    return replace(flat, vertices=np.column_stack([x[index[:, 0]], y[index[:, 1]], flat.vertices[:, 2]]).astype("f4"))


def stairs(slit: float, ends: tuple[float, float] = (0.3, 1.1)) -> Mesh:
    """A floor, a riser and a tread 12 cm higher; before the riser a slit [m] in the floor, from y to y."""
    y = np.linspace(0, 1.4, 29)
    low = sheet(np.array([*np.linspace(0, 1.5 - slit, 31), 1.5]), y, 0.0)
    middle = low.corners().mean(1)
    low = low.with_faces((middle[:, 0] < 1.5 - slit) | (middle[:, 1] < ends[0]) | (middle[:, 1] > ends[1]))
    riser = Mesh.from_arrays(
        np.array([[1.5, 0, 0], [1.5, 1.4, 0], [1.5, 1.4, STEP], [1.5, 0, STEP]]), np.array([[0, 2, 1], [0, 3, 2]])
    )
    return low.joined(riser).joined(sheet(np.linspace(1.5, 3, 31), y, STEP))


def floor_of(mesh: Mesh):
    """What the gate measures."""
    regions = find_regions(stairs(0.001), TRACK, everywhere(), RegionsParams())
    return measure_floor_holes(mesh, regions)


def lowest(mesh: Mesh, low: tuple[float, float], high: tuple[float, float]) -> float:
    """Where rays from above end in a rectangle, a ray each 4 mm [m]: -1 where one falls through."""
    x, y = np.meshgrid(np.arange(low[0], high[0], 0.004), np.arange(low[1], high[1], 0.004))
    above = np.stack([x.ravel(), y.ravel(), np.full(x.size, 1.0)], 1)
    hits = RayCaster(mesh).cast(above, np.array([0, 0, -1.0]))
    carried = hits.hit & (mesh.face_normals()[hits.triangle, 2] > 0)
    return float(np.where(carried, 1 - hits.distance, -1.0).min())


@pytest.mark.parametrize("slit", [0.012, 0.025, 0.04])
def test_a_slit_along_a_stairs_edge_is_closed(slit: float):
    """As guessed floor at the floor's height, so that the gate passes and nothing of any size falls through."""
    mesh = stairs(slit)
    inside = (1.5 - slit + 0.001, 0.305), (1.5, 1.095)
    assert lowest(mesh, *inside) == -1
    if slit > 0.02:
        assert floor_of(mesh).hole_area > THRESHOLDS["floor_holes"]
    closed, report = close_slits(mesh)
    assert report.edges >= 16 and report.area == pytest.approx(0.8 * (slit + 0.008), rel=0.2)
    assert lowest(closed, *inside) > -0.005
    assert floor_of(closed).hole_area == 0
    assert floor_of(decimate(closed, 2000)).hole_area <= THRESHOLDS["floor_holes"]
    assert closed.guessed.any() and not mesh.guessed.any()
    assert np.abs(closed.vertices[closed.guessed, 2]).max() < 0.01


def test_a_slit_before_a_tread_is_closed_from_behind():
    """Its riser ends 2 cm below and before the tread; the strip doesn't hang over the riser."""
    riser = Mesh.from_arrays(
        np.array([[1.47, 0, 0], [1.47, 1.4, 0], [1.47, 1.4, STEP - 0.02], [1.47, 0, STEP - 0.02]]),
        np.array([[0, 2, 1], [0, 3, 2]]),
    )
    y = np.linspace(0, 1.4, 29)
    mesh = sheet(np.linspace(0, 1.47, 31), y, 0.0).joined(riser).joined(sheet(np.linspace(1.5, 3, 31), y, STEP))
    assert lowest(mesh, (1.472, 0.05), (1.5, 1.35)) == -1
    closed, _ = close_slits(mesh)
    assert lowest(closed, (1.472, 0.05), (1.5, 1.35)) > STEP - 0.01
    assert closed.vertices[closed.guessed, 0].min() > 1.455


def test_a_hole_that_a_foot_falls_into_stays():
    """12 cm across and 20 cm long, in the floor before the step; the gate fails as it did."""
    whole = stairs(0.0001)
    low = sheet(np.linspace(0, 1.5, 76), np.linspace(0, 1.4, 71), 0.0)
    inside = (np.abs(low.corners().mean(1)[:, :2] - [1.0, 0.7]) < [0.06, 0.1]).all(1)
    mesh = low.with_faces(~inside).joined(whole.with_faces(whole.corners().mean(1)[:, 0] > 1.4999))
    before = floor_of(mesh)
    closed, _ = close_slits(mesh)
    after = floor_of(closed)
    assert after == before and after.hole_area > THRESHOLDS["floor_holes"]
    assert after.largest_diameter > WIDEST
    assert lowest(closed, (0.945, 0.605), (1.055, 0.795)) == -1


def test_where_a_floor_ends_nothing_is_added():
    """Its outer edge, a wide slit, and a floor on which another lies."""
    for mesh in (grid_floor((0, 0), (2, 2)), stairs(0.08, (-1, 2))):
        closed, report = close_slits(mesh)
        assert report.edges == 0 and len(closed.triangles) == len(mesh.triangles)
