"""`Gaussians.transformed` checked by rendering before and after."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.geometry import Similarity, matrix_from_rotvec
from pipeline.raster import Cutoffs, render
from tests.raster.conftest import SMALL_CAMERA, SMALL_POSE


@pytest.mark.parametrize("antialiased", [False, True])
def test_image_stays_when_scene_and_camera_move_along(gaussians, antialiased):
    """Same colours (SH of degree 3 turn along) and alpha; depth scales. The similarity has no symmetry."""
    gaussians = replace(gaussians, antialiased=antialiased)
    a_from_b = Similarity(2.7, matrix_from_rotvec([0.7, -1.1, 0.4]), np.array([3.0, -1.5, 0.8]))
    before = render(gaussians, SMALL_CAMERA, SMALL_POSE)
    after = render(
        gaussians.transformed(a_from_b),
        SMALL_CAMERA,
        a_from_b.apply_pose(SMALL_POSE),
        cutoffs=Cutoffs(near=0.02 * a_from_b.scale),
    )
    assert before.alpha.max() > 0.9
    np.testing.assert_allclose(after.rgb, before.rgb, atol=2e-3)
    np.testing.assert_allclose(after.alpha, before.alpha, atol=2e-3)
    np.testing.assert_allclose(after.depth, before.depth * a_from_b.scale, rtol=5e-3, atol=1e-3)


def test_turning_only_the_positions_changes_the_image(gaussians):
    """The check above can fail: without turning SH and axes the image is another."""
    a_from_b = Similarity(1.0, matrix_from_rotvec([0.7, -1.1, 0.4]), np.zeros(3))
    before = render(gaussians, SMALL_CAMERA, SMALL_POSE)
    full = gaussians.transformed(a_from_b)
    for name in ("sh", "quaternions"):
        parts = vars(full) | {name: getattr(gaussians, name)}
        after = render(type(full)(**parts), SMALL_CAMERA, a_from_b.apply_pose(SMALL_POSE))
        assert np.abs(after.rgb - before.rgb).max() > 0.05
