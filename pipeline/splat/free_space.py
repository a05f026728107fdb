"""Free space that the depth of the training views proves, and Gaussians that float in it.

A view that measures a surface behind a point has seen through it. Floaters are Gaussians in such places: they look
right from the cameras that made them and hang in the air for everybody else.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from pipeline.geometry import Gaussians
from pipeline.splat.views import TrainingView

Float = NDArray[np.float32]

LEVEL = 1
"""Of the views' pyramid: half the training size."""
RELATIVE_MARGIN = 0.03
"""How far behind a point the surface must lie, as a share of its depth, beside three times the depth's tolerance."""
WITNESSES = 3
"""Views that must see through a Gaussian's centre, and more than see a surface there."""
FADE = 0.5
"""Of the opacity of a Gaussian in free space, each time it is found there."""
NEAR = 1e-3
BLOCKS = 32


class FreeSpace:
    """The depth of all training views, asked about points.

    Args:
        views: Those with depth count.
    """

    def __init__(self, views: Sequence[TrainingView]) -> None:
        known = [(view, view.levels[LEVEL].depth) for view in views]
        window = np.ones((3, 3), np.uint8)
        self._maps = [
            (
                view.world_from_camera.inverse().matrix[:3].astype(np.float64),
                view.levels[LEVEL].camera,
                depth.depth,
                # the nearest around, 0 with an unknown neighbour: rims of thin things must not be carved
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

    def votes(self, points: NDArray[np.floating]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """How many views see through points (N, 3) [world], and how many see a surface there: (N,) each."""
        positions = np.ascontiguousarray(points, np.float64)
        votes = np.zeros((2, len(positions)), np.int32)
        for matrix, camera, depth, nearest, tolerance in self._maps:
            intrinsics = np.array([camera.fx, camera.fy, camera.cx, camera.cy])
            _vote(positions, matrix, intrinsics, depth, nearest, tolerance, votes)
        return votes[0], votes[1]

    def looked_at(self, points: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Which points (N,) a view has before it with nothing known to be in front of them: its photo shows them."""
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

    def floating(self, points: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Which points (N,) lie in free space."""
        through, at = self.votes(points)
        return (through >= WITNESSES) & (through > at)


def fade_floaters(gaussians: Gaussians, free: FreeSpace, first: int = 0) -> int:
    """Lower the opacity of Gaussians, from index `first` on, that lie in free space, in place; gives how many.

    Repeated now and then during training it wins against gradients that have no good reason to bring them back; growth
    prunes what has become transparent.
    """
    floating = first + np.flatnonzero(free.floating(gaussians.means[first:]))
    logits = gaussians.opacity_logits[floating].astype(np.float64)
    opacity = FADE / (1 + np.exp(-logits))
    gaussians.opacity_logits[floating] = np.log(opacity / (1 - opacity)).astype(np.float32)
    return len(floating)


@njit(parallel=True, nogil=True, error_model="numpy", cache=True)
def _vote(
    points: NDArray[np.float64],
    camera_from_world: NDArray[np.float64],
    intrinsics: NDArray[np.float64],
    depth: Float,
    nearest_around: Float,
    tolerance: Float,
    votes: NDArray[np.int32],
) -> None:
    """Add one view's votes: seen through, seen there. Scalars only: an array a point would cost more than all else."""
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
