"""What differs between runs."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from sim.scene.scene import SceneLock
from train.preset import load_preset
from train.runs.compare import differences, image, metrics
from train.runs.run import Run

HALL = SceneLock("hall@1.0.0", "a" * 64, ())


def make_run(root: Path, name: str, success: list[float], **changes: object) -> Run:
    """With a curve of 500 steps a row."""
    run = Run.create(root, load_preset("navigate", changes), [HALL], ["hall"], len(name), name=name)
    for number, value in enumerate(success, 1):
        row = {"iteration": number, "steps": 500 * number, "seconds": 30.0 * number, "success": value, "reward": 2.5}
        run.curve.append(row)
    return run


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    """One that sees and gets good, one that is blind and doesn't."""
    sight = make_run(tmp_path, "sight", [0.1, 0.55, 0.85, 0.8])
    return [sight, make_run(tmp_path, "blind", [0.0, 0.05], **{"policy.encoder": "none"})]


def test_only_what_differs_is_told(runs: list[Run]):
    """By its name in the preset; the seed is that of the record."""
    assert differences(runs) == {"policy.encoder": ["cnn", "none"]}
    assert differences([runs[0], runs[0]]) == {}


def test_what_only_one_has_is_told_too(tmp_path: Path, runs: list[Run]):
    """Settings of a part that the other lacks."""
    voxels = make_run(tmp_path, "voxel", [], **{"policy.voxels.weight": 0.25})
    found = differences([runs[0], voxels])
    assert found["policy.voxels.weight"] == ["-", "0.25"]
    assert found["policy.voxels"] == ["None", "-"]


def test_metrics_tell_the_end_and_when_it_got_good(runs: list[Run]):
    """Steps to shares of success are those of the first row there; a share that was never reached has none."""
    shown = metrics(runs[0])
    assert (shown["iterations"], shown["steps"], shown["minutes"]) == ("4", "2000", "2.0")
    assert shown["success, last 200 episodes"] == "0.8"
    assert [shown[f"steps to {share} success"] for share in ("50%", "80%", "90%")] == ["1000", "1500", "-"]
    assert metrics(runs[1])["steps to 50% success"] == "-"


def test_the_first_episodes_to_end_tell_nothing(tmp_path: Path):
    """They are the quickest, not the usual ones: what counts begins where there are as many as are looked back at."""
    run = make_run(tmp_path, "quick", [])
    for number, (episodes, success) in enumerate([(3, 1.0), (150, 0.9), (200, 0.2), (200, 0.6)], 1):
        row = {"iteration": number, "steps": 500 * number, "seconds": 30.0 * number}
        run.curve.append(row | {"episodes": episodes, "success": success})
    assert [metrics(run)[f"steps to {share} success"] for share in ("50%", "80%")] == ["2000", "-"]


def test_what_else_the_task_counts_is_told(tmp_path: Path):
    """Such as who entered the patch."""
    run = make_run(tmp_path, "entering", [])
    run.curve.append({"iteration": 1, "steps": 500, "seconds": 30.0, "success": 1.0, "outcome/entered": 0.25})
    assert metrics(run)["entered, last 200 episodes"] == "0.25"


def test_a_run_without_a_row_has_no_metrics(tmp_path: Path):
    """It was made and not trained."""
    assert metrics(make_run(tmp_path, "new", [])) == {"iterations": "0"}


def test_the_image_has_a_line_for_each_run(runs: list[Run]):
    """Steps to the right, success upwards, on one scale for all."""
    drawing = ElementTree.fromstring(image(runs))
    lines = [path.attrib["d"] for path in drawing.findall(".//{*}path") if path.attrib.get("fill") == "none"]
    sight, blind = ([tuple(map(float, point)) for point in re.findall(r"([\d.]+) ([\d.]+)", line)] for line in lines)
    assert (len(sight), len(blind)) == (4, 2)
    assert sight[0][0] == blind[0][0] < sight[1][0] == blind[1][0] < sight[3][0]
    assert sight[2][1] < sight[3][1] < sight[1][1] < sight[0][1] < blind[1][1] < blind[0][1]
    assert {"sight", "blind"} <= {text.text for text in drawing.findall(".//{*}text")}
