"""Reader of 7-Scenes, and of other RGB-D frames: colour, 16-bit depth, poses where there are any, intrinsics.

Sources: J. Shotton et al., Scene Coordinate Regression Forests, CVPR 2013, and the data set's readme; ScanNet's
SensReader (reader.py exports color/, depth/, pose/ and intrinsic/); NICE-SLAM's src/utils/datasets.py (class Replica)
and its configs, whose png_depth_scale is 6553.5.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.capture.beside.images import DEPTH, what_pixels_are
from pipeline.capture.checks import checked_pose
from pipeline.capture.depth_cameras.intrinsics import (
    DEPTH_CAMERA,
    INTRINSICS,
    REMEDY,
    IntrinsicsFiles,
    candidates,
    read_intrinsics,
)
from pipeline.capture.frames import FrameFiles, ListedFrame, sensor_capture, thinned, with_poses
from pipeline.capture.images import find_masks
from pipeline.capture.model import Capture, Size, Skipped
from pipeline.capture.params import CaptureParams
from pipeline.capture.reader import Reader, Survey, number_of, put_once, require_pairs
from pipeline.capture.source import CaptureSource
from pipeline.capture.trajectory import numbers
from pipeline.errors import CaptureError
from pipeline.geometry import Camera, Pose

SEVEN_SCENES = Camera(640, 480, 585.0, 585.0, 320.0, 240.0)
"""What its readme gives for all its Kinects; the recordings themselves have no intrinsics."""
ASSUMED = (
    f"no file of intrinsics lies next to the frames, and they are named like those of 7-Scenes: its readme's are taken "
    f"({SEVEN_SCENES.fx:g} px, centre {SEVEN_SCENES.cx:g}, {SEVEN_SCENES.cy:g}); if another camera took them, "
    f"write {INTRINSICS}"
)
_SEVEN_SCENES = re.compile(r"frame-\d{6}\.color\.png")
_IMAGE, _DEPTH = r"\.(?:jpg|jpeg|png)", r"\.png"
NICE_SLAM_UNITS = 6553.5
"""Units of a metre in the depth of Replica as NICE-SLAM published it."""


@dataclass(frozen=True)
class _Layout:
    """How the files of a frame are named: patterns in any case, whose first group is the frame's id.

    `units_per_metre` is of depth whose files of intrinsics give none.
    """

    color: str
    depth: str
    pose: str
    units_per_metre: float = 1000.0

    def parts(self, names: Iterable[str]) -> Iterator[tuple[str, str, str]]:
        """Part, frame's id and name of the files of this layout."""
        patterns = {part: re.compile(getattr(self, part), re.IGNORECASE) for part in ("color", "depth", "pose")}
        for name in names:
            for part, pattern in patterns.items():
                if match := pattern.fullmatch(name):
                    yield part, match[1], name


_DOTS = _Layout(rf"([^/]+)\.color{_IMAGE}", rf"([^/]+)\.depth{_DEPTH}", r"([^/]+)\.pose\.txt")
_LAYOUTS = (
    _DOTS,
    _Layout(
        rf"([^/]+)[_-](?:colou?r|rgb|image){_IMAGE}",
        rf"([^/]+)[_-]depth{_DEPTH}",
        r"([^/]+)[_-](?:pose|extrinsics?)\.txt",
    ),
    _Layout(
        rf"(?:colou?r|rgb|image)[_-]?(\d[^/]*){_IMAGE}", rf"depth[_-]?(\d[^/]*){_DEPTH}", r"pose[_-]?(\d[^/]*)\.txt"
    ),
    _Layout(r"([^/]*\d)\.jpe?g", rf"([^/]*\d)(?:[_-]depth)?{_DEPTH}", r"([^/]*\d)(?:[_-]pose)?\.txt"),
    _Layout(rf"results/frame(\d+){_IMAGE}", rf"results/depth(\d+){_DEPTH}", r"results/pose(\d+)\.txt", NICE_SLAM_UNITS),
    _Layout(
        rf"(?:colou?rs?|rgb|images?)/[^/\d]*(\d[^/]*){_IMAGE}",
        rf"depths?/[^/\d]*(\d[^/]*){_DEPTH}",
        r"poses?/[^/\d]*(\d[^/]*)\.txt",
    ),
)
"""7-Scenes, then pairs in one folder, NICE-SLAM's Replica, and ScanNet's export: a folder for each part."""
_TABLES = ("traj.txt", "poses.txt", "trajectory.txt")
"""Files of all poses: a line of 16 (or 12) numbers for each frame, in their order."""


