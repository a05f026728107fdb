"""The select stage."""

from __future__ import annotations

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


@needs_real
@pytest.mark.real
@pytest.mark.parametrize(("source", "kept", "held_out"), [(FOX, 50, 7), (REDKITCHEN, 200, 25)])
def test_real_captures_are_kept_whole(source: Path, kept: int, held_out: int, tmp_path: Path) -> None:
    """All frames of both are good enough; every 8th is held out."""
    selection = select(source, tmp_path)
    assert (len(selection.names), len(selection.held_out), selection.dropped) == (kept, held_out, ())
    assert selection.keyframes[8].held_out
