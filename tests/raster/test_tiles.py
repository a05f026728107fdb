"""Tile lists against brute force."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.raster import rasterize
from pipeline.raster.layout import CONIC_XX, CONIC_XY, CONIC_YY, DEPTH, MEAN_X, MEAN_Y, REACH, TILE
from tests.raster.conftest import SMALL_CAMERA, SMALL_POSE, scatter

CAMERA = SMALL_CAMERA.resized(100, 90)


def _pairs(raster) -> list[tuple[int, int]]:
    """Gaussian and tile of each pair."""
    tiles = raster.tiles
    tile_of_pair = np.repeat(np.arange(len(tiles.starts) - 1), np.diff(tiles.starts))
    return list(zip(tiles.gaussians.tolist(), tile_of_pair.tolist(), strict=True))


def _rows_inside(record: np.ndarray, column: int, row: int) -> np.ndarray:
    """The tile's rows of which a pixel centre lies inside the ellipse of the cutoff."""
    axis = np.arange(TILE) + 0.5
    x, y = np.meshgrid(column * TILE + axis - record[MEAN_X], row * TILE + axis - record[MEAN_Y])
    power = 0.5 * (record[CONIC_XX] * x * x + record[CONIC_YY] * y * y) + record[CONIC_XY] * x * y
    return np.flatnonzero((power <= record[REACH]).any(1))


@pytest.mark.parametrize("scale", [0.02, 0.15, 0.6])
def test_tiles_and_rows_are_those_whose_pixels_the_ellipse_holds(rng, scale):
    """No row with a pixel inside is missing; few are listed that the ellipse crosses between two pixels."""
    raster = rasterize(scatter(150, rng, scale=scale), CAMERA, SMALL_POSE)
    tiles = raster.tiles
    listed = {pair: (rows >> 4, rows & 15) for pair, rows in zip(_pairs(raster), tiles.rows.tolist(), strict=True)}
    across, down = raster.view.tiles
    rows_listed = rows_held = 0
    for n in np.flatnonzero(raster.records[:, DEPTH] > 0).tolist():
        for row in range(down):
            for column in range(across):
                held = _rows_inside(raster.records[n], column, row)
                first, last = listed.get((n, row * across + column), (1, 0))
                if len(held):
                    assert first <= held.min()
                    assert last >= held.max()
                rows_listed += last - first + 1
                rows_held += held.max() - held.min() + 1 if len(held) else 0
    assert rows_held > 100
    assert rows_listed <= 1.25 * rows_held


def test_lists_run_from_near_to_far(rng):
    """Depth never falls inside a tile's list."""
    raster = rasterize(scatter(300, rng), CAMERA, SMALL_POSE)
    depth = raster.records[raster.tiles.gaussians, DEPTH]
    for first, last in zip(raster.tiles.starts[:-1], raster.tiles.starts[1:], strict=True):
        assert (np.diff(depth[first:last]) >= 0).all()


def test_every_pair_has_a_slot_of_its_own(rng):
    """Slots are a permutation, and each Gaussian's slots lie where its offsets say."""
    tiles = rasterize(scatter(200, rng), CAMERA, SMALL_POSE).tiles
    assert sorted(tiles.slots.tolist()) == list(range(len(tiles.slots)))
    owner = np.repeat(tiles.visible, np.diff(tiles.offsets))
    np.testing.assert_array_equal(owner[tiles.slots], tiles.gaussians)
