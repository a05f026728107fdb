"""Stations of arms, in the room whose table is known exactly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import SimError
from pipeline.geometry import Mesh, matrix_from_rotvec
from pipeline.types import F64
from sim.scene.scene import SimScene
from sim.tasks.handling import stations
from sim.tasks.handling.stations import APART, LEAN, ROOM, Station, find_stations, work_of
from tests.synthetic import BOXES, SIZE, TABLE_HIGH, TABLE_LOW, TABLE_TOP, box_faces

WORK = work_of(1.0)


def places(station: Station, area: tuple[tuple[float, float], tuple[float, float]], heights: list[float]) -> F64:
    """Points (P, 3) of a box before the base, world frame."""
    grids = np.meshgrid(*(np.linspace(*part, 13) for part in area), heights, indexing="ij")
    return station.world_from_base.apply(np.stack(grids, -1).reshape(-1, 3))


def with_box(scene: SimScene, low: list[float], high: list[float]) -> SimScene:
    """A scene with one box more."""
    corners, triangles = box_faces(np.array(low), np.array(high))
    mesh = scene.collision
    vertices = np.concatenate([mesh.vertices, corners])
    return replace(
        scene, collision=Mesh.from_arrays(vertices, np.concatenate([mesh.triangles, triangles + len(mesh.vertices)]))
    )


def with_table_tilted(scene: SimScene, degrees: float) -> SimScene:
    """The room, its table top turned about the world's y axis through the middle of the top."""
    vertices = np.array(scene.collision.vertices, np.float64)
    on = (vertices[:, :2] >= TABLE_LOW - 1e-4).all(1) & (vertices[:, :2] <= TABLE_HIGH + 1e-4).all(1)
    on &= np.abs(vertices[:, 2] - TABLE_TOP) < 1e-4
    assert on.sum() == 4
    middle = np.array([*(TABLE_LOW + TABLE_HIGH) / 2, TABLE_TOP])
    turn = matrix_from_rotvec(np.array([0, np.deg2rad(degrees), 0]))
    vertices[on] = (vertices[on] - middle) @ turn.T + middle
    return replace(scene, collision=Mesh.from_arrays(vertices, scene.collision.triangles))


def check_free(station: Station, boxes: list[tuple]) -> None:
    """The arm has room: nothing is in it, from 2 cm over the table up, and it ends before the walls."""
    points = places(station, ROOM, [0.03, 0.2, 0.5, 0.85])
    assert (points > 0).all()
    assert (points < SIZE).all()
    for low, high in boxes:
        assert not ((points > low) & (points < high)).all(1).any()


def test_stations_are_at_the_table(room_scene: SimScene) -> None:
    """At its height, level, the work surface on it, the arm's room free; bases that stand on it have it below them."""
    stations = find_stations(room_scene)
    assert stations[0].stands
    for station in stations:
        pose = station.world_from_base
        assert pose.translation[2] == pytest.approx(TABLE_TOP, abs=1e-4)
        assert station.uneven < 1e-4
        np.testing.assert_allclose(pose.rotation[:, 2], [0, 0, 1], atol=1e-9)
        work = places(station, WORK, [0.0])[:, :2]
        assert (work > TABLE_LOW - 0.01).all()  # by the cells of the height map
        assert (work < TABLE_HIGH + 0.01).all()
        check_free(station, [box[1:3] for box in BOXES])
        inside = (pose.translation[:2] > TABLE_LOW).all() and (pose.translation[:2] < TABLE_HIGH).all()
        assert inside == station.stands
    order = [station.stands for station in stations]
    assert order == sorted(order, reverse=True)
    for number, one in enumerate(stations):
        for other in stations[:number]:
            away = np.linalg.norm(one.world_from_base.translation - other.world_from_base.translation)
            cosine = one.world_from_base.rotation[:, 0] @ other.world_from_base.rotation[:, 0]
            assert away > APART or cosine < np.cos(np.deg2rad(39))


def test_the_same_scene_has_the_same_stations(room_scene: SimScene) -> None:
    """Bit for bit, in order."""
    one, other = find_stations(room_scene), find_stations(replace(room_scene))
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a.world_from_base.matrix, b.world_from_base.matrix)
        assert (a.stands, a.uneven) == (b.stands, b.uneven)


@pytest.mark.parametrize(
    ("corner", "wide"), [((2.16, 2.3), 0.08), ((1.67, 2.2), 0.08), ((1.265, 2.495), 0.03), ((1.285, 2.475), 0.03)]
)
def test_what_stands_on_the_table_moves_stations(
    room_scene: SimScene, corner: tuple[float, float], wide: float
) -> None:
    """At one end of the table, in its middle, or as thin as a bottle's neck: it is in no arm's room, though it was.

    As far as the cells of the height map tell: by 2 cm.
    """
    low, high = np.array([*corner, TABLE_TOP]), np.array([corner[0] + wide, corner[1] + wide, TABLE_TOP + 0.2])

    def blocked(station: Station) -> bool:
        x, y = station.world_from_base.inverse().apply((low + high) / 2)[:2]
        reach = wide / 2 - 0.02
        (x_low, x_high), (y_low, y_high) = ROOM
        return bool(x_low - reach < x < x_high + reach and y_low - reach < y < y_high + reach)

    assert any(blocked(station) for station in find_stations(room_scene))
    stations = find_stations(with_box(room_scene, list(low), list(high)))
    tables = [one for one in stations if one.world_from_base.translation[2] == pytest.approx(TABLE_TOP, abs=1e-4)]
    assert tables
    assert not any(blocked(station) for station in tables)


