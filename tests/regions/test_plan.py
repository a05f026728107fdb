"""Floor plans: what is measured, and the drawings."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from pipeline.geometry import Mesh
from pipeline.regions.cut import contours, cut
from pipeline.regions.drawing import Drawing, Style
from pipeline.regions.levels import find_levels
from pipeline.regions.params import Area
from pipeline.regions.plan import FloorPlan, floor_plan
from pipeline.regions.sheet import write_plans
from tests.regions.houses import (
    DOOR,
    PARAMS,
    TABLE,
    WALL,
    WIDTH,
    floor,
    joined,
    regions_of,
    two_rooms,
    two_storeys,
    wall,
)

EYES = ((1, 3), (6, 2))
SVG = "{http://www.w3.org/2000/svg}"


def plan_of(mesh: Mesh, *areas: Area) -> FloorPlan:
    return floor_plan(mesh, find_levels(mesh, regions_of(mesh, *EYES), PARAMS), 0, areas)


def test_rooms_have_their_areas():
    """Of the floor between the walls, furniture included; the larger first."""
    rooms = plan_of(two_rooms()).rooms
    assert [room.name for room in rooms] == ["Room 1", "Room 2"]
    assert [room.area for room in rooms] == pytest.approx([20, 2.88 * 3 + 0.05], rel=0.02)


def test_the_door_is_found_where_it_is():
    """With its width, in the middle of the wall, which is as thick as it is."""
    plan = plan_of(two_rooms())
    (opening,) = plan.openings
    assert opening.width == pytest.approx(DOOR[1] - DOOR[0], abs=0.005)
    assert (opening.start + opening.end) / 2 == pytest.approx([WIDTH + WALL / 2, sum(DOOR) / 2], abs=0.005)
    assert opening.depth == pytest.approx(WALL, abs=0.005)
    thick = plan.faces.thickness[np.isfinite(plan.faces.thickness) & (plan.faces.length > 0.5)]
    assert thick == pytest.approx(np.full(3, WALL), abs=0.005)


def test_a_gap_that_nobody_passes_is_no_door():
    """Behind a sill of 0.6 m: a window."""
    low, high = DOOR
    sill = joined(two_rooms(), floor(WIDTH, low, WIDTH + WALL, high, 0.6), wall((WIDTH, low), (WIDTH, high), 0, 0.6))
    assert len(plan_of(sill).openings) == 0


def test_walls_are_outlines_of_the_rooms():
    """Every corner within a millimetre."""
    corners = np.concatenate([outline.points for outline in plan_of(two_rooms()).walls])
    for corner in ((0, 0), (0, 4), (5, 0), (5, 2), (5, 2.9), (5.12, 2), (8, 1), (8, 4), (5.12, 4)):
        assert np.linalg.norm(corners - corner, axis=1).min() < 1e-3


def test_furniture_keeps_its_size():
    """A table from above."""
    things = plan_of(two_rooms()).things
    (low, high) = np.array(TABLE)
    table = max(things, key=lambda thing: float(np.prod(np.ptp(thing.outline, axis=0))))
    assert table.outline.min(0) == pytest.approx(low, abs=0.03)
    assert table.outline.max(0) == pytest.approx(high, abs=0.03)
    assert len(things) == 2 and len(table.outline) == 4


def test_round_walls_stay_round():
    """Straight lines only within 2 cm of the mesh; noise of 5 mm is gone from straight ones."""
    angle = np.linspace(0, 2 * np.pi, 200)
    ring = 2 * np.stack([np.cos(angle), np.sin(angle)], 1)
    mesh = joined(*(wall(tuple(a), tuple(b)) for a, b in pairwise(ring)))
    (outline,) = cut(mesh, 1.2, lambda places: np.linalg.norm(places, axis=1) < 2)
    assert 12 < len(outline.points) < 60
    assert np.abs(np.linalg.norm(outline.points, axis=1) - 2).max() < 0.025
    noise = np.random.default_rng(0).uniform(-0.005, 0.005, 101)
    line = np.stack([np.linspace(5, 0, 101), noise], 1)
    mesh = joined(*(wall(tuple(a), tuple(b)) for a, b in pairwise(line)))
    (outline,) = cut(mesh, 1.2, lambda places: places[:, 1] < 0)
    assert len(outline.points) == 2


def test_what_was_closed_is_marked():
    """Guessed floor and a guessed table top."""
    mesh = two_rooms()
    middles = mesh.vertices
    guessed = (np.abs(middles[:, 2] - 0.75) < 1e-6) | ((middles[:, 0] > WIDTH + 0.1) & (middles[:, 2] < 1e-6))
    plan = plan_of(replace(mesh, guessed=guessed))
    assert [thing.guessed for thing in plan.things] == [True, False]
    assert min(float(line[:, 0].min()) for line in plan.closed) > WIDTH
    assert plan_of(mesh).closed == ()


def test_areas_name_rooms(tmp_path: Path):
    """Of the card, whatever is in them: in the SVG they are text, as long as a line."""
    evil = '"><script>alert(1)</script>&\x1b[0m' + 200 * "x"
    kitchen = Area(name=evil, polygon=((0, 0), (5, 0), (5, 4), (0, 4)), cost=1)
    other = Area(name="corner", polygon=((0, 0), (1, 0), (0, 1)), cost=1)
    regions = replace(regions_of(two_rooms(), *EYES), areas=(other, kitchen), area=np.zeros((1, 1), np.int16))
    write_plans(two_rooms(), two_rooms(), regions, PARAMS, tmp_path)
    root = ElementTree.parse(tmp_path / "plans" / "level_0.svg").getroot()
    assert {node.tag for node in root.iter()} == {SVG + name for name in ("svg", "title", "rect", "path", "text")}
    assert not [key for node in root.iter() for key in node.attrib if key.startswith("on") or "href" in key]
    texts = [node.text or "" for node in root.iter(SVG + "text")]
    (shown,) = [text for text in texts if "script" in text]
    assert shown.startswith('"><script>alert(1)</script>&[0m') and len(shown) == 60
    assert "Room 2" in texts
    names = [
        room["name"] for room in json.loads((tmp_path / "plans" / "levels.json").read_text())["levels"][0]["rooms"]
    ]
    assert names == [evil, "Room 2"]


def test_files_of_two_storeys(tmp_path: Path):
    """A drawing of each, the same bytes every time; the JSON says what leads where."""
    mesh, north = two_storeys(), np.array([0, 1.0, 0])
    regions = regions_of(mesh, (6, 1), (6, 2))
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_plans(mesh, mesh, regions, PARAMS, tmp_path / folder, north)
    made = sorted((tmp_path / "a" / "plans").iterdir())
    assert [path.name for path in made] == ["level_0.png", "level_0.svg", "level_1.png", "level_1.svg", "levels.json"]
    assert all(path.read_bytes() == (tmp_path / "b" / "plans" / path.name).read_bytes() for path in made)
    content = json.loads(made[-1].read_text())
    assert [level["number"] for level in content["levels"]] == [0, 1]
    assert [(way["kind"], way["risers"], way["levels"]) for way in content["ways"]] == [("stairs", 16, [0, 1])]
    assert content["north"] == [0, 1, 0]
    for number, rooms in enumerate((1, 1)):
        root = ElementTree.parse(tmp_path / "a" / "plans" / f"level_{number}.svg").getroot()
        size = int(root.attrib["width"]), int(root.attrib["height"])
        with Image.open(tmp_path / "a" / "plans" / f"level_{number}.png") as image:
            assert image.size == size
        texts = [node.text or "" for node in root.iter(SVG + "text")]
        assert {"N", "2 m", "up 16 x 18 cm"} <= set(texts)
        assert len([text for text in texts if text.endswith("m²") and ":" not in text]) == rooms


def test_no_floor_no_plans(tmp_path: Path):
    """Nothing is written."""
    lone = replace(regions_of(two_rooms(), *EYES), walkable=np.zeros_like(regions_of(two_rooms(), *EYES).walkable))
    write_plans(two_rooms(), two_rooms(), lone, PARAMS, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_drawings_agree():
    """SVG and PNG show a shape at the same pixels, y up."""
    sheet = Drawing(np.array([0, 0]), np.array([4, 2]), 50, 10)
    sheet.polygon(np.array([[1, 0.5], [2, 0.5], [2, 1], [1, 1]]), Style((255, 0, 0)))
    pixels = np.asarray(Image.open(io.BytesIO(sheet.png())))
    red = np.argwhere((pixels == (255, 0, 0)).all(2))
    assert red.min(0).tolist() == [50, 50] and np.abs(red.max(0) - [75, 100]).max() <= 1
    assert 'd="M50 75L100 75L100 50L50 50Z"' in sheet.svg("x")


def test_contours_are_where_the_cells_are():
    """A rectangle of cells has its corners."""
    mask = np.zeros((20, 10), bool)
    mask[4:9, 2:7] = True
    (line,) = contours(mask, np.array([1.0, 2.0]), 0.1, 0.02)
    assert line.min(0) == pytest.approx([1.4, 2.2], abs=0.03)
    assert line.max(0) == pytest.approx([1.9, 2.7], abs=0.03)
