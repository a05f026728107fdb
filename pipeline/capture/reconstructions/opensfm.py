"""Reader of OpenSfM's and ODM's reconstruction.json.

Source: OpenSfM's docs "Reconstruction file format", "Camera models" and "Coordinate systems": image coordinates count
from the middle in units of the longer side, y down; rotation (angle-axis) and translation are camera-from-world.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated

import numpy as np
from pydantic import BaseModel, Field, FiniteFloat

from pipeline.capture.beside.programs import OPENSFM
from pipeline.capture.checks import checked_pose
from pipeline.capture.frames import Size
from pipeline.capture.lens import Lens, brown_lens, checked_lens
from pipeline.capture.reconstructions.posed import PosedImage, Reconstruction, broken_poses, plain, posed_reader
from pipeline.capture.source import CaptureSource
from pipeline.capture.texts import check_text
from pipeline.errors import CaptureError
from pipeline.geometry import matrix_from_rotvec
from pipeline.parameters import checked

_Vector = Annotated[list[FiniteFloat], Field(min_length=3, max_length=3)]


class _Camera(BaseModel):
    projection_type: str = "perspective"
    width: int
    height: int
    focal: FiniteFloat = 0.0
    focal_x: FiniteFloat = 0.0
    focal_y: FiniteFloat = 0.0
    c_x: FiniteFloat = 0.0
    c_y: FiniteFloat = 0.0
    k1: FiniteFloat = 0.0
    k2: FiniteFloat = 0.0
    k3: FiniteFloat = 0.0
    k4: FiniteFloat = 0.0
    p1: FiniteFloat = 0.0
    p2: FiniteFloat = 0.0


class _Shot(BaseModel):
    camera: str
    rotation: _Vector
    translation: _Vector


class _Content(BaseModel):
    cameras: dict[str, _Camera]
    shots: dict[str, _Shot]


def _lens(of: _Camera, file: str) -> Callable[[Size], Lens]:
    size, side = (of.width, of.height), max(of.width, of.height)
    fx, fy = (side * (own or of.focal) for own in (of.focal_x, of.focal_y))
    pinhole = fx, fy, of.width / 2 + side * of.c_x, of.height / 2 + side * of.c_y
    if of.projection_type in ("perspective", "brown", "radial", "simple_radial"):
        return lambda _any: brown_lens(pinhole, size, (of.k1, of.k2, of.k3, of.k4), (of.p1, of.p2), file)
    if of.projection_type in ("fisheye", "fisheye_opencv"):
        return lambda _any: checked_lens("OPENCV_FISHEYE", size, (*pinhole, of.k1, of.k2, of.k3, of.k4), file)
    raise ValueError(f"projection_type {of.projection_type!r:.40}")


def _parse(source: CaptureSource, name: str) -> Reconstruction:
    data, file = source.read(name), source.where(name)
    check_text(data, file)
    rule = "the file must hold a list of reconstructions, of perspective, brown or fisheye cameras"
    try:
        listed = json.loads(data)
        if not isinstance(listed, list) or not listed:
            raise ValueError(f"{type(listed).__name__} of {len(listed) if isinstance(listed, list) else 0}")
        parts = [checked(_Content, part, f"[{i}]", CaptureError, file) for i, part in enumerate(listed)]
        best = max(parts, key=lambda part: len(part.shots))
        used = {shot.camera for shot in best.shots.values()}
        if missing := sorted(used - best.cameras.keys()):
            raise ValueError(f"no camera {missing[0]!r:.60}")
        lenses = {key: _lens(best.cameras[key], file) for key in used}
    except (ValueError, RecursionError) as error:
        raise broken_poses(source, name, OPENSFM, rule, str(error)[:200]) from error
    images = []
    for shot_name, shot in best.shots.items():
        matrix = np.c_[matrix_from_rotvec(np.array(shot.rotation)), shot.translation]
        pose = checked_pose(matrix, f"{file}: {shot_name}").inverse()
        images.append(PosedImage(plain(shot_name), pose, lenses[shot.camera]))
    others = [len(part.shots) for part in parts if part is not best and part.shots]
    notes = (
        [f"of {len(parts)} reconstructions the largest was read; not those with {others[:4]} images"] if others else []
    )
    return Reconstruction([name], images, notes=notes)


READER = posed_reader(
    "opensfm",
    OPENSFM,
    "an OpenSfM or ODM project (folder or zip): reconstruction.json (or opensfm/reconstruction.json) and the images",
    _parse,
    "poses, lens distortion",
)
