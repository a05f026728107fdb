"""Adam that touches only the Gaussians a view shows.

Source: D. Kingma, J. Ba, Adam, ICLR 2015, algorithm 1; moments of unseen Gaussians rest, as in Taming 3DGS
(S. Mallick et al., SIGGRAPH Asia 2024, section 4).
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from pipeline.geometry import Gaussians
from pipeline.splat.raster import Gradients

Float = NDArray[np.float32]

FIELDS = ("means", "log_scales", "quaternions", "opacity_logits", "sh")
BETA_1, BETA_2, EPSILON = np.float32(0.9), np.float32(0.999), np.float32(1e-15)
ONE = np.float32(1)
BLOCKS = 32


class SparseAdam:
    """Moments of every parameter of a set of Gaussians, and the step that uses them.

    Args:
        gaussians: The parameters; their arrays are changed in place by `step`.
    """

    def __init__(self, gaussians: Gaussians) -> None:
        self.gaussians = gaussians
        self.steps = 0
        self._first = {name: np.zeros_like(getattr(gaussians, name)) for name in FIELDS}
        self._second = {name: np.zeros_like(getattr(gaussians, name)) for name in FIELDS}

    def step(self, gradients: Gradients, rates: dict[str, Float]) -> None:
        """One step of the visible Gaussians.

        Args:
            gradients: Of the loss.
            rates: For each field the learning rate of each of a Gaussian's numbers, flattened.
        """
        self.steps += 1
        correction_1 = np.float32(1 / (1 - float(BETA_1) ** self.steps))
        correction_2 = np.float32(1 / (1 - float(BETA_2) ** self.steps))
        for name in FIELDS:
            _adam(
                gradients.visible,
                _table(getattr(self.gaussians, name)),
                _table(getattr(gradients, name)),
                _table(self._first[name]),
                _table(self._second[name]),
                rates[name],
                correction_1,
                correction_2,
            )

    def replace(self, kept: NDArray[np.intp], restarted: NDArray[np.intp], added: Gaussians) -> None:
        """Go on with the Gaussians `kept`, followed by the `added`.

        Args:
            kept: Indices that stay, in order.
            restarted: Indices whose moments are forgotten.
            added: New Gaussians, without moments.
        """
        for moments in (self._first, self._second):
            for name in FIELDS:
                moments[name][restarted] = 0
                new = np.zeros_like(getattr(added, name))
                moments[name] = np.concatenate([moments[name][kept], new])
        old = self.gaussians
        self.gaussians = dataclasses.replace(
            old, **{name: np.concatenate([getattr(old, name)[kept], getattr(added, name)]) for name in FIELDS}
        )


def _table(array: Float) -> Float:
    """The same memory as (Gaussians, numbers of each)."""
    return array.reshape(len(array), int(np.prod(array.shape[1:])))


@njit(parallel=True, fastmath=True, nogil=True, error_model="numpy", cache=True)
def _adam(
    visible: NDArray[np.int32],
    values: Float,
    gradients: Float,
    first: Float,
    second: Float,
    rates: Float,
    correction_1: np.float32,
    correction_2: np.float32,
) -> None:
    count = visible.shape[0]
    for block in prange(BLOCKS):
        for v in range(block * count // BLOCKS, (block + 1) * count // BLOCKS):
            n = visible[v]
            for j in range(values.shape[1]):
                gradient = gradients[n, j]
                m = BETA_1 * first[n, j] + (ONE - BETA_1) * gradient
                s = BETA_2 * second[n, j] + (ONE - BETA_2) * gradient * gradient
                first[n, j] = m
                second[n, j] = s
                values[n, j] -= rates[j] * (m * correction_1) / (math.sqrt(s * correction_2) + EPSILON)
