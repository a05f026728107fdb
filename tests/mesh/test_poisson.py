"""Poisson surfaces."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.f_score import f_scores
from pipeline.errors import ReconstructionError
from pipeline.mesh.poisson import poisson
from tests.mesh.scenes import cloud, maps, room, same


def test_the_room_comes_back():
    """F-score at 5 cm against the exact mesh."""
    mesh = poisson(cloud()[::2], 0.05, depth=6)
    score = f_scores(mesh, room().mesh, maps(), (0.05,), np.random.default_rng(0))[0]
    assert score.f > 0.9


def test_it_faces_the_free_side_and_repeats():
    """The floor looks up; a second run gives equal bytes."""
    first, second = (poisson(cloud()[::6], 0.08, depth=6) for _ in range(2))
    floor = np.abs(first.corners()[:, :, 2]).max(1) < 0.03
    assert (first.face_normals()[floor, 2] > 0.5).mean() > 0.99
    assert same(first, second)


def test_too_few_points_are_refused():
    """With the way out."""
    with pytest.raises(ReconstructionError, match=r"mesh\.backend=tsdf"):
        poisson(cloud()[:50], 0.05)
