"""The offset between the clocks of images and poses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from pipeline.capture.depth_cameras import tum
from pipeline.capture.frames import ListedFrame
from pipeline.capture.images import DecodedImage
from pipeline.capture.slam import euroc, lidar_slam
from pipeline.capture.time_offset import (
    PosesAt,
    TimeOffset,
    find_time_offset,
    lively_stretch,
    measure_time_offset,
)
from pipeline.capture.trajectory import Trajectory
from pipeline.geometry import Camera, Pose
from pipeline.io.image_files import BadImageError
from tests.capture.conftest import POSES, SMALL, shaky
from tests.capture.depth_cameras.test_tum import write_tum
from tests.capture.writers.reading import read_with
from tests.capture.writers.slam import write_euroc, write_map
from tests.synthetic import Room

START = 1_700_000_000.0
Shaken = list[tuple[float, Pose, np.ndarray, np.ndarray]]


def frames_of(shaken: Shaken, broken: Sequence[int] = ()) -> list[ListedFrame]:
    """As a reader lists them."""

    def image(index: int) -> DecodedImage:
        if index in broken:
            raise BadImageError("cut off")
        return DecodedImage(Image.fromarray(shaken[index][2]))

    return [
        ListedFrame(str(i), f"{i}.png", lambda i=i: image(i), lambda _: SMALL, time=START + time)
        for i, (time, *_) in enumerate(shaken)
    ]


def trajectory(pose_at: Callable[[float], Pose], ahead: float, first: float = -2.0, last: float = 7.0) -> PosesAt:
    """Poses whose clock is `ahead` of the images' [s], known for some of the time."""

    def at(times: np.ndarray) -> list[Pose | None]:
        real = times - START - ahead
        return [pose_at(float(time)) if first <= time <= last else None for time in real]

    return at


@pytest.mark.parametrize("ahead", [0.08, -0.23])
def test_offset_is_found(ahead: float, shaken: Shaken) -> None:
    """Within 10 ms, as the motion shows it; two images that can't be read change nothing."""
    found = find_time_offset(frames_of(shaken, broken=[7, 20]), trajectory(shaky, ahead))
    assert found is not None
    assert found.seconds == pytest.approx(ahead, abs=0.01)
    assert 0 < found.sigma < 0.01
    assert f"{abs(1000 * found.seconds):.0f} ms too {'early' if ahead > 0 else 'late'}" in found.note


def test_equal_clocks_stay(shaken: Shaken) -> None:
    """Nothing to correct, and that is known to a few milliseconds."""
    assert find_time_offset(frames_of(shaken), trajectory(shaky, 0.0)) is None
    measured = measure_time_offset(frames_of(shaken), trajectory(shaky, 0.0))
    assert measured is not None
    assert abs(measured.seconds) < 0.003


def test_poses_of_another_walk_change_nothing(shaken: Shaken) -> None:
    """They fit the images at no offset."""

    def other(time: float) -> Pose:
        return Pose(shaky(1.7 * time).rotation.T, shaky(0.6 * time).translation)

    assert find_time_offset(frames_of(shaken), trajectory(other, 0.0)) is None


def test_even_turning_tells_nothing(shaken: Shaken) -> None:
    """Poses of a turntable are alike at all times: no offset is better than another."""

    def even(time: float) -> Pose:
        turn = Rotation.from_rotvec([0, 0, 0.3 * time]).as_matrix()
        return Pose(turn @ shaky(0).rotation, turn @ np.array([0.8, 0.1, 1.0]))

    assert measure_time_offset(frames_of(shaken), trajectory(even, 0.0)) is None


def test_noise_of_the_poses_is_no_offset(shaken: Shaken) -> None:
    """Noisy poses at the images' own times: between two of them there is less noise, which must not look better."""
    rng = np.random.default_rng(4)
    times = np.round(np.arange(-2, 7, 0.05), 6)
    noisy = [
        Pose(pose.rotation @ Rotation.from_rotvec(rng.normal(0, 0.002, 3)).as_matrix(), pose.translation)
        for pose in map(shaky, times)
    ]
    track = Trajectory(START + times, tuple(noisy))
    measured = measure_time_offset(frames_of(shaken), lambda at: track.at(at, 0.1))
    assert measured is not None
    assert not measured.sure


def test_short_or_unposed_images_are_left_alone(shaken: Shaken) -> None:
    """Poses that don't reach half a second beyond enough of the images, no poses, few images."""
    frames = frames_of(shaken)
    assert find_time_offset(frames, trajectory(shaky, 0.08, first=1.0, last=3.0)) is None
    assert find_time_offset(frames, lambda times: [None] * len(times)) is None
    assert find_time_offset(frames[:12], trajectory(shaky, 0.08)) is None


def test_stretch_is_where_the_turning_changes() -> None:
    """A minute of standing with a lively quarter of it."""

    def at(times: np.ndarray) -> list[Pose | None]:
        return [shaky(float(np.clip(time, 31, 46))) for time in times]

    stretch = lively_stretch(0.0, 60.0, at)
    assert stretch is not None
    assert 29.5 <= stretch[0] <= 31.5
    assert stretch[1] - stretch[0] == pytest.approx(16.0)
    assert lively_stretch(5.0, 2.0, at) is None
    assert lively_stretch(0.0, float("nan"), at) is None


def _shift(file: Path, factor: float, seconds: float) -> None:
    """Later times in the first column of a trajectory's file."""
    sign = "," if file.suffix == ".csv" else " "
    head, *lines = file.read_text().strip().splitlines()
    rows = [line.split(sign) for line in [head, *lines] if not line.startswith("#")]
    moved = [[str((Decimal(row[0]) + Decimal(str(factor * seconds))).normalize()), *row[1:]] for row in rows]
    text = "\n".join(sign.join([f"{Decimal(row[0]):f}", *row[1:]]) for row in moved)
    file.write_text(f"# moved\n{text}\n")


@pytest.mark.parametrize(
    ("reader", "write", "file", "unit"),
    [
        (euroc, write_euroc, "mav0/state_groundtruth_estimate0/data.csv", 1e9),
        (lidar_slam, write_map, "trajectory.txt", 1.0),
        (tum, lambda folder, room, poses, camera: write_tum(folder, room, poses), "groundtruth.txt", 1.0),
    ],
    ids=["euroc", "lidar_slam", "tum"],
)
def test_readers_take_the_poses_of_the_corrected_times(
    reader: ModuleType,
    write: Callable[[Path, Room, list[Pose], Camera], object],
    file: str,
    unit: float,
    room: Room,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A trajectory whose clock was set 20 ms forward, and that offset found: the poses are those of before, noted."""
    write(tmp_path / "run", room, POSES[:12], SMALL)
    before = read_with(reader.READER, tmp_path / "run", tmp_path / "before")
    _shift(tmp_path / "run" / file, unit, 0.02)
    monkeypatch.setattr(reader, "find_time_offset", lambda frames, poses_at: TimeOffset(0.02, 0.001))
    after = read_with(reader.READER, tmp_path / "run", tmp_path / "after")
    known = {frame.name: frame for frame in before.frames}
    assert len(after.frames) >= len(before.frames) - 1
    for frame in after.frames:
        assert np.allclose(frame.world_from_camera.matrix, known[frame.name].world_from_camera.matrix, atol=1e-5)
        assert frame.source_time == known[frame.name].source_time
    assert any("20 ms too early" in note for note in after.notes)
    assert not any("too early" in note for note in before.notes)
