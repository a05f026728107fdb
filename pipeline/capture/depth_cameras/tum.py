"""Reader of RGB-D recordings in the TUM layout: lists of images, depth and poses with times, joined by time.

Source: J. Sturm et al., A Benchmark for the Evaluation of RGB-D SLAM Systems, IROS 2012, and its "File Formats" page.

The calibrations of the TUM and Bonn benchmarks are on the pages "Intrinsic Camera Calibration of the Kinect" and of the
RGB-D Dynamic Dataset (E. Palazzolo et al., ReFusion, IROS 2019). Bonn's ground truth follows markers on the camera: a
point of the camera lies at T_ros T_gt T_ros T_m p, with the T_m (a rotation times 1.059) and T_ros below.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from pipeline.capture.depth_cameras.intrinsics import DEPTH_CAMERA, INTRINSICS, Intrinsics
from pipeline.capture.frames import FrameFiles, ListedFrame, sensor_capture, thinned, through_lens, with_poses
from pipeline.capture.images import find_masks, guessed_camera
from pipeline.capture.lens import Lens
from pipeline.capture.model import Capture, Skipped
from pipeline.capture.params import CaptureParams
from pipeline.capture.reader import Reader, Survey
from pipeline.capture.source import CaptureSource
from pipeline.capture.time_offset import find_time_offset
from pipeline.capture.trajectory import check_clocks, nearest, numbers, tum_trajectory
from pipeline.errors import CaptureError
from pipeline.geometry import Pose
from pipeline.types import F64

_BONN_MARKER = np.array([[1.0157, 0.1828, -0.2389], [0.0009, -0.8431, -0.6413], [-0.3009, 0.6147, -0.8085]])
_BONN_SCALE = float(np.cbrt(np.linalg.det(_BONN_MARKER)))
_BONN_AXES = Pose(np.array([[-1.0, 0, 0], [0, 0, 1], [0, 1, 0]]), np.zeros(3))
_U, _, _VT = np.linalg.svd(_BONN_MARKER)
_BAG = re.compile(rb"#\s*file:\s*(?P<bag>[^\r\n]*)", re.IGNORECASE)
COLOR, DEPTH, POSES = "rgb.txt", "depth.txt", "groundtruth.txt"
UNITS_PER_METRE = 5000.0
MAX_APART = 0.02
"""Largest difference of an image and its depth [s], as in the benchmark's own tool."""
MAX_GAP = 0.1
"""Largest distance of the two poses that an image's is interpolated from [s]."""


@dataclass(frozen=True, eq=False)
class Recorder:
    """A published calibration.

    Attributes:
        lens: Lens of images and of depth, which is registered to them; published for centres at integers, here at +0.5.
        year: Year in which it recorded; the lists' times are of the system's clock.
        scale_sigma: Relative one sigma of depth's scale; the poses are motion capture's and better.
    """

    lens: Lens
    year: int
    scale_sigma: float | None = DEPTH_CAMERA.scale_sigma
    body_from_camera: Pose = field(default_factory=Pose.identity)
    note: str = ""


def _lens(focal: tuple[float, float], centre: tuple[float, float], distortion: tuple[float, ...]) -> Lens:
    model = {0: "PINHOLE", 4: "OPENCV", 5: "FULL_OPENCV"}[len(distortion)]
    more = (*distortion, 0.0, 0.0, 0.0) if model == "FULL_OPENCV" else distortion
    return Lens(model, 640, 480, (*focal, centre[0] + 0.5, centre[1] + 0.5, *more))


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
"""The benchmarks' cameras, by a part of their bags' names."""


def bag_named(data: bytes) -> str:
    """The bag that a list of images names as its origin, "" where it names none."""
    head = data[:4096].split(b"\n")
    named = [match["bag"] for line in head if (match := _BAG.match(line.strip()))]
    return named[0].decode("utf-8", "replace").strip().strip("'\"") if named else ""


