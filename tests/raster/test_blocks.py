"""Lists of what touches tiles and blocks."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.raster.blocks import BOTTOM, LEFT, RIGHT, TOP, list_tiles, order_by_depth
from pipeline.raster.layout import DEPTH


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


def test_lists_name_every_block_once(rng):
    """Against a look at each block: boxes of one block up to the whole image, near to far."""
    across, down, count = 5, 3, 400
    records = np.zeros((count, 16), np.float32)
    for first, last, size in ((LEFT, RIGHT, 4 * across - 2), (TOP, BOTTOM, 4 * down - 1)):
        records[:, first] = rng.integers(0, size, count)
        records[:, last] = np.minimum(records[:, first] + rng.geometric(0.4, count) - 1, size - 1)
    records[::40, [LEFT, TOP]], records[::40, RIGHT], records[::40, BOTTOM] = 0, 4 * across - 3, 4 * down - 2
    order = rng.permutation(count).astype(np.uint32)
    starts, ends, gaussians, blocks = list_tiles(records, order, across, down)
    for row in range(4 * down):
        for column in range(4 * across):
            tile, bit = row // 4 * (across + 1) + column // 4, 1 << (row % 4 * 4 + column % 4)
            listed = np.arange(starts[tile], ends[tile])
            found = gaussians[listed[(blocks[listed] & bit) != 0]]
            box = records[order]
            touches = (box[:, LEFT] <= column) & (column <= box[:, RIGHT])
            touches &= (box[:, TOP] <= row) & (row <= box[:, BOTTOM])
            np.testing.assert_array_equal(found, order[touches])
