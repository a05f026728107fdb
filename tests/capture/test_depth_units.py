"""Units and conventions of depth, checked against the poses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.capture.depth_units import check_depth_unit
from pipeline.capture.detect import open_capture
from pipeline.capture.model import Capture
from pipeline.capture.params import CaptureParams
from pipeline.errors import CaptureError
from pipeline.geometry import CV_FROM_GL, Pose
from tests.capture.conftest import SMALL
from tests.paths import REDKITCHEN, needs_real
from tests.synthetic import Room, walk, write_rgbd


@pytest.fixture
def capture(made: Path, read: Callable[[Path], Capture]) -> Capture:
    """The canonical RGB-D capture of the room."""
    return read(made / "rgbd")


def with_depth_times(capture: Capture, factor: float) -> Capture:
    """The same capture with wrongly scaled depth files."""
    for frame in capture.frames:
        path = str(capture.root / str(frame.depth))
        depth = cv2.imread(path, cv2.IMREAD_UNCHANGED)
        cv2.imwrite(path, (depth * factor).round().clip(0, 65534).astype(np.uint16))
    return capture


def with_poses(capture: Capture, change: Callable[[Pose], Pose]) -> Capture:
    """The same capture with changed poses."""
    frames = [replace(f, world_from_camera=change(f.world_from_camera)) for f in capture.frames if f.world_from_camera]
    return replace(capture, frames=tuple(frames))


def share_of(note: str) -> int:
    """Percent of the compared points that agree."""
    return int(note.split(" in ")[1].split("%")[0])


def test_right_unit_passes(capture: Capture) -> None:
    """Exact data agree nearly everywhere that both views see."""
    note = check_depth_unit(capture, Path("x"))
    assert share_of(note) > 95


def test_metres_declared_as_millimetres_are_refused(capture: Capture) -> None:
    """Values of 1 to 4 are metres."""
    with pytest.raises(CaptureError, match="look like metres"):
        check_depth_unit(with_depth_times(capture, 1e-3), Path("x"))


@pytest.mark.parametrize(("factor", "unit"), [(0.1, "centimetres"), (5.0, "TUM"), (10.0, "tenths of a millimetre")])
def test_wrong_depth_scale_names_the_unit(capture: Capture, factor: float, unit: str) -> None:
    """The error says which unit fits the poses."""
    with pytest.raises(CaptureError, match=unit):
        check_depth_unit(with_depth_times(capture, factor), Path("x"))


def test_poses_in_millimetres_are_refused(capture: Capture) -> None:
    """Depth in millimetres with poses in millimetres looks like depth in metres; the remedy names both."""
    wrong = with_poses(capture, lambda pose: Pose(pose.rotation, 1000 * pose.translation))
    with pytest.raises(CaptureError, match="the poses are not in metres"):
        check_depth_unit(wrong, Path("x"))


def test_inverted_poses_are_refused(capture: Capture) -> None:
    """World-to-camera where camera-to-world is declared."""
    with pytest.raises(CaptureError, match="as world-to-camera poses"):
        check_depth_unit(with_poses(capture, Pose.inverse), Path("x"))


def test_wrong_camera_axes_are_refused(capture: Capture) -> None:
    """OpenGL cameras where OpenCV ones are declared."""
    wrong = with_poses(capture, lambda pose: Pose(pose.rotation @ CV_FROM_GL, pose.translation))
    with pytest.raises(CaptureError, match="other camera axes"):
        check_depth_unit(wrong, Path("x"))


def test_depth_without_readings_is_refused(capture: Capture) -> None:
    """Zeros everywhere are no depth."""
    with pytest.raises(CaptureError, match="only zeros"):
        check_depth_unit(with_depth_times(capture, 0.0), Path("x"))


def test_poses_of_other_moments_are_refused(room: Room, tmp_path: Path, read: Callable[[Path], Capture]) -> None:
    """A trajectory whose clock is seconds off: the error says by how much."""
    path = [walk(120)[round(14 + 14 * np.sin(0.55 * i))] for i in range(30)]  # to and fro
    write_rgbd(tmp_path / "source", room, path, SMALL.resized(80, 60))
    good = read(tmp_path / "source")
    timed = [replace(frame, time=0.5 * i) for i, frame in enumerate(good.frames)]
    assert "agree within" in check_depth_unit(replace(good, frames=tuple(timed)), Path("x"))
    late = [replace(f, world_from_camera=g.world_from_camera) for f, g in zip(timed[4:], timed, strict=False)]
    with pytest.raises(CaptureError, match=r"poses of [12]\.\d s later") as error:
        check_depth_unit(replace(good, frames=tuple(late)), Path("x"))
    assert "one clock" in error.value.remedy


def test_smooth_depth_is_not_taken_for_metres(capture: Capture) -> None:
    """Wrong intrinsics make all units fail; far enough away, where parallax vanishes, smooth depth would agree."""
    cameras = [f.depth_camera for f in capture.frames if f.depth_camera]
    other = [replace(camera, fx=1.2 * camera.fx, fy=1.2 * camera.fy) for camera in cameras]
    mixed = [replace(f, depth_camera=other[i]) if i % 2 else f for i, f in enumerate(capture.frames)]
    try:
        assert share_of(check_depth_unit(replace(capture, frames=tuple(mixed)), Path("x"))) < 80
    except CaptureError as error:
        assert "no other unit" in error.found


AXES = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])
FLIP = np.diag([1.0, -1, 1])


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (Pose.inverse, "as world-to-camera poses"),
        (
            lambda pose: Pose(pose.rotation @ CV_FROM_GL, pose.translation),
            "as camera-to-world poses with other camera axes",
        ),
        (lambda pose: Pose(pose.rotation.T, pose.translation), "as transposed poses"),
        (lambda pose: Pose(pose.rotation @ AXES, pose.translation), "no other unit"),
        (lambda pose: Pose(pose.rotation, np.diag([1.0, -1, -1]) @ pose.translation), "no other unit"),
        (lambda pose: Pose(pose.rotation, 0.2 * pose.translation), "as 1/"),
        (lambda pose: Pose(pose.rotation, 10 * pose.translation), "as centimetres"),
    ],
)
def test_wrong_poses_are_refused(change: Callable[[Pose], Pose], found: str, capture: Capture) -> None:
    """Inverted, OpenGL's, transposed, turned axes, a world half turned, another scale: never a warning."""
    with pytest.raises(CaptureError, match="agree with the poses") as error:
        check_depth_unit(with_poses(capture, change), Path("x"))
    assert found in error.value.found
    assert int(error.value.found.split("%")[0].split()[-1]) < 70


