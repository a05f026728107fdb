"""Reader of Apple's ARKitScenes: one video of the `raw` or the `3dod` data set, as its downloader lays it out.

Layout: DATA.md, raw/README.md and threedod/README.md of github.com/apple/ARKitScenes; the trajectory's direction and
the rounding of file names: its tenFpsDataLoader.py; axes and gravity: its issues 78 and 81.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from pipeline.capture.checks import checked_camera
from pipeline.capture.frames import FrameFiles, declared_camera, scaled_camera, sensor_capture, thinned
from pipeline.capture.images import find_masks
from pipeline.capture.model import Capture, Size
from pipeline.capture.params import CaptureParams
from pipeline.capture.phones.arkit import ARKIT, CONFIDENCE_LEVELS, arkit_survey, from_arkit
from pipeline.capture.reader import Reader, Survey, put_once
from pipeline.capture.source import CaptureSource
from pipeline.capture.texts import parse_table
from pipeline.capture.trajectory import Trajectory, check_clocks, nearest, number_table, numbers, ordered_trajectory
from pipeline.errors import CaptureError
from pipeline.geometry import Camera, Pose
from pipeline.types import F64

TRAJECTORY = "lowres_wide.traj"
STREAMS = ("wide", "vga_wide", "lowres_wide")
"""Images of the one camera that has poses, the best resolved first."""
DEPTH, CONFIDENCE, DEPTH_STREAM = "lowres_depth", "confidence", "lowres_wide"
SAME_TIME = 0.0015
"""Names give a time rounded to 1 ms, which differs by 1 ms between folders for the same time [s]."""
MAX_GAP = 0.25
"""Largest distance of the two poses that an image's is interpolated from [s]; they come every 0.1 s."""
MAX_SIDE = 100_000
"""Longest side of an image that is believed [px]."""
UP = np.array([0.0, 0.0, 1.0])
"""The poses were optimised afterwards; the world's z stayed up."""
MIN_COVERAGE = 0.5
"""A better resolved stream is taken when its frames show at least this share of the seconds that another shows."""
_SIDES = {"Up": (0, -1), "Left": (-1, 0), "Down": (0, 1), "Right": (1, 0)}
"""Directions in an image (x right, y down), by their names in metadata.csv."""
FILE = re.compile(r"(?P<folder>\w+)/(?:(?P<video>[^/_]+)_)?(?P<seconds>\d+\.\d+)\.(?:png|jpe?g|pincam)", re.IGNORECASE)
_PINCAM = re.compile(rf"(?:{'|'.join(STREAMS)})_intrinsics/[^/]+\.pincam")


@dataclass(frozen=True)
class Shot:
    """An image and its files; `depth_camera` is the intrinsics file of the stream that depth is registered to."""

    time: float
    image: str
    camera: str
    pose: Pose
    depth: str | None
    depth_camera: str | None
    confidence: str | None


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
        rule = "the file must be the data set's, not the download server's answer"
        remedy = "download it again; some videos have no trajectory: copy the images alone and name their folder"
        raise source.broken(name, rule, "an XML error page", remedy)
    return data


def files_by_folder(source: CaptureSource) -> dict[str, dict[float, str]]:
    """Files by folder and time [s], in the order of time.

    Raises:
        CaptureError: When they are of several videos, or two of a folder are of one time.
    """
    folders: dict[str, dict[float, str]] = {}
    videos: dict[str, str] = {}
    for name in source.names:
        if match := FILE.fullmatch(name):
            put_once(folders.setdefault(match["folder"], {}), float(match["seconds"]), name, source)
            videos.setdefault(match["video"] or "", name)
    if len(videos) > 1:
        found = f"files of {len(videos)}: {', '.join(sorted(videos.values())[:3])}"
        remedy = "keep each in its own folder"
        raise source.broken("", "a capture holds the files of one video, <video>_<seconds>.png", found, remedy)
    return {folder: dict(sorted(files.items())) for folder, files in folders.items()}


def _of_times(files: Mapping[float, str], times: F64) -> list[str | None]:
    """The file of the same time for each time, if there is one."""
    if not files:
        return [None] * len(times)
    known, names = np.array([*files]), [*files.values()]
    index = nearest(known, times)
    near = np.abs(known[index] - times) <= SAME_TIME
    return [names[i] if same else None for i, same in zip(index, near, strict=True)]


