"""Blending of records into a frame."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from pipeline.raster import layout
from pipeline.raster.frame import BOTTOM, INTERVAL, LEFT, RIGHT, TOP, blend, clear, develop, new_frame, order_by_depth
from pipeline.raster.layout import DEPTH
from pipeline.types import F32

LIMIT = np.float32(np.log(255))


@pytest.mark.parametrize("spread", [0.01, 1.0, 12.0])
def test_near_comes_before_far(rng, spread):
    """Over a small or a huge range; only what is equal to a few millionths may change places, and equals don't."""
    records = np.zeros((3001, 16), np.float32)
    records[:, DEPTH] = np.exp(rng.uniform(-spread, spread, 3001))
    records[100:200, DEPTH] = records[100, DEPTH]
    order = order_by_depth(records, 3000)
    assert sorted(order) == list(range(3000))
    depths = records[order, DEPTH].astype(np.float64)
    assert (depths[1:] / depths[:-1]).min() > 1 - 1e-5
    equal = order[np.isin(order, np.arange(100, 200))]
    np.testing.assert_array_equal(equal, np.arange(100, 200))
    assert len(order_by_depth(records, 0)) == 0


@njit
def drawn(records: F32, order: np.ndarray, threshold: np.float32, height: int, width: int) -> tuple[F32, F32, F32, F32]:
    """Colours, depth, alpha and median depth of what all records show, on black."""
    rgb = np.empty((height, width, 3), np.float32)
    depth, alpha = np.empty((height, width), np.float32), np.empty((height, width), np.float32)
    median = np.empty((height, width), np.float32)
    frame = new_frame(height, width)
    clear(frame)
    blend(records, order, LIMIT, threshold, frame, np.empty((-(-height // 16), -(-width // 16)), np.uint8))
    develop(frame, np.zeros(3, np.float32), rgb, depth, alpha, median)
    return rgb, depth, alpha, median


def scattered(count: int, height: int, width: int, rng: np.random.Generator, largest: float = 20.0) -> F32:
    """Records of Gaussians, nearest first, with standard deviations from a fraction of a pixel on [px]."""
    records = np.zeros((count + 1, 16), np.float32)
    middle, size = rng.uniform(0, (width, height), (count, 2)), np.exp(rng.uniform(-1.5, np.log(largest), count))
    records[:count, [layout.MEAN_X, layout.MEAN_Y]] = middle
    records[:count, [layout.CONIC_XX, layout.CONIC_YY]] = (0.5 / size**2)[:, None]
    records[:count, layout.CONIC_XY] = rng.uniform(-0.5, 0.5, count) / size**2
    records[:count, layout.RED : layout.BLUE + 1] = rng.uniform(0, 1, (count, 3))
    records[:count, DEPTH] = np.sort(rng.uniform(1, 5, count))
    records[:count, layout.FAINT] = -np.log(rng.uniform(0.1, 0.95, count))
    reach = 4 * size[:, None]
    last = np.array([width, height]) - 1
    records[:count, [LEFT, TOP]] = np.clip(np.floor(middle - reach), 0, last)
    records[:count, [RIGHT, BOTTOM]] = np.clip(np.ceil(middle + reach), 0, last)
    return records


@pytest.mark.parametrize(("height", "width"), [(48, 64), (37, 53), (1, 1), (2, 9)])
def test_every_pixel_is_blended(rng, height, width):
    """Against a loop over Gaussians in float64; sizes that no 8 columns and 2 rows fill."""
    count = 60
    records = scattered(count, height, width, rng)
    rgb, depth, alpha, median = drawn(records, np.arange(count, dtype=np.uint32), np.float32(0), height, width)
    ys, xs = np.mgrid[:height, :width] + 0.5
    light, colors = np.ones((height, width)), np.zeros((height, width, 3))
    whole, middle = np.zeros((height, width)), np.zeros((height, width))
    for record in records[:count].astype(np.float64):
        dx, dy = xs - record[layout.MEAN_X], ys - record[layout.MEAN_Y]
        power = record[layout.FAINT] + record[layout.CONIC_XX] * dx * dx + record[layout.CONIC_YY] * dy * dy
        power += record[layout.CONIC_XY] * dx * dy
        weight = light * np.where(power <= LIMIT, np.exp(-power), 0)
        middle[(light > 0.5) & (light - weight <= 0.5)] = record[DEPTH]
        light = light - weight
        colors += weight[..., None] * record[layout.RED : layout.BLUE + 1]
        whole += weight * record[DEPTH]
    for ours, expected in ((rgb, colors), (alpha, 1 - light), (depth * alpha, np.where(light > 0.95, 0, whole))):
        assert np.quantile(np.abs(ours - expected), 0.99) < 1e-3
    assert (np.abs(median - middle) > 1e-3).mean() < 0.01


def test_what_is_behind_finished_tiles_is_left_out(rng):
    """A wall covers the left half: what is behind it would shine through a little, and the right half is unchanged."""
    height, width = 48, 64
    wall, behind = (scattered(INTERVAL, height, width, rng, largest) for largest in (20.0, 1.6))
    wall[:, [LEFT, RIGHT, TOP, BOTTOM]] = 0, 31, 0, height - 1
    wall[:, [layout.CONIC_XX, layout.CONIC_XY, layout.CONIC_YY]] = 0
    wall[:, layout.FAINT] = 20  # far too faint to be seen
    wall[:4, layout.FAINT] = 0.1
    behind[:, layout.RED] = 1e6
    records, order = np.concatenate([wall[:-1], behind]), np.arange(2 * INTERVAL, dtype=np.uint32)
    whole, some = (drawn(records, order, np.float32(least), height, width)[0] for least in (0.0, 1e-3))
    assert whole[:, :16, 0].max() > 10
    assert some[:, :16, 0].max() <= 1
    np.testing.assert_array_equal(some[:, 32:], whole[:, 32:])