def test_drift_between_visits_is_no_disagreement(room: Room, tmp_path: Path, read: Callable[[Path], Capture]) -> None:
    """Six rooms in a row, each of them gone through twice: the way between has shifted the poses."""
    xs = np.linspace(0.7, 3.3, 20)
    path = [Pose(walk(60)[0].rotation, np.array([x, 1.5, 1.25])) for x in [*xs, *xs[::-1]]]
    write_rgbd(tmp_path / "source", room, path, SMALL.resized(80, 60))
    capture = read(tmp_path / "source")
    walked = [
        replace(
            frame,
            world_from_camera=Pose(pose.rotation, pose.translation + np.array([4.1 * number + 0.2 * visit, 0, 0])),
        )
        for visit in range(2)
        for number in range(6)
        for frame in capture.frames
        if (pose := frame.world_from_camera)
    ]
    assert share_of(check_depth_unit(replace(capture, frames=tuple(walked)), Path("x"))) > 95


def test_poses_in_another_order_are_refused(capture: Capture) -> None:
    """Listed the other way round than the images."""
    poses = [frame.world_from_camera for frame in capture.frames][::-1]
    turned = [replace(f, world_from_camera=pose) for f, pose in zip(capture.frames, poses, strict=True)]
    with pytest.raises(CaptureError, match="as poses in reverse order"):
        check_depth_unit(replace(capture, frames=tuple(turned)), Path("x"))


def test_a_pair_of_views_that_agree_by_chance_does_not_hide_a_mirrored_world(room: Room, tmp_path: Path) -> None:
    """Five frames close together: two thirds agree as declared, all of them mirrored; the setting takes them."""
    poses = [Pose(FLIP @ p.rotation @ FLIP, FLIP @ p.translation) for p in walk(60)[:20:4]]
    write_rgbd(tmp_path / "source", room, walk(60)[:20:4], SMALL.resized(80, 60))
    for number, pose in enumerate(poses):
        np.savetxt(tmp_path / f"source/frame-{number:06d}.pose.txt", pose.matrix)
    with open_capture(tmp_path / "source") as (reader, source):
        with pytest.raises(CaptureError, match="left-handed world") as error:
            reader.read(source, tmp_path / "refused", CaptureParams())
        convention = error.value.remedy.partition("capture.pose_convention=")[2]
        capture = reader.read(source, tmp_path / "taken", CaptureParams(pose_convention=convention))
        assert share_of(next(note for note in capture.notes if "agree" in note)) > 95
        assert any(convention in note for note in capture.notes)
        with pytest.raises(CaptureError, match=r"did you mean '[a-z-]+\+left-handed'"):
            reader.read(source, tmp_path / "unknown", CaptureParams(pose_convention="left-handed"))


def test_readings_of_no_confidence_do_not_count(capture: Capture) -> None:
    """Half of each image is a guess, and marked as one."""
    marked = []
    for frame in capture.frames:
        path = str(capture.root / str(frame.depth))
        depth = cv2.imread(path, cv2.IMREAD_UNCHANGED)
        confidence = np.full(depth.shape, 255, np.uint8)
        confidence[:, : depth.shape[1] // 2] = 0
        depth[:, : depth.shape[1] // 2] = 2600
        cv2.imwrite(path, depth)
        cv2.imwrite(path + ".png", confidence)
        marked.append(replace(frame, confidence=str(frame.depth) + ".png"))
    assert share_of(check_depth_unit(replace(capture, frames=tuple(marked)), Path("x"))) > 95
    with pytest.raises((CaptureError, AssertionError)):
        assert share_of(check_depth_unit(capture, Path("x"))) > 80


@needs_real
@pytest.mark.real
def test_a_real_kinect_agrees(tmp_path: Path) -> None:
    """Redkitchen: over nine of ten points that can be compared; with poses of other frames it is refused."""
    with open_capture(REDKITCHEN) as (reader, source):
        capture = reader.read(source, tmp_path, CaptureParams(stride=4))
    assert share_of(next(note for note in capture.notes if "agree" in note)) > 90
    order = np.random.default_rng(0).permutation(len(capture.frames))
    poses = [capture.frames[k].world_from_camera for k in order]
    mixed = [replace(f, world_from_camera=pose) for f, pose in zip(capture.frames, poses, strict=True)]
    with pytest.raises(CaptureError, match="no other unit"):
        check_depth_unit(replace(capture, frames=tuple(mixed)), REDKITCHEN)
