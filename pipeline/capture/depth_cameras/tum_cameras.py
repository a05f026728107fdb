"""Published calibrations of the cameras that recorded the TUM and Bonn RGB-D benchmarks.

TUM: the benchmark's page "Intrinsic Camera Calibration of the Kinect". Bonn: the page of the RGB-D Dynamic Dataset
(E. Palazzolo et al., ReFusion, IROS 2019), whose ground truth follows the markers on the camera: a point of the camera
lies at T_ros T_gt T_ros T_m p, with the T_m and T_ros below. T_m is a rotation times 1.059.

Which camera it was is what rgb.txt says of the bag that it was made from ("# file: 'rgbd_dataset_freiburg1_desk.bag'").
Folders are renamed, and tools that write this layout copy that line: it counts only for the benchmark's years.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from pipeline.capture.lens import Lens
from pipeline.geometry import Pose


@dataclass(frozen=True, eq=False)
class Recorder:
    """A published calibration.

    Attributes:
        lens: Of pictures and of depth, which is registered to them; published for centres at integers, here at +0.5.
        year: In which it recorded; the lists' times are of the system's clock.
        scale_sigma: Relative one sigma of depth's scale; the poses are motion capture's and better.
        body_from_camera: What the poses follow, from the camera.
        note: What a person should know.
    """

    lens: Lens
    year: int
    scale_sigma: float = 0.015
    body_from_camera: Pose = field(default_factory=Pose.identity)
    note: str = ""


def _lens(focal: tuple[float, float], centre: tuple[float, float], distortion: tuple[float, ...]) -> Lens:
    model = {0: "PINHOLE", 4: "OPENCV", 5: "FULL_OPENCV"}[len(distortion)]
    more = (*distortion, 0.0, 0.0, 0.0) if model == "FULL_OPENCV" else distortion
    return Lens(model, 640, 480, (*focal, centre[0] + 0.5, centre[1] + 0.5, *more))


_BONN_MARKER = np.array([[1.0157, 0.1828, -0.2389], [0.0009, -0.8431, -0.6413], [-0.3009, 0.6147, -0.8085]])
_BONN_SCALE = float(np.cbrt(np.linalg.det(_BONN_MARKER)))
_BONN_AXES = Pose(np.array([[-1.0, 0, 0], [0, 0, 1], [0, 1, 0]]), np.zeros(3))
_U, _, _VT = np.linalg.svd(_BONN_MARKER)
RECORDERS = {
    "freiburg1": Recorder(
        _lens((517.306408, 516.469215), (318.643040, 255.313989), (0.262383, -0.953104, -0.005358, 0.002628, 1.163314)),
        year=2011,
    ),
    "freiburg2": Recorder(
        _lens(
            (520.908620, 521.007327), (325.141442, 249.701764), (0.231222, -0.784899, -0.003257, -0.000105, 0.917205)
        ),
        year=2011,
    ),
    "freiburg3": Recorder(_lens((535.4, 539.2), (320.1, 247.6), ()), year=2012),
    "rgbd_bonn": Recorder(
        _lens((542.822841, 542.576870), (315.593520, 237.756098), (0.039903, -0.099343, -0.000730, -0.000144)),
        year=2019,
        scale_sigma=_BONN_SCALE - 1,
        body_from_camera=_BONN_AXES @ Pose(_U @ _VT, np.array([0.0113, -0.0098, 0.0111])),
        note=f"Bonn's calibration says that depth is {_BONN_SCALE:.3f} times too short; it is left as it is",
    ),
}
"""The benchmarks' cameras, by what the name of their bags holds."""
_BAG = re.compile(rb"#\s*file:\s*(?P<bag>[^\r\n]*)", re.IGNORECASE)


def bag_named(data: bytes) -> str:
    """The bag that a list of pictures says it was made from, "" where it says nothing."""
    head = data[:4096].split(b"\n")
    named = [match["bag"] for line in head if (match := _BAG.match(line.strip()))]
    return named[0].decode("utf-8", "replace").strip().strip("'\"") if named else ""


def recorder_of(bag: str, first: float) -> Recorder | None:
    """The benchmark's camera that recorded a bag of that name, whose first picture is of that time [s since 1970].

    None where the name is none of theirs or the time is of another year.
    """
    name = bag.replace("\\", "/").rpartition("/")[2]
    known = next((key for key in RECORDERS if re.match(rf"rgbd_(dataset_)?{key.removeprefix('rgbd_')}", name)), None)
    if known is None or not 0 <= first < 1e10:
        return None
    return RECORDERS[known] if datetime.fromtimestamp(first, UTC).year == RECORDERS[known].year else None
