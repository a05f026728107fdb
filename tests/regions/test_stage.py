"""The regions stage, its places and its files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.align.alignment import Alignment
from pipeline.capture.model import Capture
from pipeline.check.ground import drop_bodies, measure_floor_holes
from pipeline.coverage.map import TRUSTED, CoverageMap
from pipeline.geometry import Mesh, Similarity
from pipeline.poses.scene import PosedScene, SparsePoints, View
from pipeline.regions.params import Area, RegionsParams
from pipeline.regions.regions import GRID_FILE, REGIONS_FILE, Regions, RobotPose
from pipeline.regions.stage import find_regions, inside_polygon, paint_areas, run
from pipeline.types import U8, Mask
from tests.mesh.scenes import SMALL, all_maps, box, built, room, track


def equal(a: Regions, b: Regions) -> bool:
    grids = all(
        np.array_equal(getattr(a, n), getattr(b, n), equal_nan=n == "height")
        for n in ("height", "walkable", "drivable", "guessed")
    )
    names = ("origin", "cell", "floor_height", "spawn_poses", "goals", "note")
    return grids and all(getattr(a, n) == getattr(b, n) for n in names)


def everywhere(bad: Mask | None = None) -> CoverageMap:
    """A map of the room's floor: all images are good but the `bad` of (16, 12, 8) places and headings."""
    x, y = np.meshgrid(np.arange(16) * 0.25 + 0.125, np.arange(12) * 0.25 + 0.125, indexing="ij")
    positions = np.stack([x, y, np.zeros_like(x)], -1).reshape(-1, 3).astype(np.float32)
    errors = np.full((16, 12, 8), 1e-3, np.float32)
    if bad is not None:
        errors[bad] = 0.1
    return CoverageMap(positions, errors.reshape(-1, 8), 0.25, 0.3, np.pi / 4)


def write_inputs(folder: Path, collision: Mesh) -> dict[str, Path]:
    """Finished folders of a scene in a frame of its own, and an empty one named out."""
    scene_from_world = Similarity(0.5, np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]), np.array([1.0, 2, 3]))
    inputs = {name: folder / name for name in ("capture", "poses", "align", "mesh", "coverage", "out")}
    for path in inputs.values():
        path.mkdir()
    none = np.zeros(0, np.int32)
    empty = SparsePoints(np.zeros((0, 3)), np.zeros((0, 3), np.uint8), np.zeros(0), none, none)
    views = tuple(View(m.name, "", SMALL, m.world_from_camera, m.held_out) for m in all_maps())
    PosedScene(views, empty, 0.01, 1.0, {}).transformed(scene_from_world).save(inputs["poses"])
    Alignment(scene_from_world.inverse(), ("floor",), 0.1, "sensor", 0.01, True, {}).save(inputs["align"])
    Capture(inputs["capture"], "photos", (), True).save()
    for name in ("mesh.ply", "collision.ply"):
        collision.save(inputs["mesh"] / name)
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


def test_places_keep_to_where_the_images_hold():
    """With good images from the near half of the room only, nobody starts or goes beyond it."""
    far = np.zeros((16, 12, 8), bool)
    far[8:] = True
    regions = find_regions(room().mesh, track(), everywhere(far), RegionsParams())
    places = np.array([p.position for p in regions.spawn_poses + regions.goals])
    assert len(places) == 16
    assert places[:, 0].max() < 2.1
    assert min(p.trust for p in regions.spawn_poses + regions.goals) >= TRUSTED


def test_places_look_where_the_images_hold():
    """With good images towards -y only, everybody looks there, however open other directions are."""
    others = np.ones((16, 12, 8), bool)
    others[:, :, 6] = False
    regions = find_regions(room().mesh, track(), everywhere(others), RegionsParams())
    ahead = np.array([pose.world_from_base.rotate([1, 0, 0]) for pose in regions.spawn_poses])
    assert (ahead[:, 1] < -0.9).all()


