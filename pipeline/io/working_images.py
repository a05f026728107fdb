"""Images that the pipeline wrote itself, and smaller versions of images."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from pipeline.types import U8, Mask


def fitting(width: int, height: int, long_side: int) -> tuple[int, int]:
    """The size at which the longer side has at most `long_side` pixels."""
    scale = min(1.0, long_side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def shrunk_mask(mask: Mask, size: tuple[int, int]) -> Mask:
    """A mask at a smaller size = (width, height); a pixel counts only if all pixels that it averages count."""
    ignored = cv2.resize((~mask).astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return np.asarray(ignored, np.float32) == 0


def shrunk_grey(grey: U8, long_side: int) -> U8:
    """A grey image (H, W) whose longer side has at most `long_side` pixels."""
    size = fitting(grey.shape[1], grey.shape[0], long_side)
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)


def load_written(path: Path, mode: int) -> np.ndarray:
    """An image of the canonical capture by an IMREAD mode of OpenCV.

    Raises:
        FileNotFoundError: When it is missing or no image.
    """
    image = cv2.imread(str(path), mode)
    if image is None:
        raise FileNotFoundError(f"{path} is missing or no image")
    return np.asarray(image)
