"""A film of what robots see."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ENLARGED = 4
"""Pixels of the film for one of the cameras, each way."""
SHOWN = 16
"""Most cameras side by side."""


class Film:
    """Writes an MP4 (H.264) as it goes; complete once closed.

    Args:
        path: The file.
        rate: Pictures a second.
    """

    def __init__(self, path: Path, rate: float) -> None:
        import av

        self._av: Any = av
        path.parent.mkdir(parents=True, exist_ok=True)
        self._container = av.open(str(path), "w")
        self._stream: Any = self._container.add_stream("libx264", rate=Fraction(rate).limit_denominator(1000))
        self._stream.pix_fmt = "yuv420p"
        self._begun = False

    def look(self, seen: dict[str, Any]) -> None:
        """Add a picture of all cameras."""
        picture = tiled(seen["rgb"][:SHOWN]).repeat(ENLARGED, 0).repeat(ENLARGED, 1)
        if not self._begun:
            self._stream.height, self._stream.width = picture.shape[:2]
            self._begun = True
        for packet in self._stream.encode(self._av.VideoFrame.from_ndarray(picture, "rgb24")):
            self._container.mux(packet)

    def close(self) -> None:
        """Write what is left."""
        if self._begun:
            for packet in self._stream.encode():
                self._container.mux(packet)
        self._container.close()


def tiled(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pictures (N, H, W, 3) side by side in a square (rows H, columns W, 3), black where there are none left."""
    count, height, width, _ = pictures.shape
    across = math.ceil(math.sqrt(count))
    down = math.ceil(count / across)
    page = np.zeros((across * down, height, width, 3), np.uint8)
    page[:count] = pictures
    return page.reshape(down, across, height, width, 3).swapaxes(1, 2).reshape(down * height, across * width, 3)
