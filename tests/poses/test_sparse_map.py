"""Pose sigmas against numerical and algebraic oracles."""

from __future__ import annotations

import numpy as np

from pipeline.geometry import Pose, matrix_from_rotvec
from pipeline.poses.sparse_map import tangent_sigma, without_gauge
from tests.synthetic import walk


def test_a_common_similarity_counts_for_nothing():
    """A covariance made of one shared rotation, shift and scaling vanishes without the gauge."""
    poses = walk(7)
    rng = np.random.default_rng(1)
    centres = np.array([p.translation for p in poses])
    moves = []
    for _ in range(40):
        turn, shift, scale = rng.normal(0, 1, 3), rng.normal(0, 1, 3), rng.normal()
        move = np.concatenate([np.tile(turn, (7, 1)), np.cross(turn, centres) + shift + scale * centres], 1)
        moves.append(move.ravel())
    joint = np.array(moves).T @ np.array(moves)
    assert np.abs(without_gauge(joint, poses)).max() < 1e-9 * np.abs(joint).max()


def test_independent_errors_survive():
    """Of independent errors of many cameras only the seven shared degrees of freedom are taken away."""
    poses = walk(60)
    joint = np.diag(np.tile([1e-6] * 3 + [1e-4] * 3, len(poses)))
    left = np.diagonal(without_gauge(joint, poses)).reshape(-1, 6).mean(0)
    assert np.allclose(left[3:], 1e-4, rtol=0.1)


def test_tangent_sigma_matches_sampled_perturbations():
    """COLMAP's tangent (half rotation vector, translation, on the left) is turned into the centre's spread."""
    pose = Pose(matrix_from_rotvec([0.3, -0.5, 0.8]), np.array([1.5, -0.7, 2.1]))
    rng = np.random.default_rng(5)
    root = np.diag([1, 2, 3, 4, 5, 6]) * 1e-4 + rng.normal(0, 5e-5, (6, 6))
    covariance = root @ root.T
    camera_from_world = pose.inverse()
    centres, turns = [], []
    for delta in rng.multivariate_normal(np.zeros(6), covariance, 20_000):
        moved = Pose(
            matrix_from_rotvec(2 * delta[:3]) @ camera_from_world.rotation, camera_from_world.translation + delta[3:]
        ).inverse()
        centres.append(moved.translation)
        turns.append(2 * delta[:3])
    sigma = tangent_sigma(covariance, pose, 1.0)
    spread = np.sqrt(np.var(np.array(centres), axis=0).mean())
    turn = np.rad2deg(np.sqrt(np.var(np.array(turns), axis=0).mean()))
    assert np.isclose(sigma.position, spread, rtol=0.03)
    assert np.isclose(sigma.rotation_deg, turn, rtol=0.03)


def test_colmaps_covariance_is_in_half_angles():
    """The convention itself: COLMAP's covariance of one free pose equals the inverse of numerical normal equations."""
    import pycolmap

    options = pycolmap.SyntheticDatasetOptions(num_rigs=1, num_cameras_per_rig=1, num_frames_per_rig=3, num_points3D=60)
    pycolmap.set_random_seed(1)
    truth = pycolmap.synthesize_dataset(options)
    free = truth.reg_image_ids()[1]
    config = pycolmap.BundleAdjustmentConfig()
    for image_id in truth.reg_image_ids():
        config.add_image(image_id)
        if image_id != free:
            config.set_constant_rig_from_world_pose(truth.image(image_id).frame_id)
    for camera_id in truth.cameras:
        config.set_constant_cam_intrinsics(camera_id)
    adjusting = pycolmap.BundleAdjustmentOptions(print_summary=False, refine_points3D=False)
    adjuster = pycolmap.create_default_ceres_bundle_adjuster(adjusting, config, truth)
    adjuster.solve()
    only_poses = pycolmap.BACovarianceOptions(params=pycolmap.BACovarianceOptionsParams.POSES)
    covariance = pycolmap.estimate_ba_covariance(only_poses, truth, adjuster)
    image = truth.image(free)
    rotation, shift = image.cam_from_world().rotation.matrix(), image.cam_from_world().translation
    points = np.array([truth.point3D(p.point3D_id).xyz for p in image.points2D if p.has_point3D()])

    def project(delta: np.ndarray) -> np.ndarray:
        local = points @ (matrix_from_rotvec(2 * delta[:3]) @ rotation).T + shift + delta[3:]
        return np.array([image.camera.img_from_cam(p) for p in local]).ravel()

    jacobian = np.stack([(project(d) - project(-d)) / 2e-5 for d in np.eye(6) * 1e-5], 1)
    expected = np.linalg.inv(jacobian.T @ jacobian)
    found = np.asarray(covariance.get_cam_cov_from_world(free))
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
