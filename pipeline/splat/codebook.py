"""Few numbers for many: codebooks of single values and palettes of vectors, without any random number."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]

CODES = 256
"""Entries of a codebook."""
CODEBOOK_ROUNDS = 20
LEAST_SPREAD = 1e-12
"""Summed squares of a cell that needs no halving."""


def codebook(values: NDArray[np.floating]) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Codes, of the values' shape, and the ascending 256 numbers that they stand for: k-means in one dimension.

    It starts half at the quantiles and half evenly spaced, so that neither bulk nor tails go short. Source: S. Lloyd,
    Least squares quantization in PCM, IEEE Transactions on Information Theory 1982, method I.
    """
    ordered = np.sort(values.astype(np.float64).ravel())
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    shares = (np.arange(CODES // 2) + 0.5) / (CODES // 2)
    centres = np.sort(np.concatenate([np.quantile(ordered, shares), ordered[0] + shares * (ordered[-1] - ordered[0])]))
    for _ in range(CODEBOOK_ROUNDS):
        ends = np.searchsorted(ordered, (centres[1:] + centres[:-1]) / 2)
        bounds = np.concatenate([[0], ends, [len(ordered)]])
        counts = np.diff(bounds)
        means = np.diff(sums[bounds]) / np.maximum(counts, 1)
        centres = np.maximum.accumulate(np.where(counts > 0, means, centres))
    codes = np.searchsorted((centres[1:] + centres[:-1]) / 2, values.astype(np.float64))
    return codes.astype(np.uint8), centres


def palette(rows: Float, most: int) -> tuple[NDArray[np.int64], Float]:
    """Labels (N,) of rows (N, D), and at most `most` vectors (K, D) that they stand for.

    The cells with the largest spread are halved at the mean of their most varying column until there are enough.
    Source: S. Wan, P. Prusinkiewicz, S. Wong, Variance-based color image quantization for frame buffer display, Color
    Research and Application 1990.
    """
    labels = np.zeros(len(rows), np.int64)
    count = 1
    while count < most:
        mean = _means(rows, labels, count)
        spread = _sums((rows - mean[labels]) ** 2, labels, count)
        splittable = spread.sum(1) > LEAST_SPREAD
        if not splittable.any():
            break
        worst = np.argsort(np.where(splittable, -spread.sum(1), 0), kind="stable")
        chosen = np.zeros(count, bool)
        chosen[worst[: min(int(splittable.sum()), most - count)]] = True
        column = spread.argmax(1)
        above = rows[np.arange(len(rows)), column[labels]] > mean[labels, column[labels]]
        fresh = count + np.cumsum(chosen) - 1
        labels = np.where(chosen[labels] & above, fresh[labels], labels)
        count += int(chosen.sum())
    return labels, _means(rows, labels, count).astype(np.float32)


def _sums(rows: NDArray[np.floating], labels: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    columns = [np.bincount(labels, rows[:, column], count) for column in range(rows.shape[1])]
    return np.stack(columns, 1).astype(np.float64)


def _means(rows: NDArray[np.floating], labels: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    sizes = np.maximum(np.bincount(labels, minlength=count).astype(np.float64), 1)
    return _sums(rows, labels, count) / sizes[:, None]
