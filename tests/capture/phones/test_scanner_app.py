"""The reader of 3D Scanner App's "All data"."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.capture.detect import probe
from pipeline.capture.model import Capture
from pipeline.errors import CaptureError
from tests.capture.conftest import POSES, SMALL
from tests.capture.writers.reading import same_camera
from tests.capture.writers.scanner_app import write_scanner_app
from tests.synthetic import Room

Read = Callable[[Path], Capture]


@pytest.fixture
def scan(tmp_path: Path, room: Room) -> Path:
    """Twelve frames, of which six have an image."""
    write_scanner_app(tmp_path / "scan", room, POSES[:12], SMALL, (80, 60), every=2)
    return tmp_path / "scan"


def test_it_is_a_phone_scan(scan: Path, read: Read):
    """Poses are the room's in OpenCV axes, +y is up, depth has its camera, confidence 255 for the best."""
    traits = probe(scan)
    assert (traits.kind, traits.frames, traits.unused) == ("scanner_app", 6, ())
    assert traits.has_poses and traits.has_depth and traits.has_gravity and traits.has_scale
    capture = read(scan)
    assert [frame.name for frame in capture.frames] == [f"frame_{number:05d}.jpg" for number in range(0, 12, 2)]
    assert capture.scale_sigma and capture.up_in_world is not None
    assert any(note.startswith("6 frames have no image") for note in capture.notes)
    poses = [frame.world_from_camera for frame in capture.frames]
    for pose, truth in zip(poses, POSES[:12:2], strict=True):
        assert pose is not None and poses[0] is not None
        relative, expected = poses[0].inverse() @ pose, POSES[0].inverse() @ truth
        assert np.allclose(relative.matrix, expected.matrix, atol=1e-6)
        assert np.allclose(pose.inverse().rotate(capture.up_in_world), truth.inverse().rotate([0, 0, 1]), atol=1e-6)
    frame = capture.frames[2]
    assert same_camera(frame.camera, SMALL)
    assert same_camera(frame.depth_camera, SMALL.resized(80, 60))
    confidence = np.asarray(Image.open(capture.root / str(frame.confidence)))
    assert confidence[5, 2] == 128 and confidence[5, 40] == 255
    assert frame.time == pytest.approx(4 / 60) and frame.source_time == pytest.approx(7000.25 + 4 / 60)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cameraPoseARFrame": [1.0] * 12}, "cameraPoseARFrame must hold 4 x 4 numbers"),
        ({"intrinsics": [1.0, 2.0]}, "intrinsics must hold 3 x 3 numbers"),
        ({"time": "later"}, "time must be numbers"),
        ({"time": []}, "time must hold 1 x 1 numbers"),
        ({"intrinsics": [90, 0, 400, 0, 90, 300, 0, 0, 1]}, "intrinsics must belong to the image's size"),
    ],
)
def test_broken_camera_files_are_named(change: dict[str, object], message: str, scan: Path, read: Read):
    """With the file."""
    file = scan / "frame_00004.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(CaptureError, match=message) as error:
        read(scan)
    assert "frame_00004" in str(error.value.file)


def test_an_image_needs_its_camera_file(scan: Path, read: Read):
    """Named by the number."""
    (scan / "frame_00004.json").unlink()
    with pytest.raises(CaptureError, match="no camera for 4"):
        read(scan)
