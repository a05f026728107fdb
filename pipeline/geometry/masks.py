"""Masks on a floor grid: parts, distances, hulls."""

from __future__ import annotations

from typing import cast

import numpy as np
from scipy import ndimage

from pipeline.types import F64, I32, Mask


def parts(mask: Mask) -> tuple[I32, int]:
    """Numbers (X, Y) of the 4-connected parts, 0 = outside, and how many parts there are."""
    labels, count = cast(tuple[I32, int], ndimage.label(mask))
    return labels, int(count)


def distance_from(mask: Mask) -> F64:
    """Distance (X, Y) [cells] to the nearest marked cell; inf where none is marked."""
    if not mask.any():
        return np.full(mask.shape, np.inf)
    return cast(F64, ndimage.distance_transform_edt(~mask))


def without_holes(mask: Mask) -> Mask:
    """The mask and everything that it encloses."""
    return cast(Mask, ndimage.binary_fill_holes(mask))


def closed(mask: Mask, width: float) -> Mask:
    """The mask with gaps up to `width` [cells] bridged."""
    margin = int(np.ceil(width)) + 1
    padded = np.pad(mask, margin)
    grown = distance_from(padded) <= width / 2
    bridged = padded | (distance_from(~grown) > width / 2)
    return bridged[margin:-margin, margin:-margin]


def smoothed(values: F64, sigma: float) -> F64:
    """Gaussian mean (X, Y) with sigma in cells, zeros outside."""
    return cast(F64, ndimage.gaussian_filter(values, sigma, mode="constant"))


def grown(mask: Mask) -> Mask:
    """The mask and its eight neighbours."""
    return cast(Mask, ndimage.binary_dilation(mask, np.ones((3, 3), bool)))


def nearest_marked(mask: Mask) -> I32:
    """Indices (2, X, Y) of each cell's nearest marked cell; the mask must not be empty."""
    found = ndimage.distance_transform_edt(~mask, return_distances=False, return_indices=True)
    return cast(I32, found)


def lowest_around(values: F64) -> F64:
    """Least value (X, Y) of each cell and its eight neighbours."""
    return cast(F64, ndimage.minimum_filter(values, 3, mode="nearest"))
