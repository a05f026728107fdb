"""Masked pixels in training: they show something that isn't there in other pictures, and must not pull.

In the loss the splat's picture takes the photo's colours there: no difference, and windows of the structural similarity
that reach in compare equal with equal. What is left of a gradient is cut off.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.splat.supervision import ViewDepth

Float = NDArray[np.float32]
Mask = NDArray[np.bool_]


def hide_masked(planes: Float, photo: NDArray[np.uint8], mask: Mask | None) -> None:
    """Give a rendered picture the photo's colours where the mask ignores it.

    Args:
        planes: (>= 3, h, w) rendered red, green, blue, ...; changed.
        photo: (3, H, W), H <= h and W <= w.
        mask: (H, W), False = ignore; None ignores nothing.
    """
    if mask is not None:
        height, width = mask.shape
        inner = planes[:3, :height, :width]
        np.copyto(inner, photo * np.float32(1 / 255), where=~mask)


def cut_masked(by_planes: Float, mask: Mask | None) -> None:
    """Set a loss's derivative (>= 3, h, w) by the rendered colours to 0 where the mask (H, W) ignores them."""
    if mask is not None:
        height, width = mask.shape
        by_planes[:3, :height, :width] *= mask


def without_masked(depth: ViewDepth | None, mask: Mask | None) -> ViewDepth | None:
    """Measured depth, unknown where the mask ignores the picture: the sensor saw the same passer-by."""
    if depth is None or mask is None:
        return depth
    return ViewDepth(np.where(mask, depth.depth, np.float32(0)), depth.tolerance)


def halved_mask(mask: Mask) -> Mask:
    """At half the size (both sides even); a pixel counts only where all four do."""
    height, width = mask.shape
    return np.asarray(mask.reshape(height // 2, 2, width // 2, 2).all((1, 3)))
