"""The drop test."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.check import ground
from pipeline.check.ground import DropTest, _floor_below, drop_bodies, measure_floaters, measure_floor_holes
from pipeline.geometry import Gaussians
from pipeline.mesh.clean import camera_path
from pipeline.regions.params import RegionsParams
from pipeline.regions.regions import Regions
from pipeline.regions.stage import find_regions
from tests.check.scenes import NO_MESH
from tests.mesh.scenes import box, built, grid_floor, track, without
from tests.regions.test_stage import everywhere

FLOOR = grid_floor((0, 0), (3, 3))
TRACK = np.array([[0.6, 0.6, 1.2], [2.4, 0.6, 1.2]])


def passed(test: DropTest) -> bool:
    """Whether none fell through or was thrown out and all rest within 2 cm of the height map."""
    return test.dropped > 0 and test.fell_through == test.thrown_out == test.off_height == 0


@pytest.fixture(scope="module")
def regions():
    return find_regions(FLOOR, TRACK, everywhere(), RegionsParams())


def test_bodies_rest_on_the_rebuilt_room():
    """On floor, steps and guessed patches; all within 2 cm."""
    result = drop_bodies(built().collision, find_regions(built().collision, track(), everywhere(), RegionsParams()))
    assert passed(result)
    assert result.dropped == 1000
    assert result.median_error is not None and result.median_error < 0.003


def test_a_hole_lets_bodies_through(regions):
    """Whether the region was drawn before the hole was cut or after: then the hole itself gets bodies."""
    cut = without(FLOOR, (1.5, 1.5), 0.25)
    before, after = (
        drop_bodies(cut, regions),
        drop_bodies(cut, find_regions(cut, TRACK, everywhere(), RegionsParams())),
    )
    assert not passed(before) and before.fell_through >= 1
    assert not passed(after) and after.fell_through >= 1 and after.over_holes >= 1


def test_faces_that_look_down_carry_nothing(regions):
    """Triangles are one-sided: all bodies fall through a flipped floor."""
    result = drop_bodies(replace(FLOOR, triangles=FLOOR.triangles[:, ::-1].copy()), regions)
    assert not passed(result)
    assert result.fell_through > 0.9 * result.dropped


def test_a_wrong_height_is_seen(regions):
    """A floor 5 cm lower than the regions say carries, but at the wrong height."""
    result = drop_bodies(grid_floor((0, 0), (3, 3), z=-0.05), regions)
    assert result.fell_through == 0
    assert result.off_height == result.dropped
    assert result.largest_error == pytest.approx(0.05, abs=0.005)


def test_what_moves_still_gets_time_to_rest(regions, monkeypatch: pytest.MonkeyPatch):
    """After a quarter of a second bodies are in the air, 4 cm over the floor; after twice that they lie there."""
    monkeypatch.setattr(ground, "SECONDS", 0.25)
    assert passed(drop_bodies(FLOOR, regions))


def test_a_ball_on_an_edge_lies_on_the_step():
    """Its lowest point is over the floor below, two cells from the step that its side touches; never three."""
    x = np.arange(10)[:, None] * np.ones(4)
    regions = replace(Regions.without_floor(0.05, ""), origin=np.zeros(2), height=np.where(x < 5, 0.18, 0).astype("f4"))
    heights = [_floor_below(np.array([[0.25 + beside, 0.1, 0.17]]), regions).min(0) for beside in (0.06, 0.11)]
    assert [np.isclose(found, 0.18).any() for found in heights] == [True, False]


def test_it_repeats(regions):
    """Equal metrics to the last bit."""
    assert drop_bodies(FLOOR, regions) == drop_bodies(FLOOR, regions)


def test_bodies_that_the_mesh_pushes_away_are_seen(regions):
    """A sheet that faces up and stands in the bodies' middle when they start shoots them off."""
    result = drop_bodies(FLOOR.joined(grid_floor((1.2, 1.2), (1.8, 1.8), z=0.38)), regions)
    assert result.thrown_out >= 10
    assert not passed(result)


def measured(mesh, path=TRACK):
    return measure_floor_holes(mesh, find_regions(mesh, path, everywhere(), RegionsParams()))


def test_a_whole_floor_has_none():
    """And the area is the floor's."""
    holes = measured(FLOOR)
    assert holes.hole_area == 0 and holes.largest_diameter == 0
    assert holes.expected_area == pytest.approx(9, rel=0.05)


