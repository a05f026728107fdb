"""Files of an ARKitScenes video: which folder holds them, what belongs to one moment, trajectory and intrinsics."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from pipeline.capture.checks import checked_camera
from pipeline.capture.phones.arkit_camera import from_arkit
from pipeline.capture.source import CaptureSource
from pipeline.capture.trajectory import Trajectory, nearest, numbers, ordered_trajectory, read_table
from pipeline.errors import CaptureError
from pipeline.geometry import Camera, Pose

TRAJECTORY = "lowres_wide.traj"
STREAMS = ("wide", "vga_wide", "lowres_wide")
"""Pictures of the one camera that has poses, the best resolved first."""
DEPTH, CONFIDENCE, DEPTH_STREAM = "lowres_depth", "confidence", "lowres_wide"
SAME_MOMENT = 0.0015
"""Names give a time rounded to 1 ms, which differs by 1 ms between folders for the same moment [s]."""
MAX_GAP = 0.25
"""Between the two poses that a picture's is interpolated from [s]; they come every 0.1 s."""
MAX_SIDE = 100_000
"""Longer sides of a picture are no sizes [px]."""
FILE = re.compile(r"(?P<folder>\w+)/(?:(?P<video>[^/_]+)_)?(?P<seconds>\d+\.\d+)\.(?:png|jpe?g|pincam)", re.IGNORECASE)
_PINCAM = re.compile(rf"(?:{'|'.join(STREAMS)})_intrinsics/[^/]+\.pincam")


@dataclass(frozen=True, eq=False)
class FilesByTime:
    """Names (N) of a folder's files with their times (N,), increasing [s]."""

    times: NDArray[np.float64]
    names: tuple[str, ...]

    def of(self, times: NDArray[np.float64]) -> list[str | None]:
        """The file of the same moment for each time, if there is one."""
        if not self.names:
            return [None] * len(times)
        index = nearest(self.times, times)
        near = np.abs(self.times[index] - times) <= SAME_MOMENT
        return [self.names[i] if same else None for i, same in zip(index, near, strict=True)]


@dataclass(frozen=True)
class Moment:
    """A picture with what belongs to it; `depth_camera` is the intrinsics file of the stream that depth lies over."""

    time: float
    picture: str
    camera: str
    pose: Pose
    depth: str | None
    depth_camera: str | None
    confidence: str | None

    def files(self) -> list[str]:
        """All of it that lies on disk."""
        every = (self.picture, self.camera, self.depth, self.depth_camera, self.confidence)
        return [name for name in every if name]


def stream_folder(source: CaptureSource) -> CaptureSource | None:
    """The source itself (raw), or the one folder in it that holds the streams (3dod: `<video>_frames`)."""
    if any(map(_is_sign, source.names)):
        return source
    parts = (name.partition("/") for name in source.names)
    inner = {folder for folder, _, name in parts if _is_sign(name)}
    return source.below(inner.pop()) if len(inner) == 1 else None


def _is_sign(name: str) -> bool:
    return name == TRAJECTORY or _PINCAM.fullmatch(name) is not None


def _text(source: CaptureSource, name: str) -> bytes:
    data = source.read(name)
    if data.lstrip()[:5] == b"<?xml":
        raise CaptureError(
            "the file must be the data set's, not the download server's answer",
            found="an XML error page",
            remedy="download it again; some videos have no trajectory: copy the pictures alone and name their folder",
            file=source.where(name),
        )
    return data


def files_by_folder(source: CaptureSource) -> dict[str, FilesByTime]:
    """Files by folder, each of one video.

    Raises:
        CaptureError: When they are of several.
    """
    found: dict[str, list[tuple[float, str]]] = {}
    videos: dict[str, str] = {}
    for name in source.names:
        if match := FILE.fullmatch(name):
            found.setdefault(match["folder"], []).append((float(match["seconds"]), name))
            videos.setdefault(match["video"] or "", name)
    if len(videos) > 1:
        raise CaptureError(
            "a capture holds the files of one video, <video>_<seconds>.png",
            found=f"files of {len(videos)}: {', '.join(sorted(videos.values())[:3])}",
            remedy="keep each video in a folder of its own",
            file=source.path / source.prefix,
        )
    return {
        folder: FilesByTime(np.array([time for time, _ in sorted(files)]), tuple(name for _, name in sorted(files)))
        for folder, files in found.items()
    }


def read_trajectory(source: CaptureSource) -> Trajectory:
    """World from camera of the wide camera; the file has camera from world as time, angle-axis [rad], metres."""
    if TRAJECTORY not in source.names:
        raise CaptureError(
            f"an ARKitScenes video must have {TRAJECTORY}",
            found="no such file",
            remedy="download that asset; some videos have none: copy the pictures alone into a folder and name that",
            file=source.where(TRAJECTORY),
        )
    file = source.where(TRAJECTORY)
    rows = read_table(_text(source, TRAJECTORY), file)
    values = np.array([numbers(row, 7, file, line) for line, row in enumerate(rows, 1)]).reshape(-1, 7)
    if not np.isfinite(values).all():
        raise CaptureError(
            "a trajectory's numbers must be finite",
            found=f"line {1 + int(np.flatnonzero(~np.isfinite(values).all(1))[0])} has NaN or infinity",
            remedy="remove the line: tracking was lost there",
            file=file,
        )
    rotations = Rotation.from_rotvec(values[:, 1:4]).as_matrix()
    poses = [Pose(rotation, row[4:7]).inverse() for rotation, row in zip(rotations, values, strict=True)]
    return ordered_trajectory(values[:, 0], poses, file)


def moments_of(
    stream: str, folders: Mapping[str, FilesByTime], trajectory: Trajectory
) -> tuple[list[Moment], Counter[str]]:
    """The pictures of a stream that have all they need, and how many lack what."""
    nothing = FilesByTime(np.zeros(0), ())
    pictures, depths = folders[stream], folders.get(DEPTH, nothing)
    times = pictures.times
    close = trajectory.times[nearest(trajectory.times, times)]
    poses = trajectory.at(np.where(np.abs(close - times) <= SAME_MOMENT, close, times), MAX_GAP)
    cameras = folders.get(f"{stream}_intrinsics", nothing).of(times)
    depth_cameras = folders.get(f"{DEPTH_STREAM}_intrinsics", nothing).of(times)
    beside = zip(
        times, pictures.names, cameras, poses, depths.of(times), depth_cameras,
        folders.get(CONFIDENCE, nothing).of(times), strict=True,
    )  # fmt: skip
    moments, lacking = [], Counter()
    for time, picture, camera, pose, depth, depth_camera, confidence in beside:
        if camera is None:
            lacking["intrinsics"] += 1
        elif pose is None:
            lacking["a pose"] += 1
        elif depth is None and depths.names:
            lacking["depth"] += 1
        else:
            moments.append(Moment(float(time), picture, camera, pose, depth, depth_camera, confidence))
    return moments, lacking


def read_camera(source: CaptureSource, name: str) -> Camera:
    """Intrinsics of a .pincam file: width, height, fx, fy, cx, cy, as ARKit counts pixels."""
    file = source.where(name)
    rows = read_table(_text(source, name), file)
    width, height, fx, fy, cx, cy = numbers(rows[0] if rows else [], 6, file, 1).tolist()
    if not (1 <= width < MAX_SIDE and 1 <= height < MAX_SIDE):
        found = f"a size of {width:g} x {height:g}"
        raise CaptureError(
            "intrinsics must name the picture's size", found=found, remedy="download it again", file=file
        )
    return from_arkit(checked_camera((fx, fy, cx, cy), (round(width), round(height)), file))
