"""Each photo's own exposure and white balance, as one gain a channel.

A camera with automatic exposure takes the same wall in different colours; without gains training fits the contradiction
with view-dependent colour and floaters. The gains are not part of the splat, which shows the photos' mean exposure.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]

STEP = 0.3
"""Share of the way to a view's newly measured gain."""
SATURATED, DARK = 250, 5
"""Photo values beyond tell nothing about the gain."""
LARGEST_GAIN = 2.0


class Exposure:
    """Gains by which photos are multiplied before they are compared; their geometric mean stays 1 in each channel.

    Args:
        views: How many photos there are.
    """

    def __init__(self, views: int) -> None:
        self._log_gains = np.zeros((views, 3))

    def gains(self, view: int) -> Float:
        """The view's gains (3,) for red, green, blue."""
        return np.exp(self._log_gains[view]).astype(np.float32)

    def measure(self, view: int, planes: Float, photo: NDArray[np.uint8]) -> None:
        """Move a view's gains towards those with which its photo has the rendered picture's brightness.

        Args:
            view: Its index.
            planes: (>= 3, h, w) float32, rendered red, green, blue.
            photo: (3, H, W) uint8; h, w may be larger.
        """
        height, width = photo.shape[1:]
        usable = ((photo > DARK) & (photo < SATURATED)).all(0)
        if usable.mean() < 0.2:
            return
        rendered = planes[:3, :height, :width][:, usable].astype(np.float64).clip(1e-3)
        ratio = rendered.sum(1) / (photo[:, usable] / 255).sum(1)
        wanted = np.log(np.clip(ratio, 1 / LARGEST_GAIN, LARGEST_GAIN))
        change = STEP * (wanted - self._log_gains[view])
        self._log_gains[view] += change
        self._log_gains -= change / len(self._log_gains)
