"""Given poses of another convention than declared are named by the matches they contradict; noisy ones are taken."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.capture.model import Capture, Frame
from pipeline.errors import ReconstructionError
from pipeline.geometry import CV_FROM_GL, Pose, matrix_from_quaternion
from pipeline.geometry.conventions import convert
from pipeline.poses.epipolar import check_given_poses
from pipeline.poses.matching import MatchedImages
from pipeline.poses.params import PosesParams
from pipeline.poses.stage import run
from tests.poses.conftest import ExactMap, Rendered, noisy, write_capture

CV_FROM_ROS = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])


def unity(pose: Pose) -> Pose:
    """A right-handed camera as a left-handed program writes it: F T F."""
    flip = np.diag([1.0, -1, 1])
    return Pose(flip @ pose.rotation @ flip, flip @ pose.translation)


def mixed(pose: Pose) -> Pose:
    """A wxyz quaternion whose numbers are taken for xyzw."""
    return Pose(matrix_from_quaternion(np.roll(pose.quaternion, 1)), pose.translation)


def checked(exact: ExactMap, change: Callable[[list[Pose]], list[Pose]]) -> None:
    """Check the exact map's poses after a change, as a capture gives them."""
    frames = [k.frame for k in exact.keyframes]
    poses = change([frame.world_from_camera for frame in frames if frame.world_from_camera])
    capture = Capture(Path("x"), "rgbd", tuple(map(posed, frames, poses)), ordered=True)
    images = MatchedImages(Path("none"), exact.keyframes, exact.features, exact.matches)
    check_given_poses(images, capture)


def posed(frame: Frame, pose: Pose) -> Frame:
    """The frame with that pose."""
    return replace(frame, world_from_camera=pose)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (Pose.inverse, "as world-to-camera poses "),
        (lambda pose: Pose(pose.rotation @ CV_FROM_GL, pose.translation), "y and z reversed, as between OpenCV and"),
        (lambda pose: Pose(pose.rotation @ CV_FROM_GL, pose.translation).inverse(), "world-to-camera poses with other"),
        (lambda pose: Pose(pose.rotation.T, pose.translation), "as transposed poses "),
        (lambda pose: Pose(pose.rotation @ CV_FROM_ROS, pose.translation), "a robot's, x forward"),
        (unity, "a left-handed world, as Unity's"),
        (lambda pose: unity(pose).inverse(), "world-to-camera poses with a left-handed world"),
        (lambda pose: Pose(unity(pose).rotation @ CV_FROM_GL, unity(pose).translation), "and camera axis z reversed"),
        (mixed, "as poses of wxyz quaternions, read as xyzw "),
    ],
)
def test_the_convention_is_named_and_its_setting_makes_the_poses_fit(
    change: Callable[[Pose], Pose], found: str, exact_map: ExactMap
):
    """What people mix up: the error names it, and with the setting of its remedy the same poses are taken."""
    with pytest.raises(ReconstructionError, match="must fit the images") as error:
        checked(exact_map, lambda poses: [change(pose) for pose in poses])
    assert found in error.value.found
    setting = re.search(r"--set capture\.pose_convention=(\S+)", error.value.remedy)
    assert setting
    checked(exact_map, lambda poses: [convert(change(pose), setting[1]) for pose in poses])


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda poses: poses[::-1], "as poses in reverse order"),
        (lambda poses: [*poses[1:], poses[-1]], "each of the image before"),
    ],
)
def test_the_order_is_named(change: Callable[[list[Pose]], list[Pose]], found: str, exact_map: ExactMap):
    """Poses listed in another order than the images."""
    with pytest.raises(ReconstructionError, match=found):
        checked(exact_map, change)


def test_noisy_poses_are_taken(exact_map: ExactMap):
    """Ten centimetres and five degrees off, as after lost tracking: the images correct them, nothing is refused."""
    checked(exact_map, lambda poses: noisy(poses, np.random.default_rng(1), 0.1, 5))


@pytest.mark.parametrize("backend", ["refined", "sensor"])
def test_nonsense_is_refused_in_words(backend: str, rendered: Rendered, tmp_path: Path):
    """Poses of nothing: no convention fits, and the remedy is to do without them."""
    rng = np.random.default_rng(5)
    poses = [Pose(matrix_from_quaternion(rng.normal(size=4)), rng.normal(0, 1, 3)) for _ in range(6)]
    inputs = write_capture(tmp_path, rendered.images[:6], rendered.camera, poses=poses)
    with pytest.raises(ReconstructionError, match="no other convention or order") as error:
        run(inputs, PosesParams.model_validate({"backend": backend, "features": 300}), tmp_path / "poses")
    assert "poses.backend=colmap" in error.value.remedy
