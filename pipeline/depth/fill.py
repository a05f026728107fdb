"""Depth for patches without texture, guessed from the plane that their known pixels lie on."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

FLAT_CONTRAST = 10
"""A pixel is flat when grey values differ by no more than this in the window round it: matching finds nothing there."""
WINDOW = 7
MIN_AREA, MIN_KNOWN = 200, 64
"""Smaller patches [px] are left alone, and patches with fewer known pixels."""
INLIER, MIN_INLIERS = 0.01, 0.7
"""A patch is a plane when this share of its known inverse depths is this close to it."""
MAX_REACH = 3.0
"""How far beyond the known pixels the plane is believed, in their own standard deviations."""
GUESS_SIGMA = 0.005
"""Relative one sigma of a guess amid known pixels; grows with the square of the reach."""
_ROUNDS = 6


@dataclass(frozen=True, eq=False)
class Filling:
    """Guessed pixels.

    Attributes:
        mask: (H, W) bool, which pixels.
        inverse_depth: (H, W) float32 there.
        slope_x: (H, W) float32, its change per pixel along x.
        slope_y: (H, W) float32, its change per pixel along y.
        relative_sigma: (H, W) float32, one sigma as a share of the depth.
    """

    mask: NDArray[np.bool_]
    inverse_depth: NDArray[np.float32]
    slope_x: NDArray[np.float32]
    slope_y: NDArray[np.float32]
    relative_sigma: NDArray[np.float32]


def flat_pixels(gray: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which pixels (H, W) have no contrast in the window round them."""
    window = np.ones((WINDOW, WINDOW), np.uint8)
    return (cv2.dilate(gray, window).astype(np.int16) - cv2.erode(gray, window)) <= FLAT_CONTRAST


def fill_flat_patches(gray: NDArray[np.uint8], inverse_depth: NDArray[np.float32]) -> Filling:
    """Guess the unknown pixels of flat patches that lie on one plane as far as they are known.

    A patch is a connected set of pixels without contrast, widened by half a window. Its plane (inverse depth linear in
    the pixel) is a least-squares fit with Cauchy weights to the pixels known; a patch that is not a plane, or nearly
    unknown, stays as it is.

    Args:
        gray: (H, W) picture.
        inverse_depth: (H, W), 0 = unknown.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats(flat_pixels(gray).astype(np.uint8), connectivity=4)
    patches = cv2.dilate(labels.astype(np.float32), np.ones((WINDOW, WINDOW), np.uint8)).astype(np.int32)
    filling = Filling(np.zeros(gray.shape, bool), *(np.zeros(gray.shape, np.float32) for _ in range(4)))
    margin = WINDOW // 2
    for patch in range(1, count):
        left, top, width, height, area = stats[patch]
        if area < MIN_AREA:
            continue
        box = (
            slice(max(top - margin, 0), top + height + margin),
            slice(max(left - margin, 0), left + width + margin),
        )
        _fill_patch(filling, box, patches[box] == patch, inverse_depth[box])
    return filling


def _fill_patch(
    filling: Filling, box: tuple[slice, slice], inside: NDArray[np.bool_], inverse_depth: NDArray[np.float32]
) -> None:
    known = inside & (inverse_depth > 0)
    unknown = inside & ~known
    if known.sum() < MIN_KNOWN or not unknown.any():
        return
    y, x = np.nonzero(known)
    positions = np.stack([x, y], 1).astype(np.float64)
    middle = positions.mean(0)
    spread = np.cov((positions - middle).T) + np.eye(2)
    design = np.column_stack([np.ones(len(x)), positions - middle])
    target = inverse_depth[known].astype(np.float64)
    typical = np.median(target)
    plane = np.array([typical, 0.0, 0.0])
    for _ in range(_ROUNDS):
        residual = (target - design @ plane) / (INLIER * typical)
        weight = 1 / (1 + residual**2)
        plane = np.linalg.solve((design * weight[:, None]).T @ design, (design * weight[:, None]).T @ target)
    inliers = np.abs(target - design @ plane) < INLIER * np.abs(design @ plane)
    if inliers.mean() < MIN_INLIERS:
        return
    y, x = np.nonzero(unknown)
    offsets = np.stack([x, y], 1) - middle
    reach = np.einsum("ni,ij,nj->n", offsets, np.linalg.inv(spread), offsets)
    guess = plane[0] + offsets @ plane[1:]
    believed = (reach < MAX_REACH**2) & (guess > 0.5 * target.min()) & (guess < 2 * target.max())
    y, x = y[believed] + box[0].start, x[believed] + box[1].start
    filling.mask[y, x] = True
    filling.inverse_depth[y, x] = guess[believed]
    filling.slope_x[y, x], filling.slope_y[y, x] = plane[1], plane[2]
    filling.relative_sigma[y, x] = GUESS_SIGMA * (1 + reach[believed])
