"""The capture stage on real captures and its repeatability."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.capture import stage
from pipeline.capture.model import Capture
from pipeline.capture.params import CaptureParams
from tests.capture.conftest import truncate
from tests.paths import FOX, REDKITCHEN, needs_real


def contents(folder: Path) -> dict[str, bytes]:
    """All files and their bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("kind", ["photos", "rgbd", "polycam"])
def test_same_source_gives_same_bytes(kind: str, made: Path, tmp_path: Path) -> None:
    """Threads don't change the result, and no path of this machine is in it."""
    for out in ("a", "b"):
        stage.run({"source": made / kind}, CaptureParams(), tmp_path / out)
    first = contents(tmp_path / "a")
    assert first == contents(tmp_path / "b")
    assert str(made).encode() not in first["capture.json"]


def test_what_is_left_out_is_one_line(copy_of: Callable[[str], Path], tmp_path: Path, caplog) -> None:
    """Counts by reason; capture.json names each file."""
    folder = copy_of("rgbd")
    for image in sorted(folder.glob("*.color.*"))[3:6]:
        truncate(image)
    (folder / "frame-000010.depth.png").write_bytes(b"")
    stage.run({"source": folder}, CaptureParams(max_bad_share=0.5), tmp_path / "out")
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    told = [text for text in warnings if "left out" in text]
    assert len(told) == 1
    assert "left out 4 of 16: " in told[0]
    assert "(3), " in told[0]
    assert "(frame-000010.depth.png)" in told[0]
    assert len(Capture.load(tmp_path / "out").skipped) == 4


@needs_real
@pytest.mark.real
def test_redkitchen_is_read_whole(tmp_path: Path) -> None:
    """200 frames with depth whose unit agrees with the poses."""
    stage.run({"source": REDKITCHEN}, CaptureParams(), tmp_path)
    capture = Capture.load(tmp_path)
    assert (len(capture.frames), capture.skipped, capture.has_depth) == (200, (), True)
    assert any("depth and poses agree" in note for note in capture.notes)


@needs_real
@pytest.mark.real
def test_fox_is_read_whole(tmp_path: Path) -> None:
    """50 photos without EXIF."""
    stage.run({"source": FOX}, CaptureParams(), tmp_path)
    capture = Capture.load(tmp_path)
    assert len(capture.frames) == 50
    assert {(f.camera.width, f.camera.height, f.focal_source) for f in capture.frames} == {(1080, 1920, "guessed")}
