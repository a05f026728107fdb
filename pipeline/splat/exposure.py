"""Exposure and white balance of every view: how much brighter than the splat each channel of its photo is.

A camera that adapts its exposure shows the same wall in different brightness. Without a gain for each view the
Gaussians imitate that with view-dependent colour and with mist before the lens. The gain is the least-squares factor
between the rendered picture and the photo, found anew whenever the view is trained on; no learning rate, no gradient.

What is common to neighbouring views in time stays in the splat: a camera between them saw it too. Only how a view
departs from its neighbours is taken out, so the splat as it is shows what the camera would have recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.splat.views import TrainingView

Float = NDArray[np.float32]

MEMORY = 0.7
"""Share of the old estimate that a new one keeps."""
TRUST = 0.01
"""Of the picture's mean square: how strongly a gain is held at 1."""
SATURATED = 250
"""Photo values from here on say nothing about exposure."""
STRIDE = 2
"""Of rows and columns: three numbers don't need every pixel."""
MAX_LOG_GAIN = 0.7
"""Gains stay within a factor of two."""
TREND = 2.0
"""Standard deviation of the window in which gains are common [views]."""


@dataclass(eq=False)
class Exposures:
    """Gain of each channel of each view.

    Attributes:
        gains: (views, 3) float32, photo relative to the splat.
    """

    gains: Float

    @classmethod
    def start(cls, views: Sequence[TrainingView]) -> Exposures:
        """As the views say."""
        return cls(np.stack([view.gain for view in views]).astype(np.float32))

    def observe(
        self, index: int, rendered: Float, photo: NDArray[np.uint8], mask: NDArray[np.bool_] | None = None
    ) -> None:
        """Estimate a view's gain from what the splat shows of it.

        Args:
            index: Of the view.
            rendered: (3, H, W) without gain.
            photo: (3, H, W).
            mask: (H, W), False where the photo is to be ignored.
        """
        target = photo[:, ::STRIDE, ::STRIDE].astype(np.float32)
        weight = (target < SATURATED).astype(np.float32)
        if mask is not None:
            weight *= mask[::STRIDE, ::STRIDE]
        rendered = np.clip(rendered[:, ::STRIDE, ::STRIDE], 0, 1)
        weighted = weight * rendered
        square = np.einsum("chw,chw->c", weighted, rendered)
        product = np.einsum("chw,chw->c", weighted, target) / 255
        held = TRUST * square.mean() + 1e-6
        found = np.log(np.maximum((product + held) / (square + held), 1e-3))
        blended = MEMORY * np.log(self.gains[index]) + (1 - MEMORY) * found
        self.gains[index] = np.exp(np.clip(blended, -MAX_LOG_GAIN, MAX_LOG_GAIN))

    def remove_trend(self) -> None:
        """Divide by what neighbouring views have in common; the views are ordered in time."""
        logs = np.log(self.gains)
        steps = np.arange(len(logs))
        window = np.exp(-((steps[:, None] - steps) ** 2) / (2 * TREND**2))
        self.gains = np.exp(logs - window @ logs / window.sum(1, keepdims=True)).astype(np.float32)

    @property
    def unrest(self) -> float:
        """How much the exposure changes from view to view: median departure from a gain of 1; 0 = a fixed exposure."""
        return float(np.median(np.abs(np.log(self.gains))))

    def describe(self) -> dict[str, float]:
        """Median and largest departure from a gain of 1, over views and channels."""
        departure = np.abs(self.gains - 1)
        return {"median": round(float(np.median(departure)), 4), "max": round(float(departure.max()), 4)}
