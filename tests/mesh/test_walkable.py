"""The walkable floor of the exact room: every cell's answer is known."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest

from pipeline.errors import ReconstructionError
from pipeline.geometry import Mesh, masks
from pipeline.mesh.params import WalkableParams
from pipeline.mesh.walkable import WalkableGrid, find_walkable
from tests.mesh.scenes import box, built, grid_floor, room, track, without
from tests.paths import HALL_TRUTH

PARAMS = WalkableParams()


@cache
def exact() -> WalkableGrid:
    return find_walkable(room().mesh, track(), PARAMS, np.random.default_rng(0))


def at(grid: WalkableGrid, values: np.ndarray, x: float, y: float):
    i, j = np.floor((np.array([x, y]) - grid.origin) / PARAMS.cell).astype(int)
    return values[i, j]


def test_open_floor_is_walkable_at_its_height():
    """The middle of the room."""
    assert at(exact(), exact().walkable, 2.5, 1.2)
    assert at(exact(), exact().drivable, 2.5, 1.2)
    assert at(exact(), exact().height, 2.5, 1.2) == pytest.approx(0, abs=1e-5)


def test_under_the_crate_is_not():
    """Neither in it nor nearer to it than the robot's radius."""
    for x, y in ((3.45, 0.6), (3.45, 1.0), (3.05, 0.6)):
        assert not at(exact(), exact().walkable, x, y)


def test_under_the_table_is_when_the_robot_is_low_enough():
    """The table's underside is at 0.68 m: room for 0.5 m, not for 0.8 m."""
    tall = find_walkable(room().mesh, track(), WalkableParams(height=0.8), np.random.default_rng(0))
    assert at(exact(), exact().walkable, 1.7, 2.25)
    assert not at(tall, tall.walkable, 1.7, 2.25)
    assert at(tall, tall.walkable, 2.5, 1.2)


def test_table_legs_are_obstacles():
    """5 cm thick, thinner than the rays' spacing could miss."""
    for x, y in ((1.17, 1.97), (2.22, 1.97), (1.17, 2.3), (2.22, 1.8)):
        assert not at(exact(), exact().walkable, x, y)


def test_walls_keep_their_distance():
    """No walkable cell within 0.25 m of a wall."""
    i, j = np.nonzero(exact().walkable)
    xy = exact().origin + (np.stack([i, j], 1) + 0.5) * PARAMS.cell
    assert (xy > 0.25).all() and (xy < np.array([4.0, 3.0]) - 0.25).all()


def test_steps_are_walkable_but_not_drivable():
    """17 cm is climbed on legs, not on wheels."""
    place = 0.42, 1.4
    assert at(exact(), exact().walkable, *place)
    assert at(exact(), exact().height, *place) == pytest.approx(0.17, abs=1e-4)
    assert not at(exact(), exact().drivable, *place)
    low = find_walkable(room().mesh, track(), WalkableParams(max_step=0.1), np.random.default_rng(0))
    assert not at(low, low.walkable, *place)


def test_the_reconstruction_agrees_with_the_exact_room():
    """But for the rim's cells, whose walls lie on their edges: 99 % of cells alike, of heights 99 % within 5 mm."""
    rebuilt = find_walkable(built().collision, track(), PARAMS, np.random.default_rng(0))
    inside = exact().walkable
    rim = masks.grown(inside) & masks.grown(~inside)
    i, j = np.nonzero(~rim)
    xy = exact().origin + (np.stack([i, j], 1) + 0.5) * PARAMS.cell
    a, b = np.clip(np.floor((xy - rebuilt.origin) / PARAMS.cell).astype(int), 0, np.array(rebuilt.walkable.shape) - 1).T
    assert (rebuilt.walkable[a, b] == inside[i, j]).mean() > 0.99
    both = rebuilt.walkable[a, b] & inside[i, j]
    assert np.percentile(np.abs(rebuilt.height[a, b] - exact().height[i, j])[both], 99) < 0.005


@cache
def hall() -> WalkableGrid:
    """The exact sample hall under its exact camera track."""
    with np.load(HALL_TRUTH / "mesh.npz", allow_pickle=False) as data:
        mesh = Mesh.from_arrays(data["vertices"], data["triangles"])
    frames = json.loads((HALL_TRUTH / "poses.json").read_text())["frames"].values()
    walk = np.array([np.array(frame["world_from_camera"])[:3, 3] for frame in frames])
    return find_walkable(mesh, walk, PARAMS, np.random.default_rng(0))


