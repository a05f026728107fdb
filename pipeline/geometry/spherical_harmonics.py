"""Real spherical harmonics of degree 0-3, in the order and signs of the 3DGS reference code."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from pipeline.types import F64

SH_C0 = 0.28209479177387814


def sh_basis(directions: ArrayLike, count: int) -> F64:
    """Basis values (..., count) for unit directions (..., 3); count is 1, 4, 9 or 16.

    Source: B. Kerbl et al., 3D Gaussian Splatting, SIGGRAPH 2023 (the constants of its published code).
    """
    d = np.asarray(directions, np.float64)
    x, y, z = d[..., 0], d[..., 1], d[..., 2]
    xx, yy, zz, xy, yz, xz = x * x, y * y, z * z, x * y, y * z, x * z
    values = [
        np.full_like(x, SH_C0),
        -0.4886025119029199 * y,
        0.4886025119029199 * z,
        -0.4886025119029199 * x,
        1.0925484305920792 * xy,
        -1.0925484305920792 * yz,
        0.31539156525252005 * (2 * zz - xx - yy),
        -1.0925484305920792 * xz,
        0.5462742152960396 * (xx - yy),
        -0.5900435899266435 * y * (3 * xx - yy),
        2.890611442640554 * xy * z,
        -0.4570457994644658 * y * (4 * zz - xx - yy),
        0.3731763325901154 * z * (2 * zz - 3 * xx - 3 * yy),
        -0.4570457994644658 * x * (4 * zz - xx - yy),
        1.445305721320277 * z * (xx - yy),
        -0.5900435899266435 * x * (xx - 3 * yy),
    ]
    return np.stack(values[:count], -1)


def sh_rotation(a_from_b: ArrayLike, count: int) -> F64:
    """Matrix (count, count) from SH coefficients in frame b to coefficients in frame a.

    A direction d_a is seen in frame b as R^T d_a, so basis(d_a) @ M must equal basis(R^T d_a) for every
    direction. Bands don't mix; solving that on a fixed set of directions is exact to rounding, with no
    recursion to get wrong.
    """
    rotation = np.asarray(a_from_b, np.float64)
    index = np.arange(64) + 0.5
    polar, azimuth = np.arccos(1 - 2 * index / 64), np.pi * (1 + 5**0.5) * index
    directions = np.stack([np.cos(azimuth) * np.sin(polar), np.sin(azimuth) * np.sin(polar), np.cos(polar)], -1)
    in_a, in_b = sh_basis(directions, count), sh_basis(directions @ rotation, count)
    result = np.zeros((count, count))
    for band in range(int(count**0.5)):
        block = slice(band * band, (band + 1) ** 2)
        result[block, block] = np.linalg.lstsq(in_a[:, block], in_b[:, block], rcond=None)[0]
    return result
