"""Closing the floor."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.check.gates import THRESHOLDS
from pipeline.check.ground import measure_floor_holes
from pipeline.geometry import Mesh, Similarity
from pipeline.geometry.rays import RayCaster
from pipeline.mesh.decimate import decimate
from pipeline.mesh.floor import SLIT_WIDTH, close_floor, close_levels, close_slits
from pipeline.points.levels import Level, Levels
from pipeline.regions.params import RegionsParams
from pipeline.regions.stage import find_regions
from tests.mesh.scenes import box, built, grid_floor, same, track, without
from tests.regions.test_stage import everywhere

FLOOR = grid_floor((0, 0), (3, 2.4))
TRACK = np.array([[x, 1.2, 1.4] for x in np.linspace(0.4, 2.6, 12)])


def closed(mesh, gap=0.5, path=TRACK):
    return close_floor(mesh, path, gap, np.random.default_rng(0))


def holes_at(mesh, points):
    start = np.concatenate([points, np.full((len(points), 1), 0.05)], 1)
    hits = RayCaster(mesh).cast(start, np.array([0, 0, -1.0]))
    return ~(hits.hit & (hits.distance < 0.1))


def test_a_hole_is_closed_and_marked():
    """At floor height, facing up, with its neighbours' colour, guessed; measured vertices stay as they were."""
    mesh, report = closed(without(FLOOR, (1.5, 1.0), 0.35))
    probes = np.stack(np.meshgrid(np.arange(1.1, 1.9, 0.007), np.arange(0.6, 1.4, 0.007)), -1).reshape(-1, 2)
    assert not holes_at(mesh, probes).any()
    added = mesh.guessed[mesh.triangles].all(1)
    assert (mesh.face_normals()[added, 2] > 0.99).all()
    assert np.abs(mesh.vertices[mesh.guessed, 2]).max() < 0.005
    assert np.hypot(*(mesh.vertices[mesh.guessed, :2] - [1.5, 1.0]).T).max() < 0.5
    assert report.closed_area == pytest.approx(np.pi * 0.35**2, rel=0.2)
    assert report.holes == 1


def test_what_a_level_lacks_is_filled_and_marked():
    """A landing at 0.9 m with a hole that views see flat; beyond the level's cells, and where it is free, it stays."""
    landing = without(grid_floor((0, 0), (1.5, 1.2)), (0.75, 0.6), 0.3)
    landing = replace(landing, vertices=landing.vertices + np.array([0, 0, 0.9], np.float32))
    cells = np.zeros((80, 65), bool)
    cells[15:60, 5:31] = True  # y up to 0.6 m
    nothing = Levels.none(np.zeros(2), 0.02, cells.shape)
    levels = nothing.plus(Level(0.9, 0.005, 0.5, 1.0), cells, np.zeros_like(cells))
    mesh, area = close_levels(landing, levels, lambda points: points[:, 0] > 0.9)
    low = mesh.transformed(Similarity(1.0, np.eye(3), np.array([0, 0, -0.9])))
    probes = np.stack(np.meshgrid(np.arange(0.5, 0.87, 0.013), np.arange(0.35, 0.58, 0.013)), -1).reshape(-1, 2)
    assert not holes_at(low, probes).any()
    assert holes_at(low, np.array([[0.75, 0.75], [0.98, 0.55]])).all()
    assert area == pytest.approx(0.116, rel=0.25)  # of half a disc, up to x = 0.9
    assert mesh.guessed[mesh.triangles].all(1).sum() > 100


def test_a_whole_floor_stays_as_it_is():
    """Nothing to close, same mesh."""
    mesh, report = closed(FLOOR)
    assert same(mesh, FLOOR)
    assert report.closed_area == 0


def test_a_thin_crack_is_closed():
    """1.5 cm wide, between the probes' nodes."""
    crack = grid_floor((0, 0), (1.5, 2.4)).joined(grid_floor((1.515, 0), (3, 2.4)))
    mesh, _ = closed(crack)
    assert not holes_at(mesh, np.stack([np.full(200, 1.508), np.linspace(0.2, 2.2, 200)], 1)).any()


def test_an_uneven_floor_is_continued():
    """A floor that rises by 2 cm over 3 m: the patch meets it within 3 mm."""
    vertices = FLOOR.vertices.copy()
    vertices[:, 2] = 0.02 * (vertices[:, 0] / 3) ** 2
    bent = type(FLOOR)(vertices, FLOOR.triangles, FLOOR.colors, FLOOR.guessed)
    mesh, _ = closed(without(bent, (2.2, 1.0), 0.3))
    added = mesh.vertices[mesh.guessed]
    assert np.abs(added[:, 2] - 0.02 * (added[:, 0] / 3) ** 2).max() < 0.004


def test_nothing_grows_up_or_out():
    """A box stands in the hole: the patch stays at the floor; outside of floor and track nothing is added."""
    mesh, _ = closed(without(FLOOR, (1.5, 1.0), 0.35).joined(box((1.3, 0.8, 0.0), (1.7, 1.2, 0.6))))
    added = mesh.vertices[mesh.guessed]
    assert added[:, 2].max() < 0.005
    assert (added[:, :2] > -0.05).all() and (added[:, :2] < [3.05, 2.45]).all()


def test_floor_under_the_walker_is_guessed():
    """The track goes on where no floor was seen: the ground under it is there, no farther than a stride beside it."""
    path = np.array([[x, 1.2, 1.4] for x in np.linspace(0.4, 4.4, 20)])
    mesh, _ = closed(FLOOR, path=path)
    assert not holes_at(mesh, np.array([[3.5, 1.2], [4.3, 1.2]])).any()
    assert mesh.vertices[:, 0].max() < 4.9


def test_stairs_down_stay_open():
    """A lower landing that was seen is a place, not a hole."""
    mesh = without(FLOOR, (1.5, 1.0), 0.5).joined(grid_floor((0.9, 0.4), (2.1, 1.6), z=-0.5))
    assert holes_at(closed(mesh)[0], np.array([[1.5, 1.0]])).all()


def test_no_floor_is_left_alone():
    """A table top alone at z = 0.7."""
    table = grid_floor((0, 0), (1, 1), z=0.7)
    mesh, report = closed(table)
    assert same(mesh, table)
    assert report.measured_area == 0


def test_the_room_gets_a_floor_behind_its_crate():
    """Between crate and wall nobody looked; the closed area is guessed and below everything."""
    mesh = built().mesh
    assert not holes_at(mesh, np.array([[3.85, 0.6], [2.0, 1.4]])).any()
    assert 0 < mesh.face_areas()[mesh.guessed[mesh.triangles].all(1)].sum() < 3
    assert len(track())


STEP = 0.12
"""Of the stairs [m]: a robot with legs climbs it."""
STAIRS_TRACK = np.array([[0.6, 0.7, 1.2], [2.4, 0.7, 1.2]])


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
    regions = find_regions(stairs(0.001), STAIRS_TRACK, everywhere(), RegionsParams())
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
    assert after.largest_diameter > SLIT_WIDTH
    assert lowest(closed, (0.945, 0.605), (1.055, 0.795)) == -1


def test_where_a_floor_ends_nothing_is_added():
    """Its outer edge, a wide slit, and a floor on which another lies."""
    for mesh in (grid_floor((0, 0), (2, 2)), stairs(0.08, (-1, 2))):
        closed, report = close_slits(mesh)
        assert report.edges == 0 and len(closed.triangles) == len(mesh.triangles)
