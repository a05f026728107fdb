"""The report's page, and the matrix of runs and scenes."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from pydantic import ValidationError

from sim.scene.floors import held_out
from sim.scene.scene import SceneLock
from tests.sim.floors import CELL, ORIGIN, centre, floor_scene
from tests.train.scripted import results
from train.preset import load_preset
from train.runs.compare import Matrix
from train.runs.report import (
    BAR,
    BOTTOM,
    HEIGHT,
    LEFT,
    PIXELS,
    RIGHT,
    RIM,
    TOP,
    WIDTH,
    episode_map,
    line_chart,
    number_text,
    report_page,
    share_bar,
    ticks,
    write_report,
)
from train.runs.results import Episode, FloorPlan, wilson
from train.runs.run import Run


@pytest.fixture
def scene():
    return floor_scene(np.ones((40, 30), bool))


@pytest.fixture
def run(tmp_path) -> Run:
    """Two iterations, the second with episodes."""
    lock = SceneLock("hall@1.0.0", "0" * 64, ())
    run = Run.create(tmp_path, load_preset("navigate"), [lock], ["hall@1.0.0"], 0, name="a")
    run.curve.append({"iteration": 1, "steps": 2048, "loss/value": 0.5})
    run.curve.append({"iteration": 2, "steps": 4096, "loss/value": 0.25, "success": 0.5, "reward": -1.0})
    return run


def test_report_says_what_was_found(run, scene, rover):
    """Every scene's share, every ablation in words, the curves that there are and the checkpoint's place on them."""
    found = results(scene, rover, {"hall@1.0.0": 3, "attic@2.1.0": 1})
    page = write_report(run, found).read_text()
    for share in (wilson(4, 8), wilson(3, 4), wilson(1, 4), wilson(2, 4)):
        assert f"{share}<svg" in page
    assert "attic@2.1.0 (never trained in)" in page
    assert "hall@1.0.0 (starts held out from training)" in page
    assert page.count('class="held-out"') == 1
    assert page.count('<svg class="map"') == 2
    assert page.count('<svg class="chart"') == 3
    assert "evaluated: 50.0 %" in page


def test_curves_of_a_training_without_robots_go_by_iterations(tmp_path, scene, rover):
    """Its steps are all 0: the curve would be a vertical line."""
    preset = load_preset("put_cube_on_plate", {"algorithm": "iql", "demos": "demos"})
    run = Run.create(tmp_path, preset, [SceneLock("hall@1.0.0", "0" * 64, ())], ["hall@1.0.0"], 0, name="a")
    curve = [{"iteration": i, "steps": 0, "loss/actor": 1 / i} for i in (1, 2, 3)]
    page = report_page(run, results(scene, rover, {"hall@1.0.0": 3}), curve, [])
    line = re.findall(r'class="line"[^>]* d="M([^"]*)"', page)
    assert len(line) == 1
    across = [float(point.split()[0]) for point in line[0].split("L")]
    assert across == sorted(set(across))
    assert "iterations of training" in page


def test_report_of_a_training_that_stopped_early(run, scene, rover):
    """Before any metric: they are not what the preset reaches."""
    found = results(scene, rover, {"hall@1.0.0": 3})
    why = "6 of 72 iterations: the time limit of 1.3 minutes ended it"
    page = report_page(run, found.model_copy(update={"stopped_early": why}), [], [])
    assert f"stopped early, after {why}" in page.partition("<table")[0]
    assert "stopped early" not in report_page(run, found, [], [])


def test_report_blind_control(run, scene, rover):
    """What a blind policy reached stands beside, under its own name, with a map of its own."""
    found = results(scene, rover, {"hall@1.0.0": 3})
    page = write_report(run, found.model_copy(update={"blind": results(scene, rover, {"hall@1.0.0": 0})})).read_text()
    assert f"trained blind: {wilson(0, 4)}" in page
    assert page.count('<svg class="map"') == 2


def test_report_of_places_kept_apart(run, scene, rover):
    """Their rows, maps and curve stand beside its own; the title is of its own, and a wide gap is said."""
    for number, share in enumerate((0.5, 0.1), 3):
        row = {"iteration": number, "steps": 2048 * number, "success": 0.9, "episodes": 200}
        run.curve.append({**row, "unseen/validation": share, "unseen/validation_episodes": 100})
    found = results(scene, rover, {"hall@1.0.0": 3})
    page = write_report(run, found).read_text()
    assert "Success is 90.0 %" in page
    assert "splatyard scene rooms" in page
    assert page.count('class="line"') == 4  # success twice: its own, and where it was held out
    attic = results(scene, rover, {"attic@2.1.0": 1})
    page = write_report(run, found.model_copy(update={"unseen": {"validation": attic}})).read_text()
    assert f"<h1>a: navigate, success {wilson(3, 4)}</h1>" in page
    assert f"places held out of training: {wilson(1, 4)}" in page
    assert page.count('<svg class="map"') == 2
    assert "Success is" not in page  # four episodes say too little


def test_report_of_names_with_markup(run, scene, rover):
    """Nothing that comes from a file becomes part of the page's code."""
    page = write_report(run, results(scene, rover, {"<script>alert(1)</script>": 2}, run='"><img src=x>')).read_text()
    assert "<script" not in page
    assert "<img src=x>" not in page


def test_report_links_films(run, scene, rover):
    """Those in the run's folder, by a path that holds wherever the folder is copied to."""
    (run.folder / "videos").mkdir()
    (run.folder / "videos" / "what it #1 sees.mp4").write_bytes(b"")
    page = write_report(run, results(scene, rover, {"hall@1.0.0": 3})).read_text()
    assert 'src="videos/what%20it%20%231%20sees.mp4"' in page