def read_trajectory(source: CaptureSource) -> Trajectory:
    """World from camera of the wide camera; the file has camera from world as time, angle-axis [rad], metres."""
    from scipy.spatial.transform import Rotation

    if TRAJECTORY not in source.names:
        remedy = "download that asset; some videos have none: copy the images alone into a folder and name that"
        raise source.broken(TRAJECTORY, f"an ARKitScenes video must have {TRAJECTORY}", "no such file", remedy)
    file = source.where(TRAJECTORY)
    values = number_table(_text(source, TRAJECTORY), 7, file)
    rotations = Rotation.from_rotvec(values[:, 1:4]).as_matrix()
    poses = [Pose(rotation, row[4:7]).inverse() for rotation, row in zip(rotations, values, strict=True)]
    return ordered_trajectory(values[:, 0], poses, file)


def shots_of(
    stream: str, folders: Mapping[str, Mapping[float, str]], trajectory: Trajectory
) -> tuple[list[Shot], Counter[str]]:
    """Images of a stream that have all they need, and number of those that lack something, by what they lack."""
    images, times = folders[stream].values(), np.array([*folders[stream]])
    files = (f"{stream}_intrinsics", DEPTH, f"{DEPTH_STREAM}_intrinsics", CONFIDENCE)
    cameras, depths, depth_cameras, confidences = (_of_times(folders.get(folder, {}), times) for folder in files)
    poses = trajectory.at(times, MAX_GAP, snap=SAME_TIME)
    parts = zip(times, images, cameras, poses, depths, depth_cameras, confidences, strict=True)
    shots, lacking = [], Counter()
    for time, image, camera, pose, depth, depth_camera, confidence in parts:
        if camera is None:
            lacking["intrinsics"] += 1
        elif pose is None:
            lacking["a pose"] += 1
        elif depth is None and DEPTH in folders:
            lacking["depth"] += 1
        else:
            shots.append(Shot(float(time), image, camera, pose, depth, depth_camera, confidence))
    return shots, lacking


def read_camera(source: CaptureSource, name: str) -> Camera:
    """Intrinsics of a .pincam file: width, height, fx, fy, cx, cy, as ARKit counts pixels."""
    file = source.where(name)
    rows = parse_table(_text(source, name), file)
    width, height, fx, fy, cx, cy = numbers(rows[0] if rows else [], 6, file, 1).tolist()
    if not (1 <= width < MAX_SIDE and 1 <= height < MAX_SIDE):
        found = f"a size of {width:g} x {height:g}"
        raise CaptureError("intrinsics must name the image's size", found=found, remedy="download it again", file=file)
    return from_arkit(checked_camera((fx, fy, cx, cy), (round(width), round(height)), file))


def _plan(source: CaptureSource) -> tuple[CaptureSource, list[Shot], list[str]]:
    """The folder that holds the streams, the images that are read of the best stream, and notes."""
    root = stream_folder(source)
    assert root is not None
    trajectory, folders = read_trajectory(root), files_by_folder(root)
    streams = {stream: shots_of(stream, folders, trajectory) for stream in STREAMS if stream in folders}
    if not streams:
        rule = f"an ARKitScenes video must have images in one of {', '.join(STREAMS)}"
        raise root.broken("", rule, root.summary(), "download that asset too and unpack its archive")
    check_clocks(np.array([time for stream in streams for time in folders[stream]]), trajectory, root.where(TRAJECTORY))
    seconds = {stream: len({int(m.time) for m in shots}) for stream, (shots, _) in streams.items()}
    if not any(seconds.values()):
        lists = [f"{stream}: {len(folders[stream])} images, {_listed(of[1])}" for stream, of in streams.items()]
        remedy = "download all assets of one stream: images, its intrinsics, lowres_depth and the trajectory"
        raise root.broken("", "images must have intrinsics, a pose and depth of their time", "; ".join(lists), remedy)
    chosen = next(stream for stream in streams if seconds[stream] >= MIN_COVERAGE * max(seconds.values()))
    shots, lacking = streams[chosen]
    notes = [f"images of {chosen}"]
    passed = list(streams)[: list(streams).index(chosen)]
    notes += [f"{s} not used: it shows {seconds[s]} s of the video, {chosen} {seconds[chosen]} s" for s in passed]
    notes += [f"left out: {_listed(lacking)}"] if lacking else []
    notes += [] if DEPTH in folders else [f"there is no {DEPTH}"]
    notes += [_upright(source, root, shots)]
    notes += [f"ARKit's mesh {name} is not used" for name in source.names if name.endswith("_3dod_mesh.ply")][:1]
    return root, shots, notes