def test_trusted_headings_into_a_wall_are_no_places():
    """With good images towards -x everywhere, everybody who looks there has room to walk."""
    others = np.ones((16, 12, 8), bool)
    others[:, :, 4] = False
    regions = find_regions(room().mesh, track(), everywhere(others), RegionsParams())
    ahead = np.array([pose.world_from_base.apply([0.45, 0, 0]) for pose in regions.spawn_poses + regions.goals])
    cells, inside = regions.cells_of(ahead)
    assert inside.all()
    assert regions.walkable[tuple(cells.T)].all()


def test_without_any_trust_there_still_are_places():
    """A robot without a camera can use them; each says that its images can't be trusted."""
    nothing = CoverageMap(np.zeros((0, 3), np.float32), np.zeros((0, 8), np.float32), 0.25, 0.3, 1.0)
    regions = find_regions(room().mesh, track(), nothing, RegionsParams())
    assert len(regions.spawn_poses) == 8
    assert {p.trust for p in regions.spawn_poses} == {0.0}


def test_a_base_frame_is_x_forward_z_up():
    """Yaw 90 degrees looks along +y."""
    pose = RobotPose((1.0, 2.0, 0.1), np.pi / 2, 0.5).world_from_base
    assert pose.apply([1, 0, 0]) == pytest.approx([1, 3, 0.1])
    assert pose.apply([0, 0, 1]) == pytest.approx([1, 2, 1.1])


def test_equal_runs_give_equal_regions():
    """Samples are seeded."""
    assert equal(*(find_regions(built().collision, track(), everywhere(), RegionsParams()) for _ in range(2)))


def test_no_floor_gives_empty_regions_that_say_why(tmp_path):
    """An object on its own: no spawn pose, a note, nothing to drop bodies on; the build goes on."""
    inputs = write_inputs(tmp_path, box((0, 0, 0), (0.01, 3, 0.4)))
    run(inputs, RegionsParams(), inputs["out"])
    regions = Regions.load(inputs["out"])
    assert regions.spawn_poses == () and regions.walkable_area == 0
    assert "carried over a floor" in regions.note
    assert measure_floor_holes(built().collision, regions).expected_area == 0
    assert drop_bodies(built().collision, regions).dropped == 0


ARROW = ((0.3, 0.2), (1.7, 0.4), (1.1, 0.7), (1.9, 1.3), (0.4, 1.1))
"""Five corners, one of them a notch; 0.78 m^2."""
YELLOW, GREY = (235, 200, 40), (150, 150, 150)


def floor(colors: U8, cell: float = 0.1) -> tuple[Regions, Mesh]:
    """A level floor at 0.2 m of (X, Y) cells from (-0.5, 0.3) on, and a mesh with a vertex at each centre."""
    shape = colors.shape[:2]
    height, free = np.full(shape, 0.2, np.float32), np.ones(shape, bool)
    regions = Regions((-0.5, 0.3), cell, height, free, free, ~free, 0.2, (), ())
    vertices = np.concatenate([regions.centres(), height[..., None]], -1).reshape(-1, 3).astype(np.float32)
    mesh = Mesh(vertices, np.zeros((0, 3), np.int32), colors.reshape(-1, 3), np.zeros(len(vertices), bool))
    return regions, mesh


def painted(colors: U8, *areas: Area) -> Regions:
    """The floor with these areas."""
    regions, mesh = floor(colors)
    cells = paint_areas(areas, regions.centres(), regions.height, regions.cell, mesh)
    return replace(regions, areas=areas, area=cells)


def grey(x: int = 25, y: int = 15) -> U8:
    """A floor all of one colour (X, Y, 3)."""
    return np.tile(np.array(GREY, np.uint8), (x, y, 1))


def test_polygon_is_closed_and_may_have_notches():
    """Its area by counting points is that of the shoelace formula; the notch is outside."""
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 2, (40_000, 2))
    corners = np.array(ARROW)
    x, y = corners.T
    exact = abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
    assert inside_polygon(corners, points).mean() * 4 == pytest.approx(exact, abs=0.03)
    at = inside_polygon(corners, np.array([[0.5, 0.5], [1.6, 0.7], [1.6, 1.1], [0.2, 0.2]]))
    assert at.tolist() == [True, False, True, False]
    assert (inside_polygon(corners[::-1], points) == inside_polygon(corners, points)).all()


