"""The surfaces of a splat and of a mesh as points with normals: what registration compares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from pipeline.geometry import Gaussians, Mesh, matrix_from_quaternion
from pipeline.mesh.rays import sample_surface

Array = NDArray[np.float64]

OPAQUE = 0.3
LARGE = 0.95
"""Quantile of the Gaussians' sizes above which they are background and not surface."""
WITHIN = 1.5
"""Standard deviations from a Gaussian's centre that its points keep to."""
NEIGHBOURS = 12
FLAT = 0.35
"""Thickness of a neighbourhood relative to its width: thicker ones have no normal."""


@dataclass(frozen=True, eq=False)
class SurfacePoints:
    """Points spread over a surface.

    Attributes:
        points: (N, 3).
        normals: (N, 3) unit, of either sign; zero where there is none.
        tree: Of the points.
    """

    points: Array
    normals: Array
    tree: KDTree

    @staticmethod
    def of_mesh(mesh: Mesh, count: int, rng: np.random.Generator) -> SurfacePoints:
        """Evenly over a mesh's area."""
        points, faces = sample_surface(mesh, count, rng)
        return SurfacePoints(points.astype(np.float64), mesh.face_normals()[faces], KDTree(points))

    @staticmethod
    def of_splat(gaussians: Gaussians, count: int, rng: np.random.Generator) -> SurfacePoints:
        """Over the opaque Gaussians by their area; centres alone leave gaps where Gaussians are large."""
        points = _spread(gaussians, count, rng)
        tree = KDTree(points)
        around = points[tree.query(points, min(NEIGHBOURS, len(points)))[1]].reshape(len(points), -1, 3)
        local = around - around.mean(1, keepdims=True)
        values, vectors = np.linalg.eigh(np.einsum("nki,nkj->nij", local, local))
        flat = values[:, 0] < FLAT**2 * values[:, 1]
        return SurfacePoints(points, np.where(flat[:, None], vectors[:, :, 0], 0.0), tree)

    def some(self, count: int, rng: np.random.Generator) -> SurfacePoints:
        """At most so many of them."""
        chosen = rng.permutation(len(self.points))[:count]
        return SurfacePoints(self.points[chosen], self.normals[chosen], KDTree(self.points[chosen]))


def _spread(gaussians: Gaussians, count: int, rng: np.random.Generator) -> Array:
    sizes = np.exp(np.sort(gaussians.log_scales.astype(np.float64), 1))
    opacity = 1 / (1 + np.exp(-gaussians.opacity_logits.astype(np.float64)))
    solid = (opacity > OPAQUE) & (sizes[:, 2] <= np.quantile(sizes[:, 2], LARGE))
    if solid.sum() < NEIGHBOURS:
        solid = np.ones(len(gaussians), bool)
    index = np.flatnonzero(solid)
    area = opacity[index] * sizes[index, 1] * sizes[index, 2]
    owner = rng.choice(index, count, p=area / area.sum())
    scales = np.exp(gaussians.log_scales[owner].astype(np.float64))
    inner = scales.argmin(1)
    offset = np.clip(rng.normal(size=(count, 3)), -WITHIN, WITHIN) * scales
    offset[np.arange(count), inner] = 0.0
    turned = np.einsum("nij,nj->ni", matrix_from_quaternion(gaussians.quaternions[owner]), offset)
    return gaussians.means[owner].astype(np.float64) + turned
