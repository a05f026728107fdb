"""Whether the collision mesh lies where the splat shows it: shift, turn, scale, and the floor's own height and tilt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.audit.patches import Patches, deviation
from pipeline.types import F64, I64, Mask

ROUNDS, HUBER = 8, 2.0
"""Of reweighting; residuals of more than so many deviations count less."""
LOOSE = 1.0
"""Deviation of what nothing determines, in the columns' units: a metre, a radian, all of the scale."""
BLOCK = 1.0
"""The floor is of one piece, but its parts are not equally wrong: blocks of it are left out in turn [m]."""


@dataclass(frozen=True, eq=False)
class Fit:
    """Values (K,) of a linear model with their covariance (K, K)."""

    values: F64
    covariance: F64

    def sigma(self, index: int | slice) -> F64:
        """Deviation of one or several of the values."""
        return np.sqrt(np.diag(self.covariance)[index])


def fit(columns: F64, patches: Patches, group: I64) -> Fit:
    """Robust least squares of patches by columns (P, K); the covariance is that of leaving out groups (P,) in turn.

    Gaps of one surface are wrong together, so that their number says nothing of how well the result is known.
    Source of the covariance: B. Efron, C. Stein, The jackknife estimate of variance, Annals of Statistics 1981.
    """
    gaps = patches.gap
    base = 1 / (patches.scatter**2 + deviation(gaps) ** 2 + 1e-8)
    weight = base.copy()
    values = np.zeros(columns.shape[1])
    for _ in range(ROUNDS):
        values = _solved(columns, gaps, weight)
        off = np.abs(gaps - columns @ values) * np.sqrt(base)
        weight = base * np.minimum(1, HUBER / np.maximum(off, 1e-9))
    _, number = np.unique(group, return_inverse=True)
    count = int(number.max(initial=0)) + 1
    others = np.array(
        [_solved(columns[number != one], gaps[number != one], weight[number != one]) for one in range(count)]
    )
    off = others - others.mean(0)
    return Fit(values, (count - 1) / count * off.T @ off + np.eye(len(values)) * 1e-12)


def _solved(columns: F64, gaps: F64, weight: F64) -> F64:
    normal = (columns * weight[:, None]).T @ columns + np.eye(columns.shape[1]) / LOOSE**2
    return np.asarray(np.linalg.solve(normal, (columns * weight[:, None]).T @ gaps), np.float64)


def frame_columns(patches: Patches, about: F64) -> F64:
    """Columns (P, 8): how gaps change with shift [m] (3), turn [rad] (3) and scale of what is seen, and its thickness.

    Splats are fuzzy: all that is seen lies a little before its surface.
    """
    arm = patches.point - about
    n = patches.normal
    return np.column_stack([n, np.cross(arm, n), (arm * n).sum(1), np.ones(len(n))])


def floor_columns(patches: Patches, about: F64) -> F64:
    """Columns (P, 3): height [m] and slopes along x and y of what is seen of a floor."""
    arm = patches.point - about
    return np.column_stack([np.ones(len(arm)), arm[:, 0], arm[:, 1]])


def blocks(patches: Patches) -> I64:
    """Numbers (P,) of the blocks of floor that patches lie in."""
    cell = np.floor(patches.point[:, :2] / BLOCK).astype(np.int64)
    return cell[:, 0] * 100_003 + cell[:, 1]


def level(patches: Patches) -> Mask:
    """Patches (P,) to stand or put things on."""
    return patches.normal[:, 2] > 0.9
