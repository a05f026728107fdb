"""Poses at the times of images, and the tables they come from."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.capture.texts import parse_object, parse_table
from pipeline.capture.trajectory import (
    Trajectory,
    check_clocks,
    nearest,
    numbers,
    ordered_trajectory,
    pose_of,
    tum_trajectory,
)
from pipeline.errors import CaptureError
from pipeline.geometry import Pose, angle_deg
from tests.capture.writers.between import between
from tests.synthetic import walk

WALK = walk(30)[:3]
TIMES = np.array([10.0, 10.1, 10.3])
TRACK = Trajectory(TIMES, tuple(WALK))


def same(pose: Pose | None, truth: Pose) -> bool:
    """Within 0.001 mm and 0.0001 degrees."""
    assert pose is not None
    apart = np.linalg.norm(pose.translation - truth.translation)
    return bool(apart < 1e-6) and angle_deg(pose.rotation, truth.rotation) < 1e-4


def test_poses_between_are_interpolated() -> None:
    """A quarter of the way: a quarter of the shift and of the turn."""
    (pose,) = TRACK.at(np.array([10.025]), 0.15)
    assert same(pose, between(WALK[0], WALK[1], 0.25))


def test_given_times_need_no_neighbour() -> None:
    """Exact times give exact poses, also at the ends and next to gaps."""
    assert TRACK.at(TIMES, 0.01) == list(WALK)


def test_gaps_and_ends_have_no_pose() -> None:
    """Neither bridged nor extrapolated; a larger gap may be allowed."""
    assert TRACK.at(np.array([9.999, 10.2, 10.301, np.nan]), 0.15) == [None] * 4
    assert same(TRACK.at(np.array([10.2]), 0.25)[0], between(WALK[1], WALK[2], 0.5))


def test_a_single_pose_holds_at_its_time_only() -> None:
    """Nothing to interpolate with."""
    assert Trajectory(TIMES[:1], (WALK[0],)).at(np.array([10.0, 10.05]), 1.0) == [WALK[0], None]


def test_nearest_time() -> None:
    """Before, between, after; of two equally near ones the earlier."""
    times = np.array([0.0, 1.0, 3.0])
    assert nearest(times, np.array([-5, 0.4, 0.6, 2.0, 2.1, 9])).tolist() == [0, 0, 1, 1, 2, 2]
    assert nearest(times[:1], np.array([-5.0, 7.0])).tolist() == [0, 0]


def test_other_clocks_are_named() -> None:
    """Both spans are in the message; a recording that begins before its poses is fine."""
    check_clocks(np.array([9.9, 10.0, 10.2]), TRACK, "groundtruth.txt")
    with pytest.raises(CaptureError, match="one clock") as error:
        check_clocks(np.array([10.25, 13.0, 13.3]), TRACK, "groundtruth.txt")
    assert "images from 10.250 to 13.300, poses from 10.000 to 10.300" in error.value.found


def test_quaternions_are_normalised_within_a_hundredth() -> None:
    """Rounded numbers are fine, a scaled quaternion is not."""
    half = np.sqrt(0.5)
    pose = pose_of(np.zeros(3), np.array([0, 0, half, half]) * 1.009, "t")
    assert np.allclose(pose.rotation, [[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    for length in (0.0, 0.98, 1.02, np.nan):
        with pytest.raises(CaptureError, match="unit quaternion"):
            pose_of(np.zeros(3), np.array([0, 0, 0, length]), "t")


def test_positions_must_be_finite() -> None:
    """Tracking was lost: infinity."""
    with pytest.raises(CaptureError, match="finite"):
        pose_of(np.array([0, np.inf, 0]), np.array([0, 0, 0, 1.0]), "t")


def test_tum_lines_are_read_scalar_last() -> None:
    """Comments, blank lines and columns that follow don't matter."""
    text = b"\xef\xbb\xbf# ground truth\n# timestamp tx ty tz qx qy qz qw\n\n1.5 1 2 3 0 0 0.6 0.8 77\r\n"
    track = tum_trajectory(text, "t")
    assert track.times.tolist() == [1.5]
    assert np.allclose(track.poses[0].translation, [1, 2, 3])
    assert np.allclose(track.poses[0].rotation, [[0.28, -0.96, 0], [0.96, 0.28, 0], [0, 0, 1]])


@pytest.mark.parametrize(("text", "found"), [(b"1 2 3 4 0 0 0\n", "line 1"), (b"1 2 x 4 0 0 0 1\n", "line 1")])
def test_short_lines_and_words_are_refused(text: bytes, found: str) -> None:
    """Seven numbers, or a word."""
    with pytest.raises(CaptureError, match="8 numbers") as error:
        tum_trajectory(text, "t")
    assert found in error.value.found


def test_tables_must_be_text() -> None:
    """An image under the name of a list."""
    with pytest.raises(CaptureError, match="must be text"):
        parse_table(b"\x89PNG\r\n\x1a\n\xff\xfe", "t")


def test_tables_have_any_separator() -> None:
    """Fields lose the blanks around them."""
    assert parse_table(b"1, a b ,3\n", "t", ",") == [["1", "a b", "3"]]
    assert numbers(["1", " 2"], 2, "t", 1).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("times", "found"),
    [([], "no pose"), ([1.0, 1.0], "1.000000 after 1.000000"), ([2.0, 1.0], "1.0"), ([1.0, np.nan], "nan"),
     ([1.0, np.inf], "inf")],
)  # fmt: skip
def test_times_must_increase(times: list[float], found: str) -> None:
    """Empty, repeated, backwards, not finite."""
    with pytest.raises(CaptureError, match="must increase") as error:
        ordered_trajectory(np.array(times), list(WALK[: len(times)]), "t")
    assert found in error.value.found


def test_tables_and_json_are_bounded() -> None:
    """A few bytes of name and 65 MiB of zeros: refused before they are taken apart."""
    data = bytes(65 << 20)
    for read in (parse_table, parse_object):
        with pytest.raises(CaptureError, match="at most 64 MiB"):
            read(data, "imu.csv")
