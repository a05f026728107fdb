"""Pieces of surface that can be touched, and how far before or behind them robots see them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.audit.looking import Samples
from pipeline.types import F64, I64, Mask

SIDE = 0.3
"""Edge of a piece [m]."""
VIEWS = 3
"""So many views at least see a piece."""
PIXELS = 6
"""Of a piece in a view, at least."""
TURNS = 2
"""Normals that round to the same multiples of one by this are of one surface."""


@dataclass(frozen=True, eq=False)
class Patches:
    """Pieces of the collision mesh that are seen from several places.

    Attributes:
        point: (P, 3) their middles [m].
        normal: (P, 3) unit.
        gap: (P,) how far before them they are seen, median over views [m].
        scatter: (P,) robust deviation of the views' medians [m].
        ninety: (P,) 90th percentile of the absolute gap of their pixels [m].
        surface: (P,) number of the plane that each lies on: what is wrong with a wall is wrong with all of it.
        bend: (P,) angle between the normals of what is seen and what is touched [rad]; NaN where it isn't known.
        guessed: (P,) share of pixels in guessed parts of the mesh.
    """

    point: F64
    normal: F64
    gap: F64
    scatter: F64
    ninety: F64
    surface: I64
    bend: F64
    guessed: F64

    def chosen(self, mask: Mask) -> Patches:
        """Some of them (P,)."""
        return Patches(*(values[mask] for values in vars(self).values()))

    def __len__(self) -> int:
        return len(self.gap)


def percentile_by(group: I64, values: F64, share: float) -> F64:
    """A percentile (G,) of values (N,) of each group 0..G-1 (N,), each of which has some: the nearest value."""
    order = np.lexsort((values, group))
    count = np.bincount(group)
    first = np.cumsum(count) - count
    return values[order][first + np.round(share * (count - 1)).astype(np.int64)]


def deviation(values: F64) -> float:
    """Robust deviation of values (N,); 0 of none."""
    return 1.48 * float(np.median(np.abs(values - np.median(values)))) if len(values) else 0.0


def numbered(*keys: I64) -> tuple[I64, I64]:
    """Numbers (N,) of rows of equal keys (N,) or (N, K), and a row of each number (G,)."""
    one = np.zeros(len(keys[0]), np.int64)
    for column in np.column_stack(keys).T if len(one) else ():
        low = column.min()
        one = one * (column.max() - low + 1) + (column - low)
    _, first, number = np.unique(one, return_index=True, return_inverse=True)
    return number, first


def find_patches(samples: Samples, face_guessed: Mask) -> Patches:
    """The pieces of all samples; `face_guessed` (F,) of the mesh."""
    turn = np.round(samples.normal * TURNS).astype(np.int64)
    cell = np.floor(samples.point / SIDE).astype(np.int64)
    piece, _ = numbered(turn, cell)
    look, first = numbered(piece, samples.view)
    enough = np.bincount(look) >= PIXELS
    owner, middle = piece[first][enough], percentile_by(look, samples.gap, 0.5)[enough]
    views = np.bincount(owner, minlength=piece.max(initial=-1) + 1)
    seen = views >= VIEWS
    renumbered = np.cumsum(seen) - 1
    kept = seen[piece] & enough[look]
    piece, samples = renumbered[piece[kept]], samples.chosen(kept)
    owner, middle = renumbered[owner[seen[owner]]], middle[seen[owner]]
    gap = percentile_by(owner, middle, 0.5)
    count = np.bincount(piece).astype(np.float64)
    point, normal = (_means(piece, values, count) for values in (samples.point, samples.normal))
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    turn = np.round(normal * TURNS).astype(np.int64)
    surface, _ = numbered(turn, np.round((point * normal).sum(1) / SIDE).astype(np.int64))
    return Patches(
        point=point,
        normal=normal,
        gap=gap,
        scatter=1.48 * percentile_by(owner, np.abs(middle - gap[owner]), 0.5),
        ninety=percentile_by(piece, np.abs(samples.gap), 0.9),
        surface=surface,
        bend=_bends(piece, samples, point, normal, count),
        guessed=np.bincount(piece, face_guessed[samples.face]) / count,
    )


def _means(group: I64, values: F64, count: F64) -> F64:
    return np.stack([np.bincount(group, column) / count for column in values.T], 1)


def _bends(piece: I64, samples: Samples, point: F64, normal: F64, count: F64) -> F64:
    """Angles (P,) between the plane of what is seen in each piece and its normal [rad]."""
    seen = samples.point + samples.gap[:, None] * samples.normal
    off = seen - _means(piece, seen, count)[piece]
    outer = (off[:, :, None] * off[:, None, :]).reshape(-1, 9)
    spread = _means(piece, outer, count).reshape(-1, 3, 3)
    values, axes = np.linalg.eigh(spread)
    angle = np.arccos(np.clip(np.abs((axes[:, :, 0] * normal).sum(1)), 0, 1))
    return np.where(values[:, 1] > (SIDE / 10) ** 2, angle, np.nan)  # of a strip it says nothing
