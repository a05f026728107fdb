"""The build as a flow: the plan is made once, whatever runs it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from flows import build
from pipeline.capture.detect import probe_and_digest
from pipeline.running import building
from pipeline.running.building import BuildRequest
from pipeline.running.stages import STAGES
from tests.fake_scene import ran
from tests.refusals import build_here
from tests.synthetic import Room, walk, write_photos


def test_a_capture_is_hashed_once(tmp_path: Path, room: Room, monkeypatch: pytest.MonkeyPatch):
    """The flow runs the plan that was made to see whether there is anything to do: a large scan takes minutes."""
    hashed: list[Path] = []

    def probe(source: Path):
        hashed.append(source)
        return probe_and_digest(source)

    monkeypatch.setattr("pipeline.capture.detect.probe_and_digest", probe)
    monkeypatch.setattr(building, "STAGES", tuple(replace(one, function="tests.fake_scene:run") for one in STAGES))
    monkeypatch.setenv("FAKE_LAB", str(tmp_path))
    build_here(monkeypatch)
    write_photos(tmp_path / "photos", room, walk(3))
    result = build.run(BuildRequest(tmp_path / "photos", name="hall", out=tmp_path / "out"))
    assert result.bundle == tmp_path / "out" / "hall" / "1.0.0"
    assert [name for _, name, _ in ran(tmp_path)] == [stage.name for stage in STAGES]
    assert hashed == [tmp_path / "photos"]
