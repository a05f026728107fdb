"""What a depth camera makes of true depths: noise and steps of its disparity, holes at edges, on gloss, out of range.

Disparity is inverse depth but for a factor, so a model in inverse depth holds for every size of image: noise and steps
grow with the square of the depth (K. Khoshelham, S. O. Elberink, Accuracy and resolution of Kinect depth data, Sensors
2012). Depth is lost beside jumps, where the two images of a stereo camera differ (A. Handa et al., A benchmark for
RGB-D visual odometry, 3D reconstruction and SLAM, ICRA 2014), and in patches where something shines.
"""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.geometry.jit import njit, prange
from pipeline.types import F32, Mask
from sim.sensors.cameras.settings import DepthNoise

JUMP = np.float32(0.1)
"""Two surfaces meet where the inverse depth, which is linear on a plane, bends by more than this share in a pixel."""
PATCHES = (6, 8)
"""Rows and columns of the random values between which patches of gloss lie."""


def noisy_depths(depth: F32, noise: DepthNoise, rng: np.random.Generator) -> F32:
    """Depths (M, H, W) [m] as a depth camera measures them, 0 = unknown, of true ones."""
    drawn = rng.standard_normal(depth.shape, np.float32) * np.float32(noise.noise)
    lost = rng.random(depth.shape, np.float32)
    found = np.zeros_like(depth)
    _measure(depth, drawn, lost, noise.step, *noise.range, noise.edge_loss, found)
    if noise.gloss:
        found[_glossy(depth.shape, noise.gloss, rng)] = 0
    return found


def _glossy(shape: tuple[int, ...], share: float, rng: np.random.Generator) -> Mask:
    """Patches (M, H, W) that cover a share of each image in the mean."""
    count, height, width = shape
    coarse = rng.random((count, *PATCHES), np.float32)
    smooth = np.stack([cv2.resize(one, (width, height), interpolation=cv2.INTER_CUBIC) for one in coarse])
    return smooth > np.quantile(smooth, 1 - share)


@njit(nogil=True, error_model="numpy", cache=True, inline="always")
def _bent(depth: F32, i: int, j: int) -> bool:
    """Whether a pixel is beside a jump of the depth, along its row or its column; what is unknown is far away."""
    height, width = depth.shape
    middle = 2 / depth[i, j]
    for di, dj in ((0, 1), (1, 0)):
        if di <= i < height - di and dj <= j < width - dj:
            before, after = depth[i - di, j - dj], depth[i + di, j + dj]
            sides = (1 / before if before > 0 else 0.0) + (1 / after if after > 0 else 0.0)
            if abs(sides - middle) > JUMP * middle / 2:
                return True
    return False


@njit(nogil=True, error_model="numpy", cache=True, parallel=True)
def _measure(
    depth: F32, drawn: F32, lost: F32, step: float, near: float, far: float, edge_loss: float, found: F32
) -> None:
    count, height, width = depth.shape
    for b in prange(count):
        for i in range(height):
            for j in range(width):
                z = depth[b, i, j]
                if z <= 0 or z < near or z > far:
                    continue
                if lost[b, i, j] < edge_loss and _bent(depth[b], i, j):
                    continue
                inverse = 1 / z + drawn[b, i, j]
                if step > 0:
                    inverse = step * np.round(inverse / step)
                if inverse > 0 and near <= 1 / inverse <= far:
                    found[b, i, j] = 1 / inverse
