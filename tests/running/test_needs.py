"""What a build will take, said before it begins."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import BuildRequest, build, plan
from pipeline.errors import MachineError
from pipeline.place import MOST_ROOMS
from pipeline.running import needs
from pipeline.running.building import Plan
from pipeline.running.needs import Needs, check_needs, expected, recounted
from tests.synthetic import Room, walk, write_photos, write_polycam


@pytest.fixture(scope="module")
def scan(tmp_path_factory, room: Room) -> Path:
    """A phone scan of three frames."""
    folder = tmp_path_factory.mktemp("captures") / "scan"
    write_polycam(folder, room, walk(3))
    return folder


@pytest.fixture
def long(scan, tmp_path) -> Plan:
    """The plan of a scan, as if it had 20,000 frames."""
    planned = plan(BuildRequest(scan, out=tmp_path / "out"))
    stages = tuple(replace(s, images=20_000 if s.name in ("capture", "select") else 240) for s in planned.stages)
    return replace(planned, stages=stages, traits=replace(planned.traits, frames=20_000))


def test_a_long_capture_says_what_it_takes(long):
    """Time, memory and disk, of a room and of as large a place as there may be."""
    said = expected(long.pending, long.traits)
    assert said.startswith("20,000 images, 240 to work on: about ")
    assert f"larger than a room, up to {round(240 * MOST_ROOMS):,}: " in said
    for part in ("min on two idle cores", "of memory", "of disk"):
        assert part in said
    few, many = (Needs.of(long.pending, count) for count in (240, 480))
    assert few.seconds < many.seconds < 2 * few.seconds
    assert few.memory < many.memory
    assert few.disk < many.disk
    without_splat = [stage for stage in long.pending if stage.name != "splat"]
    assert Needs.of(without_splat, 240).seconds < few.seconds


def test_photos_without_poses_are_a_room(long):
    """Select can't tell the size of their place."""
    traits = replace(long.traits, has_poses=False)
    assert "room" not in expected(long.pending, traits)


def test_a_disk_that_is_too_small_is_refused(scan, tmp_path, monkeypatch):
    """Before anything runs."""
    monkeypatch.setattr(needs, "free_bytes", lambda _: 1_000_000)
    with pytest.raises(MachineError, match="the disk must have room") as error:
        build(BuildRequest(scan, out=tmp_path / "out"), lambda stage: pytest.fail(stage.name))
    assert "needed for 3 images" in error.value.found


def test_memory_that_is_too_small_is_refused(long, tmp_path, monkeypatch):
    """The limit of a container, too; unknown memory refuses nothing."""
    monkeypatch.setattr(needs, "available_memory", lambda: 2**29)
    with pytest.raises(MachineError, match="fit into memory") as error:
        check_needs(long.pending, long.traits, tmp_path)
    assert "512 MiB free" in error.value.found
    monkeypatch.setattr(needs, "available_memory", lambda: None)
    check_needs(long.pending, long.traits, tmp_path)
    check_needs((), long.traits, tmp_path)


def test_stages_after_select_know_how_many_images_they_work_on(room, tmp_path):
    """Two of four, once that is chosen; those before, and other plans, stay as they are."""
    write_photos(tmp_path / "photos", room, walk(4))
    planned = plan(BuildRequest(tmp_path / "photos", out=tmp_path / "out"))
    by_name = {stage.name: stage for stage in planned.stages}
    assert recounted(planned.stages, by_name["poses"]).images == 4
    by_name["select"].folder.mkdir(parents=True)
    (by_name["select"].folder / "selection.json").write_text(json.dumps({"keyframes": [{}, {}]}))
    assert recounted(planned.stages, by_name["poses"]) == replace(by_name["poses"], images=2)
    assert recounted(planned.stages, by_name["select"]).images == 4
    again = {stage.name: stage.images for stage in plan(BuildRequest(tmp_path / "photos", out=tmp_path / "out")).stages}
    assert (again["capture"], again["poses"], again["bundle"]) == (4, 2, 2)
