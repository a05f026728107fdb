"""Faces and number plates made unrecognisable in a capture, before any other stage sees its pictures."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.capture.detectors import Boxes, Detector, Picture
from pipeline.capture.model import Blurred, Capture
from pipeline.capture.pictures import fitting
from pipeline.image_files import open_image
from pipeline.progress import track

logger = logging.getLogger(__name__)

LOOKED_AT = 1600
"""Longer side of the pictures that detectors look at [px]."""
MARGIN = 0.25
"""By which a box is enlarged on each side, by its own size: detectors leave chin and hair out."""
CELLS = 5
"""What is left of a face along its shorter side [px]."""
QUALITY = 97


def blur(capture: Capture, detectors: Sequence[Detector]) -> Blurred:
    """Blur all that the detectors find, in place; pictures without anything keep their bytes.

    Phones store what was filmed upright lying on its side, so pictures are looked at in all four turns.
    """
    counts = dict.fromkeys((detector.what for detector in detectors), 0)
    pictures = 0
    for frame in track(capture.frames, "blurring"):
        path = capture.root / frame.image
        with open_image(path) as opened:
            picture = np.array(opened.convert("RGB"))
        found = {
            what: _merged(np.concatenate([find_in(picture, d) for d in detectors if d.what == what])) for what in counts
        }
        boxes = np.concatenate(list(found.values()))
        for what, some in found.items():
            counts[what] += len(some)
        if len(boxes):
            pictures += 1
            for box in boxes:
                hide(picture, box)
            _save(picture, path)
    done = Blurred(counts.get("face"), counts.get("plate"), pictures, tuple(detector.name for detector in detectors))
    logger.info("blurred %s in %d of %d pictures", _told(done), pictures, len(capture.frames))
    return done


def find_in(picture: Picture, detector: Detector) -> Boxes:
    """Boxes (N, 4) left, top, right, bottom [px] of a picture (H, W, 3), looked at in all four turns."""
    size = fitting(picture.shape[1], picture.shape[0], LOOKED_AT)
    small = picture
    if size != picture.shape[1::-1]:
        small = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    scale = picture.shape[1] / size[0]
    found = []
    for turns in range(4):
        boxes = detector.find(np.ascontiguousarray(np.rot90(small, turns)))
        found.append(_turned_back(boxes, turns, size) * scale)
    return np.concatenate(found)


def _turned_back(boxes: Boxes, turns: int, size: tuple[int, int]) -> Boxes:
    """Boxes in a picture (width, height = size) of those in the one that `np.rot90` made of it."""
    width, height = size
    left, top, right, bottom = boxes.T
    sides = {
        0: (left, top, right, bottom),
        1: (width - bottom, left, width - top, right),
        2: (width - right, height - bottom, width - left, height - top),
        3: (top, height - right, bottom, height - left),
    }
    return np.stack(sides[turns], 1)


def _merged(boxes: Boxes) -> Boxes:
    """Boxes, those that lie with their middle in a larger one left out: they show the same."""
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    kept: list[NDArray[np.float64]] = []
    for box in boxes[np.argsort(-area, kind="stable")]:
        middle = (box[:2] + box[2:]) / 2
        if not any((middle > other[:2]).all() and (middle < other[2:]).all() for other in kept):
            kept.append(box)
    return np.array(kept).reshape(-1, 4)


def hide(picture: Picture, box: NDArray[np.float64]) -> None:
    """Leave five pixels of a box (left, top, right, bottom) along its shorter side, smoothly enlarged, in place."""
    margin = MARGIN * np.tile(box[2:] - box[:2], 2) * [-1, -1, 1, 1]
    height, width = picture.shape[:2]
    left, top, right, bottom = (box + margin).round().clip(0, [width, height, width, height]).astype(int)
    if right <= left or bottom <= top:
        return
    inside = picture[top:bottom, left:right]
    cell = min(right - left, bottom - top) / CELLS
    few = (max(1, round((right - left) / cell)), max(1, round((bottom - top) / cell)))
    coarse = cv2.resize(inside, few, interpolation=cv2.INTER_AREA)
    picture[top:bottom, left:right] = cv2.resize(coarse, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR)


def _save(picture: Picture, path: Path) -> None:
    if path.suffix == ".png":
        Image.fromarray(picture).save(path, compress_level=3)
    else:
        Image.fromarray(picture).save(path, quality=QUALITY, subsampling=0)


def _told(done: Blurred) -> str:
    known = (("faces", done.faces), ("number plates", done.plates))
    return " and ".join(f"{count} {what}" for what, count in known if count is not None)
