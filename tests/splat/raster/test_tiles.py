"""Tile lists against brute force."""

from __future__ import annotations

import numpy as np

from pipeline.splat.raster import rasterize
from pipeline.splat.raster.layout import CONIC_XX, CONIC_XY, CONIC_YY, DEPTH, MEAN_X, MEAN_Y, REACH, TILE
from tests.splat.conftest import SMALL_CAMERA, SMALL_POSE, scatter

CAMERA = SMALL_CAMERA.resized(100, 90)


def _pairs(raster) -> set[tuple[int, int]]:
    tiles = raster.tiles
    tile_of_pair = np.repeat(np.arange(len(tiles.starts) - 1), np.diff(tiles.starts))
    return set(zip(tiles.gaussians.tolist(), tile_of_pair.tolist(), strict=True))


def _touches(record: np.ndarray, column: int, row: int, spacing: float) -> bool:
    """Whether a point of the tile, sampled at `spacing` px, lies inside the ellipse of the cutoff."""
    axis = np.arange(0, TILE + spacing / 2, spacing)
    x, y = np.meshgrid(column * TILE + axis - record[MEAN_X], row * TILE + axis - record[MEAN_Y])
    power = 0.5 * (record[CONIC_XX] * x * x + record[CONIC_YY] * y * y) + record[CONIC_XY] * x * y
    return bool((power <= record[REACH]).any())


def test_tiles_are_exactly_those_the_ellipse_touches(rng):
    """No tile that the ellipse reaches is missing; hardly one is listed that it doesn't."""
    raster = rasterize(scatter(150, rng, scale=0.15), CAMERA, SMALL_POSE)
    listed = _pairs(raster)
    columns, rows = raster.view.tiles
    touched = {
        (n, row * columns + column)
        for n in np.flatnonzero(raster.records[:, DEPTH] > 0).tolist()
        for row in range(rows)
        for column in range(columns)
        if _touches(raster.records[n], column, row, 0.25)
    }
    assert touched <= listed
    assert len(listed - touched) <= 0.02 * len(touched)


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
