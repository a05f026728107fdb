"""Counting what kernels do, and taking their arguments from the code around them."""

from __future__ import annotations

import math
import sys

import numpy as np
from numba import njit, prange

from benchmarks.kernel_calls import Call, calls_of
from pipeline.geometry import Camera, Gaussians, Pose
from pipeline.raster import contiguous, rasterize, rasterizer


@njit
def _step(value):
    return value + math.sqrt(value)


@njit
def _steps(value, limit):
    while value < limit:
        value = _step(value)
    return value


@njit(parallel=True)
def _all_steps(values, limit):
    for k in prange(len(values)):
        values[k] = _steps(values[k], limit)


def test_counts_calls_at_any_depth_until_the_early_end():
    values = np.array([1.0, 30.0, 200.0])
    expected = 0
    for value in values:
        while value < 100:
            value += math.sqrt(value)
            expected += 1
    call = Call(_all_steps, (values, 100.0))
    assert call.count("_step", "math.sqrt", "_steps") == [expected, expected, 3]
    assert values.tolist() == [1, 30, 200], "counting works on a copy"


def test_takes_arguments_as_they_were_before_the_call():
    values = np.array([1.0, 4.0])
    module = sys.modules[__name__]
    ((first, second),) = calls_of(
        lambda: [module._all_steps(values, limit) for limit in (2, 50)], (module, "_all_steps")
    )
    assert first.arguments[0].tolist() == [1, 4]
    assert second.arguments[0].tolist() == [2, 4]
    assert first.kernel is _all_steps
    assert first.bytes() == values.nbytes


def test_counts_the_rows_that_blending_draws():
    rng = np.random.default_rng(0)
    gaussians = Gaussians.from_colors(
        means=rng.uniform((-1, -1, 1), (1, 1, 4), (300, 3)),
        scales=rng.uniform(0.02, 0.4, (300, 3)),
        quaternions=np.tile([1.0, 0, 0, 0], (300, 1)),
        colors=rng.uniform(size=(300, 3)),
        opacity=0.9,
        sh_coefficients=1,
    )
    rasters = []
    ((call,),) = calls_of(
        lambda: rasters.append(rasterize(contiguous(gaussians), Camera(64, 48, 60, 60, 32, 24), Pose.identity())),
        (rasterizer, "blend_tiles"),
    )
    tiles, ends = rasters[0].tiles, rasters[0].ends
    drawn = np.arange(len(tiles.rows)) < np.repeat(ends, np.diff(tiles.starts))
    rows = (tiles.rows & 15).astype(int) - (tiles.rows >> 4) + 1
    assert not drawn.all(), "some tiles must be finished early"
    assert call.count("_alpha") == [rows[drawn].sum()]