def test_floor_stairs_and_platform_of_the_hall():
    """As regions.json says: at their heights, walkable in their middles; the stairs' lower half too."""
    truth = json.loads((HALL_TRUTH / "regions.json").read_text())
    levels = [*truth["stairs"]["treads"], truth["platform"]]
    for level in levels:
        x, y = level["x"][1] - 0.14, 1.8
        assert at(hall(), hall().height, x, y) == pytest.approx(level["z"], abs=0.005)
        assert at(hall(), hall().walkable, x, y)
        assert not at(hall(), hall().drivable, x, y)
    assert at(hall(), hall().drivable, *truth["yellow_patch"]["centre"][:2])
    assert at(hall(), hall().walkable, *np.mean([truth["table"]["x"], truth["table"]["y"]], 1))
    for name, thing in truth["boxes"].items():
        if thing["bottom_z"] == 0:
            assert not at(hall(), hall().walkable, thing["centre_x"], thing["centre_y"]), name
    for thing in (truth["pillar"], truth["bench"], truth["shelf"]):
        assert not at(hall(), hall().walkable, np.mean(thing["x"]), np.mean(thing["y"]))


def test_the_platform_of_the_hall_ends_at_its_edge():
    """Its side drops 85 cm: the robot keeps its radius from there."""
    truth = json.loads((HALL_TRUTH / "regions.json").read_text())["platform"]
    x, edge = truth["x"][1] - 0.3, truth["y"][0]
    assert not at(hall(), hall().walkable, x, edge + 0.15)
    assert at(hall(), hall().walkable, x, edge + 0.4)


def test_a_walker_on_a_platform_stood_on_top_of_it():
    """The mesh continues the floor inside of a platform of 0.75 m, where a robot would have headroom."""
    steps = [box((x, 1.0, 0.0), (x + 0.3, 3.0, z)) for x, z in ((1.0, 0.19), (1.3, 0.38), (1.6, 0.57))]
    whole = grid_floor((0, 0), (4, 4)).joined(box((1.9, 1.0, 0.0), (3.9, 3.0, 0.75)))
    for step in steps:
        whole = whole.joined(step.with_faces(step.face_normals()[:, 2] > -0.5))
    whole = whole.with_faces(~((whole.face_normals()[:, 2] < -0.5) & (whole.corners()[..., 2].max(1) < 0.01)))
    path = np.array([[0.5, y, 1.4] for y in np.linspace(0.5, 3.5, 9)] + [[2.9, y, 2.15] for y in (1.8, 2.0, 2.2)])
    grid = find_walkable(whole, path, PARAMS, np.random.default_rng(0))
    assert at(grid, grid.height, 2.9, 2.0) == pytest.approx(0.75, abs=1e-3)
    assert at(grid, grid.walkable, 2.9, 2.0) and at(grid, grid.walkable, 0.6, 2.0)


def test_a_low_front_without_a_top_is_an_obstacle():
    """A sheet of 12 cm that leads up to nothing: bodies behind it would be thrown out of its back."""
    fence = box((1.5, 1.0, 0.0), (1.51, 2.0, 0.12))
    fenced = grid_floor((0, 0), (3, 3)).joined(fence.with_faces(fence.face_normals()[:, 2] < 0.5))
    path = np.array([[0.6, 0.6, 1.2], [2.4, 0.6, 1.2]])
    grid = find_walkable(fenced, path, PARAMS, np.random.default_rng(0))
    assert not at(grid, grid.walkable, 1.35, 1.5) and not at(grid, grid.walkable, 1.65, 1.5)
    assert at(grid, grid.walkable, 1.1, 1.5) and at(grid, grid.walkable, 1.9, 1.5)


def test_a_leaning_step_front_is_no_gap():
    """Stairs whose fronts lean by a cell's width are climbed all the same."""
    profile = np.array([(3.0, 0.0), (1.5, 0.0), (1.45, 0.17), (1.2, 0.17), (1.15, 0.34), (0.0, 0.34)])
    corners = np.array([(x, y, z) for x, z in profile for y in (0.0, 2.0)])
    triangles = [(2 * k + a, 2 * k + b, 2 * k + c) for k in range(5) for a, b, c in ((0, 1, 3), (0, 3, 2))]
    stairs = Mesh.from_arrays(corners, np.array(triangles))
    assert (stairs.face_normals()[:, 2] > 0).all()
    grid = find_walkable(stairs, np.array([[2.0, 1.0, 1.2], [2.4, 1.0, 1.2]]), PARAMS, np.random.default_rng(0))
    assert at(grid, grid.walkable, 0.8, 1.0)
    assert at(grid, grid.height, 0.8, 1.0) == pytest.approx(0.34, abs=0.01)


