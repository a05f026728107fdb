"""Growth: the Gaussians that the loss pulls at most are split, the ones that show nothing go."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Gaussians, matrix_from_quaternion
from pipeline.splat.optimizer import SparseAdam
from pipeline.splat.raster import Gradients

Float = NDArray[np.float32]

MIN_OPACITY = 0.006
"""Gaussians below are pruned; what they add rounds to nothing."""
MAX_GROWTH = 0.25
"""Largest share of new Gaussians in one round."""
SPLIT_OFFSET, SPLIT_SHRINK, SPLIT_OPACITY = 0.6, 1.6, 0.8
"""Both halves move by this many standard deviations along the longest axis, which shrinks by this factor, and get this
share of the opacity."""


class Growth:
    """Collects how hard the loss pulls at each Gaussian's place on the screen.

    Source of the criterion: B. Kerbl et al., 3DGS, SIGGRAPH 2023, section 5.2; of top-k growth towards a budget:
    S. Mallick et al., Taming 3DGS, SIGGRAPH Asia 2024, section 3; of the split along the longest axis: Z. Deng et al.,
    Efficient Density Control for 3DGS, 2024.

    Args:
        count: How many Gaussians there are.
    """

    def __init__(self, count: int) -> None:
        self._restart(count)

    def _restart(self, count: int) -> None:
        self._pull = np.zeros(count, np.float32)
        self._seen = np.zeros(count, np.float32)

    def observe(self, gradients: Gradients, size: int) -> None:
        """Add one view's gradients; `size` is its longer side [px]."""
        visible = gradients.visible
        self._pull[visible] += gradients.screen[visible] * np.float32(size)
        self._seen[visible] += 1

    def grow(self, optimizer: SparseAdam, target: int, max_scale: float, fixed: int = 0) -> None:
        """Prune, then split the Gaussians with the largest mean pull until there are `target`; start to collect anew.

        Args:
            optimizer: Holds the Gaussians; they and their moments are replaced.
            target: How many there shall be.
            max_scale: Gaussians with a larger standard deviation are pruned [world units].
            fixed: So many of the first Gaussians stay as they are.
        """
        gaussians = optimizer.gaussians
        opacity = 1 / (1 + np.exp(-gaussians.opacity_logits))
        keep = (opacity > MIN_OPACITY) & (gaussians.log_scales.max(1) < np.log(max_scale))
        keep[:fixed] = True
        kept = np.flatnonzero(keep)
        wanted = int(min(target - len(kept), MAX_GROWTH * len(kept)))
        score = np.where(keep & (self._seen > 0), self._pull / np.maximum(self._seen, 1), 0)
        score[:fixed] = 0
        split = np.argsort(-score, kind="stable")[: max(0, wanted)]
        split = split[score[split] > 0]
        optimizer.replace(kept, split, split_in_place(gaussians, split))
        self._restart(len(optimizer.gaussians))


def split_in_place(gaussians: Gaussians, chosen: NDArray[np.intp]) -> Gaussians:
    """Cut Gaussians in two across their longest axis: one half stays at its index, the other half is returned."""
    scales = np.exp(gaussians.log_scales[chosen])
    longest, rows = scales.argmax(1), np.arange(len(chosen))
    axes = matrix_from_quaternion(gaussians.quaternions[chosen])[rows, :, longest] if len(chosen) else np.zeros((0, 3))
    offset = (axes * (SPLIT_OFFSET * scales[rows, longest])[:, None]).astype(np.float32)
    opacity = SPLIT_OPACITY / (1 + np.exp(-gaussians.opacity_logits[chosen]))
    gaussians.log_scales[chosen, longest] -= np.float32(np.log(SPLIT_SHRINK))
    gaussians.opacity_logits[chosen] = np.log(opacity / (1 - opacity)).astype(np.float32)
    half = gaussians[chosen]
    half.means[:] += offset
    gaussians.means[chosen] -= offset
    return half
