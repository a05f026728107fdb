"""Focal length and a fixed sensor offset from epipolar errors alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.geometry import Pose, angle_deg, matrix_from_rotvec
from pipeline.poses.epipolar import fit_sensor_offset
from tests.poses.conftest import ExactMap, noisy

CAMERA_FROM_SENSOR = Pose(matrix_from_rotvec(np.deg2rad([1.5, -2.0, 0.5])), np.array([0.02, -0.03, 0.01]))


def test_focal_length_and_offset_are_found_together(exact_map: ExactMap):
    """A focal length 12 % too long and a sensor 2.5 degrees and 4 cm off the colour camera."""
    keyframes = tuple(
        replace(k, camera=replace(k.camera, fx=k.camera.fx * 1.12, fy=k.camera.fy * 1.12)) for k in exact_map.keyframes
    )
    given = {i: pose @ CAMERA_FROM_SENSOR for i, pose in exact_map.found.poses.items()}
    found = fit_sensor_offset(replace(exact_map, keyframes=keyframes), given, np.random.default_rng(0))
    assert found.error_before > 5
    assert found.error_after < 0.3
    assert found.focal_factor == pytest.approx(1 / 1.12, rel=0.01)
    assert angle_deg(found.sensor_from_camera.rotation, CAMERA_FROM_SENSOR.inverse().rotation) < 0.3
    shift = found.sensor_from_camera.translation - CAMERA_FROM_SENSOR.inverse().translation
    assert np.linalg.norm(shift) < 0.01


def test_exact_poses_are_left_alone(exact_map: ExactMap):
    """Where nothing is wrong nothing is changed."""
    found = fit_sensor_offset(exact_map, exact_map.found.poses, np.random.default_rng(0))
    assert found.error_before < 0.01
    assert found.focal_factor == 1.0 or found.focal_factor == pytest.approx(1, abs=1e-3)
    assert angle_deg(found.sensor_from_camera.rotation, np.eye(3)) < 0.02


def test_noise_is_not_taken_for_an_offset(exact_map: ExactMap):
    """Independent pose errors leave focal length and offset near the declared ones."""
    ids = sorted(exact_map.found.poses)
    given = dict(
        zip(ids, noisy([exact_map.found.poses[i] for i in ids], np.random.default_rng(2), 0.01, 0.3), strict=True)
    )
    found = fit_sensor_offset(exact_map, given, np.random.default_rng(0))
    assert found.focal_factor == pytest.approx(1, abs=0.03)
    assert np.linalg.norm(found.sensor_from_camera.translation) < 0.05


def test_a_camera_without_baseline_says_nothing(exact_map: ExactMap):
    """When no pair has a baseline the identity comes back, marked by infinite errors."""
    given = {i: Pose(pose.rotation, np.zeros(3)) for i, pose in exact_map.found.poses.items()}
    found = fit_sensor_offset(exact_map, given, np.random.default_rng(0))
    assert found.error_before == np.inf
    assert np.array_equal(found.sensor_from_camera.matrix, np.eye(4))
