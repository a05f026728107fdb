"""Colour-from-depth calibration against a depth camera whose place is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.geometry import Pose, Similarity, angle_deg, matrix_from_rotvec
from pipeline.poses.depth_calibration import calibrate, depth_ratio
from tests.poses.conftest import ExactMap
from tests.synthetic import CAMERA, Room

DEPTH_CAMERA = CAMERA.resized(160, 120)
OFFSET = Pose(matrix_from_rotvec(np.deg2rad([1.1, -1.6, 0.7])), np.array([0.03, -0.012, 0.006]))


def with_depth(
    exact: ExactMap, room: Room, folder: Path, camera_from_depth: Pose, noise: float, offset_mm: int = 0
) -> ExactMap:
    """The exact map with depth images of a camera at that place."""
    rng = np.random.default_rng(4)
    keyframes = []
    for keyframe in exact.keyframes:
        depth = room.cast(DEPTH_CAMERA, exact.found.poses[keyframe.image_id] @ camera_from_depth)[1]
        depth = depth + rng.normal(0, noise, depth.shape)
        path = f"{keyframe.image_id}.depth.png"
        cv2.imwrite(str(folder / path), (depth * 1000).round().astype(np.uint16) + np.uint16(offset_mm))
        frame = replace(keyframe.frame, depth=path, depth_camera=DEPTH_CAMERA)
        keyframes.append(replace(keyframe, frame=frame))
    return replace(exact, keyframes=tuple(keyframes))


def scaled(exact: ExactMap, factor: float) -> ExactMap:
    """The map at another scale."""
    return replace(exact, found=exact.found.transformed(Similarity(factor, np.eye(3), np.zeros(3))))


def test_an_asymmetric_offset_is_found(exact_map: ExactMap, room: Room, tmp_path: Path):
    """Rotation, position and scale of a depth camera 3.3 cm and 2 degrees off come out, with 5 mm of noise."""
    data = scaled(with_depth(exact_map, room, tmp_path, OFFSET, 0.005), 1 / 1.012)
    found = calibrate(tmp_path, data, data.found, [Pose.identity()], 0.02, np.random.default_rng(0))
    assert found is not None
    assert not found.report["declared_kept"]
    assert angle_deg(found.camera_from_depth.rotation, OFFSET.rotation) < 0.15
    assert np.linalg.norm(found.camera_from_depth.translation - OFFSET.translation) < 0.006
    assert found.map_scale == pytest.approx(1.012, abs=0.003)
    assert found.report["residual_median_m"] < 0.006
    assert found.report["residual_median_m"] < 0.5 * found.report["residual_median_scaled_m"]


def test_the_sigma_covers_the_error(exact_map: ExactMap, room: Room, tmp_path: Path):
    """The error of every number stays within four of its reported sigmas."""
    data = with_depth(exact_map, room, tmp_path, OFFSET, 0.01)
    found = calibrate(tmp_path, data, data.found, [Pose.identity()], 0.02, np.random.default_rng(0))
    assert found is not None
    sigma = found.report["sigma"]
    error = np.abs(found.camera_from_depth.translation - OFFSET.translation)
    assert (error < 4 * np.array([sigma[axis] for axis in "xyz"])).all()
    assert abs(np.log(found.map_scale)) < 4 * sigma["log scale"]


def test_an_aligned_camera_stays_as_declared(exact_map: ExactMap, room: Room, tmp_path: Path):
    """Depth that is aligned with the colour image, noise or not, leaves the declared calibration alone."""
    data = with_depth(exact_map, room, tmp_path, Pose.identity(), 0.01)
    found = calibrate(tmp_path, data, data.found, [Pose.identity()], 0.02, np.random.default_rng(0))
    assert found is not None
    assert found.report["declared_kept"]
    assert np.array_equal(found.camera_from_depth.matrix, np.eye(4))
    assert found.focal_factor == 1.0
    assert found.map_scale == pytest.approx(1, abs=0.003)


def test_a_map_of_unknown_scale_gets_the_depth_images_metre(exact_map: ExactMap, room: Room, tmp_path: Path):
    """The ratio of measured to mapped depth recovers an arbitrary scale."""
    data = scaled(with_depth(exact_map, room, tmp_path, Pose.identity(), 0.01), 1 / 3.7)
    ratio = depth_ratio(tmp_path, data, data.found, np.random.default_rng(0))
    assert ratio == pytest.approx(3.7, rel=0.01)


def test_empty_depth_images_calibrate_nothing(exact_map: ExactMap, room: Room, tmp_path: Path):
    """Depth images that hold zeros give None, not a calibration from nothing."""
    data = with_depth(exact_map, room, tmp_path, Pose.identity(), 0.0)
    for keyframe in data.keyframes:
        cv2.imwrite(str(tmp_path / str(keyframe.frame.depth)), np.zeros((120, 160), np.uint16))
    assert calibrate(tmp_path, data, data.found, [Pose.identity()], 0.02, np.random.default_rng(0)) is None
    assert depth_ratio(tmp_path, data, data.found, np.random.default_rng(0)) is None
