"""How alike two images from different places would be if what they show were nearer or farther than level ground is.

What stands out of the ground moves otherwise than the ground does between two images, whatever its paint: plane and
parallax, M. Irani and P. Anandan, ECCV 1996; as a cost volume, R. Collins, CVPR 1996.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.geometry import Camera
from pipeline.geometry.jit import njit, prange
from pipeline.types import F32, F64, U8, Mask

FARTHER = np.exp(np.linspace(-0.72, 0.72, 7)).astype(np.float32)
"""Depths over those of level ground that are tried."""
UNSEEN = -1.0
"""In place of how different images are, where one of them doesn't show it."""
MOST = 2.0
"""Greater differences are alike."""


@dataclass(frozen=True, eq=False)
class Before:
    """Images that N cameras took before, somewhere else.

    Attributes:
        colors: (N, 2H, 2W, 3).
        before_from_camera: (N, 4, 4) from the cameras now.
        known: (N,) where there are any.
    """

    colors: U8
    before_from_camera: F64
    known: Mask

    def __getitem__(self, rows: slice) -> Before:
        """The chosen ones."""
        return Before(self.colors[rows], self.before_from_camera[rows], self.known[rows])


def unlike(grey: F32, grey_before: F32, depth: F32, lens: Camera, before_from_camera: F64, known: Mask) -> F32:
    """Differences (N, H, W, K) of greys (N, 2H, 2W) from those before, each the mean of four pixels.

    At depths (N, 2H, 2W) [m] times each of `FARTHER`.
    """
    found = np.full((len(grey), lens.height // 2, lens.width // 2, len(FARTHER)), UNSEEN, np.float32)
    focal = np.array([lens.fx, lens.fy, lens.cx, lens.cy])
    _compare(grey, grey_before, depth, focal, before_from_camera, known, found)
    return found


@njit(parallel=True, cache=True, nogil=True)
def _compare(grey: F32, before: F32, depth: F32, lens: F64, poses: F64, known: Mask, found: F32) -> None:
    fx, fy, cx, cy = lens
    rows, columns = grey.shape[1:]
    for n in prange(len(grey)):
        if not known[n]:
            continue
        pose = poses[n]
        total, count = (
            np.zeros((rows // 2, columns // 2, len(FARTHER))),
            np.zeros((rows // 2, columns // 2, len(FARTHER))),
        )
        for row in range(rows):
            for column in range(columns):
                x, y = (column + 0.5 - cx) / fx, (row + 0.5 - cy) / fy
                u = pose[0, 0] * x + pose[0, 1] * y + pose[0, 2]
                v = pose[1, 0] * x + pose[1, 1] * y + pose[1, 2]
                w = pose[2, 0] * x + pose[2, 1] * y + pose[2, 2]
                for k in range(len(FARTHER)):
                    far = depth[n, row, column] * FARTHER[k]
                    z = far * w + pose[2, 3]
                    if z <= 0:
                        continue
                    i = fy * (far * v + pose[1, 3]) / z + cy - 0.5
                    j = fx * (far * u + pose[0, 3]) / z + cx - 0.5
                    if not (0 <= i < rows - 1 and 0 <= j < columns - 1):
                        continue
                    a, b = int(i), int(j)
                    s, t = i - a, j - b
                    upper = (1 - t) * before[n, a, b] + t * before[n, a, b + 1]
                    lower = (1 - t) * before[n, a + 1, b] + t * before[n, a + 1, b + 1]
                    total[row // 2, column // 2, k] += abs((1 - s) * upper + s * lower - grey[n, row, column])
                    count[row // 2, column // 2, k] += 1
        for i in range(rows // 2):
            for j in range(columns // 2):
                for k in range(len(FARTHER)):
                    if count[i, j, k]:
                        found[n, i, j, k] = min(total[i, j, k] / count[i, j, k], MOST)
