"""What formats of splats store, as Gaussians have it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.export.web import OTHERS
from pipeline.geometry import SH_C0, Gaussians, Similarity, logit
from pipeline.splat.ply import MAX_GAUSSIANS
from pipeline.splat.sog import MIN_OPACITY
from pipeline.types import F32, F64, U8, U32, Floats

CONVERT = "convert it to PLY: npx @playcanvas/splat-transform IN OUT.ply, or in the editor at superspl.at"


UNIFORM = 1e-3
"""Relative difference of a transform's scales along its axes up to which they are one."""


@dataclass(frozen=True, eq=False)
class StatedSplat:
    """The Gaussians of a file in its frame, and the up axis (3,) and metres per unit where it states them."""

    gaussians: Gaussians
    up: F64 | None = None
    metres: float | None = None


def similarity_of(matrix: F64) -> Similarity:
    """A transform (4, 4) of columns, as far as Gaussians can follow it.

    Raises:
        ValueError: When it mirrors or stretches.
    """
    scales = np.linalg.norm(matrix[:3, :3], axis=0)
    rotation, scale = matrix[:3, :3] / np.maximum(scales, 1e-12), float(scales.mean())
    if not (scale > 0 and np.ptp(scales) <= UNIFORM * scale and np.linalg.det(rotation) > 0):
        raise ValueError(f"scales of {scales.tolist()}: Gaussians aren't mirrored or stretched")
    return Similarity(scale, rotation, matrix[:3, 3])


def counted(count: int) -> int:
    """The number of Gaussians.

    Raises:
        ValueError: When there are none or too many.
    """
    if not 0 < count <= MAX_GAUSSIANS:
        raise ValueError(f"{count} Gaussians")
    return count


def opacity_logits(values: U8) -> F32:
    """Logits of opacities in steps of 1/255."""
    return logit(np.clip(values / 255, MIN_OPACITY, 1 - MIN_OPACITY)).astype(np.float32)


def color_coefficients(values: Floats) -> F32:
    """Coefficients of degree 0 (N, 1, 3) of colours (N, 3), 0 to 1."""
    return ((values - 0.5) / SH_C0).astype(np.float32)[:, None]


def whole_quaternions(parts: F64, largest: U32) -> F32:
    """Quaternions (N, 4) from three components (N, 3) and the number of the fourth, the largest."""
    rows, result = np.arange(len(parts)), np.zeros((len(parts), 4))
    result[rows[:, None], OTHERS[largest]] = parts
    result[rows, largest] = np.sqrt(np.maximum(0, 1 - (parts**2).sum(1)))
    return result.astype(np.float32)
