"""Turntables: where a still camera's photos show the same in many of them there is background, not what turns.

A walk round an object has no such pixels. That it is one is told by edges: those of plain surfaces say nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from pipeline.capture.images import save_mask
from pipeline.capture.model import Capture
from pipeline.io.working_images import fitting, load_written
from pipeline.types import F32, Mask

logger = logging.getLogger(__name__)

LONG_SIDE = 320
"""Longer side of the images that are compared [px]."""
PARTNERS = 24
"""Number of images, spread over the whole capture, that each one is compared with."""
ALIKE = 12.0
"""Largest difference of the same [grey levels of 255, in any channel]."""
MIN_SLOPE = 4.0
"""Smallest gradient of an edge [grey levels of 255 per pixel]."""
STAYS = 0.3
"""Share of the other images in which a pixel of the background is the same: what turns hides it in the others."""
ALWAYS = 0.9
"""Share of the images that show the background where nothing turns."""
STILL = 0.15
"""Least share of edges that stay on a turntable."""
GAP, MARGIN = 0.02, 0.003
"""Gaps in what turns that are closed, and the margin round it that stays in use [share of the longer side]."""


@dataclass(frozen=True, eq=False)
class Still:
    """What stays of a capture's images: masks (N, H, W), and the share of edges that do."""

    masks: Mask
    edges: float


def without_background(capture: Capture) -> Capture:
    """A capture whose masks leave out what is behind a turntable; a walk round stays as it is.

    Writes the masks to the capture's folder.
    """
    shapes = {(frame.camera.width, frame.camera.height) for frame in capture.frames}
    if len(shapes) > 1:  # several cameras, so not one that stands still
        return capture
    size = fitting(*next(iter(shapes)), LONG_SIDE)
    still = find_still([_small(capture.root / frame.image, size) for frame in capture.frames])
    logger.info("%.0f %% of the edges stay where they are", 100 * still.edges)
    if still.edges < STILL:
        return capture
    frames = []
    for frame, background in zip(capture.frames, still.masks, strict=True):
        large = cv2.resize(background.astype(np.uint8), next(iter(shapes)), interpolation=cv2.INTER_NEAREST) > 0
        used = ~large
        if frame.mask is not None:
            used &= load_written(capture.root / frame.mask, cv2.IMREAD_GRAYSCALE) > 0
        frames.append(replace(frame, mask=save_mask(used, capture.root, Path(frame.image).stem)))
    share = float(still.masks.mean())
    note = f"a turntable: {share:.0%} of the images stays the same, and is left out as background"
    return replace(capture, frames=tuple(frames), turntable=True, notes=(*capture.notes, note))


def find_still(images: Sequence[F32]) -> Still:
    """Background of images (H, W, 3) of one camera, in grey levels of 255.

    A pixel of an image belongs to it where enough of the others show the same there, and where that hangs together
    with pixels that hardly ever change: a plain side of what turns may look the same in many images, too.
    """
    count = len(images)
    alike, edges, kept = [], 0, 0
    for index, image in enumerate(images):
        others = sorted({(index + k * count // (PARTNERS + 1)) % count for k in range(1, PARTNERS + 1)} - {index})
        same = np.zeros(image.shape[:2], np.float32)
        for other in others:
            same += np.abs(image - images[other]).max(-1) < ALIKE
        alike.append(same / max(len(others), 1))
        steep = _slope(image) > MIN_SLOPE
        edges += int(steep.sum())
        kept += int((steep & (alike[-1] >= STAYS)).sum())
    always = np.mean([share >= STAYS for share in alike], 0) >= ALWAYS
    masks = np.array([_background(share >= STAYS, always) for share in alike])
    return Still(masks, kept / max(edges, 1))


def _background(same: Mask, always: Mask) -> Mask:
    """The parts (H, W) of what stays the same in an image that hang together with what always does, without specks."""
    side = max(same.shape)
    thing = cv2.morphologyEx((~same).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    thing = cv2.morphologyEx(thing, cv2.MORPH_CLOSE, _disc(GAP * side))
    labels = np.asarray(cv2.connectedComponents(1 - thing, connectivity=4)[1], np.int64)
    rooted = np.bincount(labels.ravel(), (always & (thing == 0)).ravel()) > 0
    rooted[0] = False
    return cv2.dilate((~rooted[labels]).astype(np.uint8), _disc(2 * MARGIN * side)) == 0


def _slope(image: F32) -> F32:
    grey = image.mean(-1)
    across, down = (cv2.Sobel(grey, cv2.CV_32F, x, 1 - x, scale=1 / 8) for x in (1, 0))
    return np.asarray(np.hypot(across, down), np.float32)


def _disc(diameter: float) -> np.ndarray:
    size = 2 * round(diameter / 2) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))


def _small(file: Path, size: tuple[int, int]) -> F32:
    image = load_written(file, cv2.IMREAD_COLOR)
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(small, (0, 0), 1.0), np.float32)
