"""Gaussians: the parameters of a splat, as the standard 3DGS PLY holds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.rotation import matrix_from_quaternion, quaternion_from_matrix
from pipeline.geometry.similarity import Similarity
from pipeline.geometry.spherical_harmonics import SH_C0, sh_rotation
from pipeline.types import F32, F64, Floats, Mask


@dataclass(frozen=True, eq=False)
class Gaussians:
    """N Gaussians; colour = 0.5 + SH(direction from camera to Gaussian), clipped below at 0.

    A trainer may change the arrays of Gaussians that it made itself; everybody else makes new ones.
    `antialiased` says how they were trained and must be drawn. True: pixels are areas, and a Gaussian smaller than a
    pixel shows fainter (Mip-Splatting). False: each is widened by a share of a pixel, and stays as opaque (classic
    3DGS), as most viewers draw all splats.
    """

    ARRAYS: ClassVar = ("means", "log_scales", "quaternions", "opacity_logits", "sh")

    means: F32  # (N, 3) float32 [m, world frame]
    log_scales: F32  # (N, 3) float32, log of the standard deviations [m] along the own axes
    quaternions: F32  # (N, 4) float32 wxyz, world from own axes; need not be unit
    opacity_logits: F32  # (N,) float32
    sh: F32  # (N, K, 3) float32, K = 1, 4, 9 or 16 coefficients per colour channel
    antialiased: bool = False

    @staticmethod
    def from_colors(
        means: Floats, scales: Floats, quaternions: Floats, colors: Floats, opacity: float, sh_coefficients: int
    ) -> Gaussians:
        """Gaussians of one opacity in (0, 1) whose colour (N, 3) in 0..1 is the same from everywhere.

        The scales (N, 3) are positive standard deviations [m] along the own axes; 1, 4, 9 or 16 `sh_coefficients`.
        """
        sh = np.zeros((len(means), sh_coefficients, 3), np.float32)
        sh[:, 0] = (colors - 0.5) / SH_C0
        return Gaussians(
            means.astype(np.float32),
            np.log(scales).astype(np.float32),
            quaternions.astype(np.float32),
            np.full(len(means), logit(opacity), np.float32),
            sh,
        )

    @staticmethod
    def concatenate(parts: Sequence[Gaussians]) -> Gaussians:
        """All Gaussians in one; the first part decides on the number of SH coefficients and the anti-aliasing."""
        first = parts[0]
        sh = np.zeros((sum(map(len, parts)), *first.sh.shape[1:]), np.float32)
        start = 0
        for part in parts:
            shared = min(first.sh.shape[1], part.sh.shape[1])
            sh[start : start + len(part), :shared] = part.sh[:, :shared]
            start += len(part)
        arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in first.ARRAYS[:-1]}
        return replace(first, **arrays, sh=sh)

    @property
    def opacities(self) -> F64:
        """Opacities (N,) in 0..1."""
        return np.asarray(sigmoid(self.opacity_logits.astype(np.float64)), np.float64)

    @property
    def unit_quaternions(self) -> F32:
        """Quaternions (N, 4) of length one."""
        return self.quaternions / np.linalg.norm(self.quaternions, axis=1, keepdims=True)

    def __len__(self) -> int:
        return len(self.means)

    def __getitem__(self, index: Mask | NDArray[np.integer] | slice) -> Gaussians:
        """The chosen Gaussians."""
        return Gaussians(*(getattr(self, name)[index] for name in self.ARRAYS), antialiased=self.antialiased)

    def transformed(self, a_from_b: Similarity) -> Gaussians:
        """The Gaussians of frame b, in frame a; the SH coefficients rotate along."""
        rotations = a_from_b.rotation @ matrix_from_quaternion(self.quaternions)
        rotated_sh = np.einsum("ij,njc->nic", sh_rotation(a_from_b.rotation, self.sh.shape[1]), self.sh)
        return replace(
            self,
            means=a_from_b.apply(self.means).astype(np.float32),
            log_scales=(self.log_scales + np.log(a_from_b.scale)).astype(np.float32),
            quaternions=quaternion_from_matrix(rotations).astype(np.float32),
            sh=rotated_sh.astype(np.float32),
        )


def sigmoid(logits: Floats) -> Floats:
    """Opacities of logits, in their precision."""
    return 1 / (1 + np.exp(-logits))


def logit(opacities: Floats | float) -> Floats:
    """The inverse of `sigmoid`."""
    return np.log(opacities / (1 - opacities))
