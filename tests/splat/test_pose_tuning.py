"""Pose tuning: known errors are taken back, the world stays where it is, no pose runs away."""

from __future__ import annotations

import numpy as np

from pipeline.geometry import PointCloud, Pose, angle_deg
from pipeline.splat.initialization import Initialization, discs_on
from pipeline.splat.params import SplatParams
from pipeline.splat.pose_tuning import MAX_ROTATION, PoseTuning
from pipeline.splat.schedule import Schedule
from pipeline.splat.train import fit
from pipeline.splat.views import depth_in_view, training_view
from tests.synthetic import CAMERA, depth_maps, walk

SMALL = CAMERA.resized(160, 120)
DISTANCE = 2.5


def _tuning(poses: list[Pose]) -> PoseTuning:
    return PoseTuning(np.array([pose.matrix for pose in poses]), DISTANCE)


def test_motion_of_all_cameras_is_taken_out(rng):
    """A rotation, shift and scaling of the whole camera path leaves nothing; a view's own motion stays."""
    poses = walk(20)
    tuning = _tuning(poses)
    rotation, shift, scaling = np.array([3e-3, -5e-3, 2e-3]), np.array([0.02, -0.01, 0.03]), 4e-3
    middle = np.mean([pose.translation for pose in poses], axis=0)
    for k, pose in enumerate(poses):
        offset = pose.translation - middle
        moved = shift + np.cross(rotation, offset) + scaling * offset
        tuning.twists[k] = np.concatenate([pose.rotation.T @ rotation, pose.rotation.T @ moved])
    own = np.zeros((20, 6))
    own[7] = (0.01, -0.004, 0.006, 0.01, 0.02, -0.015)
    tuning.twists += own
    tuning.remove_common_motion()
    others = np.delete(tuning.twists, 7, axis=0)
    assert np.abs(others).max() < 0.35 * np.abs(own).max()
    np.testing.assert_allclose(tuning.twists[7], own[7], atol=0.35 * np.abs(own).max())


def test_drift_along_the_track_is_taken_out():
    """A bend of the track that no similarity explains goes; what changes from view to view stays."""
    tuning = _tuning(walk(40))
    rotations = np.array([pose.rotation for pose in walk(40)])
    bend = np.zeros((40, 3))
    bend[:, 1] = 0.02 * np.sin(np.linspace(0, 3 * np.pi, 40))
    tuning.twists[:, 3:] = np.einsum("nji,nj->ni", rotations, bend)
    tuning.remove_common_motion()
    assert np.linalg.norm(tuning.twists[5:-5], axis=1).max() < 0.25 * 0.02

    jitter = 0.02 * np.array([1.0, -1.0] * 20)
    tuning.twists[:] = 0
    tuning.twists[:, 3:] = np.einsum("nji,nj->ni", rotations, bend * 0 + jitter[:, None])
    tuning.remove_common_motion()
    assert np.linalg.norm(tuning.twists[5:-5, 3:], axis=1).min() > 0.9 * np.sqrt(3) * 0.02


def test_corrections_are_bounded():
    """A gradient that always points the same way moves a camera up to the limit."""
    tuning = _tuning(walk(3))
    for _ in range(1000):
        tuning.step(1, np.array([1.0, 0, 0, 0, -2.0, 0]), 1.0)
    np.testing.assert_allclose(tuning.twists[1], [-MAX_ROTATION, 0, 0, 0, MAX_ROTATION * DISTANCE, 0], atol=1e-9)
    assert not tuning.twists[[0, 2]].any()


def test_known_perturbation_is_recovered(room, rng):
    """Poses wrong by 0.3 degrees and 1 cm, each in its own way: less than half of it is left."""
    truth = walk(12)
    perturbation = _tuning(truth)
    perturbation.twists[:] = [np.concatenate([_of_length(rng, np.radians(0.3)), _of_length(rng, 0.01)]) for _ in truth]
    for _ in range(5):
        perturbation.remove_common_motion()
    wrong = [perturbation.world_from_camera(k) for k in range(len(truth))]
    views = []
    for true_pose, wrong_pose, depth_map in zip(truth, wrong, depth_maps(room, truth, SMALL), strict=True):
        photo, _ = room.render(SMALL, true_pose)
        depth = depth_in_view(depth_map, SMALL, true_pose)
        views.append(training_view(depth_map.name, photo, SMALL, wrong_pose, depth))
    start = discs_on(_cloud(room, truth), 8000, 1, rng, opacity=0.5, flatness=0.3)
    trained = fit(Initialization(start), views, Schedule(600, densify=None, poses_from=0.2), SplatParams(), rng)
    before, after = _errors(truth, wrong), _errors(truth, [view.world_from_camera for view in trained.views])
    assert before[0] > 0.2
    assert before[1] > 0.006
    assert after[0] < 0.5 * before[0], f"rotation {before[0]:.3f} -> {after[0]:.3f} degrees"
    assert after[1] < 0.5 * before[1], f"translation {before[1]:.4f} -> {after[1]:.4f} m"
    report = trained.poses.describe()
    assert 0.1 < report["rotation_median_deg"] < 0.4
    assert report["translation_median_mm"] < report["translation_max_mm"] < 25


def _of_length(rng: np.random.Generator, length: float) -> np.ndarray:
    direction = rng.normal(size=3)
    return length * direction / np.linalg.norm(direction)


def _cloud(room, poses) -> PointCloud:
    maps = depth_maps(room, poses, SMALL)[::2]
    points = np.concatenate([m.points()[::3, ::3].reshape(-1, 3) for m in maps])
    normals = np.concatenate([m.world_from_camera.rotate(m.normals[::3, ::3]).reshape(-1, 3) for m in maps])
    count = len(points)
    return PointCloud(
        points.astype(np.float32),
        normals.astype(np.float32),
        np.full((count, 3), 128, np.uint8),
        np.full(count, 0.01, np.float32),
        np.full(count, 3, np.int32),
        np.zeros(count, bool),
    )


def _errors(truth: list[Pose], poses: list[Pose]) -> tuple[float, float]:
    """Median rotation [degrees] and translation [m] between poses, each from its own truth."""
    turns = [angle_deg(a.rotation, b.rotation) for a, b in zip(truth, poses, strict=True)]
    shifts = [np.linalg.norm(a.translation - b.translation) for a, b in zip(truth, poses, strict=True)]
    return float(np.median(turns)), float(np.median(shifts))
