"""The regions stage, its places and its files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.align.alignment import Alignment
from pipeline.check.drop import drop_bodies
from pipeline.check.floor import measure_floor_holes
from pipeline.coverage.map import CoverageMap
from pipeline.coverage.prediction import TRUSTED
from pipeline.geometry import Mesh, Similarity
from pipeline.poses.scene import PosedScene, SparsePoints, View
from pipeline.regions.params import RegionsParams
from pipeline.regions.places import farthest_points
from pipeline.regions.regions import Regions, RobotPose
from pipeline.regions.stage import find_regions, run
from tests.mesh.scenes import SMALL, all_maps, box, built, room, track


def equal(a: Regions, b: Regions) -> bool:
    grids = all(
        np.array_equal(getattr(a, n), getattr(b, n), equal_nan=n == "height")
        for n in ("height", "walkable", "drivable", "guessed")
    )
    names = ("origin", "cell", "floor_height", "spawn_poses", "goals", "note")
    return grids and all(getattr(a, n) == getattr(b, n) for n in names)


def everywhere(bad: NDArray[np.bool_] | None = None) -> CoverageMap:
    """A map of the room's floor: all pictures are good but the `bad` of (16, 12, 8) places and headings."""
    x, y = np.meshgrid(np.arange(16) * 0.25 + 0.125, np.arange(12) * 0.25 + 0.125, indexing="ij")
    positions = np.stack([x, y, np.zeros_like(x)], -1).reshape(-1, 3).astype(np.float32)
    errors = np.full((16, 12, 8), 1e-3, np.float32)
    if bad is not None:
        errors[bad] = 0.1
    return CoverageMap(positions, errors.reshape(-1, 8), 0.25, 0.3, np.pi / 4)


def write_inputs(folder: Path, collision: Mesh) -> dict[str, Path]:
    """Finished folders of a scene in a frame of its own, and an empty one named out."""
    scene_from_world = Similarity(0.5, np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]), np.array([1.0, 2, 3]))
    inputs = {name: folder / name for name in ("poses", "align", "mesh", "coverage", "out")}
    for path in inputs.values():
        path.mkdir()
    none = np.zeros(0, np.int32)
    empty = SparsePoints(np.zeros((0, 3)), np.zeros((0, 3), np.uint8), np.zeros(0), none, none)
    views = tuple(View(m.name, "", SMALL, m.world_from_camera, m.held_out) for m in all_maps())
    PosedScene(views, empty, 0.01, 1.0, {}).transformed(scene_from_world).save(inputs["poses"])
    Alignment(scene_from_world.inverse(), "floor", 0.1, "sensor", 0.01, True, {}).save(inputs["align"])
    collision.save(inputs["mesh"] / "collision.ply")
    everywhere().save(inputs["coverage"])
    return inputs


def test_folders_in_regions_out(tmp_path):
    """The track comes in the scene's frame, the regions in the world's; the same as from memory."""
    inputs = write_inputs(tmp_path, built().collision)
    run(inputs, RegionsParams(), inputs["out"])
    assert equal(Regions.load(inputs["out"]), find_regions(built().collision, track(), everywhere(), RegionsParams()))
    content = json.loads((inputs["out"] / "regions.json").read_text())
    assert content["walkable_area_m2"] > 4
    assert set(content["spawn_poses"][0]) == set(content["goals"][0]) == {"position", "yaw", "trust"}


def test_spawn_poses_stand_on_free_level_floor():
    """On drivable cells, z at the floor, clear of everything by the robot's radius."""
    regions = find_regions(room().mesh, track(), everywhere(), RegionsParams())
    assert len(regions.spawn_poses) == 8 and len(regions.goals) == 8
    places = np.array([p.position for p in regions.spawn_poses + regions.goals])
    cells, inside = regions.cells_of(places)
    assert inside.all()
    assert regions.drivable[tuple(cells.T)].all()
    assert np.abs(places[:, 2]).max() < 1e-3
    assert regions.floor_height == pytest.approx(0, abs=1e-4)


