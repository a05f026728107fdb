"""The floors of several scenes, for one robot."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import SimError
from pipeline.geometry import Mesh
from pipeline.regions.params import RegionsParams
from sim.robots.model import Robot
from sim.scene.floors import BLOCK, MARGIN, NEARBY, NEXT_POSITIONS, SPOKES, Floors, held_out, positions_around
from sim.scene.opening import open_scene
from tests.bundles import make_bundle
from tests.sim.floors import centre, floor_scene, sized
from tests.synthetic import Room


def test_places_and_cells_of_scenes_of_different_size(rover: Robot):
    """A cell's middle is on the floor of its own scene, and lies in that cell; cells may differ in size too."""
    small, large = floor_scene(np.ones((5, 8), bool), cell=0.25), floor_scene(np.ones((12, 6), bool))
    floors = Floors([small, large], sized(rover, 0.2))
    scenes, cells = np.array([1, 0]), np.array([[11, 2], [4, 7]])
    places = floors.positions(scenes, cells)
    np.testing.assert_allclose(places, [[*centre(11, 2), 0.2], [*centre(4, 7, 0.25), 0.2]], atol=1e-7)
    np.testing.assert_array_equal(np.column_stack(floors.cells(scenes, places[:, :2])), cells)
    assert [grid.shape for grid in floors.height] == [(5, 8), (12, 6)]
    assert [grid.shape for grid in floors.area_costs] == [(5, 8), (12, 6)]
    far = np.array([[50.0, -50.0], [50.0, -50.0]])
    np.testing.assert_array_equal(floors.cells(np.array([0, 1]), far), [[4, 11], [0, 0]])


def test_cells_are_drawn_evenly_from_the_scenes_own_floor(rover: Robot):
    """Of 4000, each of the five free cells of a scene gets its fifth."""
    free = np.zeros((7, 9), bool)
    free[2, 3:8] = True
    floors = Floors([floor_scene(np.ones((4, 4), bool)), floor_scene(free)], sized(rover, 0.2))
    drawn = floors.draw(np.array([1, 0]), 4000, np.random.default_rng(3))
    assert (drawn[0, :, 0] == 2).all()
    assert np.abs(np.bincount(drawn[0, :, 1], minlength=9)[3:8] - 800).max() < 120
    assert drawn[1].max() == 3


def test_a_wider_robot_has_less_floor(rover: Robot):
    """By as much as it is wider than the robot that the regions were found for, all round; but not by the padding."""
    free = np.ones((20, 14), bool)
    scene = floor_scene(free, measured_for=(0.25, 0.5))
    same = Floors([scene, floor_scene(np.ones((30, 30), bool))], sized(rover, 0.25))
    assert (same.drivable[0] == free).all()
    wider = Floors([scene], sized(rover, 0.25 + 0.26)).drivable[0]  # cells within 2.6 cells of the edge go
    assert wider[3:-3, 3:-3].all()
    assert wider.sum() == 14 * 8


def test_scenes_tell_for_which_robot_their_floor_was_found(tmp_path: Path, room: Room):
    """As the manifest has it, or by default."""
    bundle = make_bundle(tmp_path, room)
    assert open_scene(bundle).measured_for == (RegionsParams().radius, RegionsParams().height)
    manifest = json.loads((bundle / "bundle.json").read_text())
    stage = {"name": "regions", "key": "1", "backend": "cpu", "reason": "", "params": {"radius": 0.4, "height": 0.9}}
    manifest["provenance"]["stages"].append(stage)
    (bundle / "bundle.json").write_text(json.dumps(manifest))
    assert open_scene(bundle).measured_for == (0.4, 0.9)


def test_a_wider_robot_keeps_to_one_part(rover: Robot):
    """Two rooms with a door that is too narrow for it: the larger is left."""
    free = np.zeros((40, 12), bool)
    free[:15], free[18:], free[15:18, 5:8] = True, True, True
    floors = Floors([floor_scene(free)], sized(rover, 0.25 + 0.2))
    assert not floors.drivable[0][:18].any()
    assert floors.drivable[0][22:36, 3:9].all()


def test_a_robot_that_fits_nowhere_is_refused(rover: Robot):
    """With the metrics of both."""
    with pytest.raises(SimError, match=r"radius of 1\.20 m.*2\.0 m\^2"):
        Floors([floor_scene(np.ones((20, 10), bool))], sized(rover, 1.2))


def test_a_higher_robot_keeps_away_from_low_ceilings(rover: Robot):
    """A shelf 0.7 m over the floor across half of it: nothing to a robot of 0.6 m, a wall to one of 0.9 m."""
    low, high = centre(0, 0) - 0.05, centre(9, 13) + 0.05
    corners = np.array([[low[0], low[1], 0.9], [high[0], low[1], 0.9], [high[0], high[1], 0.9], [low[0], high[1], 0.9]])
    shelf = Mesh.from_arrays(corners, np.array([[0, 2, 1], [0, 3, 2]]))
    scene = floor_scene(np.ones((30, 14), bool), mesh=shelf)
    assert Floors([scene], sized(rover, 0.2, height=0.6)).drivable[0].all()
    drivable = Floors([scene], sized(rover, 0.25, height=0.9)).drivable[0]
    assert not drivable[:12].any()
    assert drivable[12:].all()


