"""Adam that touches only the Gaussians a view shows, and adaptive density control: pruning and splitting.

Source: D. Kingma, J. Ba, Adam, ICLR 2015, algorithm 1; moments of unseen Gaussians rest, as in Taming 3DGS
(S. Mallick et al., SIGGRAPH Asia 2024, section 4).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from pipeline.geometry import Gaussians, logit, matrix_from_quaternion, morton_order, sigmoid
from pipeline.geometry.jit import njit, prange
from pipeline.raster import Gradients
from pipeline.types import F32, I32, I64

BETA_1, BETA_2, EPSILON = np.float32(0.9), np.float32(0.999), np.float32(1e-15)
ONE = np.float32(1)
BLOCKS = 32
"""Fixed shares of the work, so that nothing depends on the number of threads."""

MIN_OPACITY = 0.006
"""Gaussians below are pruned; what they add rounds to nothing."""
MAX_GROWTH = 0.25
"""Largest share of new Gaussians in one round."""
SPLIT_OFFSET = 0.6
"""Both halves of a split Gaussian move along its longest axis by this many standard deviations."""
SPLIT_SHRINK = 1.6
"""Factor by which the longest axis of both halves is shorter."""
SPLIT_OPACITY = 0.8
"""Factor of the opacity of both halves."""


class SparseAdam:
    """Moments of every parameter of a set of Gaussians, and the step that uses them.

    The arrays of `gaussians` belong to the optimizer, and `step` changes them; they may be set to as many others.
    """

    def __init__(self, gaussians: Gaussians) -> None:
        self.gaussians = gaussians
        self.steps = 0
        self._first = {name: np.zeros_like(getattr(gaussians, name)) for name in Gaussians.ARRAYS}
        self._second = {name: np.zeros_like(getattr(gaussians, name)) for name in Gaussians.ARRAYS}

    def step(self, gradients: Gradients, rates: dict[str, F32], pulls: dict[str, F32]) -> None:
        """One step of the visible Gaussians.

        The `rates` are those of each of a Gaussian's numbers that have a gradient, by field; others stay as they are.
        The `pulls`, for the same numbers, are the weights of half their squares in the loss.
        """
        self.steps += 1
        correction_1 = np.float32(1 / (1 - float(BETA_1) ** self.steps))
        correction_2 = np.float32(1 / (1 - float(BETA_2) ** self.steps))
        for name in Gaussians.ARRAYS:
            _adam(
                gradients.visible,
                _table(getattr(self.gaussians, name)),
                _table(getattr(gradients, name)),
                _table(self._first[name]),
                _table(self._second[name]),
                rates[name],
                pulls[name] if name in pulls else np.zeros_like(rates[name]),
                correction_1,
                correction_2,
            )

    def replace(self, gaussians: Gaussians, kept: I64, restarted: I64, new: Gaussians) -> None:
        """Continue with those of as many other Gaussians that are `kept`, indices ascending, then with new ones.

        The moments of new ones and of those at the indices `restarted` are zero.
        """
        for moments in (self._first, self._second):
            for name in Gaussians.ARRAYS:
                moments[name][restarted] = 0
                moments[name] = np.concatenate([moments[name][kept], np.zeros_like(getattr(new, name))])
        self.gaussians = Gaussians.concatenate([gaussians[kept], new])

    def sort(self, fixed: int) -> None:
        """Sort all but the first `fixed` along a Z-order curve: what a view shows then lies together in memory."""
        order = np.concatenate([np.arange(fixed), fixed + morton_order(self.gaussians.means[fixed:])])
        self.gaussians = self.gaussians[order]
        for moments in (self._first, self._second):
            for name in Gaussians.ARRAYS:
                moments[name] = moments[name][order]


class Densification:
    """Collects how hard the loss pulls at each Gaussian's position on the screen, and adds Gaussians there.

    Source of the criterion: B. Kerbl et al., 3DGS, SIGGRAPH 2023, section 5.2; of top-k growth towards a budget:
    S. Mallick et al., Taming 3DGS, SIGGRAPH Asia 2024, section 3; of the split along the longest axis: Z. Deng et al.,
    Efficient Density Control for 3DGS, 2024.
    """

    def __init__(self, count: int) -> None:
        self._restart(count)

    def _restart(self, count: int) -> None:
        self._pull = np.zeros(count, np.float32)
        self._seen = np.zeros(count, np.float32)

    def observe(self, gradients: Gradients, size: int) -> None:
        """Add one view's gradients; `size` is the long side of its image [px]."""
        _add_pull(gradients.visible, gradients.screen, np.float32(size), self._pull, self._seen)

    def densify(self, optimizer: SparseAdam, target: int, max_scale: float, fixed: int = 0) -> None:
        """Prune transparent and huge Gaussians, then split those with the largest mean pull; restart the collection.

        The optimizer's Gaussians, except the first `fixed`, and their moments are replaced; `target` is the number to
        approach, and Gaussians with a standard deviation above `max_scale` [world units] are pruned.
        """
        gaussians = optimizer.gaussians
        keep = (sigmoid(gaussians.opacity_logits) > MIN_OPACITY) & (gaussians.log_scales.max(1) < np.log(max_scale))
        keep[:fixed] = True
        kept = np.flatnonzero(keep)
        room = int(min(target - len(kept), MAX_GROWTH * len(kept)))
        score = np.where(keep & (self._seen > 0), self._pull / np.maximum(self._seen, 1), 0)
        score[:fixed] = 0
        chosen = np.argsort(-score, kind="stable")[: max(0, room)]
        chosen = chosen[score[chosen] > 0]
        halves, new = split(gaussians, chosen)
        optimizer.replace(halves, kept, chosen, new)
        optimizer.sort(fixed)
        self._restart(len(optimizer.gaussians))


