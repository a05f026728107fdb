"""What is read of run records, and the tables made of it."""

from __future__ import annotations

import json
import os

import pytest

from benchmarks.scale import PAGE, Prices, cost_table, measured_table, number, read_scene, write_part, written
from benchmarks.scale_queue import SceneCost, StageCost
from pipeline.running.stages import STAGES


def record(path, stage, seconds, read, made, when=1000):
    """Write a run record."""
    path.parent.mkdir(parents=True, exist_ok=True)
    run = {"stage": stage, "seconds": 1.0, "cpu_seconds": seconds, "input_bytes": read, "result_bytes": made}
    path.write_text(json.dumps(run))
    os.utime(path, (when, when))


@pytest.fixture
def work(tmp_path):
    """The work folder of a build; its depth was made twice."""
    folder = tmp_path / ".work" / "room"
    for stage in STAGES[:-1]:
        record(folder / stage.name / ".abc.run.json", stage.name, 10.0, 2_000_000, 1_000_000)
    record(folder / "depth" / ".old.run.json", "depth", 99.0, 0, 0, when=10)
    record(tmp_path / "room" / ".1.0.0.run.json", "bundle", 1.0, 11_000_000, 5_000_000)
    return folder


def test_records_are_read_in_the_order_of_stages(work):
    """The newest of each stage, and the bundle's from beside the bundle."""
    scene = read_scene(work)
    assert [stage.name for stage in scene.stages] == [stage.name for stage in STAGES]
    assert scene.cpu_seconds == 111.0
    assert scene.stages[-1] == StageCost("bundle", 1.0, 11_000_000, 5_000_000)
    assert scene.moved == 11 * 3_000_000 + 16_000_000
    assert written(scene, bundle=True) == 5_000_000
    assert written(scene, bundle=False) == 11_000_000


def test_unfinished_build_is_refused(work):
    """What a scene costs is known only when all of it was built."""
    (work / "mesh" / ".abc.run.json").unlink()
    with pytest.raises(SystemExit, match="no record of mesh"):
        read_scene(work)


def test_costs_follow_the_formula():
    """An hour of CPU and a gigabyte: a price each, times the number of scenes."""
    scene = SceneCost("hour", (StageCost("mesh", 3600.0, 0, 0), StageCost("bundle", 0.0, 0, 10**9)))
    rows = {line.split(" | ")[0].strip("| "): line.split(" | ")[1:] for line in cost_table([scene], Prices(2, 0, 3))}
    assert rows["CPU [core-hours]"] == ["1", "1,000", "100,000 |"]
    assert rows["money: CPU"] == ["2", "2,000", "200,000 |"]
    assert rows["money: bundles, a month"] == ["3", "3,000", "300,000 |"]
    assert rows["work folder [GB]"] == ["0", "0", "0 |"]


def test_measured_table_has_a_column_a_scene():
    """CPU seconds of each, bytes in the mean."""
    one = SceneCost("one", (StageCost("mesh", 10.0, 1_000_000, 3_000_000),))
    two = SceneCost("two", (StageCost("mesh", 20.0, 2_000_000, 4_000_000),))
    assert measured_table([one, two])[2:] == ["| mesh | 10.0 | 20.0 | 1.5 | 3.5 |", "| **all** | 10 | 20 | 2 | 4 |"]


@pytest.mark.parametrize(
    ("value", "text"), [(0.00306, "0.00306"), (3.0649, "3.06"), (76_591, "76,600"), (123_456_789, "123,000,000")]
)
def test_numbers_are_short(value, text):
    """Three digits that count."""
    assert number(value) == text


def test_table_takes_its_place_in_the_page(tmp_path):
    """Only what stands between the marks is replaced; a page without them is refused."""
    page = tmp_path / "page.md"
    page.write_text("# A\n\n<!-- cost -->\nold\n<!-- end -->\n\n<!-- queue -->\nkept\n<!-- end -->\n")
    write_part("cost", ["| new |"], page)
    assert page.read_text() == "# A\n\n<!-- cost -->\n\n| new |\n\n<!-- end -->\n\n<!-- queue -->\nkept\n<!-- end -->\n"
    with pytest.raises(SystemExit, match="one place"):
        write_part("measured", ["| new |"], page)


def test_page_has_a_place_for_every_table():
    """The benchmark can write what it measured."""
    text = PAGE.read_text()
    assert [text.count(f"<!-- {name} -->\n\n| ") for name in ("measured", "cost", "queue")] == [1, 1, 1]