def test_a_fifth_of_all_blocks_is_held_out_for_good():
    """The same ones in every version, on both sides of zero; none beside another, one in each three by two."""
    i, j = np.meshgrid(np.arange(-12, 13), np.arange(-12, 13), indexing="ij")
    blocks = held_out((np.stack([i, j], -1) + 0.37) * BLOCK)
    known = [(-2, 1), (0, 0), (1, 2), (3, 1), (-1, -2)]
    assert {(a, b) for a in range(-2, 4) for b in range(-2, 3) if blocks[a + 12, b + 12]} >= set(known)
    assert blocks.sum() == 25 * 25 / 5
    assert not (blocks[1:] & blocks[:-1]).any()
    assert not (blocks[:, 1:] & blocks[:, :-1]).any()
    assert all(blocks[a : a + 3, b : b + 2].any() for a in range(23) for b in range(24))


def test_starts_to_train_at_keep_off_those_held_out(rover: Robot):
    """In scenes of two cell sizes; what is drawn lies on the floor, and together they leave only a margin."""
    free = np.ones((60, 52), bool)
    free[20:31, 10:33] = False
    scenes = [floor_scene(free), floor_scene(np.ones((25, 30), bool), cell=0.2)]
    robot, rng = sized(rover, 0.2), np.random.default_rng(2)
    train, held = (Floors(scenes, robot, starts) for starts in ("train", "held_out"))  # type: ignore[arg-type]
    for scene, cell in enumerate((0.1, 0.2)):
        one, other = (
            floors.positions(np.full(3000, scene), floors.starts.draw(np.full(1, scene), 3000, rng)[0])[:, :2]
            for floors in (train, held)
        )
        assert held_out(other).all()
        margin = max(MARGIN, cell) - 1e-9
        for angle in np.linspace(0, 2 * np.pi, 24, endpoint=False):
            assert not held_out(one + margin * np.array([np.cos(angle), np.sin(angle)])).any()
        assert np.linalg.norm(one[:, None] - other[None, :500], axis=-1).min() > margin
        drivable = train.drivable[scene]
        assert held.starts.count[scene] / drivable.sum() == pytest.approx(1 / 5, abs=0.05)
        left = 1 - (BLOCK + 2 * margin) ** 2 / (5 * BLOCK**2)
        assert train.starts.count[scene] / drivable.sum() == pytest.approx(left, abs=0.1)
    everywhere = Floors(scenes, robot)
    assert everywhere.starts.count.tolist() == [grid.sum() for grid in everywhere.drivable]
    assert (everywhere.held_out.values == held.held_out.values).all()


def test_a_scene_too_small_to_hold_some_out_is_refused(rover: Robot):
    """With the metrics of both; with all starts it will do."""
    scene = floor_scene(np.ones((9, 4), bool))  # one block of 0.5 m is held out, 2 x 4 cells are off it
    Floors([scene], sized(rover, 0.2))
    for starts in ("train", "held_out"):
        with pytest.raises(SimError, match=r"8 and 20 of 36 cells.*floor@1\.0\.0"):
            Floors([scene], sized(rover, 0.2), starts)  # type: ignore[arg-type]
    with pytest.raises(SimError, match="'test'"):
        Floors([scene], sized(rover, 0.2), "test")  # type: ignore[arg-type]


def test_how_far_the_edge_is(rover: Robot):
    """Along both axes, to a cell; off the floor it is 0, and the grid's rim is an edge too."""
    free = np.ones((30, 20), bool)
    free[:, 15:] = free[-1] = False
    floors = Floors([floor_scene(np.ones((40, 40), bool)), floor_scene(free)], sized(rover, 0.2))
    xy = np.array([centre(12, 10), centre(3, 7), centre(12, 17), centre(90, 3)])
    np.testing.assert_allclose(floors.to_edge(np.ones(4, int), xy), [0.45, 0.35, 0, 0], atol=1e-6)
    assert floors.to_edge(np.zeros(1, int), centre(20, 5)[None])[0] == pytest.approx(0.55)


def test_places_turn_with_the_robot():
    """Ahead of one that looks along +y is +y, to its left is -x."""
    pose = np.array([[3.0, -1.0, 0.0], [3.0, -1.0, np.pi / 2], [0.5, 2.0, np.deg2rad(30)]])
    found = positions_around(pose, np.array([[0.2, 0.0], [0.1, 0.4]]))
    np.testing.assert_allclose(found[0], [[3.2, -1.0], [3.1, -0.6]])
    np.testing.assert_allclose(found[1], [[3.0, -0.8], [2.6, -0.9]])
    cos, sin = np.cos(np.pi / 6), 0.5
    np.testing.assert_allclose(found[2], [[0.5 + 0.2 * cos, 2.1], [0.5 + 0.1 * cos - 0.4 * sin, 2 + 0.05 + 0.4 * cos]])


def test_rings_begin_ahead_and_go_to_the_left():
    """The robot's own place comes before three rings."""
    assert NEXT_POSITIONS.shape == (SPOKES, 2)
    np.testing.assert_allclose(NEXT_POSITIONS[[0, 2]], [[0.35, 0], [0, 0.35]], atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(NEARBY[[0, 1, 9, 17, 24]], axis=1), [0, 0.15, 0.35, 0.6, 0.6])
