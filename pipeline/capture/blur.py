"""Faces and number plates made unrecognisable in a capture, before any other stage sees its images.

OpenCV 4 carries Haar cascades for both. SPLATYARD_FACE_MODEL names a better detector of faces: YuNet
(`face_detection_yunet_*.onnx` of OpenCV's model zoo), or another cascade (`*.xml`).

Sources: S. Wu et al., YuNet: a tiny millisecond-level face detector, MIR 2023; P. Viola, M. Jones, Rapid object
detection using a boosted cascade of simple features, CVPR 2001.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from PIL import Image

from pipeline.capture.images import DecodedImage
from pipeline.capture.model import Blurred, Capture
from pipeline.capture.params import CaptureParams
from pipeline.errors import MachineError
from pipeline.io.image_files import open_image
from pipeline.io.working_images import fitting
from pipeline.progress import track
from pipeline.types import F64, U8

Subject = Literal["face", "plate"]

VARIABLES: dict[Subject, str] = {"face": "SPLATYARD_FACE_MODEL", "plate": "SPLATYARD_PLATE_MODEL"}
CASCADES: dict[Subject, tuple[str, ...]] = {
    "face": ("haarcascade_frontalface_default.xml", "haarcascade_profileface.xml"),
    "plate": ("haarcascade_russian_plate_number.xml", "haarcascade_license_plate_rus_16stages.xml"),
}
"""Files of OpenCV 4's wheel. Those for plates know white European ones."""
YUNET_SCORE = 0.5
"""Smallest score, below the 0.9 of OpenCV's examples: a face too many is blurred rather than one too few."""
CASCADE_NEIGHBOURS = 3
MAX_MODEL_BYTES = 256 * 2**20
MIN_SIDE = 12
"""Smallest side of a face or plate [px]."""

logger = logging.getLogger(__name__)
LOOKED_AT = 1600
"""Longer side of the images that detectors look at [px]."""
MARGIN = 0.25
"""Enlargement of a box on each side, relative to its size: detectors leave chin and hair out."""
CELLS = 5
"""Number of pixels that are left of a face along its shorter side."""


@dataclass(frozen=True)
class Detector:
    """Detects faces or number plates: boxes (N, 4) left, top, right, bottom [px] in an RGB image (H, W, 3).

    Its name holds the beginning of the model's SHA-256: a result depends on it.
    """

    what: Subject
    name: str
    find: Callable[[U8], F64]


def detectors_for(params: CaptureParams) -> list[Detector]:
    """The detectors for what is to be blurred.

    Raises:
        MachineError: When there is none, or its model can't be read.
    """
    requested: dict[Subject, bool] = {"face": params.blur_faces, "plate": params.blur_plates}
    return [detector for subject, blurred in requested.items() if blurred for detector in _detectors(subject)]


def _detectors(subject: Subject) -> list[Detector]:
    named = os.environ.get(VARIABLES[subject])
    if named:
        return [_of_file(subject, Path(named).expanduser())]
    carried = [Path(cv2.__file__).parent / "data" / name for name in CASCADES[subject]]
    detectors = [_of_file(subject, path) for path in carried if path.is_file()]
    if not detectors:
        others = "a YuNet model (.onnx) or a Haar cascade (.xml)" if subject == "face" else "a Haar cascade (.xml)"
        raise MachineError(
            f"blurring {subject}s needs a detector",
            found=f"none: OpenCV {cv2.__version__} carries no model, and {VARIABLES[subject]} names none",
            remedy=f"let {VARIABLES[subject]} name {others}, or install OpenCV from its wheel; see docs/privacy.md",
        )
    return detectors


def _of_file(subject: Subject, path: Path) -> Detector:
    kind = path.suffix.lower()
    known = {".xml": _cascade, ".onnx": _yunet} if subject == "face" else {".xml": _cascade}
    try:
        if not path.is_file() or kind not in known or path.stat().st_size > MAX_MODEL_BYTES:
            raise ValueError(f"no {' or '.join(known)} file of at most {MAX_MODEL_BYTES} bytes")
        find = known[kind](path)
    except (ValueError, SystemError, cv2.error) as error:  # a bad cascade is a SystemError
        raise MachineError(
            f"a detector for {subject}s has a model that OpenCV reads",
            found=str(error).strip().splitlines()[-1][:200],
            remedy=f"correct {VARIABLES[subject]}; see docs/privacy.md",
            file=path,
        ) from error
    return Detector(subject, f"{path.stem} {hashlib.sha256(path.read_bytes()).hexdigest()[:12]}", find)


