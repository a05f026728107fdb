"""What depth and cloud prove of a scene, imposed on the Gaussians at intervals while they train.

Seen from the camera path alone, a floor of sticks along the viewing rays looks like a floor of tiles. Three priors take
that freedom away:

- surfaces (`SurfacePrior`): where the cloud is locally flat, Gaussians are flattened onto the surface. This is a
  projection, not a loss: no weight to balance against images, no gradient through a sorted depth. The aim is that of
  2DGS (B. Huang et al., SIGGRAPH 2024, section 4) and PGSR (D. Chen et al., 2024, section 3.1): planar Gaussians;
- free space (`FreeSpace`): a view that measures a surface behind a point has seen through it. Gaussians there fade, and
  so do those that are behind a surface in every view: below a floor they would shine through it, and be veils before
  robots' cameras, which come nearer to it than those of the capture;
- hidden sides: nobody saw what lies behind inpainted backs, so trained Gaussians there are cleared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from scipy.spatial import KDTree

from pipeline.geometry import (
    Gaussians,
    PointCloud,
    logit,
    matrix_from_quaternion,
    quaternion_product,
    quaternions_between,
    sigmoid,
)
from pipeline.geometry.jit import njit, prange
from pipeline.splat.antialiasing import bound_extent
from pipeline.splat.views import TrainingView
from pipeline.types import F32, F64, I32, Floats, Mask

FREE_SPACE_LEVEL = 1
"""Level of the views' image pyramid: half the training size."""
RELATIVE_MARGIN = 0.03
"""How far behind a point the surface must lie, as a share of its depth, on top of three times the depth's tolerance."""
WITNESSES = 3
"""Views that must see through a Gaussian's centre, and be more than those that see a surface there; or that must see a
surface close before it, where no view sees as far."""
VEIL = 0.1
"""How far behind a surface a Gaussian may lie to be found behind it, as a share of its depth: what mirrors show lies
farther."""
FADE = 0.5
"""Factor of the opacity of a Gaussian each time it is found in free space, or behind all surfaces."""
NEAR = 1e-3
"""Points closer to a camera plane are not judged by its view [world units]."""
BLOCKS = 32
"""Fixed shares of the work, so that nothing depends on the number of threads."""

CELL = 0.005
"""Spacing of the cloud's points that are looked at, as a share of the scene's radius."""
FLAT_NEIGHBOURS = 8
"""Points of a neighbourhood that is tested for flatness."""
FLAT_NORMALS = 0.9
"""Lower bound of the mean normal's length in a neighbourhood that counts as flat."""
FLAT_RESIDUAL = 0.005
"""Largest distance of its points from their plane, as a share of the scene's radius."""
MAX_SURFACE_SIGMA = 0.001
"""Largest sigma of a point that is believed, as a share of the scene's radius: 4 mm in a hall. Depth that is coarser
than what the images tell leaves Gaussians alone."""
REACH = 0.02
"""Gaussians farther from the cloud are left alone: they show something it lacks. Share of the scene's radius."""
THICKNESS = 0.2
"""Largest standard deviation along the normal, relative to the (geometric) mean of the other two."""
MIN_THICKNESS = 0.0013
"""Lower bound of the thickness that is asked for, as a share of the scene's radius."""
PULL = 0.3
"""Share of the distance to the plane by which a centre moves towards it in a round."""

BACK_SPACING = 0.012
"""Distance between the discs of an inpainted back, as a share of the typical distance from a camera to what it sees."""
HIDDEN_NEIGHBOURS = 6
"""Discs that a Gaussian is compared with."""
HIDDEN_DEPTH = 0.1
"""How far behind a disc Gaussians are cleared, as a share of the typical distance."""
HIDDEN_WIDTH = 2 * BACK_SPACING
"""How far from a disc's axis Gaussians are cleared, as a share of the typical distance."""
SUPPORT = 0.01
"""Gaussians nearer to the cloud than this share are kept: the legs of a table are behind its top."""
CLEARED = -9.0
"""Opacity logit of cleared Gaussians; densification prunes them."""


