"""Exposure and white balance of every view: how much brighter than the splat each channel of its photo is.

Without a gain for each view, Gaussians imitate a camera that adapts its exposure by view-dependent colour and by mist
in front of the lens. The gain is the least-squares factor between the rendered image and the photo, estimated again
whenever the view is trained on. The splat itself gets the capture's mean exposure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.types import F32, U8, Mask

MEMORY = 0.7
"""Share of the old estimate that a new one keeps."""
SETTLED = 12
"""Estimates after which the first guess no longer counts."""
TRUST = 0.01
"""Weight of a gain of 1 in the estimate, relative to the image's mean square."""
SATURATED = 250
"""Photo values from here on are left out: they say nothing about exposure."""
STRIDE = 4
"""Stride of rows and columns: three numbers don't need every pixel."""
MAX_LOG_GAIN = 0.7
"""Largest logarithm of a gain: about a factor of two."""
EXPOSURES_FILE = "exposures.json"


@dataclass(eq=False)
class Exposures:
    """Gain of each channel of each view: `gains` is (views, 3) float32, photo relative to the splat."""

    gains: F32

    def observe(self, index: int, rendered: F32, photo: U8, mask: Mask | None = None) -> None:
        """Estimate a view's gain from its photo (3, H, W) and the splat's image (3, H, W) in 0..1, without gain.

        The mask (H, W) is False where the photo is to be ignored.
        """
        target = photo[:, ::STRIDE, ::STRIDE].astype(np.float32)
        weight = (target < SATURATED).astype(np.float32)
        if mask is not None:
            weight *= mask[::STRIDE, ::STRIDE]
        rendered = np.clip(rendered[:, ::STRIDE, ::STRIDE], 0, 1)
        weighted = weight * rendered
        square = np.einsum("chw,chw->c", weighted, rendered)
        self.learn(index, square, np.einsum("chw,chw->c", weighted, target) / 255)

    def settle(self, index: int, rendered: F32, photo: U8, mask: Mask | None = None) -> None:
        """Estimate a view's gain as `observe` does in the end, where nothing is known of it yet."""
        for _ in range(SETTLED):
            self.observe(index, rendered, photo, mask)

    def learn(self, index: int, square: F32, product: F32) -> None:
        """Estimate a view's gain from sums over pixels (3,): of the image's square, and of image times photo."""
        held = TRUST * square.mean() + 1e-6
        estimate = np.log(np.maximum((product + held) / (square + held), 1e-3))
        blended = MEMORY * np.log(self.gains[index]) + (1 - MEMORY) * estimate
        self.gains[index] = np.exp(np.clip(blended, -MAX_LOG_GAIN, MAX_LOG_GAIN))

    def center(self) -> None:
        """Divide all gains by their geometric mean: the splat gets it."""
        logs = np.log(self.gains)
        self.gains = np.exp(logs - logs.mean(0)).astype(np.float32)

    @property
    def variation(self) -> float:
        """Median departure of the gains from 1, as a logarithm: 0 for a camera with a fixed exposure."""
        return float(np.median(np.abs(np.log(self.gains))))

    def describe(self) -> dict[str, float]:
        """Median and largest departure from a gain of 1, over views and channels."""
        departure = np.abs(self.gains - 1)
        return {"median": round(float(np.median(departure)), 4), "max": round(float(departure.max()), 4)}


def gains_of_all(names: Sequence[str], gains: Mapping[str, F32]) -> dict[str, F32]:
    """Gains of all views: those of training views, and between them what their neighbours in time predict.

    Predictions are interpolated, and pulled towards 1 as far as the training views themselves differ from what their
    neighbours predict: photos with independent exposures say nothing about each other. `names` are all views in the
    order of time, `gains` (3,) those of the training views.
    """
    trained = {name: np.asarray(gains[name], np.float32) for name in names if name in gains}
    if not trained:
        return {}
    known = np.flatnonzero([name in trained for name in names])
    logs = np.log(np.stack(list(trained.values())).astype(np.float64))
    alike = 0.0
    if len(known) > 2:
        before, after = np.diff(known)[:-1, None], np.diff(known)[1:, None]
        expected = (logs[:-2] * after + logs[2:] * before) / (before + after)
        alike = float(np.clip((expected * logs[1:-1]).sum() / max((expected**2).sum(), 1e-12), 0, 1))
    between = np.stack([np.interp(np.arange(len(names)), known, logs[:, channel]) for channel in range(3)], 1)
    predicted = {name: np.exp(alike * values).astype(np.float32) for name, values in zip(names, between, strict=True)}
    return predicted | trained


def save_gains(gains: Mapping[str, F32], folder: Path) -> None:
    """Write the gains of views by their names."""
    content = {name: [round(float(value), 5) for value in values] for name, values in gains.items()}
    (folder / EXPOSURES_FILE).write_text(json.dumps(content))


def load_gains(folder: Path) -> dict[str, F32]:
    """Read what `save_gains` wrote."""
    content = json.loads((folder / EXPOSURES_FILE).read_text())
    return {name: np.array(values, np.float32) for name, values in content.items()}