def test_places_are_spread():
    """No two nearer than 0.6 m in a room of 12 m^2."""
    regions = find_regions(room().mesh, track(), everywhere(), RegionsParams())
    places = np.array([p.position for p in regions.spawn_poses + regions.goals])
    distance = np.linalg.norm(places[:, None] - places[None], axis=-1) + np.eye(len(places)) * 9
    assert distance.min() > 0.5


def test_spawn_poses_look_into_the_open():
    """Half a metre ahead is still walkable."""
    regions = find_regions(room().mesh, track(), everywhere(), RegionsParams())
    ahead = np.array([pose.world_from_base.apply([0.5, 0, 0]) for pose in regions.spawn_poses])
    cells, _ = regions.cells_of(ahead)
    assert regions.walkable[tuple(cells.T)].all()


def test_places_keep_to_where_the_pictures_hold():
    """With good pictures from the near half of the room only, nobody starts or goes beyond it."""
    far = np.zeros((16, 12, 8), bool)
    far[8:] = True
    regions = find_regions(room().mesh, track(), everywhere(far), RegionsParams())
    places = np.array([p.position for p in regions.spawn_poses + regions.goals])
    assert len(places) == 16
    assert places[:, 0].max() < 2.1
    assert min(p.trust for p in regions.spawn_poses + regions.goals) >= TRUSTED


def test_places_look_where_the_pictures_hold():
    """With good pictures towards -y only, everybody looks there, however open other directions are."""
    others = np.ones((16, 12, 8), bool)
    others[:, :, 6] = False
    regions = find_regions(room().mesh, track(), everywhere(others), RegionsParams())
    ahead = np.array([pose.world_from_base.rotate([1, 0, 0]) for pose in regions.spawn_poses])
    assert (ahead[:, 1] < -0.9).all()


def test_trusted_headings_into_a_wall_are_no_places():
    """With good pictures towards -x everywhere, everybody who looks there has room to walk."""
    others = np.ones((16, 12, 8), bool)
    others[:, :, 4] = False
    regions = find_regions(room().mesh, track(), everywhere(others), RegionsParams())
    ahead = np.array([pose.world_from_base.apply([0.45, 0, 0]) for pose in regions.spawn_poses + regions.goals])
    cells, inside = regions.cells_of(ahead)
    assert inside.all()
    assert regions.walkable[tuple(cells.T)].all()


def test_without_any_trust_there_still_are_places():
    """A robot without a camera can use them; each says that its pictures can't be trusted."""
    nothing = CoverageMap(np.zeros((0, 3), np.float32), np.zeros((0, 8), np.float32), 0.25, 0.3, 1.0)
    regions = find_regions(room().mesh, track(), nothing, RegionsParams())
    assert len(regions.spawn_poses) == 8
    assert {p.trust for p in regions.spawn_poses} == {0.0}


def test_a_base_frame_is_x_forward_z_up():
    """Yaw 90 degrees looks along +y."""
    pose = RobotPose((1.0, 2.0, 0.1), np.pi / 2, 0.5).world_from_base
    assert pose.apply([1, 0, 0]) == pytest.approx([1, 3, 0.1])
    assert pose.apply([0, 0, 1]) == pytest.approx([1, 2, 1.1])


def test_farthest_points_reach_the_corners():
    """From one corner of a square the opposite one comes next, then the other two."""
    points = np.array([[0, 0], [1, 0], [0.5, 0.5], [0, 1.1], [1, 1.2]], float)
    assert farthest_points(points, 4, 0).tolist() == [0, 4, 3, 1]


def test_equal_runs_give_equal_regions():
    """Samples are seeded."""
    assert equal(*(find_regions(built().collision, track(), everywhere(), RegionsParams()) for _ in range(2)))


def test_no_floor_gives_empty_regions_that_say_why(tmp_path):
    """An object on its own: no spawn pose, a note, a drop test that doesn't pass; the build goes on."""
    inputs = write_inputs(tmp_path, box((0, 0, 0), (0.01, 3, 0.4)))
    run(inputs, RegionsParams(), inputs["out"])
    regions = Regions.load(inputs["out"])
    assert regions.spawn_poses == () and regions.walkable_area == 0
    assert "carried over a floor" in regions.note
    assert measure_floor_holes(built().collision, regions).expected_area == 0
    dropped = drop_bodies(built().collision, regions)
    assert dropped.dropped == 0 and not dropped.passed
