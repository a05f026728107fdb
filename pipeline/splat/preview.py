"""Pictures of a splat above the photos they should look like: one with the result, one to look at while it trains."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Gaussians
from pipeline.splat.raster import render
from pipeline.splat.views import TrainingView

logger = logging.getLogger(__name__)

PREVIEW_FILE = "preview.png"
COLUMNS = 3
SECONDS = 10.0
"""Between two pictures during training."""


def preview_sheet(gaussians: Gaussians, views: Sequence[TrainingView], level: int = 0) -> NDArray[np.uint8]:
    """Some views side by side: the splat's picture above, the photo below, RGB (H, W, 3).

    Args:
        gaussians: The splat.
        views: At least one; three of them are shown.
        level: Of the pyramid.
    """
    columns = []
    for view in views[:: max(1, len(views) // COLUMNS)][:COLUMNS]:
        shown = view.levels[level]
        picture = render(gaussians, shown.camera, view.world_from_camera).rgb
        rendered = (picture.clip(0, 1) * 255).round().astype(np.uint8)
        columns.append(np.concatenate([rendered, np.moveaxis(shown.photo, 0, -1)], 0))
    height = min(len(column) for column in columns)
    return np.concatenate([column[:height] for column in columns], 1)


def write_preview(gaussians: Gaussians, views: Sequence[TrainingView], path: Path, level: int = 0) -> None:
    """Write `preview_sheet` as PNG; who opens it meanwhile sees the old picture or the new one, never half of it.

    Raises:
        OSError: When it can't be written.
    """
    _, data = cv2.imencode(".png", cv2.cvtColor(preview_sheet(gaussians, views, level), cv2.COLOR_RGB2BGR))
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(data.tobytes())
    partial.replace(path)


class LivePreview:
    """Writes a small preview now and then while a splat trains; `observe` is what `train` calls.

    Args:
        path: Of the picture, the same all the time.
        views: The training views.
        seconds: Between two pictures.
    """

    def __init__(self, path: Path, views: Sequence[TrainingView], seconds: float = SECONDS) -> None:
        self._path, self._views, self._seconds = path, views, seconds
        self._last: float | None = None

    def observe(self, _iteration: int, gaussians: Gaussians) -> None:
        """Write the picture, if the last one is old enough."""
        if self._last is not None and time.monotonic() - self._last < self._seconds:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_preview(gaussians, self._views, self._path, level=1)
        if self._last is None:
            logger.info("how the splat looks so far (renewed as it trains): %s", self._path)
        self._last = time.monotonic()