def test_report_before_training(run, scene, rover):
    """A checkpoint of the beginning has a report without curves."""
    (run.folder / "curve.jsonl").unlink()
    assert "has not been trained yet" in write_report(run, results(scene, rover, {"hall@1.0.0": 3})).read_text()


def test_matrix_rows_are_runs(scene, rover):
    """Success where it belongs, a star where the policy was trained, the same numbers for programs."""
    first = results(scene, rover, {"hall@1.0.0": 3, "attic@2.1.0": 1}, run="a")
    second = results(scene, rover, {"hall@1.0.0": 0, "attic@2.1.0": 4}, run="b")
    matrix = Matrix.of([first, second])
    assert matrix.markdown().splitlines() == [
        "| run | hall@1.0.0 | attic@2.1.0 |",
        "| --- | --- | --- |",
        f"| a | {wilson(3, 4)} * | {wilson(1, 4)} |",
        f"| b | {wilson(0, 4)} * | {wilson(4, 4)} |",
    ]
    cells = json.loads(matrix.json())["cells"]
    assert [[cell["success"]["successes"] for cell in row] for row in cells] == [[3, 1], [0, 4]]
    assert [cell["trained"] for cell in cells[0]] == [True, False]


def test_matrix_of_other_scenes(scene, rover):
    """Columns would mean different things."""
    pair = [results(scene, rover, {"hall@1.0.0": 3}), results(scene, rover, {"attic@2.1.0": 3})]
    with pytest.raises(ValueError, match="same scenes"):
        Matrix.of(pair)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0.0, 0.5, 1.0]),
        (2048.0, 143000.0, [0.0, 50000.0, 100000.0, 150000.0]),
        (-6.3, -5.8, [-6.4, -6.2, -6.0, -5.8]),
        (3.0, 3.0, [1.0, 2.0, 3.0, 4.0, 5.0]),
    ],
)
def test_ticks_are_round_and_enclose(low, high, expected):
    """Also where all values are the same."""
    assert ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("value", "step", "text"),
    [
        (2.845, 0.005, "2.845"),
        (0.0, 0.5, "0.0"),
        (150000.0, 50000.0, "150k"),
        (2500.0, 500.0, "2.5k"),
        (-6.0, 2.0, "-6"),
    ],
)
def test_number_text_tells_ticks_apart(value, step, text):
    """As many digits as the step has."""
    assert number_text(value, step) == text


def test_line_chart_points_lie_on_the_scale():
    """With bounds of 0 and 1, and x from 0 to 100, places follow from the margins; y points up."""
    share = wilson(30, 40)
    drawing = ET.fromstring(
        line_chart(
            "a < b", [("b", [(0, 0.25), (40, 1.0), (100, 0.5)])], across="steps", bounds=(0, 1), mark=(40, share)
        )
    )
    line = next(element for element in drawing if element.get("class") == "line").get("d")
    points = [tuple(map(float, pair.split())) for pair in line[1:].split("L")]
    right, up = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    for (x, y), (across, share_up) in zip(points, [(0, 0.25), (0.4, 1.0), (1.0, 0.5)], strict=True):
        assert x == pytest.approx(LEFT + across * right, abs=0.1)
        assert y == pytest.approx(HEIGHT - BOTTOM - share_up * up, abs=0.1)
    mark = next(element for element in drawing if element.get("class") == "mark")
    assert float(mark[2].get("cy")) == pytest.approx(HEIGHT - BOTTOM - 0.75 * up, abs=0.1)
    low = float(re.match(r"M[\d.]+ ([\d.]+)V", mark[1].get("d")).group(1))
    assert low == pytest.approx(HEIGHT - BOTTOM - share.low * up, abs=0.1)


def test_share_bar_has_share_and_interval():
    """The bar ends at the share, the whiskers at the bounds."""
    share = wilson(3, 12)
    bar = ET.fromstring(share_bar(share))
    assert float(bar[1].get("width")) == pytest.approx(BAR / 4)
    low, high = re.match(r"M([\d.]+) 7H([\d.]+)M", bar[2].get("d")).groups()
    assert (float(low), float(high)) == pytest.approx((BAR * share.low, BAR * share.high), abs=0.06)


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
        path=tuple(track),
    )


def drawn(plan, episodes, *, held_out=True, side=np.inf) -> ET.Element:
    return ET.fromstring(episode_map(plan, episodes, ["goal", "crash"], "a map", held_out=held_out, side=side))


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


def test_a_small_map_has_marks_as_large(plan):
    """What is small is the floor: a metre has fewer pixels, as its bar says; a small place isn't enlarged."""
    track = [episode([tuple(centre(3, 4)), tuple(centre(13, 4))])]
    small, large = (drawn(plan, track, side=side) for side in (90, 9000))
    assert max(map(int, small.get("viewBox").split())) == 90
    bars = [int(re.findall(r"h(\d+)", path_of(drawing, "scale"))[0]) for drawing in (small, large)]
    assert bars[1] == PIXELS > bars[0] > 0
    rings = [next(drawing.iter(f"{SVG}g"))[2].get("r") for drawing in (small, large)]
    assert rings[0] == rings[1]


def test_map_held_out_blocks(plan):
    """They are drawn where they mean something, with the area of the floor that they hold out."""
    shown = [drawn(plan, [episode([tuple(centre(4, 4))])], held_out=held) for held in (True, False)]
    boxes = rectangles(path_of(shown[0], "held-out"))
    area = np.abs((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sum()
    assert area == pytest.approx(plan.marked(plan.held_out).sum() * (CELL * PIXELS) ** 2)
    assert "held-out" not in {element.get("class") for element in shown[1].iter()}


def test_map_of_a_robot_that_left_the_floor(plan):
    """A track that leaves the floor is in the image, too."""
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
