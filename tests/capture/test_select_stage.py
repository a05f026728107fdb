"""The select stage."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.capture import select_stage, stage
from pipeline.capture.params import CaptureParams, SelectParams
from pipeline.capture.selection import Selection
from tests.paths import FOX, REDKITCHEN, needs_real


def select(source: Path, folder: Path) -> Selection:
    """Run both stages."""
    stage.run({"source": source}, CaptureParams(), folder / "capture")
    select_stage.run({"capture": folder / "capture"}, SelectParams(), folder / "select")
    return Selection.load(folder / "select")


def test_selection_repeats(made: Path, tmp_path: Path) -> None:
    """Two runs write the same bytes."""
    for name in ("a", "b"):
        assert len(select(made / "rgbd", tmp_path / name).names) == 16
    first, second = (tmp_path / name / "select" / "selection.json" for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


def test_what_is_not_used_is_one_line(made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A camera that rests gives many frames of one view: one line, not one a frame; selection.json names each."""
    source = tmp_path / "source"
    shutil.copytree(made / "polycam", source)
    still = sorted((source / "keyframes/images").iterdir(), key=lambda file: int(file.stem))[4:10]
    for picture in still[1:]:
        shutil.copyfile(still[0], picture)
    caplog.set_level("INFO")
    selection = select(source, tmp_path)
    assert [dropped.reason for dropped in selection.dropped] == [f"shows the same as another: {still[0].name}"] * 5
    told = [record.getMessage() for record in caplog.records if "not used" in record.getMessage()]
    assert told == ["not used 5 of 16: shows the same as another (5); selection.json names each"]


@needs_real
@pytest.mark.real
@pytest.mark.parametrize(("source", "kept", "held_out"), [(FOX, 50, 7), (REDKITCHEN, 200, 25)])
def test_real_captures_are_kept_whole(source: Path, kept: int, held_out: int, tmp_path: Path) -> None:
    """All frames of both are good enough; every 8th is held out."""
    selection = select(source, tmp_path)
    assert (len(selection.names), len(selection.held_out), selection.dropped) == (kept, held_out, ())
    assert selection.keyframes[8].held_out
