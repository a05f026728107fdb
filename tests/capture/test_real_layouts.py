"""Layouts as apps and people really write them: small excerpts with our own pixels, each read from end to end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.capture import stage
from pipeline.capture.detect import probe
from pipeline.capture.model import Capture
from pipeline.capture.params import CaptureParams
from pipeline.errors import CaptureError
from pipeline.geometry import Camera
from tests.capture.writers.reading import same_camera
from tests.paths import ROOT
from tests.synthetic import CAMERA

REAL = ROOT / "tests/data/real"
SMALL = CAMERA.resized(80, 60)
MIDDLE = Camera(72, 96, 72.6, 72.6, 35.1, 48.7)


def read(folder: str, out: Path) -> Capture:
    """What the capture stage makes of it; the plan promises the same."""
    traits = probe(REAL / folder)
    stage.run({"source": REAL / folder}, CaptureParams(), out)
    capture = Capture.load(out)
    assert (traits.kind, traits.has_depth, traits.has_poses) == (capture.kind, capture.has_depth, capture.has_poses)
    assert traits.has_gravity == (capture.up_in_world is not None)
    assert len(capture.frames) <= traits.frames <= len(capture.frames) + len(capture.skipped)
    return capture


def agrees(capture: Capture) -> float:
    """Share of points in which depth and poses agree, as the note says it."""
    note = next(note for note in capture.notes if "depth and poses agree" in note)
    return float(note.split(" in ")[1].split("%")[0]) / 100


def up_of(capture: Capture) -> list[float] | None:
    """In the source's world."""
    return None if capture.up_in_world is None else capture.up_in_world.tolist()


def test_record3d_in_arkits_world(tmp_path: Path) -> None:
    """A first pose that is turned: y is up."""
    capture = read("record3d", tmp_path)
    assert (len(capture.frames), up_of(capture), capture.skipped) == (7, [0.0, 1.0, 0.0], ())
    camera = capture.frames[0].camera
    assert np.allclose(camera.matrix, MIDDLE.matrix, atol=1e-4)
    assert agrees(capture) > 0.9


def test_instant_ngp_with_images_missing(tmp_path: Path) -> None:
    """Five of twelve are not there: left out, in the order of the names."""
    capture = read("instant_ngp", tmp_path)
    assert [frame.name for frame in capture.frames] == [f"{n:04d}.jpg" for n in (1, 2, 4, 7, 9, 12, 18)]
    assert [skipped.file for skipped in capture.skipped] == [f"images/{n:04d}.jpg" for n in (3, 6, 8, 14, 19)]
    assert probe(REAL / "instant_ngp").missing == tuple(skipped.file for skipped in capture.skipped)
    assert same_camera(capture.frames[0].camera, SMALL)


def test_tum_with_file_headers(tmp_path: Path) -> None:
    """A bag that is no benchmark's: no Kinect lens, the camera of camera-intrinsics.txt."""
    capture = read("tum", tmp_path)
    assert len(capture.frames) == 7
    assert same_camera(capture.frames[0].camera, SMALL)
    assert agrees(capture) > 0.9


def test_rgbd_beside_another_intrinsics_file(tmp_path: Path) -> None:
    """BundleFusion's info.txt counts, and nothing is assumed of 7-Scenes."""
    capture = read("rgbd", tmp_path)
    assert (len(capture.frames), capture.assumed) == (7, ())
    assert same_camera(capture.frames[0].camera, SMALL)
    assert agrees(capture) > 0.9


@pytest.mark.parametrize(
    ("folder", "rule", "found"),
    [
        ("kitti_renamed", "KITTI sequence", "image_l, image_r"),
        ("colmap_without_images", "needs cameras and images", "cameras.txt"),
    ],
)
def test_halves_are_named_and_not_taken_for_photos(folder: str, rule: str, found: str) -> None:
    """Images next to what was a sequence or a model: refused by name."""
    with pytest.raises(CaptureError, match=rule) as error:
        probe(REAL / folder)
    assert found in error.value.found


def test_lidar_slam_with_timestamps_and_extrinsics(tmp_path: Path) -> None:
    """Numbered images get their times from the list, the camera its place from extrinsics.yaml."""
    capture = read("lidar_slam", tmp_path)
    assert [frame.source_time for frame in capture.frames] == pytest.approx(
        [1_700_000_000.25 + 0.1 * i for i in range(7)]
    )
    assert same_camera(capture.frames[0].camera, CAMERA.resized(160, 120))
    assert any("depth fits the images" in note for note in capture.notes)
    assert agrees(capture) > 0.8


def test_stray_scanner_that_hides_its_first_image(tmp_path: Path) -> None:
    """Paired by number: the first is reported, the others have their own depth."""
    capture = read("stray_scanner", tmp_path)
    assert [skipped.file for skipped in capture.skipped] == ["rgb.mp4/000000.jpg"]
    assert (len(capture.frames), up_of(capture)) == (6, [0.0, 1.0, 0.0])
    assert agrees(capture) > 0.9


def test_polycam_with_all_keys_of_newer_versions(tmp_path: Path) -> None:
    """Corrected images with corrected cameras; a keyframe that was not optimised is left out, .Clean.png ignored."""
    capture = read("polycam", tmp_path)
    assert (len(capture.frames), up_of(capture)) == (6, [0.0, 1.0, 0.0])
    assert [skipped.reason for skipped in capture.skipped] == ["the app optimised no camera for it"]
    assert capture.notes[0] == "corrected images and poses"
    assert agrees(capture) > 0.9


def test_arkitscenes_with_names_rounded_apart(tmp_path: Path) -> None:
    """Intrinsics one millisecond next to their images; z is up."""
    capture = read("arkitscenes", tmp_path)
    assert (len(capture.frames), up_of(capture), capture.skipped) == (6, [0.0, 0.0, 1.0], ())
    assert np.allclose(capture.frames[0].camera.matrix, SMALL.matrix, atol=1e-3)
    assert agrees(capture) > 0.85


def test_excerpts_stay_small() -> None:
    """Well under a megabyte."""
    assert sum(file.stat().st_size for file in REAL.rglob("*") if file.is_file()) < 900_000
