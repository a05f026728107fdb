"""A room whose splat lies on its surfaces: each fault that is put in is named, and no other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.audit import looking
from pipeline.audit.audit import on_floor, seen_findings
from pipeline.audit.looking import Looks, look_round
from pipeline.audit.page import picture
from pipeline.audit.patches import find_patches
from pipeline.coverage.map import CoverageMap
from pipeline.geometry import Gaussians, Mesh, Similarity, matrix_from_rotvec
from pipeline.geometry.surfels import surfels
from tests.bundles import floor_of
from tests.synthetic import BOXES, TABLE_TOP, Room, box_faces

TRUSTED = CoverageMap(np.array([[2.0, 1.5, 0.0]], np.float32), np.full((1, 8), 1e-3, np.float32), 5.0, 5.0, np.pi)


@pytest.fixture(scope="module")
def room() -> Room:
    """The exact room."""
    return Room.make()


@pytest.fixture(scope="module")
def splat(room) -> Gaussians:
    """What is seen of it."""
    return surfels(room.mesh, 30_000)


@pytest.fixture(autouse=True)
def few_places(monkeypatch):
    """A small room needs few."""
    monkeypatch.setattr(looking, "PLACES", 6)


def looks_of(room: Room, splat: Gaussians, collision: Mesh) -> Looks:
    """What robots see and touch."""
    return look_round(splat, collision, floor_of(room), TRUSTED, ())


def faults(room: Room, splat: Gaussians, collision: Mesh) -> dict[str, str]:
    """Names of what is found, and how."""
    looks, regions = looks_of(room, splat, collision), floor_of(room)
    patches = find_patches(looks.same, collision.face_guessed())
    found = seen_findings(looks, patches, on_floor(patches, regions), regions)
    return {one.name: one.how for one in found if one.gate.passed is False}


def moved(mesh: Mesh, vertices: np.ndarray) -> Mesh:
    """The mesh with its vertices elsewhere."""
    return replace(mesh, vertices=vertices.astype(np.float32))


def test_no_fault_in_a_clean_room(room, splat):
    """What is seen is what is touched."""
    assert faults(room, splat, room.mesh) == {}


def test_shift(room, splat):
    """15 mm aside, and the direction is told."""
    found = faults(room, splat, moved(room.mesh, room.mesh.vertices + np.array([0.012, -0.009, 0])))
    assert [*found] == ["collider_shifted"]
    x, y, z = (float(one) for one in found["collider_shifted"].split(" mm")[0].removeprefix("by ").split(", "))
    assert abs(x - 12) < 4 and abs(y + 9) < 4 and abs(z) < 4


def test_scale(room, splat):
    """1 %, about the origin in a corner: it shifts most surfaces, and is named all the same."""
    larger = splat.transformed(Similarity(1.01, np.eye(3), np.zeros(3)))
    assert [*faults(room, larger, room.mesh)] == ["splat_scaled"]


def test_turn_of_everything_is_no_tilt_of_the_floor(room, splat):
    """Half a degree about x: walls and floor agree."""
    turn = matrix_from_rotvec(np.deg2rad([0.5, 0, 0]))
    middle = np.array([2.0, 1.5, 0])
    assert [*faults(room, splat, moved(room.mesh, (room.mesh.vertices - middle) @ turn.T + middle))] == [
        "collider_turned"
    ]


def test_floor_tilted_alone(room, splat):
    """Half a degree of the floor, and walls stay."""
    vertices = room.mesh.vertices.astype(np.float64)
    floor = np.unique(
        room.mesh.triangles[(room.mesh.face_normals()[:, 2] > 0.9) & (room.mesh.corners()[..., 2].max(1) == 0)]
    )
    assert len(floor) == 4
    vertices[floor, 2] += np.tan(np.deg2rad(0.5)) * (vertices[floor, 0] - 2)
    assert "floor_tilted" in faults(room, splat, moved(room.mesh, vertices))


def test_phantom_shelf(room, splat):
    """A board in the air that no one sees."""
    vertices, triangles = box_faces(np.array([1.8, 0.6, 0.7]), np.array([2.3, 0.85, 0.73]))
    assert [*faults(room, splat, room.mesh.joined(Mesh.from_arrays(vertices, triangles)))] == ["phantom"]


def test_missing_table_top(room, splat):
    """Level surface that is seen and doesn't carry."""
    board = np.arange(len(room.mesh.triangles)) // 12 == 1 + [name for name, *_ in BOXES].index("table top")
    assert (room.mesh.corners()[board][..., 2] >= TABLE_TOP - 0.05).all()
    assert [*faults(room, splat, room.mesh.with_faces(~board))] == ["missing_support"]


def test_picture_shows_a_place(room, splat):
    """Three images side by side, of a view that isn't hidden; none of a place behind a wall."""
    looks = looks_of(room, splat, room.mesh)
    image = picture(looks, splat, np.array([3.2, 0.6, 0.3]))
    assert image is not None and image.shape == (288, 3 * 384, 3) and image.std() > 20
    assert picture(looks, splat, np.array([9.0, 0.6, 0.3])) is None
