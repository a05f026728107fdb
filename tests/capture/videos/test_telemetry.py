"""Gravity and positions of a GoPro's video at its frames, from file to capture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.capture.cameras.gpmf import Telemetry
from pipeline.capture.images import turned
from pipeline.capture.model import Capture, Frame
from pipeline.capture.params import CaptureParams
from pipeline.capture.source import open_source
from pipeline.capture.videos import motion
from pipeline.capture.videos.telemetry import with_telemetry
from pipeline.capture.videos.video import READER
from pipeline.geometry import Camera
from tests.capture.writers.gopro import add_track, payload
from tests.capture.writers.video import walk_by, write_video


def sway(time: float) -> np.ndarray:
    """Direction of gravity at a time [s]."""
    angle = 0.1 * np.sin(2 * time)
    return np.array([np.sin(angle), 0.9 * np.cos(angle), (0.19**0.5) * np.cos(angle)])


def place(time: float) -> list[float]:
    """Latitude, longitude, height, and two speeds."""
    return [47.0 + 9e-6 * time, 8.0 + 13e-6 * time, 400 + 0.5 * time, 1.0, 1.0]


def test_from_file_to_capture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two chapters of a walk: each frame has the gravity and the position of its time, by metres only."""
    monkeypatch.setattr(motion, "MAX_ANCHORS", 4)
    images, source = walk_by(2.0), tmp_path / "in"
    source.mkdir()
    for chapter in range(2):
        path = write_video(source / f"GX0{chapter + 1}0007.MP4", images[15 * chapter : 15 * chapter + 15])
        times = chapter + np.arange(30) / 30
        at = np.array([*map(place, times[::3].tolist())])
        add_track(path, [payload(np.array([*map(sway, times)]), gps5=at)])
    with open_source(source) as opened:
        capture = READER.read(opened, tmp_path / "out", CaptureParams())
    assert len(capture.frames) > 10
    assert capture.gravity_sigma_deg is not None
    seen = [frame for frame in capture.frames if frame.gps is not None]
    assert len(seen) >= len(capture.frames) - 4  # the last tenth of a second has none
    for frame in capture.frames:
        assert frame.gravity is not None
        assert frame.source_time is not None
        assert np.rad2deg(np.arccos(min(1.0, float(frame.gravity @ sway(frame.source_time))))) < 0.6
    first, last = seen[0], seen[-1]
    assert first.gps is not None
    assert last.gps is not None
    seconds = (last.source_time or 0) - (first.source_time or 0)
    east, north = 13e-6 * 111_320 * np.cos(np.deg2rad(47)), 9e-6 * 111_175
    np.testing.assert_allclose(last.gps - first.gps, np.array([east, north, 0.5]) * seconds, rtol=0.01, atol=0.02)
    capture.save()
    assert "47.0" not in (tmp_path / "out" / "capture.json").read_text()


def telemetry(gravity: list[float]) -> Telemetry:
    """Gravity that doesn't change, for three seconds, and positions with a gap of two seconds."""
    times = np.arange(4.0)
    at = np.array([[47.0, 8.0, 400.0]]) + np.arange(3)[:, None] * 1e-5
    return Telemetry(times, np.tile(gravity, (4, 1)), np.array([0.0, 1.0, 3.0]), at, np.full((3, 2), 3.0))


def capture_at(*times: float) -> Capture:
    """Frames at these times [s]."""
    camera = Camera(64, 48, 50.0, 50.0, 32.0, 24.0)
    frames = (Frame(f"{time}.jpg", "", camera, "guessed", source_time=time) for time in times)
    return Capture(Path(), "video", tuple(frames), True)


def test_gaps_have_no_position() -> None:
    """Nor what lies beyond the readings; gravity is missing where none is near."""
    read = with_telemetry(capture_at(0.5, 2.0, 3.5), telemetry([0, 1, 0]), None, keep_gps=False)
    assert [frame.gps is not None for frame in read.frames] == [True, False, False]
    assert read.location is None
    kept = with_telemetry(capture_at(0.5), telemetry([0, 1, 0]), None, keep_gps=True).location
    assert kept is not None
    assert kept.latitude_deg == pytest.approx(47.000005)
    assert [frame.gravity is not None for frame in read.frames] == [False, True, False]


def test_gravity_turns_with_the_images() -> None:
    """Stored images that a display matrix rotates; by what would be upside down nothing is turned."""
    for rotation in Image.Transpose:
        stored = Image.new("L", (3, 2))
        stored.putpixel((1, 1), 255)  # below the middle of the upper row
        stored.putpixel((1, 0), 128)
        image = np.asarray(stored.transpose(rotation)).astype(int)
        below = (np.argwhere(image == 255) - np.argwhere(image == 128))[0, ::-1]
        np.testing.assert_allclose(turned(np.array([0.0, 1.0, 0.3]), rotation), [*below, 0.3])
    upright = with_telemetry(capture_at(1), telemetry([0, -1, 0]), Image.Transpose.ROTATE_180, keep_gps=False)
    np.testing.assert_allclose(upright.frames[0].gravity, [0, 1, 0])
    wrong = with_telemetry(capture_at(1), telemetry([0, -1, 0]), None, keep_gps=False)
    assert wrong.frames[0].gravity is None
    assert any("upside down" in note for note in wrong.notes)