@dataclass(frozen=True)
class _Listing:
    """File names by frame id, and what files say of the intrinsics; poses are in `table` where it is named."""

    color: dict[str, str]
    depth: dict[str, str]
    pose: dict[str, str]
    table: str | None
    layout: _Layout
    intrinsics: IntrinsicsFiles

    @property
    def assumed(self) -> tuple[str, ...]:
        return () if self.intrinsics.color else (ASSUMED,)

    @property
    def units_per_metre(self) -> float:
        return self.intrinsics.units_per_metre or self.layout.units_per_metre


def _find(source: CaptureSource) -> tuple[str, _Layout] | None:
    """Where the frames lie and how they are named.

    That is "" or, where there are intrinsics above the only folder of frames, that with its "/".
    """
    if here := _layout(source):
        return "", here
    inner = source.folders() if candidates(source) else []
    below = [(f"{name}/", layout) for name in inner if (layout := _layout(source.below(name)))]
    return below[0] if len(below) == 1 else None


def _layout(source: CaptureSource) -> _Layout | None:
    """The layout of the frames in a source; but for 7-Scenes' names, depth must be what it is called."""
    for layout in _LAYOUTS:
        found: dict[str, dict[str, str]] = {"color": {}, "depth": {}, "pose": {}}
        for part, key, name in layout.parts(source.names):
            found[part][key] = name
        if layout is _DOTS and found["color"] and (found["depth"] or found["pose"]):
            return layout
        both = found["color"].keys() & found["depth"].keys()
        if both and what_pixels_are(source, found["depth"][min(both)]) == DEPTH:
            return layout
    return None


def _complete(source: CaptureSource) -> _Listing:
    folder, layout = _find(source) or ("", _DOTS)
    files = [*candidates(source), *(candidates(source, folder) if folder else ())]
    parts: dict[str, dict[str, str]] = {"color": {}, "depth": {}, "pose": {}}
    for part, key, name in layout.parts(name.removeprefix(folder) for name in source.names if name.startswith(folder)):
        put_once(parts[part], key, folder + name, source)
    table = (
        next((folder + name for name in _TABLES if folder + name in source.names), None)
        if layout is not _DOTS
        else None
    )
    listing = _Listing(**parts, table=table, layout=layout, intrinsics=read_intrinsics(source, files))
    needed = {"colour": listing.color, "depth": listing.depth, "pose": listing.pose}
    if layout is not _DOTS and not listing.pose:
        del needed["pose"]
    require_pairs(needed, source)
    if listing.intrinsics.color is None:
        if listing.intrinsics.depth is not None:
            raise _no_intrinsics(f"intrinsics of the depth only, in {listing.intrinsics.depth.file}", source)
        if not all(_SEVEN_SCENES.fullmatch(name.rpartition("/")[2]) for name in listing.color.values()):
            raise _no_intrinsics(f"{len(listing.color)} images with depth, and no such file", source)
    return listing


def _no_intrinsics(found: str, source: CaptureSource) -> CaptureError:
    rule = f"RGB-D frames need {INTRINSICS}, a 3x3 matrix for images of their size; only those of 7-Scenes don't"
    remedy = f"{REMEDY}; to use the images alone, copy them into a folder of their own"
    return source.broken(INTRINSICS, rule, found, remedy)


def _survey(source: CaptureSource) -> Survey:
    listing = _complete(source)
    names = [*listing.intrinsics.names, *listing.color.values(), *listing.depth.values(), *_pose_files(listing)]
    return Survey(
        sorted([*names, *find_masks(source, listing.color.values()).values()]),
        len(listing.color),
        has_poses=bool(_pose_files(listing)),
        has_depth=True,
        has_scale=True,
        assumed=listing.assumed,
    )


