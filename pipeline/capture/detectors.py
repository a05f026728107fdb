"""What looks for faces and number plates: OpenCV's detectors, with models that the wheel carries or the user names.

OpenCV 4 carries Haar cascades for both. SPLATYARD_FACE_MODEL names a better one for faces: YuNet
(`face_detection_yunet_*.onnx` of OpenCV's model zoo), or another cascade (`*.xml`).

Sources: S. Wu et al., YuNet: a tiny millisecond-level face detector, MIR 2023; P. Viola, M. Jones, Rapid object
detection using a boosted cascade of simple features, CVPR 2001.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.capture.params import CaptureParams
from pipeline.errors import MachineError

Picture = NDArray[np.uint8]
Boxes = NDArray[np.float64]
Thing = Literal["face", "plate"]

VARIABLES: dict[Thing, str] = {"face": "SPLATYARD_FACE_MODEL", "plate": "SPLATYARD_PLATE_MODEL"}
CASCADES: dict[Thing, tuple[str, ...]] = {
    "face": ("haarcascade_frontalface_default.xml", "haarcascade_profileface.xml"),
    "plate": ("haarcascade_russian_plate_number.xml", "haarcascade_license_plate_rus_16stages.xml"),
}
"""Files of OpenCV 4's wheel. Those for plates know white European ones."""
YUNET_SCORE = 0.5
"""Below the 0.9 of OpenCV's examples: a face too many is blurred rather than one too few."""
CASCADE_NEIGHBOURS = 3
MAX_MODEL_BYTES = 256 * 2**20
LEAST_SIDE = 12
"""Of a face or plate [px]."""


@dataclass(frozen=True)
class Detector:
    """Looks for one kind of thing.

    Attributes:
        what: face or plate.
        name: Of its method and model, with the beginning of the model's SHA-256: what a result depends on.
        find: Boxes (N, 4) left, top, right, bottom [px] in a picture (H, W, 3) RGB.
    """

    what: Thing
    name: str
    find: Callable[[Picture], Boxes]


def detectors_for(params: CaptureParams) -> list[Detector]:
    """The detectors for what is to be blurred.

    Raises:
        MachineError: When there is none for something that is, or its model can't be read.
    """
    wanted: dict[Thing, bool] = {"face": params.blur_faces, "plate": params.blur_plates}
    return [detector for thing, asked in wanted.items() if asked for detector in _detectors(thing)]


def _detectors(thing: Thing) -> list[Detector]:
    named = os.environ.get(VARIABLES[thing])
    if named:
        return [_of_file(thing, Path(named).expanduser())]
    carried = [Path(cv2.__file__).parent / "data" / name for name in CASCADES[thing]]
    found = [_of_file(thing, path) for path in carried if path.is_file()]
    if not found:
        others = "a YuNet model (.onnx) or a Haar cascade (.xml)" if thing == "face" else "a Haar cascade (.xml)"
        raise MachineError(
            f"blurring {thing}s needs a detector",
            found=f"none: OpenCV {cv2.__version__} carries no model, and {VARIABLES[thing]} names none",
            remedy=f"let {VARIABLES[thing]} name {others}, or install OpenCV from its wheel; see docs/privacy.md",
        )
    return found


def _of_file(thing: Thing, path: Path) -> Detector:
    kind = path.suffix.lower()
    known = {".xml": _cascade, ".onnx": _yunet} if thing == "face" else {".xml": _cascade}
    try:
        if not path.is_file() or kind not in known or path.stat().st_size > MAX_MODEL_BYTES:
            raise ValueError(f"no {' or '.join(known)} file of at most {MAX_MODEL_BYTES} bytes")
        find = known[kind](path)
    except (ValueError, SystemError, cv2.error) as error:  # a bad cascade is a SystemError
        raise MachineError(
            f"a detector for {thing}s has a model that OpenCV reads",
            found=str(error).strip().splitlines()[-1][:200],
            remedy=f"correct {VARIABLES[thing]}; see docs/privacy.md",
            file=path,
        ) from error
    return Detector(thing, f"{path.stem} {hashlib.sha256(path.read_bytes()).hexdigest()[:12]}", find)


def _yunet(path: Path) -> Callable[[Picture], Boxes]:
    detector = cv2.FaceDetectorYN.create(str(path), "", (320, 320), YUNET_SCORE)

    def find(picture: Picture) -> Boxes:
        detector.setInputSize((picture.shape[1], picture.shape[0]))
        _, faces = detector.detect(np.ascontiguousarray(picture[..., ::-1]))
        return _corners(np.zeros((0, 4)) if faces is None else np.asarray(faces)[:, :4])

    return find


def _cascade(path: Path) -> Callable[[Picture], Boxes]:
    made = cv2.CascadeClassifier(str(path))
    if made.empty():
        raise ValueError("no cascade")

    def find(picture: Picture) -> Boxes:
        grey = cv2.equalizeHist(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))
        least = (LEAST_SIDE, LEAST_SIDE)
        return _corners(np.array(made.detectMultiScale(grey, 1.1, CASCADE_NEIGHBOURS, minSize=least)).reshape(-1, 4))

    return find


def _corners(boxes: NDArray[Any]) -> Boxes:
    """Left, top, right, bottom of left, top, width, height."""
    values = boxes.astype(np.float64)
    return np.concatenate([values[:, :2], values[:, :2] + values[:, 2:]], 1)
