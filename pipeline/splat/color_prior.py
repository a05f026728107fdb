"""View-dependent colour only where the photos insist on it.

Seen from a narrow range of directions, the spherical harmonics of a Gaussian can fit any noise, and turn into any
colour elsewhere: a robot under the table sees rainbows. The squares of the coefficients above degree 0 therefore cost,
as much as a fixed number of pixels would. Adam moves weak gradients as far as strong ones; here the weak ones, of
Gaussians that few pixels show, are outweighed.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

Float = NDArray[np.float32]

PIXELS = 50.0
"""Whose pull a coefficient of 1 has."""
BLOCKS = 32


def pull_to_plain_color(visible: NDArray[np.int32], sh: Float, by_sh: Float, pixels_in_view: int) -> None:
    """Add the derivative of the cost of view-dependent colour to a loss's.

    Args:
        visible: Indices of the Gaussians that the view shows.
        sh: (N, K, 3) coefficients.
        by_sh: (N, K, 3) derivative of a loss that is a mean over the view's pixels; changed.
        pixels_in_view: How many.
    """
    if sh.shape[1] > 1:
        _add(visible, sh, by_sh, np.float32(PIXELS / pixels_in_view))


@njit(parallel=True, nogil=True, error_model="numpy", cache=True)
def _add(visible: NDArray[np.int32], sh: Float, by_sh: Float, weight: np.float32) -> None:
    count = len(visible)
    for block in prange(BLOCKS):
        for v in range(block * count // BLOCKS, (block + 1) * count // BLOCKS):
            n = visible[v]
            for k in range(1, sh.shape[1]):
                for channel in range(3):
                    by_sh[n, k, channel] += weight * sh[n, k, channel]