def _listed(lacking: Counter[str]) -> str:
    return ", ".join(f"{count} without {what}" for what, count in lacking.items())


def _upright(source: CaptureSource, root: CaptureSource, shots: Sequence[Shot]) -> str:
    """Direction of up in the images, by their poses; metadata.csv states it per video and is sometimes wrong."""
    ups = np.array([shot.pose.rotation[2, :2] for shot in shots])  # the world's z in camera axes
    nearest_side = (ups @ np.array(list(_SIDES.values())).T).argmax(1)
    side, count = Counter(list(_SIDES)[index] for index in nearest_side).most_common(1)[0]
    text = f"up is {side} in {count / len(shots):.0%} of the images, by their poses"
    declared = _sky_direction(source, root)
    return text if declared in (None, side) else f"{text}; metadata.csv says {declared}, which is not used"


def _sky_direction(source: CaptureSource, root: CaptureSource) -> str | None:
    """Direction of up by metadata.csv, if it is next to the video."""
    folder = next((folder for folder in (source, root) if "metadata.csv" in folder.names), None)
    match = next((match for name in root.names if (match := FILE.fullmatch(name))), None)
    if folder is None or match is None:
        return None
    lines = folder.read("metadata.csv").decode(errors="replace").splitlines()
    try:
        rows = [row for row in csv.DictReader(lines) if row.get("video_id") == match["video"]]
    except csv.Error:
        return None
    return rows[0].get("sky_direction") if rows else None


def _survey(source: CaptureSource) -> Survey:
    root, shots, _ = _plan(source)
    inner = root.prefix.removeprefix(source.prefix)
    names = {TRAJECTORY, *find_masks(root, [shot.image for shot in shots]).values()}
    for shot in shots:
        names |= {shot.image, shot.camera, *filter(None, (shot.depth, shot.depth_camera, shot.confidence))}
    metadata = {f"{inner}metadata.csv", "metadata.csv"} & set(source.names)
    files = sorted({*(inner + name for name in names), *metadata})
    return arkit_survey(files, len(shots), depth=all(shot.depth for shot in shots))


def _read(source: CaptureSource, out_dir: Path, params: CaptureParams) -> Capture:
    root, shots, notes = _plan(source)
    files = FrameFiles(root, find_masks(root, [shot.image for shot in shots]))

    def camera(shot: Shot, size: Size) -> Camera:
        return declared_camera(read_camera(root, shot.camera), root.where(shot.image))(size)

    def depth_camera(shot: Shot, size: Size) -> Camera:
        lens = read_camera(root, shot.depth_camera or shot.camera)
        return scaled_camera(lens, root.where(shot.depth or shot.image), "depth image")(size)

    listed = [
        replace(
            files.frame(PurePosixPath(shot.image).stem, shot.image, shot.time, shot.depth),
            camera=partial(camera, shot),
            world_from_camera=shot.pose,
            depth_camera=partial(depth_camera, shot),
            confidence=files.confidence(shot.confidence, CONFIDENCE_LEVELS) if shot.confidence else None,
        )
        for shot in shots
    ]
    return sensor_capture(READER, thinned(listed, params), root, out_dir, params, up_in_world=UP, notes=notes)


READER = Reader(
    kind="arkitscenes",
    form=f"a video of ARKitScenes, raw or 3dod (folder or zip): {TRAJECTORY}, lowres_wide/, lowres_wide_intrinsics/, "
    "lowres_depth/",
    yields="poses, depth, confidence, gravity, times, metric scale",
    recognise=lambda source: stream_folder(source) is not None,
    survey=_survey,
    read=_read,
    sensors=ARKIT,
)