def _seven_scenes(source: CaptureSource, what: str, size: Size) -> Camera:
    """The intrinsics of 7-Scenes' readme, for images and depth of its one size only."""
    if size != (SEVEN_SCENES.width, SEVEN_SCENES.height):
        raise _no_intrinsics(f"no such file, {what} of {size[0]} x {size[1]}; 7-Scenes has 640 x 480", source)
    return SEVEN_SCENES


def _pose_files(listing: _Listing) -> list[str]:
    """Files of poses that are read: one for each frame, else one for all."""
    return [*listing.pose.values()] or [name for name in (listing.table,) if name]


def _poses(source: CaptureSource, listing: _Listing, keys: Sequence[str]) -> list[Pose | None]:
    """World from camera of all frames in their order; None where ScanNet's tracking was lost: infinite numbers.

    Raises:
        CaptureError: When one is no pose, or the file of all poses has another number of them.
    """
    if listing.pose:
        matrices = []
        for name in (listing.pose[key] for key in keys):
            rows = enumerate(source.read_table(name), 1)
            matrices.append((np.array([numbers(row, 4, source.where(name), line) for line, row in rows]), name))
    elif listing.table:
        rows = source.read_table(listing.table)
        if len(rows) != len(keys):
            rule, found = "a file of poses has a line for each frame", f"{len(rows)} lines for {len(keys)} images"
            raise source.broken(listing.table, rule, found, "take the poses of these images")
        columns, file = 16 if len(rows[0]) >= 16 else 12, source.where(listing.table)
        matrices = [
            (numbers(row, columns, file, line).reshape(-1, 4), f"{listing.table}: line {line}")
            for line, row in enumerate(rows, 1)
        ]
    else:
        return []
    return [
        None if np.isinf(matrix[:3]).all() else checked_pose(matrix, source.where(name)) for matrix, name in matrices
    ]


def _read(source: CaptureSource, out_dir: Path, params: CaptureParams) -> Capture:
    listing = _complete(source)
    given = listing.intrinsics
    files = FrameFiles(source, find_masks(source, listing.color.values()), listing.units_per_metre)
    camera = given.color.camera if given.color else partial(_seven_scenes, source, "images")
    depth_camera = given.depth.camera if given.depth else None
    if given.color is None:
        depth_camera = partial(_seven_scenes, source, "depth")

    def listed(key: str) -> ListedFrame:
        number = number_of(key)[0]
        return replace(
            files.frame(key, listing.color[key], depth=listing.depth[key]),
            camera=camera,
            source_time=float(number) if number >= 0 else None,
            depth_camera=depth_camera,
        )

    keys = sorted(listing.color, key=number_of)
    frames, skipped = [listed(key) for key in keys], list[Skipped]()
    notes = [f"intrinsics of {', '.join(given.names)}"] if given.color else []
    if depth_camera is None or given.color is None:
        notes.append("the same intrinsics serve colour and depth until calibrated")
    if poses := _poses(source, listing, keys):
        frames, skipped = with_poses(frames, poses, "its pose is infinite: tracking was lost")
    else:
        notes.append("there are no poses")
    if listing.units_per_metre != _DOTS.units_per_metre:
        notes.append(f"depth in {listing.units_per_metre:g} units a metre")
    chosen = thinned(frames, params)
    capture = sensor_capture(READER, chosen, source, out_dir, params, skipped=skipped, notes=notes)
    return replace(capture, assumed=listing.assumed)


READER = Reader(
    kind="rgbd",
    form="RGB-D frames (folder or zip) of 7-Scenes, ScanNet, Replica or a script: images, 16-bit depth and poses under "
    f"one name (*.color.png, *_color.jpg) or in color/, depth/, pose/, and {INTRINSICS}",
    yields="poses where there are any, depth, metric scale",
    recognise=lambda source: _find(source) is not None,
    survey=_survey,
    read=_read,
    sensors=DEPTH_CAMERA,
)
