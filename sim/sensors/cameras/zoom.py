"""Lenses that are a little longer or shorter than stated: images stretched about their middle."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

from pipeline.types import F32, F64, I64
from sim.ranges import Range, draw
from sim.saved import Saved
from sim.sensors.cameras.settings import Output


class Zoom(Saved):
    """By how much the focal length of each of N cameras differs from what their lens states, drawn for each episode.

    What a shorter lens sees beyond the border repeats the border. Depths and normals keep their values: they only move.
    """

    def __init__(self, focal: Range, num_cameras: int) -> None:
        self._focal, self._varies = focal, focal != (1.0, 1.0)
        self._factor: F64 = np.ones(num_cameras)

    def arrays(self) -> dict[str, np.ndarray]:
        """The factors, where they differ: else simulations are saved as before there were any."""
        return {"factor": self._factor} if self._varies else {}

    def set_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take over what `arrays` returned."""
        if self._varies:
            self._factor = arrays["factor"]

    def reset(self, cameras: I64, rng: np.random.Generator) -> None:
        """Draw the focal lengths of cameras (M,) anew."""
        self._factor[cameras] = draw(self._focal, rng, len(cameras))

    def stretched(self, cameras: I64, seen: dict[Output, F32]) -> dict[Output, F32]:
        """Images (M, H, W, ...) of cameras (M,), as their own lenses show them."""
        if not self._varies:
            return seen
        factors = self._factor[cameras]
        return {
            output: np.stack([_stretched(image, f, output) for image, f in zip(images, factors, strict=True)])
            for output, images in seen.items()
        }


def _stretched(image: F32, factor: float, output: Output) -> F32:
    """An image (H, W, ...) so much larger about its middle."""
    size = image.shape[1], image.shape[0]
    middle = np.array(size) / 2 - 0.5  # OpenCV's pixels have whole numbers in their middles
    matrix = np.column_stack([factor * np.eye(2), (1 - factor) * middle])
    mixed = cv2.INTER_LINEAR if output == "rgb" else cv2.INTER_NEAREST
    return np.asarray(cv2.warpAffine(image, matrix, size, flags=mixed, borderMode=cv2.BORDER_REPLICATE), np.float32)