def recorder_of(bag: str, first: float) -> Recorder | None:
    """The benchmark's camera that recorded a bag of that name, whose first image is of that time [s since 1970].

    None where the name is none of theirs or the time is of another year: tools that write this layout copy the line.
    """
    name = bag.replace("\\", "/").rpartition("/")[2]
    known = next((key for key in RECORDERS if re.match(rf"rgbd_(dataset_)?{key.removeprefix('rgbd_')}", name)), None)
    if known is None or not 0 <= first < 1e10:
        return None
    return RECORDERS[known] if datetime.fromtimestamp(first, UTC).year == RECORDERS[known].year else None


def _list(source: CaptureSource, name: str) -> tuple[F64, list[str]]:
    file = source.where(name)
    if name not in source.names:
        remedy = "copy the whole recording; without depth use the images alone, in a folder of their own"
        raise source.broken(name, f"a TUM recording must have {COLOR} and {DEPTH}", f"no {name}", remedy)
    rows = source.read_table(name)
    times = np.array([numbers(row, 1, file, line)[0] for line, row in enumerate(rows, 1)])
    bare = next((" ".join(row) for row in rows if len(row) < 2), None)
    if bare is not None or not rows:
        found = "no line" if bare is None else repr(bare[:80])
        raise source.broken(name, "each line must hold a time and a file's name", found, "download the recording again")
    wrong = np.flatnonzero(~(np.diff(times, prepend=-np.inf) > 0) | ~np.isfinite(times))
    if len(wrong):
        at = int(wrong[0])
        found = f"{times[at]} after {times[at - 1] if at else 'nothing'}"
        remedy = "sort the lines, remove repeated ones"
        raise source.broken(name, "times must increase from line to line", found, remedy)
    files = [row[1].removeprefix("./") for row in rows]
    present = set(source.names)
    missing = [name for name in files if name not in present]
    if missing or len(set(files)) < len(files):
        found = f"{len(missing)} of {len(files)} missing, first {missing[0]}" if missing else "a file listed twice"
        remedy = "copy the whole recording, or remove the lines of what is missing"
        raise source.broken(name, "all files that are listed must exist, each listed once", found, remedy)
    return times, files


def _pairs(source: CaptureSource) -> tuple[list[tuple[float, str, str]], list[Skipped]]:
    """Time, image and depth that are each other's nearest in time; images without are left out."""
    times, images = _list(source, COLOR)
    depth_times, depths = _list(source, DEPTH)
    depth_of = nearest(depth_times, times)
    image_of = nearest(times, depth_times)
    pairs, skipped = [], []
    for index, (time, image, depth) in enumerate(zip(times, images, depth_of, strict=True)):
        if image_of[depth] == index and abs(depth_times[depth] - time) <= MAX_APART:
            pairs.append((float(time), image, depths[depth]))
        else:
            skipped.append(Skipped(image, f"no depth of its own within {1000 * MAX_APART:g} ms"))
    if not pairs:
        rule = f"images and depth must have times of one clock, in seconds, {1000 * MAX_APART:g} ms apart at most"
        spans = [f"from {each[0]:.3f} to {each[-1]:.3f}" for each in (times, depth_times)]
        raise source.broken(DEPTH, rule, f"images {spans[0]}, depth {spans[1]}", "export both with the same clock")
    return pairs, skipped


def _intrinsics(source: CaptureSource) -> Intrinsics | Recorder:
    """Those of the file that the user wrote, else the benchmark's calibration if it is the benchmark's."""
    file = source.where(INTRINSICS)
    if INTRINSICS in source.names:
        rows = source.read_table(INTRINSICS)
        if len(rows) < 2:
            raise _no_camera(f"{len(rows)} lines", file)
        (fx, _, cx), (_, fy, cy) = (numbers(row, 3, file, line) for line, row in enumerate(rows[:2], 1))
        return Intrinsics(file, (float(fx), float(fy), float(cx), float(cy)))
    bag, first = bag_named(source.read(COLOR)), float(_list(source, COLOR)[0][0])
    recorder = recorder_of(bag, first)
    if recorder is None:
        named = f"{COLOR} is of {bag!r:.80}" if bag else f"{COLOR} has no line # file:"
        raise _no_camera(f"no such file; {named}, its first time is {first:.1f} s", file)
    return recorder


