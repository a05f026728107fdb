"""The laboratory of the batches' benchmark: cards that can be planned, and times between stages."""

from __future__ import annotations

from benchmarks.batch import Lab, gaps
from pipeline.running.batch import plan_batch


def test_every_card_of_a_lab_has_a_capture_of_its_own(tmp_path):
    """All can be planned, and no two are the same."""
    scenes = plan_batch([Lab(tmp_path / "lab", 3).pattern], tmp_path / "out")
    assert [scene.state for scene in scenes] == ["waiting"] * 3
    captures = [scene.captures[0] for scene in scenes]
    first, *others = [[path.read_bytes() for path in sorted(capture.iterdir())] for capture in captures]
    assert first not in others
    assert len(first) == 3


def test_gaps_are_those_within_a_scene():
    """From a stage's end to the next one's beginning; scenes that are built side by side don't mix."""
    log = "a 0 1\nb 0.5 2\na 1.25 3\nb 2.5 3\na 3 4\n"
    assert gaps(log) == [0.25, 0.0, 0.5]
