"""Vectors of 16 float32 in kernels, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit
from numba.core.errors import TypingError

from pipeline.depth.patchmatch import pack_texels
from pipeline.raster.lanes import (
    bilinear,
    bits,
    exponential,
    floor,
    largest,
    load,
    logarithm,
    lowest,
    root,
    select,
    spread,
    store,
    store_rows,
    sum_each,
    total,
)


@njit
def _arithmetic(values, scalar, out):
    a, b = load(values, 0), load(values, 16)
    store(out, 0, a + b * scalar)
    store(out, 16, scalar - a / b)
    store(out, 32, select(a <= b, a, spread(scalar)))
    store(out, 48, root(a))
    return largest(b), bits(a <= b)


@njit
def _sums(values, out):
    a, b, c = load(values, 0), load(values, 16), load(values, 32)
    store(out, 0, sum_each((a, b, c)))
    store(out, 16, sum_each((a, b, c, a * b, b * c, a, b, c, a, b, a * a)))
    store(out, 32, sum_each((a, a, a, a, a, a, a, a, b, b, b, b, b, b, b, c)))


@njit
def _functions(values, out):
    a, b = load(values, 0), load(values, 16)
    store(out, 0, exponential(a))
    store(out, 16, max(a, b))
    store(out, 32, min(a, np.float32(0.5)))


@njit
def _sampled(texels, start, width, u, v, out):
    store(out, 0, bilinear(texels, start, np.int32(width), load(u, 0), load(v, 0)))
    return total(load(u, 0))


@njit
def _bits(number, values, out):
    store(out, 0, floor(load(values, 0)))
    return lowest(number)


@njit
def _rows(values, chosen, out):
    a, b, c = load(values, 0), load(values, 16), load(values, 32)
    return store_rows(out, 2, chosen, (a, b, c, a * b, b * c, a, b, c, a + b, b + c, a + c, a, b, c, a - b, b - c))


@njit
def _load(values):
    return largest(load(values, 0))


def test_operators_work_lane_by_lane(rng):
    """Lanes with lanes and with scalars, comparison, selection, square root."""
    values, out = rng.uniform(0.1, 1, 32).astype(np.float32), np.zeros(64, np.float32)
    a, b, scalar = values[:16], values[16:], np.float32(0.7)
    highest, mask = _arithmetic(values, scalar, out)
    expected = np.concatenate([a + b * scalar, scalar - a / b, np.where(a <= b, a, scalar), np.sqrt(a)])
    np.testing.assert_allclose(out, expected, rtol=1e-6)
    assert highest == b.max()
    assert mask == sum(1 << k for k in range(16) if a[k] <= b[k])


def test_exponential_and_bounds(rng):
    """From the smallest to the largest float32 but for the last; lanes and scalars."""
    values, out = rng.uniform(-86, 88, 32).astype(np.float32), np.zeros(48, np.float32)
    values[:4] = 0, -86, 88, 1e-6
    _functions(values, out)
    a, b = values.reshape(2, 16)
    np.testing.assert_allclose(out[:16], np.exp(a.astype(np.float64)), rtol=3e-7)
    np.testing.assert_array_equal(out[16:], np.concatenate([np.maximum(a, b), np.minimum(a, np.float32(0.5))]))


@njit
def _logarithm(values, out):
    store(out, 0, logarithm(load(values, 0)))


def test_logarithm(rng):
    """Over all sizes of float32, next to 1 and at 0, where it is finite."""
    values, out = np.exp(rng.uniform(-80, 80, 16)).astype(np.float32), np.zeros(16, np.float32)
    values[:6] = 1, 1.000001, 0.5, np.sqrt(0.5), 1.4142135, np.sqrt(2)
    _logarithm(values, out)
    np.testing.assert_allclose(out, np.log(values.astype(np.float64)), rtol=3e-7, atol=1e-7)
    _logarithm(np.zeros(16, np.float32), out)
    assert (np.abs(out + 88) < 1).all()


def test_sums_of_several_vectors(rng):
    """Each lane of the result is the sum of one of them, for any number up to 16."""
    values, out = rng.normal(size=48).astype(np.float32), np.zeros(48, np.float32)
    _sums(values, out)
    a, b, c = values.reshape(3, 16).astype(np.float64)
    many = [v.sum() for v in (a, b, c, a * b, b * c, a, b, c, a, b, a * a)]
    np.testing.assert_allclose(out[:3], many[:3], atol=1e-5)
    np.testing.assert_allclose(out[16:27], many, atol=1e-5)
    np.testing.assert_allclose(out[32:], [a.sum()] * 8 + [b.sum()] * 7 + [c.sum()], atol=1e-5)


@pytest.mark.parametrize("values", [np.zeros(32), np.zeros((16, 32), np.float32)[:, ::2]])
def test_only_contiguous_float32_is_loaded(values):
    """Anything else would be read wrongly."""
    with pytest.raises(TypingError, match="contiguous float32"):
        _load(values)


def test_rows_are_lanes_of_many_values(rng):
    """Only the chosen lanes, one behind the other; nothing beyond the row behind the last."""
    values, out = rng.normal(size=48).astype(np.float32), np.full((12, 16), 7, np.float32)
    a, b, c = values.reshape(3, 16)
    chosen = 0b1000_0100_1001_0010
    assert _rows(values, chosen, out) == 7
    lanes = [k for k in range(16) if chosen >> k & 1]
    columns = np.stack([a, b, c, a * b, b * c, a, b, c, a + b, b + c, a + c, a, b, c, a - b, b - c], 1)
    np.testing.assert_allclose(out[2:7], columns[lanes], rtol=1e-6)
    assert (out[:2] == 7).all()
    assert (out[8:] == 7).all()


def test_lowest_bit_and_rounding(rng):
    """Bits above the lowest don't count; halves and negative numbers are rounded down."""
    values = rng.uniform(-9, 9, 16).astype(np.float32)
    values[:3] = -0.5, -2.0, 3.0
    out = np.zeros(16, np.float32)
    for number, expected in ((1, 0), (0b1101000, 3), (1 << 62, 62)):
        assert _bits(number, values, out) == expected
    np.testing.assert_array_equal(out, np.floor(values))


def test_bilinear_samples_of_the_second_of_two_images():
    """Between pixels, on pixels and in the last row and column, against NumPy."""
    rng = np.random.default_rng(3)
    first, image = (rng.integers(0, 256, shape).astype(np.uint8) for shape in ((4, 9), (7, 11)))
    u, v = rng.uniform(0, 10, 16).astype("f4"), rng.uniform(0, 6, 16).astype("f4")
    u[:3], v[:3] = (0, 10, 4), (6, 0, 2)
    out = np.zeros(16, np.float32)
    texels = np.concatenate([pack_texels(first), pack_texels(image)])
    assert _sampled(texels, first.size, 11, u, v, out) == pytest.approx(u.sum(), rel=1e-6)
    edged = np.pad(image, ((0, 1), (0, 1)), mode="edge").astype(float)
    column, row = u.astype(int), v.astype(int)
    across, down = u - column, v - row
    upper, lower = (edged[y, column] * (1 - across) + edged[y, column + 1] * across for y in (row, row + 1))
    np.testing.assert_allclose(out, upper * (1 - down) + lower * down, atol=2e-4)


def test_texels_are_words():
    """Bytes would be read as if each were four."""
    with pytest.raises(TypingError, match="uint32"):
        _sampled(np.zeros(64, np.uint8), 0, 8, np.zeros(16, "f4"), np.zeros(16, "f4"), np.zeros(16, "f4"))