def test_lookup_gives_friction_and_cost_by_place():
    """In an area, beside it, off the grid; where two overlap the last holds."""
    square = ((-2.0, 0.5), (1.0, 0.5), (1.0, 1.5), (-2.0, 1.5))
    corner = ((0.5, 1.0), (1.3, 1.0), (1.3, 1.7), (0.5, 1.7))
    regions = painted(
        grey(), Area(name="ice", polygon=square, friction=0.1), Area(name="mud", polygon=corner, friction=0.7, cost=2.5)
    )
    friction, cost = regions.surface(np.array([[0.2, 0.7, 9], [0.7, 1.2, 9], [1.5, 0.7, 9], [-7.0, 0.7, 9], [9, 9, 9]]))
    assert friction.tolist() == pytest.approx([0.1, 0.7, 1, 1, 1])
    assert cost.tolist() == [0, 2.5, 0, 0, 0]
    assert friction.dtype == cost.dtype == np.float32


def test_without_areas_the_floor_is_plain():
    """Factor 1, cost 0, everywhere."""
    friction, cost = floor(grey())[0].surface(np.array([[0.2, 0.7], [90.0, 1.0]]))
    assert friction.tolist() == [1, 1] and cost.tolist() == [0, 0]


def test_color_chooses_cells_in_light_and_shade():
    """The yellow patch, half of it in shade, and not the grey, white or red floor round it."""
    colors = grey()
    colors[5:12, 3:9] = YELLOW
    colors[8:12, 3:9] = np.array(YELLOW) * 0.7
    colors[15:, :4], colors[15:, 10:] = (240, 240, 240), (200, 60, 40)
    inside = painted(colors, Area(name="patch", color="#ebc828")).area == 0
    inner = np.zeros_like(inside)
    inner[6:11, 4:8] = True  # a cell's colour is the mean of four vertices
    assert inside[inner].all()
    outer = np.ones_like(inside)
    outer[4:13, 2:10] = False
    assert not inside[outer].any()


def test_color_within_a_polygon():
    """Both together: only what lies in it."""
    colors = grey()
    colors[:, :] = YELLOW
    regions = painted(
        colors, Area(name="half", polygon=((-1, 0), (0.5, 0), (0.5, 3), (-1, 3)), color="#ebc828", cost=1)
    )
    assert (regions.area[:10] == 0).all() and (regions.area[10:] == -1).all()


def test_colors_of_other_levels_do_not_count():
    """A yellow table top over a floor that nobody saw."""
    colors = grey()
    colors[:, :] = YELLOW
    regions, mesh = floor(colors)
    cells = paint_areas([Area(name="y", color="#ebc828")], regions.centres(), regions.height - 0.7, regions.cell, mesh)
    assert (cells == -1).all()


def test_stage_carries_areas_into_the_files(tmp_path: Path):
    """Written and read again, with the cells; a bundle of an older version, without them, opens too."""
    inputs = write_inputs(tmp_path, built().collision)
    built().mesh.save(inputs["mesh"] / "mesh.ply")
    areas = (
        Area(name="ice", polygon=((1, 0.5), (2.2, 0.5), (2, 1.3)), friction=0.2),
        Area(name="dear", polygon=((0, 0), (1, 0), (0, 2)), cost=3),
    )
    run(inputs, RegionsParams(areas=areas), inputs["out"])
    regions = Regions.load(inputs["out"])
    assert regions.areas == areas
    assert (regions.area == 0).sum() * regions.cell**2 == pytest.approx(0.48, abs=0.05)
    assert regions.surface(np.array([[1.9, 0.7], [0.2, 0.3]]))[1].tolist() == [0, 3]
    content = json.loads((inputs["out"] / REGIONS_FILE).read_text())
    del content["areas"]
    (inputs["out"] / REGIONS_FILE).write_text(json.dumps(content))
    np.savez(
        inputs["out"] / GRID_FILE, **{n: getattr(regions, n) for n in ("height", "walkable", "drivable", "guessed")}
    )
    old = Regions.load(inputs["out"])
    assert old.areas == () and old.surface(np.array([[1.9, 0.7]]))[0].tolist() == [1]
