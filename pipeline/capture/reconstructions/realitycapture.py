"""Reader of RealityCapture's and RealityScan's "Internal/External camera parameters": a table of poses and lenses.

Sources: Epic's "Camera geometry in RealityScan" and "RealityCapture XMP camera math" (focal length by the longer side
of 36 mm, principal point from the middle in units of the longer side, Brown's distortion of x/z and y/z before the
calibration); the angles as nerfstudio's realitycapture_utils.py reads them: camera-to-world in OpenGL axes is
Rz(-heading) Rx(pitch) Ry(roll).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping

import numpy as np

from pipeline.capture.beside.programs import REALITY_CAPTURE
from pipeline.capture.checks import checked_pose
from pipeline.capture.frames import Size
from pipeline.capture.lens import Lens, brown_lens
from pipeline.capture.reconstructions.posed import (
    PosedImage,
    Reconstruction,
    broken_poses,
    posed_reader,
)
from pipeline.capture.source import CaptureSource
from pipeline.capture.texts import check_text
from pipeline.geometry import matrix_from_rotvec

FILM = 36.0
"""Longer side that focal lengths refer to [mm]."""
_NUMBERS = ("x", "y", "alt", "heading", "pitch", "roll", "f", "px", "py", "k1", "k2", "k3", "k4", "t1", "t2")


def _parse(source: CaptureSource, name: str) -> Reconstruction:
    data, where = source.read(name), source.where(name)
    check_text(data, where)
    lines = data.decode("utf-8-sig", "replace").splitlines()
    start = next(index for index, line in enumerate(lines) if line.lower().startswith("#name"))
    lines[start] = lines[start].lower()
    images = []
    for row in csv.DictReader(io.StringIO("\n".join(lines[start:]))):
        listed = row["#name"]
        try:
            values = {key: float(row.get(key) or 0.0) for key in _NUMBERS}
        except (TypeError, ValueError) as error:
            rule = f"a line must hold a name and the numbers {', '.join(_NUMBERS)}"
            raise broken_poses(source, name, REALITY_CAPTURE, rule, f"{listed!r:.80}: {error}") from error
        images.append(_image(listed, values, f"{where}: {listed}"))
    return Reconstruction([name], images)


def _image(listed: str, values: Mapping[str, float], where: str) -> PosedImage:
    heading, pitch, roll = (np.deg2rad(values[key]) for key in ("heading", "pitch", "roll"))
    turns = ([0, 0, -heading], [pitch, 0, 0], [0, roll, 0])
    matrix = np.eye(4)
    matrix[:3, :3] = np.linalg.multi_dot([matrix_from_rotvec(np.array(turn, np.float64)) for turn in turns])
    matrix[:3, 3] = [values[key] for key in ("x", "y", "alt")]

    def lens(size: Size) -> Lens:
        side, (width, height) = max(size), size
        focal = values["f"] / FILM * side
        centre = width / 2 + values["px"] * side, height / 2 + values["py"] * side
        radial = [values[key] for key in ("k1", "k2", "k3", "k4")]
        return brown_lens((focal, focal, *centre), size, radial, (values["t1"], values["t2"]), where)

    return PosedImage(listed, checked_pose(matrix, where, axes="GL"), lens)


READER = posed_reader(
    "realitycapture",
    REALITY_CAPTURE,
    'cameras of RealityCapture or RealityScan (folder or zip): *.csv of "Internal/External camera parameters", images',
    _parse,
    "poses, lens distortion",
)
