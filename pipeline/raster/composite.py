"""Images of Gaussians put together by depth: things in front of a scene."""

from __future__ import annotations

import numpy as np

from pipeline.geometry.jit import njit, prange
from pipeline.types import F32, I64

BEHIND, RAMP = np.float32(0.02), np.float32(0.04)
"""A thing is drawn half where the scene is nearer by the first, and more or less over the second [m]: depths of splats
are uneven, and things stand on the scene."""
FAINT = np.float32(0.05)
"""Least opacity with which a thing has a depth."""


@njit(parallel=True, cache=True, nogil=True, error_model="numpy")
def draw_over(rgb: F32, depth: F32, images: I64, thing_rgb: F32, thing_alpha: F32, thing_depth: F32) -> None:
    """Draw things into some images (M,) of B where they are in front; changes colours and depths in place.

    Colours (B, H, W, 3) and depths (B, H, W) along the camera's z [m], 0 = unknown. The things' colours (M, H, W, 3)
    are multiplied by their opacity (M, H, W); their depths are those that `Rendering` expects.
    """
    count, height, width = thing_depth.shape
    for m in prange(count):
        b = images[m]
        for row in range(height):
            for column in range(width):
                near, behind = thing_depth[m, row, column], depth[b, row, column]
                opacity = thing_alpha[m, row, column]
                if opacity < FAINT or near <= 0:
                    continue
                share = np.float32(1)
                if behind > 0:
                    share = min(max((behind - near + BEHIND) / RAMP + np.float32(0.5), np.float32(0)), np.float32(1))
                if share * opacity > np.float32(0.5):
                    depth[b, row, column] = near
                for channel in range(3):
                    old = rgb[b, row, column, channel]
                    rgb[b, row, column, channel] = old + share * (thing_rgb[m, row, column, channel] - opacity * old)
