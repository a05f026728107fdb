"""The stage: places on the floor, and a map that knows where the photos were taken."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.align.alignment import Alignment
from pipeline.coverage.map import CoverageMap
from pipeline.coverage.params import CoverageParams
from pipeline.coverage.stage import find_positions, horizontal_rotation, run
from pipeline.geometry import Similarity
from pipeline.points.completion import Completion
from pipeline.points.levels import Levels
from pipeline.points.mirrors import Mirrors
from pipeline.splat.ply import save_splat
from tests.coverage.scenes import disc_splat
from tests.mesh.scenes import box, grid_floor
from tests.synthetic import SIZE, Room, posed_scene, walk

TRACK = np.array([pose.translation for pose in walk(9)])


def write_inputs(root, room: Room, collision):
    """Finished folders of the room in the world's own frame."""
    inputs = {name: root / name for name in ("poses", "align", "points", "mesh", "splat", "a", "b")}
    for folder in inputs.values():
        folder.mkdir()
    posed_scene(inputs["poses"], room, walk(9))
    identity = Similarity(1.0, np.eye(3), np.zeros(3))
    Alignment(identity, ("floor",), 0.1, "sensor", 0.01, True, {}).save(inputs["align"])
    Completion(Mirrors.none(), Levels.none(np.zeros(2), 0.1, (1, 1))).save(inputs["points"])
    room.mesh.save(inputs["mesh"] / "mesh.ply")
    collision.save(inputs["mesh"] / "collision.ply")
    save_splat(disc_splat(room), inputs["splat"] / "splat.ply")
    return inputs


def test_places_stand_on_the_floor(room):
    """Inside the room, on the floor or a step, out of the furniture; not more than asked for."""
    places, cell = find_positions(room.mesh, TRACK, CoverageParams(places=30))
    assert 15 < len(places) <= 30
    assert cell > 0.25
    assert (places[:, :2] > 0).all() and (places[:, :2] < SIZE[:2]).all()
    assert np.abs(places[:, 2, None] - [0, 0.17, 0.34]).min(1).max() < 1e-3
    crate = (places[:, 0] > 3.2) & (places[:, 0] < 3.7) & (places[:, 1] > 0.3) & (places[:, 1] < 0.9)
    assert not crate.any()
    every, _ = find_positions(room.mesh, TRACK, CoverageParams(cell=0.05, places=100_000))
    assert len(every) > 2000
    assert every[:, :2].min() > 0.1  # a camera in a wall sees nothing


def test_places_are_spread():
    """On an empty floor hardly two are nearer than half the distance."""
    places, cell = find_positions(grid_floor((-1, -1), (1, 1)), np.array([[0.0, 0.0, 1.0]]), CoverageParams())
    distance = np.linalg.norm(places[:, None] - places[None], axis=-1) + 9 * np.eye(len(places))
    assert cell == 0.25
    assert len(places) > 40
    assert distance.min() > 0.12


def test_a_level_look_is_upright():
    """Its x points to the right, y down, z along the heading."""
    rotation = horizontal_rotation(np.pi / 2)  # towards +y
    np.testing.assert_allclose(rotation, [[1, 0, 0], [0, 0, 1], [0, -1, 0]], atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)


def test_the_map_knows_where_the_splat_is_bad(room, tmp_path):
    """Without the Gaussians of the wall x = 4 the views towards it get worse, those away from it stay as they were."""
    inputs = write_inputs(tmp_path, room, room.mesh)
    params = CoverageParams(places=9)
    run(inputs, params, inputs["a"])
    splat = disc_splat(room)
    save_splat(splat[splat.means[:, 0] < 3.9], inputs["splat"] / "splat.ply")
    run(inputs, params, inputs["b"])
    whole, holed = (CoverageMap.load(inputs[name]) for name in "ab")
    np.testing.assert_array_equal(whole.positions, holed.positions)
    near = (whole.positions[:, 0] < 3).nonzero()[0]
    assert len(near) >= 4
    assert (holed.errors[near, 0] > 1.2 * whole.errors[near, 0]).all()  # heading 0 is +x
    np.testing.assert_allclose(holed.errors[near, 4], whole.errors[near, 4], rtol=0.05)


def test_two_runs_write_the_same_bytes(room, tmp_path):
    """The build may be killed and repeated."""
    inputs = write_inputs(tmp_path, room, room.mesh)
    for name in "ab":
        run(inputs, CoverageParams(places=4), inputs[name])
    assert (inputs["a"] / "coverage.npz").read_bytes() == (inputs["b"] / "coverage.npz").read_bytes()


def test_without_a_floor_the_map_is_empty(room, tmp_path):
    """An image of a shelf still builds."""
    inputs = write_inputs(tmp_path, room, box((0, 0, 0), (0.01, 3, 0.4)))
    run(inputs, CoverageParams(), inputs["a"])
    assert len(CoverageMap.load(inputs["a"]).positions) == 0
