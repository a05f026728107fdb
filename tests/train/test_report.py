"""The report's page, and the matrix of runs and scenes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sim.scene import SceneLock
from tests.sim.floors import floor_scene
from tests.train.scripted import results
from train.matrix import Matrix
from train.preset import load_preset
from train.report import report_page, write_report
from train.run import Run
from train.statistics import wilson


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
    """Every scene's share, every control in words, the curves that there are and the checkpoint's place on them."""
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


def test_report_of_a_training_that_stopped_early(run, scene, rover):
    """Before any figure: they are not what the preset reaches."""
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
    assert "has not learned yet" in write_report(run, results(scene, rover, {"hall@1.0.0": 3})).read_text()


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