def _no_camera(found: str, file: str) -> CaptureError:
    return CaptureError(
        f"the camera of a TUM recording must be known: {INTRINSICS}, a 3x3 matrix. Only recordings of the benchmarks "
        f"({', '.join(RECORDERS)}) need none; {COLOR}'s line # file: and times of their year tell which it is",
        found=found,
        remedy="write it as three lines: fx 0 cx / 0 fy cy / 0 0 1; of a benchmark's recording, put back the archive's "
        f"{COLOR} (# file: 'rgbd_dataset_freiburg1_desk.bag')",
        file=file,
    )


def _survey(source: CaptureSource) -> Survey:
    _intrinsics(source)
    pairs, _ = _pairs(source)
    lists = [name for name in (COLOR, DEPTH, POSES, INTRINSICS) if name in source.names]
    masks = find_masks(source, [image for _, image, _ in pairs]).values()
    return Survey(
        sorted({*lists, *masks, *(name for _, *pair in pairs for name in pair)}),
        len(pairs),
        has_poses=POSES in source.names,
        has_depth=True,
        has_scale=True,
    )


def _read(source: CaptureSource, out_dir: Path, params: CaptureParams) -> Capture:
    pairs, skipped = _pairs(source)
    known = _intrinsics(source)
    recorder = known if isinstance(known, Recorder) else None
    own_camera = guessed_camera if isinstance(known, Recorder) else known.camera
    files = FrameFiles(source, find_masks(source, [image for _, image, _ in pairs]), UNITS_PER_METRE)

    def listed(index: int, time: float, image: str, depth: str) -> ListedFrame:
        frame = replace(files.frame(f"{index:06d}", image, time, depth), camera=own_camera, depth_camera=own_camera)
        if recorder is None:
            return frame
        frame = through_lens(frame, recorder.lens, source.where(COLOR))
        return replace(frame, depth_camera=frame.camera) if recorder.lens.is_pinhole else frame

    frames = [listed(index, *pair) for index, pair in enumerate(pairs)]
    notes = [f"lens and depth as published for {bag_named(source.read(COLOR))}", recorder.note] if recorder else []
    notes = [note for note in notes if note]
    if POSES in source.names:
        times = np.array([frame.time for frame in frames], np.float64)
        trajectory = tum_trajectory(source.read(POSES), source.where(POSES))
        check_clocks(times, trajectory, source.where(POSES))
        camera_at = trajectory.of_camera(recorder.body_from_camera if recorder else Pose.identity(), MAX_GAP)
        offset = find_time_offset(frames, camera_at)
        notes += [offset.note] if offset else []
        poses = camera_at(times + (offset.seconds if offset else 0.0))
        frames, missing = with_poses(frames, poses, f"no two poses around it within {1000 * MAX_GAP:g} ms")
        skipped += missing
    else:
        notes.append(f"there is no {POSES}")
    sensors = replace(DEPTH_CAMERA, scale_sigma=recorder.scale_sigma) if recorder else DEPTH_CAMERA
    frames = thinned(frames, params)
    return sensor_capture(READER, frames, source, out_dir, params, sensors=sensors, skipped=skipped, notes=notes)


READER = Reader(
    kind="tum",
    form=f"a TUM RGB-D recording (folder or zip): {COLOR}, {DEPTH}, {POSES}, rgb/, depth/",
    yields="poses, depth, times, metric scale",
    recognise=lambda source: COLOR in source.names and (DEPTH in source.names or POSES in source.names),
    survey=_survey,
    read=_read,
    sensors=DEPTH_CAMERA,
)
