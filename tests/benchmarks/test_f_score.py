"""The F-score of surfaces."""

from __future__ import annotations

import numpy as np

from benchmarks.f_score import f_scores
from pipeline.geometry import Mesh
from tests.mesh.scenes import built, grid_floor, maps, room


def test_truth_scores_one():
    """Against itself."""
    for score in f_scores(room().mesh, room().mesh, maps(), (0.01, 0.05), np.random.default_rng(0)):
        assert score.f == 1


def test_a_shift_fails_the_finer_threshold():
    """3 cm aside passes at 5 cm and fails at 1 cm."""
    moved = Mesh.from_arrays(room().mesh.vertices + np.float32([0.03, 0.03, 0.03]), room().mesh.triangles)
    fine, coarse = f_scores(moved, room().mesh, maps(), (0.01, 0.05), np.random.default_rng(0))
    assert fine.f < 0.1
    assert coarse.f > 0.97


def test_missing_and_invented_surface_cost_recall_and_precision():
    """Half the room; the room with a large sheet in the air."""
    truth = room().mesh
    half = built().mesh.with_faces(built().mesh.corners().mean(1)[:, 0] > 2)
    assert f_scores(half, truth, maps(), (0.05,), np.random.default_rng(0))[0].recall < 0.7
    sheet = grid_floor((0.5, 0.5), (3.5, 2.5), z=1.7)
    invented = f_scores(built().mesh.joined(sheet), truth, maps(), (0.05,), np.random.default_rng(0))[0]
    assert invented.precision < 0.9 < invented.recall


def test_the_rebuilt_room_reaches_the_figure():
    """F-score at 5 cm of at least 0.95."""
    assert f_scores(built().mesh, room().mesh, maps(), (0.05,), np.random.default_rng(0))[0].f >= 0.95
