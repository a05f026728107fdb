"""Reader of RGB-D recordings in the TUM layout: lists of pictures, depth and poses with times, joined by time.

Source: J. Sturm et al., A Benchmark for the Evaluation of RGB-D SLAM Systems, IROS 2012, and its "File Formats" page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.capture.checks import checked_camera
from pipeline.capture.depth_cameras.tum_cameras import RECORDERS, Recorder, bag_named, recorder_of
from pipeline.capture.depth_images import depth_of_png
from pipeline.capture.frames import ListedFrame, Size, declared_camera, sensor_capture, thinned
from pipeline.capture.lens import Lens, camera_of, is_straight, pinhole_of, straight_depth, straight_picture
from pipeline.capture.masks import find_masks
from pipeline.capture.model import Capture, Skipped
from pipeline.capture.params import CaptureParams
from pipeline.capture.pictures import Picture, load_picture
from pipeline.capture.reader import Reader
from pipeline.capture.source import CaptureSource
from pipeline.capture.time_offset import find_time_offset
from pipeline.capture.trajectory import check_clocks, nearest, numbers, read_table, tum_trajectory
from pipeline.errors import CaptureError
from pipeline.geometry import Camera, Pose
from pipeline.stage import Traits

COLOR, DEPTH, POSES, INTRINSICS = "rgb.txt", "depth.txt", "groundtruth.txt", "camera-intrinsics.txt"
UNITS_PER_METRE = 5000.0
MAX_APART = 0.02
"""Between a picture and the depth that belongs to it [s], as the benchmark's own tool has it."""
MAX_GAP = 0.1
"""Between the two poses that a picture's is interpolated from [s]."""


OTHER_SCALE_SIGMA = 0.015
"""As of every structured-light camera."""


def _recognise(source: CaptureSource) -> bool:
    return COLOR in source.names and (DEPTH in source.names or POSES in source.names)


def _list(source: CaptureSource, name: str) -> tuple[NDArray[np.float64], list[str]]:
    """Times and file names of a list."""
    file = source.where(name)
    if name not in source.names:
        raise CaptureError(
            f"a TUM recording must have {COLOR} and {DEPTH}",
            found=f"no {name}",
            remedy="copy the whole recording; without depth use the pictures alone, in a folder of their own",
            file=file,
        )
    rows = read_table(source.read(name), file)
    times = np.array([numbers(row, 1, file, line)[0] for line, row in enumerate(rows, 1)])
    bare = next((" ".join(row) for row in rows if len(row) < 2), None)
    if bare is not None or not rows:
        raise CaptureError(
            "each line must hold a time and a file's name",
            found="no line" if bare is None else repr(bare[:80]),
            remedy="download the recording again",
            file=file,
        )
    wrong = np.flatnonzero(~(np.diff(times, prepend=-np.inf) > 0) | ~np.isfinite(times))
    if len(wrong):
        at = int(wrong[0])
        raise CaptureError(
            "times must increase from line to line",
            found=f"{times[at]} after {times[at - 1] if at else 'nothing'}",
            remedy="sort the lines and remove repeated ones",
            file=file,
        )
    files = [row[1].removeprefix("./") for row in rows]
    present = set(source.names)
    missing = [name for name in files if name not in present]
    if missing or len(set(files)) < len(files):
        raise CaptureError(
            "all files that are listed must be there, each listed once",
            found=f"{len(missing)} of {len(files)} missing, first {missing[0]}" if missing else "a file listed twice",
            remedy="copy the whole recording, or remove the lines of what is missing",
            file=file,
        )
    return times, files


def _pairs(source: CaptureSource) -> tuple[list[tuple[float, str, str]], list[Skipped]]:
    """Time, picture and depth that are each other's nearest in time; pictures without are left out."""
    times, pictures = _list(source, COLOR)
    depth_times, depths = _list(source, DEPTH)
    depth_of = nearest(depth_times, times)
    picture_of = nearest(times, depth_times)
    pairs, skipped = [], []
    for index, (time, picture, depth) in enumerate(zip(times, pictures, depth_of, strict=True)):
        if picture_of[depth] == index and abs(depth_times[depth] - time) <= MAX_APART:
            pairs.append((float(time), picture, depths[depth]))
        else:
            skipped.append(Skipped(picture, f"no depth of its own within {1000 * MAX_APART:g} ms"))
    if not pairs:
        raise CaptureError(
            f"pictures and depth must have times of one clock, in seconds, {1000 * MAX_APART:g} ms apart at most",
            found=f"pictures from {times[0]:.3f} to {times[-1]:.3f}, depth from {depth_times[0]:.3f} "
            f"to {depth_times[-1]:.3f}",
            remedy="export both with the same clock",
            file=source.where(DEPTH),
        )
    return pairs, skipped


def _intrinsics(source: CaptureSource) -> tuple[float, float, float, float] | Recorder:
    """fx, fy, cx, cy of the file that the user wrote, else the benchmark's calibration if it is the benchmark's."""
    file = source.where(INTRINSICS)
    if INTRINSICS in source.names:
        rows = read_table(source.read(INTRINSICS), file)
        if len(rows) < 2:
            raise _no_camera(f"{len(rows)} lines", file)
        (fx, _, cx), (_, fy, cy) = (numbers(row, 3, file, line) for line, row in enumerate(rows[:2], 1))
        return float(fx), float(fy), float(cx), float(cy)
    bag, first = bag_named(source.read(COLOR)), float(_list(source, COLOR)[0][0])
    recorder = recorder_of(bag, first)
    if recorder is None:
        said = f"{COLOR} is of {bag!r:.80}" if bag else f"{COLOR} has no line # file:"
        raise _no_camera(f"no such file; {said}, its first time is {first:.1f} s", file)
    return recorder


