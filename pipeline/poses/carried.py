"""What the camera carries with it: its operator's hand, a robot's body, a car's hood, a logo.

Its edges stay where they are in the picture while the poses turn. A pixel's edge votes by pairs of pictures whose
turn would have taken it away, across its own direction; lines along which the camera moves give no vote that way.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.poses.parallax import Still, pixel_grid

Mask = NDArray[np.bool_]

PARTNERS = 4
"""Each picture is compared with so many others, spread over the whole capture."""
LEAST_SLOPE = 3.0
"""An edge is at least so steep [grey levels of 255 a pixel]."""
LEAST_SHIFT = 4.0
"""An edge votes where the turn would have moved it by so much [px]."""
SAME = 0.5
"""It stayed where its gradient changed by less than this share."""
LEAST_VOTES, STAYS = 8, 0.6
"""A pixel is carried when of at least so many votes this share says that it stays."""


def carried(stills: Sequence[Still]) -> Mask:
    """Edges that stay in the picture.

    Args:
        stills: Pictures of one size and one camera, in the capture's order.

    Returns:
        (H, W), True on edges that are carried along; pixels between them are not decided here.
    """
    count, shape = len(stills), stills[0].grey.shape
    slopes = [_slope(still) for still in stills]
    votes, stays = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    for i, still in enumerate(stills):
        own = slopes[i]
        steep = np.linalg.norm(own, axis=-1)
        for j in sorted({(i + k * count // (PARTNERS + 1)) % count for k in range(1, PARTNERS + 1)} - {i}):
            across = np.abs((_turned_by(still, stills[j]) * own).sum(-1))
            asked = (steep > LEAST_SLOPE) & (across > LEAST_SHIFT * steep)
            votes += asked
            stays += asked & (np.linalg.norm(own - slopes[j], axis=-1) < SAME * steep)
    return (votes >= LEAST_VOTES) & (stays >= STAYS * votes)


def _slope(still: Still) -> NDArray[np.float32]:
    """The picture's gradient (H, W, 2) [grey levels a pixel], smoothed; 0 where its mask ignores it."""
    smooth = cv2.GaussianBlur(still.grey.astype(np.float32), (0, 0), 1.5)
    slope = np.stack(
        [cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=1 / 8)], -1
    )
    return np.asarray(slope if still.mask is None else slope * still.mask[..., None], np.float32)


def _turned_by(still: Still, other: Still) -> NDArray[np.float32]:
    """How far (H, W, 2) [px] the turn between two pictures moves what is far off; very far where it leaves the view."""
    turn = other.camera.matrix @ other.world_from_camera.rotation.T @ still.world_from_camera.rotation
    place = pixel_grid(still.grey.shape)
    rays = (still.camera.rays(place + np.float32(0.5)) @ turn.T).astype(np.float32)
    ahead = rays[..., 2:] > 0.1
    shift = rays[..., :2] / np.where(ahead, rays[..., 2:], 1) - place - np.float32(0.5)
    return np.where(ahead, shift, np.float32(1e3))