def split(gaussians: Gaussians, chosen: I64) -> tuple[Gaussians, Gaussians]:
    """All Gaussians, with one half in place of each chosen one, cut across its longest axis; and the other halves."""
    scales = np.exp(gaussians.log_scales[chosen])
    longest, rows = scales.argmax(1), np.arange(len(chosen))
    axes = matrix_from_quaternion(gaussians.quaternions[chosen])[rows, :, longest] if len(chosen) else np.zeros((0, 3))
    offset = (axes * (SPLIT_OFFSET * scales[rows, longest])[:, None]).astype(np.float32)
    opacity = SPLIT_OPACITY / (1 + np.exp(-gaussians.opacity_logits[chosen]))
    means, log_scales, logits = gaussians.means.copy(), gaussians.log_scales.copy(), gaussians.opacity_logits.copy()
    means[chosen] -= offset
    log_scales[chosen, longest] -= np.float32(np.log(SPLIT_SHRINK))
    logits[chosen] = logit(opacity)
    halves = replace(gaussians, means=means, log_scales=log_scales, opacity_logits=logits)
    return halves, replace(halves[chosen], means=gaussians.means[chosen] + offset)


@njit(nogil=True, cache=True)
def _add_pull(visible: I32, screen: F32, factor: np.float32, pull: F32, seen: F32) -> None:
    for n in visible:
        pull[n] += screen[n] * factor
        seen[n] += ONE


def _table(array: F32) -> F32:
    """The same memory as (Gaussians, numbers of each)."""
    return array.reshape(len(array), int(np.prod(array.shape[1:])))


@njit(parallel=True, fastmath=True, nogil=True, error_model="numpy", cache=True)
def _adam(
    visible: I32,
    values: F32,
    gradients: F32,
    first: F32,
    second: F32,
    rates: F32,
    pulls: F32,
    correction_1: np.float32,
    correction_2: np.float32,
) -> None:
    count = visible.shape[0]
    for block in prange(BLOCKS):
        for v in range(block * count // BLOCKS, (block + 1) * count // BLOCKS):
            n = visible[v]
            for j in range(rates.shape[0]):
                gradient = gradients[n, j] + pulls[j] * values[n, j]
                m = BETA_1 * first[n, j] + (ONE - BETA_1) * gradient
                s = BETA_2 * second[n, j] + (ONE - BETA_2) * gradient * gradient
                first[n, j] = m
                second[n, j] = s
                values[n, j] -= rates[j] * (m * correction_1) / (math.sqrt(s * correction_2) + EPSILON)
