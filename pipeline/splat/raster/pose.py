"""The gradient by the camera's pose, from the gradients by the Gaussians.

Moving the camera is moving all Gaussians the other way. Turning it about its centre is turning their means and own axes
the other way about that centre, except that the directions in which they are seen, and so their colours, stay: what a
view-dependent colour pulls at a mean has no part in the rotation's gradient.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from pipeline.geometry import Gaussians
from pipeline.splat.raster.harmonics import C0, direction_gradient
from pipeline.splat.raster.layout import HALF, ONE, ZERO
from pipeline.splat.raster.rasterizer import Gradients, Raster

Float = NDArray[np.float32]

BLOCKS = 32
"""Fixed shares of the work, so that the sums don't depend on the number of threads."""


def pose_gradient(raster: Raster, gaussians: Gaussians, gradients: Gradients) -> NDArray[np.float64]:
    """Derivative of the loss by a small motion of the camera.

    The motion is a twist (w, t) in the camera's own axes: `world_from_camera @ Pose(matrix_from_rotvec(w), t)`.

    Args:
        raster: Of `rasterize`.
        gaussians: That it was made of.
        gradients: Of `rasterize_backward`.

    Returns:
        (6,) float64: by the rotation w [loss / rad], by the translation t [loss / world unit].
    """
    blocks = _pose_gradient_blocks(
        gradients.visible,
        gaussians.means,
        gaussians.quaternions,
        gaussians.sh,
        raster.sh_count,
        raster.view.center,
        gradients.means,
        gradients.quaternions,
        gradients.sh,
    )
    camera_from_world = raster.view.rotation.astype(np.float64)
    return (blocks.sum(0).reshape(2, 3) @ camera_from_world.T).ravel()


@njit(parallel=True, fastmath=True, nogil=True, cache=True, error_model="numpy")
def _pose_gradient_blocks(
    visible: NDArray[np.int32],
    means: Float,
    quaternions: Float,
    sh: Float,
    sh_count: int,
    center: Float,
    by_means: Float,
    by_quaternions: Float,
    by_sh: Float,
) -> NDArray[np.float64]:
    """(BLOCKS, 6) sums: by the camera's rotation about its centre and by its translation, both in world axes."""
    count = visible.shape[0]
    sums = np.zeros((BLOCKS, 6))
    for block in prange(BLOCKS):
        by_xyz = np.empty((16, 3), np.float32)
        color = np.empty(3, np.float32)
        through_color = np.empty(3, np.float32)
        total = sums[block]
        for v in range(block * count // BLOCKS, (block + 1) * count // BLOCKS):
            n = visible[v]
            x, y, z = means[n, 0] - center[0], means[n, 1] - center[1], means[n, 2] - center[2]
            inverse_distance = ONE / np.sqrt(x * x + y * y + z * z)
            for axis in range(3):
                color[axis] = by_sh[n, 0, axis] / C0
                through_color[axis] = ZERO
            direction_gradient(
                sh_count,
                x * inverse_distance,
                y * inverse_distance,
                z * inverse_distance,
                inverse_distance,
                by_xyz,
                sh[n],
                color,
                through_color,
            )
            gx = by_means[n, 0] - through_color[0]
            gy = by_means[n, 1] - through_color[1]
            gz = by_means[n, 2] - through_color[2]
            # a rotation by w changes a quaternion by half of (0, w) times it
            a, b, c, d = quaternions[n, 0], quaternions[n, 1], quaternions[n, 2], quaternions[n, 3]
            ga, gb, gc, gd = by_quaternions[n, 0], by_quaternions[n, 1], by_quaternions[n, 2], by_quaternions[n, 3]
            total[0] -= y * gz - z * gy + HALF * (-ga * b + gb * a - gc * d + gd * c)
            total[1] -= z * gx - x * gz + HALF * (-ga * c + gb * d + gc * a - gd * b)
            total[2] -= x * gy - y * gx + HALF * (-ga * d - gb * c + gc * b + gd * a)
            for axis in range(3):
                total[3 + axis] -= by_means[n, axis]
    return sums
