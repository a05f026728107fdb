"""Recordings in chapters: which files belong together, and that their frames go on without a gap."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline.capture.source import open_source
from pipeline.capture.videos.chapters import Recording, recordings_of
from pipeline.capture.videos.video import READER
from pipeline.errors import CaptureError
from tests.capture.writers.video import write_video


def greys(first: int, count: int) -> list[np.ndarray]:
    """Images of one grey each, brighter by 8 from one to the next."""
    return [np.full((48, 64, 3), 16 + 8 * (first + i), np.uint8) for i in range(count)]


@pytest.mark.parametrize(
    ("files", "recordings"),
    [
        ("GX010001 GX020001 GX100001", ["GX010001 GX020001 GX100001"]),
        ("GH010001 GX010001 GX010002", ["GH010001", "GX010001", "GX010002"]),
        ("GOPR0042 GP010042 GP020042", ["GOPR0042 GP010042 GP020042"]),
        ("VID_20240101_120000_00_001 VID_20240101_120000_00_002", None),
        ("DJI_20240101120000_0001_D DJI_20240101120000_0002_D", None),
        (
            "DJI_20240101120000_0001_D DJI_20240101120501_0002_D",
            ["DJI_20240101120000_0001_D", "DJI_20240101120501_0002_D"],
        ),
    ],
)
def test_names_of_cameras(files: str, recordings: list[str] | None, tmp_path: Path) -> None:
    """GoPro's new and old, Insta360's and DJI's; two recordings of one camera stay two."""
    for stem in files.split():
        (tmp_path / f"{stem}.MP4").write_bytes(b"x")
    with open_source(tmp_path) as source:
        found = recordings_of(source, source.names)
    assert [" ".join(name[:-4] for name in chapters) for chapters in found] == (recordings or [files])


@pytest.mark.parametrize("pause", [0, 30])
def test_counted_files_are_joined_by_their_clocks(pause: int, tmp_path: Path) -> None:
    """DJI_0009 and DJI_0010: chapters where the second begins as the first ends, else two recordings."""
    for name, second in (("DJI_0009", 0), ("DJI_0010", 4 + pause)):
        taken = {"creation_time": f"2026-01-01T12:00:{second:02d}Z"}
        write_video(tmp_path / f"{name}.MP4", greys(0, 20), rate=5, tags=taken)
    with open_source(tmp_path) as source:
        assert len(recordings_of(source, source.names)) == (2 if pause else 1)


def test_frames_go_on(tmp_path: Path) -> None:
    """Numbers and times of the second chapter follow on the first's, in the order of chapters."""
    second = write_video(tmp_path / "GX020001.MP4", greys(8, 8))
    first = write_video(tmp_path / "GX010001.MP4", greys(0, 8))
    recording = Recording([first, second])
    assert (recording.describe().frames, round(recording.describe().duration, 2)) == (16, 1.07)
    seen = list(recording.greys(64))
    assert [frame.index for frame in seen] == list(range(16))
    np.testing.assert_allclose([frame.time for frame in seen], np.arange(16) / 15, atol=2e-3)
    chosen = list(recording.images({3, 11}))
    assert [(frame.index, round(float(np.asarray(frame.image).mean()))) for frame in chosen] == [
        (3, pytest.approx(40, abs=4)),
        (11, pytest.approx(104, abs=4)),
    ]
    assert chosen[1].time == pytest.approx(11 / 15, abs=2e-3)


def test_chapters_are_one_capture(tmp_path: Path) -> None:
    """All of their files are read; beside another recording they have to be named."""
    write_video(tmp_path / "GX010001.MP4", greys(0, 20))
    shutil.copy(tmp_path / "GX010001.MP4", tmp_path / "GX020001.MP4")
    with open_source(tmp_path) as source:
        survey = READER.survey(source)
    assert survey.files == ["GX010001.MP4", "GX020001.MP4"]
    assert survey.frames == 33
    shutil.copy(tmp_path / "GX010001.MP4", tmp_path / "GX010002.MP4")
    with (
        open_source(tmp_path) as source,
        pytest.raises(CaptureError, match=r"(?s)one video.*2: GX010001.MP4, GX010002"),
    ):
        READER.survey(source)
