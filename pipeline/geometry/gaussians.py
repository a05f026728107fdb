"""Gaussians: the parameters of a splat, as the standard 3DGS PLY holds them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.rotation import matrix_from_quaternion, quaternion_from_matrix
from pipeline.geometry.similarity import Similarity
from pipeline.geometry.spherical_harmonics import sh_rotation

Float = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Gaussians:
    """N Gaussians; colour = 0.5 + SH(direction from camera to Gaussian), clipped below at 0.

    Attributes:
        means: (N, 3) float32 [m, world frame].
        log_scales: (N, 3) float32, log of the standard deviations [m] along the own axes.
        quaternions: (N, 4) float32 wxyz, world from own axes; need not be unit.
        opacity_logits: (N,) float32.
        sh: (N, K, 3) float32, K = 1, 4, 9 or 16 coefficients per colour channel.
        antialiased: How they were trained, and so must be drawn. True: pixels are areas, and a Gaussian smaller than a
            pixel shows fainter (Mip-Splatting). False: each is widened by a share of a pixel, and stays as opaque
            (classic 3DGS), as most viewers draw all splats.
    """

    means: Float
    log_scales: Float
    quaternions: Float
    opacity_logits: Float
    sh: Float
    antialiased: bool = False

    def __len__(self) -> int:
        return len(self.means)

    def __getitem__(self, index: NDArray[np.bool_] | NDArray[np.integer] | slice) -> Gaussians:
        """The chosen Gaussians."""
        return Gaussians(
            self.means[index],
            self.log_scales[index],
            self.quaternions[index],
            self.opacity_logits[index],
            self.sh[index],
            self.antialiased,
        )

    def transformed(self, a_from_b: Similarity) -> Gaussians:
        """The Gaussians of frame b, in frame a; the SH coefficients turn along."""
        rotations = a_from_b.rotation @ matrix_from_quaternion(self.quaternions)
        turned = np.einsum("ij,njc->nic", sh_rotation(a_from_b.rotation, self.sh.shape[1]), self.sh)
        return replace(
            self,
            means=a_from_b.apply(self.means).astype(np.float32),
            log_scales=(self.log_scales + np.log(a_from_b.scale)).astype(np.float32),
            quaternions=quaternion_from_matrix(rotations).astype(np.float32),
            sh=turned.astype(np.float32),
        )