def test_a_hole_is_measured():
    """Area and diameter of a round hole of 0.3 m radius, though the region itself keeps off it."""
    holes = measured(without(FLOOR, (1.5, 1.5), 0.3))
    assert holes.hole_area == pytest.approx(np.pi * 0.3**2, rel=0.15)
    assert 0.5 < holes.largest_diameter < 0.62  # ragged: whole triangles were cut


def test_objects_on_the_floor_are_no_holes():
    """A box that stands in a hole, and a table over whole floor."""
    cut = without(FLOOR, (1.5, 1.5), 0.25)
    assert measured(cut.joined(box((1.2, 1.2, 0), (1.8, 1.8, 0.9)))).hole_area == 0
    assert measured(FLOOR.joined(box((1.2, 1.2, 0.6), (1.8, 1.8, 0.65)))).hole_area == 0


def test_a_table_does_not_hide_a_hole():
    """Its top is no floor."""
    cut = without(FLOOR, (1.5, 1.5), 0.25).joined(box((1.0, 1.0, 0.6), (2.0, 2.0, 0.65)))
    assert measured(cut).hole_area > 0.15


def test_a_floor_that_faces_down_does_not_carry():
    """One-sided, as in physics."""
    regions = find_regions(FLOOR, TRACK, everywhere(), RegionsParams())
    flipped = replace(FLOOR, triangles=FLOOR.triangles[:, ::-1].copy())
    assert (
        measure_floor_holes(without(FLOOR, (1.5, 1.5), 1.0).joined(without(flipped, (9, 9), 0)), regions).hole_area > 2
    )


def test_guessed_floor_is_counted():
    """Its area, not as a hole."""
    guessed = np.hypot(*(FLOOR.vertices[:, :2] - [1.5, 1.5]).T) < 0.4
    holes = measured(replace(FLOOR, guessed=guessed))
    assert holes.guessed_area == pytest.approx(np.pi * 0.4**2, rel=0.2)
    assert holes.hole_area == 0


def test_the_rebuilt_room_is_whole():
    """What the mesh stage closed is closed."""
    holes = measured(built().collision, track())
    assert holes.hole_area < 0.002
    assert holes.largest_diameter <= 0.04


def gaussians(means, opacity):
    count = len(means)
    return Gaussians(
        np.array(means, np.float32),
        np.full((count, 3), -4, np.float32),
        np.tile(np.array([1, 0, 0, 0], np.float32), (count, 1)),
        np.log(np.array(opacity) / (1 - np.array(opacity))).astype(np.float32),
        np.zeros((count, 1, 3), np.float32),
    )


NO_SPLAT = gaussians(np.zeros((0, 3)), [])


def test_the_rebuilt_room_has_none():
    """The camera walked through free space."""
    found = measure_floaters(built().mesh, NO_SPLAT, track())
    assert (found.triangles, found.area, found.gaussians) == (0, 0.0, 0)
    assert found.path_length > 4


def test_a_planted_blob_is_seen():
    """A box of 10 cm right on the path, between two cameras; beside it nothing changes."""
    middle = (track()[3] + track()[4]) / 2
    blob = box(tuple(middle - 0.05), tuple(middle + 0.05))
    found = measure_floaters(built().mesh.joined(blob), NO_SPLAT, track())
    assert found.triangles == 12
    assert found.area == pytest.approx(0.06, rel=0.05)


def test_a_large_triangle_that_crosses_is_seen():
    """None of its corners is near the path."""
    wall = box((0.5, -5, -5), (0.51, 5, 5))
    path = np.array([[0.0, 0, 0], [0.4, 0, 0], [0.9, 0, 0]])
    found = measure_floaters(wall, NO_SPLAT, path)
    assert found.triangles >= 2
    assert found.area == pytest.approx(2 * np.pi * 0.15**2, rel=0.2)


def test_opaque_gaussians_count():
    """Two inside the tube, one of them opaque; one outside."""
    path = np.array([[0.0, 0, 1], [0.5, 0, 1]])
    splat = gaussians([[0.2, 0.1, 1], [0.3, 0, 1.1], [0.2, 0.3, 1]], [0.9, 0.2, 0.9])
    found = measure_floaters(NO_MESH, splat, path)
    assert found.gaussians == 1


def test_far_apart_cameras_are_not_joined():
    """Nothing is known of the way between unordered photos."""
    path, length = camera_path(np.array([[0.0, 0, 0], [3.0, 0, 0], [3.3, 0, 0]]))
    assert length == pytest.approx(0.3)
    assert not ((path[:, 0] > 0.1) & (path[:, 0] < 2.9)).any()
