"""The floor and the tracks on it: places in the drawing against places in the world."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from pydantic import ValidationError

from sim.places import held_out
from tests.sim.floors import CELL, ORIGIN, centre, floor_scene
from train.floor_plan import PIXELS, RIM, FloorPlan, episode_map
from train.results import Episode

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def floor() -> np.ndarray:
    """An L with a hole."""
    marked = np.zeros((23, 41), bool)
    marked[2:20, 3:9], marked[12:20, 3:38] = True, True
    marked[5:7, 4:6] = False
    return marked


@pytest.fixture
def plan(floor, rover) -> FloorPlan:
    """Some of it only walkable."""
    drivable = floor.copy()
    drivable[:, 20:] = False
    return FloorPlan.of(floor_scene(drivable, walkable=floor), rover)


def episode(track, *, ended_by="goal", goal=None, number=0) -> Episode:
    x, y = track[0]
    return Episode(
        scene="floor@1.0.0",
        seed=999,
        env=number,
        start=(x, y, 0.0),
        goal=goal,
        success=ended_by == "goal",
        ended_by=ended_by,
        steps=len(track),
        reward=1.5,
        outcomes={"entered": True, "clean": False},
        track=tuple(track),
    )


def drawn(plan, episodes, *, held_out=True) -> ET.Element:
    text = episode_map(plan, episodes, ["goal", "crash"], "a map", held_out=held_out)
    return ET.fromstring(text.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


def path_of(drawing, name) -> str:
    return next(element for element in drawing.iter(f"{SVG}path") if element.get("class") == name).get("d")


def rectangles(path: str) -> np.ndarray:
    """x0, y0, x1, y1 (N, 4)."""
    found = re.findall(r"M(-?\d+) (-?\d+)H(-?\d+)V(-?\d+)H(-?\d+)z", path)
    assert "".join("M{} {}H{}V{}H{}z".format(*one) for one in found) == path
    return np.array(found, int)[:, :4]


def test_plan_marks_survive(plan, floor):
    """What is packed comes back: floor for legs, for wheels, and what of it is held out."""
    middles = np.array(ORIGIN) + (np.moveaxis(np.indices(floor.shape), 0, -1) + 0.5) * CELL
    assert np.array_equal(plan.marked(plan.walkable), floor)
    assert np.array_equal(plan.marked(plan.drivable), floor & (np.arange(41) < 20))
    held = plan.marked(plan.held_out)
    assert np.array_equal(held, held_out(middles) & floor)
    assert 0 < held.sum() < floor.sum()


def test_map_floor_lies_where_it_is(plan, floor):
    """The rectangles cover the marked cells, y up."""
    boxes = rectangles(path_of(drawn(plan, [episode([tuple(centre(4, 4))])]), "walkable"))
    area = np.abs((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sum()
    assert area == pytest.approx(floor.sum() * (CELL * PIXELS) ** 2)
    low = np.array(ORIGIN) + np.array([2, 3]) * CELL - RIM
    high = np.array(ORIGIN) + np.array([20, 38]) * CELL + RIM
    for i, j in np.argwhere(floor)[::17]:
        x, y = (centre(i, j) - low) * PIXELS
        y = (high - low)[1] * PIXELS - y
        inside = (boxes[:, 0] < x) & (x < boxes[:, 2]) & (y < boxes[:, 1]) & (boxes[:, 3] < y)
        assert inside.sum() == 1


def test_map_track_and_goal(plan):
    """A track goes through the places of the episode, with y up, and is marked with how it ended."""
    track = [tuple(centre(3, 4)), tuple(centre(13, 4)), tuple(centre(13, 30))]
    drawing = drawn(plan, [episode(track, ended_by="crash", goal=tuple(centre(18, 8)), number=7)])
    group = next(element for element in drawing.iter(f"{SVG}g"))
    line, ring, cross = group[1], group[2], group[3]
    points = np.array([pair.split() for pair in line.get("d")[1:].split("L")], float)
    steps = np.diff(points, axis=0)
    np.testing.assert_allclose(steps, [[100, 0], [0, -260]], atol=1)
    assert [float(ring.get("cx")), float(ring.get("cy"))] == points[0].tolist()
    assert cross.get("d").startswith(f"M{points[-1][0] - 4:.0f} {points[-1][1] - 4:.0f}")
    assert group.get("class") == "track ended-1"
    assert group[0].text == "robot 7, seed 999: crash after 3 steps, reward 1.50, entered"
    goal = [int(value) for value in re.findall(r"-?\d+", path_of(drawing, "goal"))[:2]]
    np.testing.assert_allclose(goal - points[0], [150, -40 - 10], atol=1)


def test_map_held_out_blocks(plan):
    """They are drawn where they mean something, with the area of the floor that they hold out."""
    shown = [drawn(plan, [episode([tuple(centre(4, 4))])], held_out=held) for held in (True, False)]
    boxes = rectangles(path_of(shown[0], "held-out"))
    area = np.abs((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sum()
    assert area == pytest.approx(plan.marked(plan.held_out).sum() * (CELL * PIXELS) ** 2)
    assert "held-out" not in {element.get("class") for element in shown[1].iter()}


def test_map_of_a_robot_that_left_the_floor(plan):
    """A track that leaves the floor is in the picture, too."""
    far = tuple(centre(-20, 60))
    drawing = drawn(plan, [episode([tuple(centre(3, 4)), far])])
    _, _, width, height = map(int, drawing.get("viewBox").split())
    points = np.array([pair.split() for pair in next(drawing.iter(f"{SVG}g"))[1].get("d")[1:].split("L")], float)
    assert (points > 0).all()
    assert (points < [width, height]).all()


@pytest.mark.parametrize(
    "change",
    [{"shape": (10**6, 10**6)}, {"shape": (23, 50)}, {"cell": 0.0}, {"walkable": "????"}, {"shape": (-23, -41)}],
)
def test_plan_of_a_file_that_lies(plan, change):
    """Sizes that don't fit the marks, or no numbers at all, are refused before anything is made of them."""
    with pytest.raises(ValidationError):
        FloorPlan.model_validate(plan.model_dump() | change)


def test_plan_without_floor(plan):
    """Nothing could be drawn."""
    nothing = "A" * len(plan.walkable.rstrip("=")) + "=" * plan.walkable.count("=")
    with pytest.raises(ValidationError, match="without floor"):
        FloorPlan.model_validate(plan.model_dump() | {"walkable": nothing})