class FreeSpace:
    """The free space that the depth of all training views proves."""

    def __init__(self, views: Sequence[TrainingView]) -> None:
        known = [(view, view.levels[FREE_SPACE_LEVEL].depth) for view in views]
        window = np.ones((3, 3), np.uint8)
        self._maps = [
            (
                view.world_from_camera.inverse().matrix[:3].astype(np.float64),
                view.levels[FREE_SPACE_LEVEL].camera,
                depth.depth,
                # the nearest around, 0 with an unknown neighbour: rims of thin objects must not be carved
                np.asarray(cv2.erode(depth.depth, window, borderType=cv2.BORDER_REPLICATE), np.float32),
                depth.tolerance,
            )
            for view, depth in known
            if depth is not None
        ]

    def __len__(self) -> int:
        return len(self._maps)

    @property
    def typical_depth(self) -> float:
        """Median over the views of their median depth [world units]."""
        medians = [np.median(depth[depth > 0]) for _, _, depth, _, _ in self._maps if (depth > 0).any()]
        return float(np.median(medians)) if medians else 0.0

    def votes(self, points: Floats) -> tuple[I32, I32, I32]:
        """Numbers of views that see through points (N, 3) [world], see a surface there, and one close before: (N,)."""
        positions = np.ascontiguousarray(points, np.float64)
        votes = np.zeros((3, len(positions)), np.int32)
        for matrix, camera, depth, nearest, tolerance in self._maps:
            intrinsics = np.array([camera.fx, camera.fy, camera.cx, camera.cy])
            _vote(positions, matrix, intrinsics, depth, nearest, tolerance, votes)
        return votes[0], votes[1], votes[2]

    def looked_at(self, points: Floats) -> Mask:
        """Which points (N,) a view has in front of it with nothing known to cover them: its photo shows them."""
        looked = np.zeros(len(points), bool)
        for matrix, camera, depth, _, tolerance in self._maps:
            local = np.asarray(points, np.float64) @ matrix[:, :3].T + matrix[:, 3]
            ahead = np.flatnonzero(local[:, 2] > NEAR)
            column, row = np.floor(camera.project(local[ahead])).astype(np.int64).T
            inside = (row >= 0) & (row < camera.height) & (column >= 0) & (column < camera.width)
            ahead, row, column = ahead[inside], row[inside], column[inside]
            measured, z = depth[row, column], local[ahead, 2]
            hidden = (measured > 0) & (measured < z - RELATIVE_MARGIN * z - 3 * tolerance[row, column])
            looked[ahead[~hidden]] = True
        return looked

    def floating(self, points: Floats) -> Mask:
        """Which points (N,) lie in free space."""
        through, at, _ = self.votes(points)
        return (through >= WITNESSES) & (through > at)

    def without_floaters(self, gaussians: Gaussians, first: int = 0) -> Gaussians:
        """The Gaussians, with a lower opacity of those, from index `first` on, in free space or behind all surfaces."""
        through, at, before = self.votes(gaussians.means[first:])
        floating, buried = (through >= WITNESSES) & (through > at), (before >= WITNESSES) & (through + at == 0)
        wrong = first + np.flatnonzero(floating | buried)
        logits = gaussians.opacity_logits.copy()
        logits[wrong] = logit(FADE * sigmoid(logits[wrong].astype(np.float64)))
        return replace(gaussians, opacity_logits=logits)


class SurfacePrior:
    """Flat parts of the shared cloud [world frame, with normals] of a scene of this radius [world units]."""

    def __init__(self, cloud: PointCloud, radius: float) -> None:
        cells = np.floor(cloud.points.astype(np.float64) / (CELL * radius)).astype(np.int64)
        chosen = np.unique(cells, axis=0, return_index=True)[1]
        points, normals = cloud.points[chosen].astype(np.float64), cloud.normals[chosen].astype(np.float64)
        self._radius = radius
        self._tree = KDTree(points)
        around = np.asarray(self._tree.query(points, min(FLAT_NEIGHBOURS, len(points)), workers=-1)[1]).reshape(
            len(points), -1
        )
        same_side = np.sign(np.einsum("nkd,nd->nk", normals[around], normals))
        mean = (normals[around] * same_side[..., None]).mean(1)
        length = np.linalg.norm(mean, axis=1)
        self._normals = mean / np.maximum(length, 1e-9)[:, None]
        self._centers = points[around].mean(1)
        residual = np.einsum("nkd,nd->nk", points[around] - self._centers[:, None], self._normals)
        self._flat = (length > FLAT_NORMALS) & (np.abs(residual).max(1) < FLAT_RESIDUAL * radius)
        self._flat &= cloud.sigma[chosen] < MAX_SURFACE_SIGMA * radius

    def flattened(self, gaussians: Gaussians, first: int = 0) -> Gaussians:
        """The Gaussians, with those from index `first` on that are near flat parts flattened onto them.

        The shortest axis is rotated onto the normal, the thickness is bounded relative to the width, and the centre
        moves towards the plane.
        """
        means = gaussians.means[first:].astype(np.float64)
        away, nearest = (np.asarray(values) for values in self._tree.query(means, workers=-1))
        chosen = np.flatnonzero((away < REACH * self._radius) & self._flat[nearest])
        if not len(chosen):
            return gaussians
        normals, centers = self._normals[nearest[chosen]], self._centers[nearest[chosen]]
        rows, index = np.arange(len(chosen)), chosen + first

        quaternions = gaussians.quaternions[index].astype(np.float64)
        quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
        axes = matrix_from_quaternion(quaternions)
        log_scales = gaussians.log_scales[index].astype(np.float64)
        along = np.einsum("nij,ni->nj", axes, normals)
        # the axis to rotate: close to the normal, and short
        scales = np.exp(log_scales - log_scales.min(1, keepdims=True))
        axis = np.argmax(np.abs(along) / np.sqrt(scales), axis=1)
        towards = axes[rows, :, axis] * np.where(along[rows, axis] < 0, -1.0, 1.0)[:, None]
        new_means, new_scales, new_quaternions = (
            array.copy() for array in (gaussians.means, gaussians.log_scales, gaussians.quaternions)
        )
        new_quaternions[index] = quaternion_product(quaternions_between(towards, normals), quaternions)

        width = (log_scales.sum(1) - log_scales[rows, axis]) / 2
        cap = np.maximum(width + np.log(THICKNESS), np.log(MIN_THICKNESS * self._radius))
        new_scales[index, axis] = np.minimum(log_scales[rows, axis], cap)

        height = np.einsum("ni,ni->n", means[chosen] - centers, normals)
        new_means[index] = means[chosen] - (PULL * height)[:, None] * normals
        return replace(gaussians, means=new_means, log_scales=new_scales, quaternions=new_quaternions)


