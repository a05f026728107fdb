"""The place that stand-ins of networks see: they find out which of its images they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from pipeline.geometry import Camera, Pose
from tests.fakes.simulated_network import Simulated

_scenes: list[SeenPlace] = []


@dataclass
class SeenPlace:
    """Truth, and the images (H, W, 3) uint8 that it belongs to."""

    network: Simulated
    images: Sequence[np.ndarray]
    shown: list[int] = field(default_factory=list)

    def see_images(self, images: Sequence[np.ndarray]) -> tuple[list[Pose], Camera, list[np.ndarray], list[np.ndarray]]:
        """What the network says of images (H, W, 3) in 0..1, of any size.

        Raises:
            torch.cuda.OutOfMemoryError: When there are more than memory holds.
        """
        import torch

        if len(images) > self.network.fits:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        known = np.array([_thumbnail(p.astype(np.float32) / 255) for p in self.images])
        self.shown = [int(np.argmin(((known - _thumbnail(p)) ** 2).sum((1, 2, 3)))) for p in images]
        self.network.asked.append(self.shown)
        return self.network.see(self.shown)

    def is_nan(self, n: int) -> bool:
        """Whether nothing is found of image n of those last shown."""
        return self.shown[n] in self.network.nan


def show(place: SeenPlace) -> None:
    """Let the stand-ins see this place."""
    _scenes[:] = [place]


def current() -> SeenPlace:
    """The place that is shown."""
    return _scenes[0]


def _thumbnail(image: np.ndarray) -> np.ndarray:
    return cv2.resize(np.ascontiguousarray(image, np.float32), (24, 18), interpolation=cv2.INTER_AREA)