def _yunet(path: Path) -> Callable[[U8], F64]:
    detector = cv2.FaceDetectorYN.create(str(path), "", (320, 320), YUNET_SCORE)

    def find(image: U8) -> F64:
        detector.setInputSize((image.shape[1], image.shape[0]))
        _, faces = detector.detect(np.ascontiguousarray(image[..., ::-1]))
        return _corners(np.zeros((0, 4)) if faces is None else np.asarray(faces)[:, :4])

    return find


def _cascade(path: Path) -> Callable[[U8], F64]:
    made = cv2.CascadeClassifier(str(path))
    if made.empty():
        raise ValueError("no cascade")

    def find(image: U8) -> F64:
        grey = cv2.equalizeHist(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
        least = (MIN_SIDE, MIN_SIDE)
        return _corners(np.array(made.detectMultiScale(grey, 1.1, CASCADE_NEIGHBOURS, minSize=least)).reshape(-1, 4))

    return find


def _corners(boxes: np.ndarray) -> F64:
    """Left, top, right, bottom of left, top, width, height."""
    values = boxes.astype(np.float64)
    return np.concatenate([values[:, :2], values[:, :2] + values[:, 2:]], 1)


def blur(capture: Capture, detectors: Sequence[Detector]) -> Blurred:
    """Blur all that the detectors find, in place; images without any keep their bytes.

    Phones store what was filmed upright lying on its side, so images are searched in all four orientations.
    """
    counts = dict.fromkeys((detector.what for detector in detectors), 0)
    images = 0
    for frame in track(capture.frames, "blurring"):
        path = capture.root / frame.image
        with open_image(path) as opened:
            image = np.array(opened.convert("RGB"))
        found = {
            what: _merged(np.concatenate([find_in(image, d) for d in detectors if d.what == what])) for what in counts
        }
        boxes = np.concatenate(list(found.values()))
        for what, some in found.items():
            counts[what] += len(some)
        if len(boxes):
            images += 1
            for box in boxes:
                hide(image, box)
            DecodedImage(Image.fromarray(image), suffix=path.suffix).save(path.with_suffix(""))
    done = Blurred(counts.get("face"), counts.get("plate"), images, tuple(detector.name for detector in detectors))
    known = (("faces", done.faces), ("number plates", done.plates))
    counted = " and ".join(f"{count} {what}" for what, count in known if count is not None)
    logger.info("blurred %s in %d of %d images", counted, images, len(capture.frames))
    return done


def find_in(image: U8, detector: Detector) -> F64:
    """Boxes (N, 4) left, top, right, bottom [px] of an image (H, W, 3), in all four orientations."""
    size = fitting(image.shape[1], image.shape[0], LOOKED_AT)
    small = image
    if size != image.shape[1::-1]:
        small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    scale = image.shape[1] / size[0]
    result = []
    for quarters in range(4):
        boxes = detector.find(np.ascontiguousarray(np.rot90(small, quarters)))
        result.append(_rotated_back(boxes, quarters, size) * scale)
    return np.concatenate(result)


def _rotated_back(boxes: F64, quarters: int, size: tuple[int, int]) -> F64:
    """Boxes in an image (width, height = size) of those in the one that `np.rot90` made of it."""
    width, height = size
    left, top, right, bottom = boxes.T
    sides = {
        0: (left, top, right, bottom),
        1: (width - bottom, left, width - top, right),
        2: (width - right, height - bottom, width - left, height - top),
        3: (top, height - right, bottom, height - left),
    }
    return np.stack(sides[quarters], 1)


def _merged(boxes: F64) -> F64:
    """Boxes without those whose centre lies in a larger one: they show the same."""
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    kept: list[F64] = []
    for box in boxes[np.argsort(-area, kind="stable")]:
        middle = (box[:2] + box[2:]) / 2
        if not any((middle > other[:2]).all() and (middle < other[2:]).all() for other in kept):
            kept.append(box)
    return np.array(kept).reshape(-1, 4)


def hide(image: U8, box: F64) -> None:
    """Leave five pixels of a box (left, top, right, bottom) along its shorter side, smoothly enlarged, in place."""
    margin = MARGIN * np.tile(box[2:] - box[:2], 2) * [-1, -1, 1, 1]
    height, width = image.shape[:2]
    left, top, right, bottom = (box + margin).round().clip(0, [width, height, width, height]).astype(int)
    if right <= left or bottom <= top:
        return
    inside = image[top:bottom, left:right]
    cell = min(right - left, bottom - top) / CELLS
    few = (max(1, round((right - left) / cell)), max(1, round((bottom - top) / cell)))
    coarse = cv2.resize(inside, few, interpolation=cv2.INTER_AREA)
    image[top:bottom, left:right] = cv2.resize(coarse, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR)