class Priors:
    """Surfaces are flat, free space is empty, nothing lies behind inpainted discs.

    The third axes of `inpainted` discs point to the side that photos show; for the others see `SurfacePrior`.
    """

    def __init__(self, cloud: PointCloud, free: FreeSpace, radius: float, inpainted: Gaussians) -> None:
        self._surface, self._free = SurfacePrior(cloud, radius), free
        self._distance = free.typical_depth
        self._centers = inpainted.means.astype(np.float64)
        if len(inpainted):
            quaternions = inpainted.quaternions / np.linalg.norm(inpainted.quaternions, axis=1, keepdims=True)
            self._normals = matrix_from_quaternion(quaternions)[:, :, 2]
            self._discs, self._cloud = KDTree(self._centers), KDTree(cloud.points)

    def apply(self, gaussians: Gaussians, first: int) -> Gaussians:
        """The Gaussians, with the priors imposed on those from index `first` on."""
        gaussians = self._surface.flattened(gaussians, first)
        if len(self._free):
            gaussians = self._free.without_floaters(gaussians, first)
        return self._cleared(gaussians, first) if len(self._centers) else gaussians

    def _cleared(self, gaussians: Gaussians, first: int) -> Gaussians:
        """The Gaussians, with those from index `first` on that lie behind inpainted discs made transparent."""
        means = gaussians.means[first:].astype(np.float64)
        reach = self._distance * float(np.hypot(HIDDEN_DEPTH, HIDDEN_WIDTH))
        near = np.flatnonzero(np.asarray(self._discs.query(means, distance_upper_bound=reach, workers=-1)[0]) < reach)
        if not len(near):
            return gaussians
        count = min(HIDDEN_NEIGHBOURS, len(self._centers))
        nearest = np.asarray(self._discs.query(means[near], count, workers=-1)[1]).reshape(len(near), -1)
        offset = means[near, None] - self._centers[nearest]
        height = np.einsum("nkd,nkd->nk", offset, self._normals[nearest])
        from_axis = np.linalg.norm(offset - height[..., None] * self._normals[nearest], axis=2)
        behind = (height < 0) & (height > -HIDDEN_DEPTH * self._distance) & (from_axis < HIDDEN_WIDTH * self._distance)
        supported = np.asarray(self._cloud.query(means[near], workers=-1)[0]) < SUPPORT * self._distance
        logits = gaussians.opacity_logits.copy()
        logits[first + near[behind.any(1) & ~supported]] = CLEARED
        return replace(gaussians, opacity_logits=logits)


@njit(parallel=True, nogil=True, error_model="numpy", cache=True)
def _vote(
    points: F64, camera_from_world: F64, intrinsics: F64, depth: F32, nearest_around: F32, tolerance: F32, votes: I32
) -> None:
    """Add one view's votes: seen through, seen there, close behind. Scalars only: arrays would cost most of all."""
    height, width = depth.shape
    m = camera_from_world
    fx, fy, cx, cy = intrinsics[0], intrinsics[1], intrinsics[2], intrinsics[3]
    for block in prange(BLOCKS):
        for n in range(block * len(points) // BLOCKS, (block + 1) * len(points) // BLOCKS):
            x, y, z = points[n, 0], points[n, 1], points[n, 2]
            ahead = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3]
            if ahead < NEAR:
                continue
            u = fx * (m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3]) / ahead + cx
            v = fy * (m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3]) / ahead + cy
            if not (u >= 0 and u < width and v >= 0 and v < height):
                continue
            row, column = int(v), int(u)
            margin = RELATIVE_MARGIN * ahead + 3 * tolerance[row, column]
            if nearest_around[row, column] > ahead + margin:
                votes[0, n] += 1
            elif depth[row, column] > 0 and abs(depth[row, column] - ahead) <= margin:
                votes[1, n] += 1
            elif (1 - VEIL) * ahead < depth[row, column] < ahead:
                votes[2, n] += 1


def imposed(gaussians: Gaussians, priors: Priors | None, views: Sequence[TrainingView], fixed: int) -> Gaussians:
    """The Gaussians under the priors, and as wide as the views could show; the first `fixed` stay as they are."""
    if priors is not None:
        gaussians = priors.apply(gaussians, fixed)
    return bound_extent(gaussians, views, fixed) if gaussians.antialiased else gaussians
