"""Bundles are compared with the truth in the frame that their cameras tell, positions and directions."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.truth import truth_from_poses
from pipeline.geometry import Pose, Similarity, angle_deg, matrix_from_rotvec


def walk(rng: np.random.Generator, count: int = 60) -> dict[str, Pose]:
    """Cameras within two metres that look all round."""
    turns = matrix_from_rotvec(rng.normal(0, 1.2, (count, 3)))
    return {
        f"{k}": Pose(turn, place)
        for k, (turn, place) in enumerate(zip(turns, rng.uniform(0, [2, 1.5, 0.3], (count, 3)), strict=True))
    }


def test_an_exact_similarity_comes_back():
    """Scale, turn and shift; a scene of another scale, too."""
    rng = np.random.default_rng(0)
    exact = walk(rng)
    truth_from_scene = Similarity(0.4, matrix_from_rotvec([0.3, -0.2, 1.1]), np.array([1.0, -2.0, 0.5]))
    poses = {f"{name}.jpg": truth_from_scene.inverse().apply_pose(pose) for name, pose in exact.items()}
    fitted, ate, rotation = truth_from_poses(poses, exact)
    assert fitted.scale == pytest.approx(0.4)
    np.testing.assert_allclose(fitted.rotation, truth_from_scene.rotation, atol=1e-9)
    np.testing.assert_allclose(fitted.translation, truth_from_scene.translation, atol=1e-9)
    assert ate < 1e-9
    assert rotation < 1e-4


def test_a_drift_of_positions_does_not_turn_a_small_room():
    """Positions that lean by 6 mm a metre, while cameras look the right way, are wrong positions."""
    rng = np.random.default_rng(1)
    exact = walk(rng)
    leaning = np.array([[0, 0, 0], [0, 0, 0], [0.006, 0, 0]])
    poses = {
        f"{name}.jpg": Pose(pose.rotation, pose.translation + leaning @ pose.translation)
        for name, pose in exact.items()
    }
    fitted, _, _ = truth_from_poses(poses, exact)
    assert angle_deg(fitted.rotation, np.eye(3)) < 0.06  # by positions alone 0.3