def test_a_drop_keeps_the_robot_away():
    """A floor 60 cm above another one, reached over stairs elsewhere, ends at its edge like at a hole."""
    profile = [(0.0, 0.0), (1.0, 0.0), (1.0, 0.15), (1.3, 0.15), (1.3, 0.3), (1.6, 0.3), (1.6, 0.45), (3.0, 0.45)]
    parts = grid_floor((0, 0), (1, 4)).joined(grid_floor((0, 2), (3, 4)))
    for (low, z), (high, _) in zip(profile[1::2], profile[2::2], strict=False):
        parts = parts.joined(grid_floor((low, 0), (high, 2), z=z)) if z else parts
    for (x, z), (_, top) in zip(profile[1::2], profile[2::2], strict=False):
        parts = parts.joined(box((x, 0.0, z), (x + 0.001, 2.0, top)))
    parts = parts.joined(grid_floor((1.6, 0), (3, 2), z=0.45)).joined(grid_floor((1.0, 0), (1.3, 2), z=0.15))
    parts = parts.joined(grid_floor((1.3, 0), (1.6, 2), z=0.3))
    grid = find_walkable(parts, np.array([[0.5, 1.0, 1.2], [0.5, 1.5, 1.2]]), PARAMS, np.random.default_rng(0))
    assert at(grid, grid.walkable, 2.3, 1.0)
    assert at(grid, grid.height, 2.3, 1.0) == pytest.approx(0.45)
    assert not at(grid, grid.walkable, 2.3, 1.85)


def test_guessed_floor_is_marked():
    """Where all corners were guessed, and only there."""
    mesh = grid_floor((0, 0), (3, 3))
    guessed = np.hypot(*(mesh.vertices[:, :2] - [1.5, 1.5]).T) < 0.4
    marked = Mesh(mesh.vertices, mesh.triangles, mesh.colors, guessed)
    path = np.array([[0.6, 0.6, 1.2], [2.4, 0.6, 1.2]])
    grid = find_walkable(marked, path, PARAMS, np.random.default_rng(0))
    assert at(grid, grid.guessed, 1.5, 1.5)
    assert not at(grid, grid.guessed, 0.6, 0.6)


def test_a_hole_keeps_the_robot_away():
    """No walkable cell within its radius of the hole."""
    path = np.array([[0.6, 0.6, 1.2], [2.4, 0.6, 1.2]])
    grid = find_walkable(without(grid_floor((0, 0), (3, 3)), (1.5, 1.5), 0.3), path, PARAMS, np.random.default_rng(0))
    assert not at(grid, grid.walkable, 1.5, 1.5)
    assert not at(grid, grid.walkable, 1.5, 1.0)
    assert at(grid, grid.walkable, 1.5, 0.8)


def test_another_room_is_not_reached():
    """Floor behind a wall without a door is not part of the walkable region."""
    two = grid_floor((0, 0), (4, 2)).joined(box((1.95, -0.1, 0), (2.05, 2.1, 2)))
    grid = find_walkable(two, np.array([[0.8, 1.0, 1.2], [1.2, 1.0, 1.2]]), PARAMS, np.random.default_rng(0))
    assert at(grid, grid.walkable, 1.0, 1.0)
    assert not at(grid, grid.walkable, 3.0, 1.0)


def test_no_floor_under_the_cameras_is_an_error():
    """A wall alone."""
    with pytest.raises(ReconstructionError, match="carried over a floor"):
        find_walkable(box((0, 0, 0), (0.01, 3, 0.4)), np.array([[2.0, 1, 1]]), PARAMS, np.random.default_rng(0))


def test_no_room_for_the_robot_is_an_error():
    """A floor of half a metre for a robot of one."""
    with pytest.raises(ReconstructionError, match="must have room"):
        find_walkable(
            grid_floor((0, 0), (0.5, 0.5)),
            np.array([[0.2, 0.3, 1]]),
            WalkableParams(radius=0.5),
            np.random.default_rng(0),
        )
