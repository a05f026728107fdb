"""The reader of Polycam raw exports."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline.capture.model import Capture
from pipeline.capture.phones.polycam import BORDER
from pipeline.errors import CaptureError
from pipeline.geometry import angle_deg
from tests.capture.conftest import POSES, SMALL
from tests.capture.writers.reading import same_camera

Read = Callable[[Path], Capture]
Copy = Callable[[str], Path]


def edit_cameras(folder: Path, change: Callable[[dict[str, object]], object], part: str = "cameras") -> list[Path]:
    """Change every camera file; returns them in order."""
    files = sorted((folder / "keyframes" / part).glob("*.json"))
    for file in files:
        values = json.loads(file.read_text())
        change(values)
        file.write_text(json.dumps(values))
    return files


def test_poses_are_those_of_the_room_in_opencv_axes(made: Path, read: Read) -> None:
    """Relative poses equal the truth; up is +y of the ARKit world; the cameras' gravity says the same."""
    capture = read(made / "polycam")
    assert (capture.kind, capture.ordered, capture.has_depth, capture.has_poses) == ("polycam", True, True, True)
    poses = [frame.world_from_camera for frame in capture.frames]
    for i, truth in enumerate(POSES):
        relative, expected = poses[0].inverse() @ poses[i], POSES[0].inverse() @ truth
        assert np.allclose(relative.matrix, expected.matrix, atol=1e-6)
    assert capture.up_in_world is not None
    for frame, truth in zip(capture.frames, POSES, strict=True):
        assert frame.gravity is not None
        assert np.allclose(frame.world_from_camera.rotate(frame.gravity), -capture.up_in_world, atol=1e-6)
        assert np.allclose(frame.gravity, truth.inverse().rotate([0, 0, -1]), atol=1e-6)


def test_depth_has_its_own_camera_and_confidence(made: Path, read: Read) -> None:
    """The colour camera scaled to the depth image's size."""
    capture = read(made / "polycam")
    frame = capture.frames[3]
    assert same_camera(frame.camera, SMALL)
    assert same_camera(frame.depth_camera, SMALL.resized(80, 60))
    confidence = cv2.imread(str(capture.root / str(frame.confidence)), cv2.IMREAD_UNCHANGED)
    assert confidence.shape == (60, 80)
    assert confidence.max() == 255


def test_principal_point_is_arkits(copy_of: Copy, read: Read) -> None:
    """The middle of ARKit's 1920 pixels is 959.5 from the first one's middle: the middle of image and depth image."""
    folder = copy_of("polycam")
    by = 160 / 1920
    edit_cameras(folder, lambda values: values.update(cx=by * 959.5, cy=by * 719.5))
    frame = read(folder).frames[5]
    assert (frame.camera.cx, frame.camera.cy) == pytest.approx((80, 60))
    assert (frame.depth_camera.cx, frame.depth_camera.cy) == pytest.approx((40, 30))


def test_time_is_seconds_since_the_first_frame_in_number_order(copy_of: Copy, read: Read) -> None:
    """Timestamps are microseconds and sort as numbers: 100000001 comes after 98000000."""
    capture = read(copy_of("polycam"))
    stamps = [int(frame.name[:-4]) for frame in capture.frames]
    assert stamps == sorted(stamps)
    assert len(str(stamps[0])) < len(str(stamps[-1]))
    assert capture.frames[-1].time == pytest.approx((stamps[-1] - stamps[0]) * 1e-6)
    assert capture.frames[-1].source_time == stamps[-1]


def test_clean_variants_are_ignored(copy_of: Copy, read: Read) -> None:
    """<time>.Clean.png must not double the depth images."""
    folder = copy_of("polycam")
    for file in list((folder / "keyframes" / "depth").glob("*.png")):
        cv2.imwrite(str(file.with_suffix(".Clean.png")), np.full((60, 80), 1, np.uint16))
    assert len(read(folder).frames) == 16


def test_gravity_is_optional_and_checked(copy_of: Copy, read: Read) -> None:
    """Without the key there is none; a direction that is not of unit length is refused."""
    folder = copy_of("polycam")
    edit_cameras(folder, lambda values: values.pop("gravity"))
    assert read(folder).frames[0].gravity is None
    files = edit_cameras(folder, lambda values: values.update(gravity=[0, -9.81, 0]))
    with pytest.raises(CaptureError, match="unit direction") as error:
        read(folder)
    assert error.value.file in map(str, files)


def corrected(folder: Path) -> Path:
    """Add optimised cameras (shifted by 1 m, without sensor fields) and images for all but the last frame."""
    keyframes = folder / "keyframes"
    shutil.copytree(keyframes / "cameras", keyframes / "corrected_cameras")
    shutil.copytree(keyframes / "images", keyframes / "corrected_images")

    def change(values: dict[str, object]) -> None:
        values["t_03"] = float(values["t_03"]) + 1.0  # type: ignore[arg-type]
        del values["gravity"]

    edit_cameras(folder, change, "corrected_cameras")
    max((keyframes / "corrected_cameras").iterdir(), key=lambda file: int(file.stem)).unlink()
    return folder