def test_a_table_that_leans_is_no_station(room_scene: SimScene) -> None:
    """By 3 degrees only the crate is left; by one there are stations, which say how uneven their surface is."""
    crate = BOXES[0][2][2]
    for station in find_stations(with_table_tilted(room_scene, 3.0)):
        assert station.world_from_base.translation[2] == pytest.approx(crate, abs=1e-4)
    stations = find_stations(with_table_tilted(room_scene, 1.0))
    stations = [station for station in stations if station.world_from_base.translation[2] > crate + 0.1]
    assert len(stations) > 3
    slope = np.tan(np.deg2rad(1.0))
    for station in stations:
        middle = station.world_from_base.apply(np.array([np.mean(WORK[0]), np.mean(WORK[1]), 0.0]))
        height = TABLE_TOP - slope * (middle[0] - (TABLE_LOW + TABLE_HIGH)[0] / 2)
        assert middle[2] == pytest.approx(height, abs=1e-3)
        assert slope * 0.15 < station.uneven < slope * 0.33


def test_a_tilted_plane_has_no_station(room_scene: SimScene) -> None:
    """One that leans more than a level surface may; level, it has some."""
    corners = np.array([[-0.9, -0.7, 0], [0.9, -0.7, 0], [0.9, 0.7, 0], [-0.9, 0.7, 0]])
    corners[:, 2] = corners[:, 0] * np.tan(np.deg2rad(2 * LEAN))
    plane = Mesh.from_arrays(corners, np.array([[0, 1, 2], [0, 2, 3]]))
    with pytest.raises(SimError, match="on 0 tables and the floor"):
        find_stations(replace(room_scene, collision=plane))
    corners[:, 2] = 0.0
    flat = find_stations(replace(room_scene, collision=Mesh.from_arrays(corners, np.array([[0, 1, 2], [0, 2, 3]]))))
    assert all(station.world_from_base.translation[2] == pytest.approx(0, abs=1e-6) for station in flat)


def test_what_reaches_to_the_ceiling_is_in_no_arms_room(room_scene: SimScene) -> None:
    """A cupboard that is higher than a height map looks down from: no base is in it, no arm reaches through it."""
    low, high = np.array([1.3, 2.05, TABLE_TOP]), np.array([2.1, 2.39, TABLE_TOP + 1.5])
    for station in find_stations(with_box(room_scene, low.tolist(), high.tolist())):
        points = places(station, ROOM, [0.3, 0.8])
        assert not ((points > low) & (points < high)).all(1).any()


def test_they_are_looked_for_once(room_scene: SimScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By scene and size, in all processes; what is damaged is looked for again, and so is all where nothing is kept."""
    monkeypatch.setenv("SPLATYARD_CACHE", str(tmp_path / "cache"))
    look, looked = stations._look_for, list[float]()
    monkeypatch.setattr(stations, "_look_for", lambda scene, size: looked.append(size) or look(scene, size))
    find = find_stations.__wrapped__
    first, again = find(room_scene), find(room_scene)
    assert [(one.stands, one.uneven) for one in again] == [(one.stands, one.uneven) for one in first]
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.world_from_base.matrix, other.world_from_base.matrix)
    assert looked == [1.0]
    (kept,) = (tmp_path / "cache" / "stations").iterdir()
    for damage in (b"", b"[[[1]]]", b"[[[[2,0,0],[0,1,0],[0,0,1]],[0,0,0],true,0]]", b"[]" * 2**16):
        kept.write_bytes(damage)
        assert len(find(room_scene)) == len(first)
    assert looked == 5 * [1.0]
    find(room_scene, 0.9)
    find(with_box(room_scene, [1.0, 2.0, 0.0], [1.2, 2.2, 0.5]))
    assert looked[5:] == [0.9, 1.0]
    (tmp_path / "file").touch()
    monkeypatch.setenv("SPLATYARD_CACHE", str(tmp_path / "file" / "cache"))
    assert len(find(room_scene)) == len(first)
    assert len(looked) == 8


def test_arms_stand_at_what_was_measured(room_scene: SimScene) -> None:
    """A surface that was guessed has stations where there is no other only; its look is nobody's photo."""
    second = with_box(room_scene, [1.0, 0.1, 0.86], [2.6, 1.2, 0.9])
    heights = [round(float(one.world_from_base.translation[2]), 2) for one in find_stations(second)]
    assert 0.9 in heights
    flags = np.isin(
        np.arange(len(second.collision.vertices)), np.arange(len(room_scene.collision.vertices)), invert=True
    )
    hidden = replace(second, collision=replace(second.collision, guessed=flags))
    assert {round(float(one.world_from_base.translation[2]), 2) for one in find_stations(hidden)} == {TABLE_TOP}
    everything = replace(hidden.collision, guessed=np.ones(len(flags), bool))
    assert len(find_stations(replace(second, collision=everything))) == len(heights)
