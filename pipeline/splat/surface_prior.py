"""Gaussians on known flat surfaces are laid flat again and again while they train.

The photos leave a freedom that a splat abuses: seen from the track alone, a floor of sticks along the viewing rays
looks like a floor of tiles. From a robot's height the sticks are mist. Where the shared cloud is locally flat the
surface is known: there the shortest axis is turned onto its normal, the thickness is capped relative to the width, and
the centre is drawn towards the plane. Between two rounds the gradients do what they like. Depth that is coarser than
what the pictures tell leaves them alone: on redkitchen's Kinect, laying all flat costs 0.4 dB.

This is a projection, not a loss: no weight to balance against pictures, no gradient through a sorted depth. The aim is
that of 2DGS (B. Huang et al., SIGGRAPH 2024, section 4) and PGSR (D. Chen et al., 2024, section 3.1): planar Gaussians.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from pipeline.geometry import Gaussians, PointCloud, matrix_from_quaternion

Array = NDArray[np.float64]

CELL = 0.005
"""Spacing of the cloud's points that are asked, as a share of the scene's radius."""
NEIGHBOURS = 8
FLAT_NORMALS = 0.9
"""Least length of the mean normal of a neighbourhood that counts as flat."""
FLAT_RESIDUAL = 0.005
"""Largest distance of its points from their plane, as a share of the scene's radius."""
SURE = 0.001
"""Largest sigma of a point that is believed, as a share of the scene's radius: 4 mm in a hall."""
REACH = 0.02
"""Gaussians farther from the cloud are left alone: they show something it lacks. Share of the scene's radius."""
THICKNESS = 0.2
"""Largest standard deviation along the normal, relative to the (geometric) mean of the other two."""
LEAST_THICKNESS = 0.0013
"""What is thinner than this share of the scene's radius is thin enough."""
PULL = 0.3
"""Share of the distance to the plane that a centre loses in a round."""


class SurfacePrior:
    """Flat parts of the shared cloud.

    Args:
        cloud: In the world frame, with normals.
        radius: Of the scene [world units].
    """

    def __init__(self, cloud: PointCloud, radius: float) -> None:
        cells = np.floor(cloud.points.astype(np.float64) / (CELL * radius)).astype(np.int64)
        chosen = np.unique(cells, axis=0, return_index=True)[1]
        points, normals = cloud.points[chosen].astype(np.float64), cloud.normals[chosen].astype(np.float64)
        self._radius = radius
        self._tree = KDTree(points)
        around = np.asarray(self._tree.query(points, min(NEIGHBOURS, len(points)))[1]).reshape(len(points), -1)
        same_side = np.sign(np.einsum("nkd,nd->nk", normals[around], normals))
        mean = (normals[around] * same_side[..., None]).mean(1)
        length = np.linalg.norm(mean, axis=1)
        self._normals = mean / np.maximum(length, 1e-9)[:, None]
        self._centers = points[around].mean(1)
        residual = np.einsum("nkd,nd->nk", points[around] - self._centers[:, None], self._normals)
        self._flat = (length > FLAT_NORMALS) & (np.abs(residual).max(1) < FLAT_RESIDUAL * radius)
        self._flat &= cloud.sigma[chosen] < SURE * radius

    def apply(self, gaussians: Gaussians, first: int = 0) -> None:
        """Lay the Gaussians from index `first` on, those near flat parts, onto them; changed in place."""
        means = gaussians.means[first:].astype(np.float64)
        away, nearest = (np.asarray(values) for values in self._tree.query(means))
        chosen = np.flatnonzero((away < REACH * self._radius) & self._flat[nearest])
        if not len(chosen):
            return
        normals, centers = self._normals[nearest[chosen]], self._centers[nearest[chosen]]
        rows, index = np.arange(len(chosen)), chosen + first

        quaternions = gaussians.quaternions[index].astype(np.float64)
        quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
        axes = matrix_from_quaternion(quaternions)
        log_scales = gaussians.log_scales[index].astype(np.float64)
        along = np.einsum("nij,ni->nj", axes, normals)
        # the axis to turn: close to the normal, and short
        scales = np.exp(log_scales - log_scales.min(1, keepdims=True))
        axis = np.argmax(np.abs(along) / np.sqrt(scales), axis=1)
        towards = axes[rows, :, axis] * np.where(along[rows, axis] < 0, -1.0, 1.0)[:, None]
        gaussians.quaternions[index] = _product(_rotation_between(towards, normals), quaternions)

        width = (log_scales.sum(1) - log_scales[rows, axis]) / 2
        cap = np.maximum(width + np.log(THICKNESS), np.log(LEAST_THICKNESS * self._radius))
        gaussians.log_scales[index, axis] = np.minimum(log_scales[rows, axis], cap)

        height = np.einsum("ni,ni->n", means[chosen] - centers, normals)
        gaussians.means[index] = means[chosen] - (PULL * height)[:, None] * normals


def _rotation_between(a: Array, b: Array) -> Array:
    """Quaternions wxyz (N, 4) of the smallest rotations that turn unit vectors a into b, not opposite to each other."""
    quaternions = np.concatenate([1 + np.einsum("ni,ni->n", a, b)[:, None], np.cross(a, b)], 1)
    return quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)


def _product(a: Array, b: Array) -> Array:
    """Hamilton product of quaternions wxyz (N, 4): first b, then a."""
    scalar = a[:, :1] * b[:, :1] - np.einsum("ni,ni->n", a[:, 1:], b[:, 1:])[:, None]
    vector = a[:, :1] * b[:, 1:] + b[:, :1] * a[:, 1:] + np.cross(a[:, 1:], b[:, 1:])
    return np.concatenate([scalar, vector], 1)