def _no_camera(found: str, file: str) -> CaptureError:
    return CaptureError(
        f"the camera of a TUM recording must be known: {INTRINSICS}, a 3x3 matrix. Only recordings of the benchmarks "
        f"({', '.join(RECORDERS)}) need none, told by {COLOR}'s line # file: and times of the year they were made in",
        found=found,
        remedy="write it as three lines: fx 0 cx / 0 fy cy / 0 0 1; of a benchmark's recording, put back the archive's "
        f"{COLOR} (# file: 'rgbd_dataset_freiburg1_desk.bag')",
        file=file,
    )


def _poses(
    source: CaptureSource, frames: Sequence[ListedFrame], body_from_camera: Pose, notes: list[str]
) -> Sequence[Pose | None]:
    times = np.array([frame.time for frame in frames], np.float64)
    trajectory = tum_trajectory(source.read(POSES), source.where(POSES))
    check_clocks(times, trajectory, source.where(POSES))
    camera_at = trajectory.of_camera(body_from_camera, MAX_GAP)
    offset = find_time_offset(frames, camera_at)
    notes += [offset.note] if offset else []
    return camera_at(times + (offset.seconds if offset else 0.0))


def _picture(source: CaptureSource, name: str) -> Picture:
    return load_picture(source.read(name), upright=False)


def _depth(source: CaptureSource, name: str) -> NDArray[np.uint16]:
    return depth_of_png(source.read(name), source.where(name), UNITS_PER_METRE)


def _through(frame: ListedFrame, lens: Lens, file: str) -> ListedFrame:
    """A frame seen through its lens: what the canonical camera can't hold is made straight, depth always."""
    sized = declared_camera(camera_of(lens, file), file)
    if is_straight(lens):
        return replace(frame, camera=sized, depth_camera=sized)
    pinhole, read_depth = pinhole_of(lens, file), frame.depth
    assert read_depth is not None

    def straight() -> Picture:
        picture = frame.picture()
        sized(picture.size)
        return straight_picture(picture, frame.mask() if frame.mask else None, lens, pinhole)

    return replace(
        frame,
        picture=frame.picture if lens.held else straight,
        mask=frame.mask if lens.held else None,
        camera=sized,
        depth=lambda: straight_depth(read_depth(), lens, pinhole),
        depth_camera=lambda size: pinhole.resized(*size),
    )


def _traits(source: CaptureSource) -> Traits:
    _intrinsics(source)
    count, posed = len(_pairs(source)[0]), POSES in source.names
    return Traits("tum", count, has_poses=posed, has_depth=True, has_gravity=False, ordered=True, has_scale=True)


def _files(source: CaptureSource) -> list[str]:
    pairs, _ = _pairs(source)
    lists = [name for name in (COLOR, DEPTH, POSES, INTRINSICS) if name in source.names]
    masks = find_masks(source, [picture for _, picture, _ in pairs]).values()
    return sorted({*lists, *masks, *(name for _, *pair in pairs for name in pair)})


def _read(source: CaptureSource, out_dir: Path, params: CaptureParams) -> Capture:
    pairs, skipped = _pairs(source)
    known = _intrinsics(source)
    recorder = known if isinstance(known, Recorder) else None
    has_poses = POSES in source.names
    masks = find_masks(source, [picture for _, picture, _ in pairs])

    def plain(size: Size) -> Camera:
        assert isinstance(known, tuple)
        return checked_camera(known, size, source.where(INTRINSICS))

    frames = []
    for index, (time, picture, depth) in enumerate(pairs):
        frame = ListedFrame(
            key=f"{index:06d}",
            name=picture,
            picture=partial(_picture, source, picture),
            camera=plain,
            time=time,
            source_time=time,
            depth=partial(_depth, source, depth),
            depth_name=depth,
            depth_camera=plain,
            mask=partial(source.read, masks[picture]) if picture in masks else None,
        )
        frames.append(_through(frame, recorder.lens, source.where(COLOR)) if recorder else frame)
    notes = [f"lens and depth as published for {bag_named(source.read(COLOR))}", recorder.note] if recorder else []
    notes = [note for note in notes if note]
    listed = frames
    if has_poses:
        body_from_camera = recorder.body_from_camera if recorder else Pose.identity()
        poses = _poses(source, frames, body_from_camera, notes)
        listed = [replace(f, world_from_camera=pose) for f, pose in zip(frames, poses, strict=True) if pose]
        reason = f"no two poses around it within {1000 * MAX_GAP:g} ms"
        skipped += [Skipped(f.name, reason) for f, pose in zip(frames, poses, strict=True) if pose is None]
    else:
        notes.append(f"there is no {POSES}")
    return sensor_capture(
        "tum",
        thinned(listed, params),
        source,
        out_dir,
        params,
        scale_sigma=recorder.scale_sigma if recorder else OTHER_SCALE_SIGMA,
        skipped=skipped,
        notes=notes,
    )


READER = Reader(
    kind="tum",
    form=f"a TUM RGB-D recording (folder or zip): {COLOR}, {DEPTH}, {POSES}, rgb/, depth/",
    yields="poses, depth, times, metric scale",
    recognise=_recognise,
    traits=_traits,
    files=_files,
    read=_read,
)
