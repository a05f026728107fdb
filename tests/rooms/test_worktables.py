"""Rooms with a table for an arm."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.geometry.rays import RayCaster
from pipeline.raster import contiguous, render
from pipeline.rooms.bundle import write_room
from pipeline.rooms.layout import Room, draw_room
from pipeline.rooms.recipe import Recipe
from pipeline.rooms.worktables import AROUND, DETAIL, HEIGHTS
from sim.scene.opening import open_scene
from sim.scene.scene import SimScene
from sim.sensors.cameras.body import GRACE
from sim.tasks.handling.arm_tasks import THIRD
from sim.tasks.handling.stations import find_stations

SEED = 2
"""Of a small room."""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> SimScene:
    """A room with a table, without flaws."""
    folder = tmp_path_factory.mktemp("table") / "room"
    folder.mkdir()
    write_room(folder, SEED, Recipe(scanned=0, feature="table"))
    return open_scene(folder)


def tops(room: Room) -> np.ndarray:
    """Corners (K, 4, 3) of the tops of tables for arms."""
    surfaces = room.surfaces
    detailed = np.array([paint.detail == DETAIL for paint in surfaces.paints])
    chosen = detailed & (surfaces.normals()[:, 2] > 0.99)
    corner, along, across = surfaces.corners[chosen], surfaces.along[chosen], surfaces.across[chosen]
    return np.stack([corner, corner + along, corner + along + across, corner + across], 1)


def test_only_rooms_that_are_to_have_a_table_have_one():
    """Most seeds at once, others when drawn again; of a height for arms, and nothing stands within half a metre."""
    drawn = [draw_room(seed, feature="table") for seed in range(40)]
    assert np.mean(["table" in room.features for room in drawn]) > 0.6
    for room in drawn:
        assert len(tops(room)) == ("table" in room.features)
        if "table" in room.features:
            (corners,) = tops(room)
            assert HEIGHTS[0] <= corners[0, 2] <= HEIGHTS[1]
            low, high = corners[:, :2].min(0) - AROUND + 0.1, corners[:, :2].max(0) + AROUND - 0.1
            steps = np.linspace(0, 1, 40)
            places = low + np.stack(np.meshgrid(steps, steps, indexing="ij"), -1).reshape(-1, 2) * (high - low)
            outside = ((places < corners[:, :2].min(0)) | (places > corners[:, :2].max(0))).any(1)
            eyes = np.column_stack([places[outside], np.full(outside.sum(), 1.8)])
            seen = RayCaster(room.surfaces.mesh()).cast(eyes, np.array([0, 0, -1.0])).distance
            assert (1.8 - seen < 0.45).mean() > 0.99
    plain = draw_room(SEED)
    assert "table" not in plain.features
    assert not len(tops(plain))


def test_other_rooms_keep_their_keys():
    """Those of before tables: rooms on disk are kept. One with a table is another room of its seed."""
    assert Recipe(0.5).key(3) == "65adfaac6ae8dc1aa73c"
    assert Recipe(0.5, feature="table").key(3) != Recipe(0.5).key(3)


def test_an_arm_stands_on_the_table(scene: SimScene):
    """At eight places, the base on it; nothing else in the room is like it."""
    stations = find_stations(scene)
    heights = {round(float(station.world_from_base.translation[2]), 3) for station in stations}
    assert len(stations) == 8
    assert all(station.stands for station in stations)
    assert len(heights) == 1
    assert HEIGHTS[0] <= heights.pop() <= HEIGHTS[1]


def test_things_are_not_hidden_by_the_table_that_they_lie_on(scene: SimScene):
    """The small splat's depth, as the camera before the arm sees it, is nearer than what hides things nowhere there."""
    drawn, caster = contiguous(scene.gaussians), RayCaster(scene.collision)
    assert THIRD.link_from_camera
    for station in find_stations(scene):
        pose = station.world_from_base @ THIRD.link_from_camera
        seen, true = render(drawn, THIRD.lens, pose).depth, caster.depth(THIRD.lens, pose)
        points = station.world_from_base.inverse().apply(pose.apply(THIRD.lens.rays() * true[..., None]))
        on = (np.abs(points[..., 2]) < 0.01) & (np.abs(points[..., 0] - 0.45) < 0.17) & (np.abs(points[..., 1]) < 0.25)
        assert on.sum() > 200
        assert (true - seen)[on].max() < GRACE
