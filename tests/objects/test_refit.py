"""Objects' Gaussians fitted once more: their colours take up what shone through them before."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipeline.geometry import Gaussians, Pose, matrix_from_rotvec
from pipeline.objects.refit import refitted
from pipeline.raster import render
from tests.raster.conftest import SMALL_CAMERA, SMALL_POSE, scatter


def turned(angle: float) -> Pose:
    """A camera beside that of the others, which looks at the same."""
    return SMALL_POSE @ Pose(matrix_from_rotvec([0.05, angle, 0.02]), np.array([-3.0 * angle, 0.1, 0.2]))


def test_objects_look_as_before_where_nobody_fitted_them(rng: np.random.Generator):
    """What shone through them is gone, and another colour behind; only colours and opacities change, only theirs."""
    behind, through = scatter(80, rng, coefficients=4), scatter(20, rng, coefficients=4)
    behind.means[:] += 3 * SMALL_POSE.rotation[:, 2].astype(np.float32)
    objects = {name: scatter(count, rng, coefficients=4) for name, count in (("box-1", 50), ("box-2", 30))}
    whole = Gaussians.concatenate([behind, through, *objects.values()])
    rest = replace(behind, sh=behind.sh + np.float32(0.2))
    views = [(SMALL_CAMERA, turned(angle)) for angle in (-0.2, -0.12, -0.05, 0.04, 0.11, 0.19)]
    fitted = refitted(objects, rest, whole, views)

    def off(own: dict[str, Gaussians]) -> float:
        splat, view = Gaussians.concatenate([rest, *own.values()]), (SMALL_CAMERA, turned(0.0))
        return float(np.abs(render(splat, *view).rgb - render(whole, *view).rgb).mean())

    assert off(fitted) < 0.7 * off(objects)
    assert list(fitted) == list(objects)
    for name, before in objects.items():
        for field in ("means", "log_scales", "quaternions"):
            np.testing.assert_array_equal(getattr(fitted[name], field), getattr(before, field))
        assert np.abs(fitted[name].sh - before.sh).max() > 0.01


def test_without_views_nothing_changes(rng: np.random.Generator):
    """An object that only the gate's views show whole."""
    objects = {"box-1": scatter(5, rng)}
    assert refitted(objects, scatter(9, rng), scatter(14, rng), []) == objects
