"""The time left of a build, told by earlier ones."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline import BuildRequest, plan
from pipeline.io.results import run_record
from pipeline.preview import time_left
from pipeline.preview.time_left import TimeLeft, about, expected_seconds, whole
from pipeline.running.building import RunRecord
from pipeline.stage import Stage
from tests.fake_stages import FakeParams, plan_chain
from tests.synthetic import Room, walk, write_photos


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which a test moves."""
    now = [100.0]
    monkeypatch.setattr(time_left.time, "monotonic", lambda: now[0])
    return now


def record(stage: str, seconds: float, images: int, backend: str = "cpu") -> RunRecord:
    return RunRecord(
        stage=stage,
        backend=backend,
        images=images,
        seconds=seconds,
        cpu_seconds=seconds,
        peak_memory=0,
        input_bytes=0,
        result_bytes=0,
    )


def planned(tmp_path: Path, images: int):
    """The first stage of a chain, on so many images."""
    stage = replace(plan_chain(tmp_path, [FakeParams()])[0], images=images)
    return stage, lambda seconds, of: record(stage.name, seconds, of, stage.backend)


def test_a_time_in_proportion_to_the_images_is_found(tmp_path):
    """A machine that takes 1.5 s an image, give or take a fifth, and once was busy with something else."""
    stage, took = planned(tmp_path, 120)
    rng = np.random.default_rng(1)
    runs = [took(1.5 * count * rng.uniform(0.8, 1.2), count) for count in (40, 90, 110, 130, 200, 500)]
    runs.append(took(20 * 1.5 * 115, 115))
    assert expected_seconds(stage, runs) == pytest.approx(1.5 * 120, rel=0.2)


def test_runs_on_about_as_many_images_tell(tmp_path):
    """A stage that takes 30 s whatever it works on: other sizes don't matter where there are enough of this one."""
    stage, took = planned(tmp_path, 50)
    runs = [took(30, count) for count in (5, 8, 1000, 48, 49, 50, 51, 52, 2000)]
    assert expected_seconds(stage, runs) == pytest.approx(30, rel=0.05)


def test_what_tells_nothing_is_left_out(tmp_path):
    """Another backend, another stage, a record of an earlier version, a stage of unknown size."""
    stage, took = planned(tmp_path, 50)
    others = [record(stage.name, 7, 50, "gpu"), record("other", 7, 50), took(7, 0)]
    assert expected_seconds(stage, others) is None
    assert expected_seconds(replace(stage, images=0), [took(7, 50)]) is None
    assert expected_seconds(stage, [*others, took(9, 50)]) == 9


def test_what_was_compiled_is_not_expected_again(tmp_path):
    """A minute of the first build's stage went to its kernels."""
    stage, took = planned(tmp_path, 50)
    assert expected_seconds(stage, [took(70, 50).model_copy(update={"compile_seconds": 60})]) == pytest.approx(10)


def test_what_is_left_falls_as_time_passes(clock):
    """The running stage's rest never falls below nothing, and stages that are done count no more."""
    left = TimeLeft({"a": 5.0, "b": 40.0, "c": None})
    assert left.share() == 0
    left.begin("a")
    clock[0] += 3
    assert left.left() == {"a": 2.0, "b": 40.0, "c": None}
    clock[0] += 4
    assert left.left()["a"] == 0
    left.begin("b")
    clock[0] += 10
    assert left.left() == {"b": 30.0, "c": None}
    assert left.share() == pytest.approx(17 / 47)


def test_a_slow_build_is_expected_to_stay_slow(clock):
    """Twice the time for the stages done: twice the time for those to come; little evidence changes nothing."""
    left = TimeLeft({"a": 2.0, "b": 20.0, "c": 60.0})
    left.begin("a")
    clock[0] += 8
    left.begin("b")
    assert left.left()["c"] == 60
    clock[0] += 36
    left.begin("c")
    assert left.left() == {"c": pytest.approx(120)}
    assert TimeLeft({"a": 1000.0}).pace == 1


def test_kernels_are_counted_once_they_are_compiled(clock, monkeypatch):
    """Those of the running stage and of the ones to come; the pace is that of compiling, too."""
    monkeypatch.setattr(time_left, "COMPILE_SECONDS", {"a": 20.0, "c": 40.0})
    left = TimeLeft({"a": 10.0, "b": 10.0, "c": 10.0})
    left.begin("a")
    clock[0] += 5
    assert sum(one or 0 for one in left.left().values()) == 25
    left.compiling = True
    assert left.left() == {"a": 25.0, "b": 10.0, "c": 50.0}
    clock[0] += 55
    left.begin("b")
    assert left.left() == {"b": pytest.approx(20), "c": pytest.approx(100)}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "5 s"), (34, "30 s"), (89, "90 s"), (100, "1.5 min"), (870, "14 min"), (5500, "92 min"), (9000, "2.5 h")],
)
def test_times_are_told_as_well_as_they_are_known(seconds, text):
    """Two digits at most."""
    assert about(seconds) == f"about {text}"
    assert whole([seconds, None]) == f"at least {text}"
    assert whole([None, None]) == "an unknown time"


def test_a_build_learns_from_those_beside_it(tmp_path, room: Room):
    """Records in the folder of bundles, of this scene and of another; damaged and endless ones are left out."""
    write_photos(tmp_path / "photos", room, walk(3))
    first = plan(BuildRequest(tmp_path / "photos", name="first", out=tmp_path / "out"))
    assert {stage.images for stage in first.stages} == {3}
    for stage in first.stages:
        stage.folder.parent.mkdir(parents=True, exist_ok=True)
        run_record(stage.folder).write_text(json.dumps(record(stage.name, 4, 6, stage.backend).model_dump()))
    damaged = first.stages[0].folder.parent / f".{'b' * 20}.run.json"
    damaged.write_text('{"stage": "capture", "backend": "photos", "images": 3, "seconds": Infinity')
    os.utime(damaged)
    second = plan(BuildRequest(tmp_path / "photos", name="second", out=tmp_path / "out"))
    assert TimeLeft.of(second).expected == dict.fromkeys((stage.name for stage in second.stages), 2.0)
    elsewhere = plan(BuildRequest(tmp_path / "photos", name="second", out=tmp_path / "elsewhere"))
    assert all(TimeLeft.of(elsewhere).expected.values()), "the usual times of a first build"
    assert TimeLeft.of(elsewhere).expected["poses"] != 2


def test_keyframes_count_from_the_poses_on(tmp_path, room: Room):
    """A long video has more frames than any later stage works on."""
    write_photos(tmp_path / "photos", room, walk(4))
    planned = plan(BuildRequest(tmp_path / "photos", out=tmp_path / "out", settings=("select.max_keyframes=3",)))
    images = {stage.name: stage.images for stage in planned.stages}
    assert (images.pop("capture"), images.pop("select")) == (4, 4)
    assert set(images.values()) == {3}
    assert isinstance(planned.stages[0].stage, Stage)