def test_corrected_cameras_go_with_corrected_images(copy_of: Copy, made: Path, read: Read) -> None:
    """Both are taken, black borders cropped, the sensor's gravity joined, frames without a camera reported."""
    raw = read(made / "polycam")
    capture = read(corrected(copy_of("polycam")))
    assert len(capture.frames) == 15
    assert [s.file for s in capture.skipped] == [f"keyframes/corrected_images/{raw.frames[-1].name}"]
    frame, before = capture.frames[2], raw.frames[2]
    shift = frame.world_from_camera.translation - before.world_from_camera.translation
    assert np.allclose(shift, [1, 0, 0])
    assert float(angle_deg(frame.world_from_camera.rotation, before.world_from_camera.rotation)) < 1e-3
    assert np.allclose(frame.gravity, before.gravity)
    cut = int(np.ceil(BORDER * 160))
    assert Image.open(capture.root / frame.image).size == (160 - 2 * cut, 120 - 2 * cut)
    assert (frame.camera.width, frame.camera.cx) == (160 - 2 * cut, pytest.approx(SMALL.cx - cut))
    assert same_camera(frame.depth_camera, SMALL.resized(80, 60))


def test_corrected_cameras_are_never_mixed_with_raw_images(copy_of: Copy, made: Path, read: Read) -> None:
    """Without corrected images the raw cameras are used."""
    folder = corrected(copy_of("polycam"))
    shutil.rmtree(folder / "keyframes" / "corrected_images")
    capture, raw = read(folder), read(made / "polycam")
    assert len(capture.frames) == 16
    assert np.allclose(capture.frames[0].world_from_camera.matrix, raw.frames[0].world_from_camera.matrix)


def test_zip_with_a_wrapping_folder_reads_the_same(made: Path, tmp_path: Path, read: Read) -> None:
    """A zip as the app exports it, one folder deep, with Apple's litter."""
    archive = tmp_path / "scan.zip"
    with zipfile.ZipFile(archive, "w") as target:
        for file in sorted((made / "polycam").rglob("*.*")):
            target.write(file, f"My scan/{file.relative_to(made / 'polycam')}")
        target.writestr("__MACOSX/My scan/keyframes/images/._1.jpg", b"x")
    from_zip = [(f.name, f.world_from_camera.matrix.tolist()) for f in read(archive).frames]
    assert from_zip == [(f.name, f.world_from_camera.matrix.tolist()) for f in read(made / "polycam").frames]


def test_export_without_depth(copy_of: Copy, read: Read) -> None:
    """Depth for all frames or for none."""
    folder = copy_of("polycam")
    shutil.rmtree(folder / "keyframes" / "depth")
    assert not read(folder).has_depth


def test_missing_image_is_named(copy_of: Copy, read: Read) -> None:
    """A camera without its image."""
    folder = copy_of("polycam")
    lost = sorted((folder / "keyframes" / "images").iterdir())[4]
    lost.unlink()
    with pytest.raises(CaptureError, match=f"no image for {lost.stem}"):
        read(folder)


def test_missing_and_wrong_camera_keys_are_named(copy_of: Copy, read: Read) -> None:
    """Neither guessed nor converted."""
    folder = copy_of("polycam")
    file = sorted((folder / "keyframes" / "cameras").iterdir())[5]
    values = json.loads(file.read_text())
    file.write_text(json.dumps(values | {"t_12": "0.5"}))
    with pytest.raises(CaptureError, match=r"t_12 = '0\.5'") as error:
        read(folder)
    assert error.value.file == str(file)
    del values["fx"]
    file.write_text(json.dumps(values))
    with pytest.raises(CaptureError, match="fx = None"):
        read(folder)


def test_resized_images_are_refused(copy_of: Copy, read: Read) -> None:
    """The image has another size than its camera file declares."""
    folder = copy_of("polycam")
    file = sorted((folder / "keyframes" / "images").iterdir())[0]
    Image.open(file).resize((80, 60)).save(file)
    with pytest.raises(CaptureError, match="80 x 60, declared 160 x 120"):
        read(folder)


def test_repeated_timestamps_are_refused(copy_of: Copy, read: Read) -> None:
    """098000000 and 98000000 are the same microsecond."""
    folder = copy_of("polycam")
    file = sorted((folder / "keyframes" / "images").iterdir())[-1]
    shutil.copy(file, file.with_name(f"0{file.name}"))
    with pytest.raises(CaptureError, match="exist once"):
        read(folder)


def test_bad_pose_names_its_camera_file(copy_of: Copy, read: Read) -> None:
    """A mirrored rotation in one camera."""
    folder = copy_of("polycam")
    file = sorted((folder / "keyframes" / "cameras").iterdir())[2]
    values = json.loads(file.read_text())
    file.write_text(json.dumps(values | {f"t_{row}1": -values[f"t_{row}1"] for row in range(3)}))
    with pytest.raises(CaptureError, match="left-handed") as error:
        read(folder)
    assert error.value.file == str(file)


def test_export_without_cameras_says_what_to_switch_on(copy_of: Copy, read: Read) -> None:
    """Photo mode exports images only."""
    folder = copy_of("polycam")
    shutil.rmtree(folder / "keyframes" / "cameras")
    with pytest.raises(CaptureError, match="developer mode"):
        read(folder)
