"""What lies on disk of a LiDAR SLAM export: the map, the trajectory, pictures with their times and calibrations.

Sources: tools/Export/main.cpp of github.com/introlab/rtabmap; src/mapOptmization.cpp of
github.com/TixiaoShan/LIO-SAM.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from pipeline.capture.pictures import PICTURE_SUFFIXES
from pipeline.capture.reader import suffix_of
from pipeline.capture.reconstructions.posed import natural
from pipeline.capture.slam.clouds import CLOUD_SUFFIXES
from pipeline.capture.source import CaptureSource
from pipeline.capture.trajectory import read_table
from pipeline.errors import CaptureError

CAMERA, TIMES, KEYFRAMES = "camera.yaml", "images.txt", "transformations.pcd"
TIME_LISTS = (TIMES, "timestamps.txt")
EXTRINSICS = "extrinsics.yaml"
_CLOCK = re.compile(r"\d{10,}|\d+\.\d+")
"""Names that are times, not numbers of pictures."""
_AUXILIARY = ("trajectory.pcd", KEYFRAMES, "CornerMap.pcd", "SurfMap.pcd", "cloudCorner.pcd", "cloudSurf.pcd")
"""What LIO-SAM saves beside GlobalMap.pcd (cloudGlobal.pcd in older versions)."""
CALIBRATION_REMEDY = "write it as docs/captures/lidar_slam.md shows"


@dataclass(frozen=True)
class Export:
    """What an export holds.

    Attributes:
        cloud: Name of the map.
        trajectory: Name of the trajectory.
        of_camera: Whether it is the camera's, not the body's.
        images: Names of the pictures and their times [s].
        calibrations: Name of each picture's calibration.
        times: Name of the list of the pictures' times, or None where their names tell them.
        extrinsics: Name of the file that says where the camera is, or None where the calibrations do.
    """

    cloud: str
    trajectory: str
    of_camera: bool
    images: dict[str, float]
    calibrations: dict[str, str]
    times: str | None
    extrinsics: str | None


def _clouds(source: CaptureSource) -> list[str]:
    """Map clouds at the root; LIO-SAM's parts of its map don't count where the whole is there."""
    found = [name for name in source.names if "/" not in name and suffix_of(name) in CLOUD_SUFFIXES]
    return [name for name in found if name not in _AUXILIARY]


def _trajectory(source: CaptureSource) -> str | None:
    at_root = [name for name in source.names if "/" not in name]
    patterns = (
        r"trajectory\.txt",
        r".*_camera_poses\.txt",
        r".*\.tum",
        r".*(?<!_scan)_poses\.txt",
        re.escape(KEYFRAMES),
    )
    for pattern in patterns:
        for name in at_root:
            if re.fullmatch(pattern, name):
                return name
    return None


def is_export(source: CaptureSource) -> bool:
    """Whether there is a map cloud beside a trajectory."""
    trajectory = _trajectory(source)
    if trajectory is None or not _clouds(source):
        return False
    if trajectory == KEYFRAMES:
        return True
    rows = read_table(source.read(trajectory), source.where(trajectory))
    return bool(rows) and len(rows[0]) in (8, 9)


def _seconds(text: str) -> float | None:
    """The time that a text tells [s]: "1403.25"; integers of 13, 16 or 19 digits are in ms, us or ns."""
    if not re.fullmatch(r"\d+(\.\d+)?", text):
        return None
    per_second = {13: 10**3, 16: 10**6, 19: 10**9}.get(len(text), 1) if text.isdecimal() else 1
    whole, _, _ = text.partition(".")
    return float(text) if per_second == 1 else int(whole) // per_second + int(whole) % per_second / per_second


def _pictures(source: CaptureSource) -> list[str]:
    pattern = re.compile(r"(images|.*_rgb|.*_left)/[^/]+")
    return [n for n in source.names if suffix_of(n) in PICTURE_SUFFIXES and pattern.fullmatch(n)]


def _listed_times(source: CaptureSource, file: str) -> dict[str, float]:
    """Pictures and their times [s] from a list: time and name a line, in either order, or a time for each picture."""
    where, data = source.where(file), source.read(file)
    rows = read_table(data, where, "," if b"," in data else None)
    if rows and not re.search(r"\d", "".join(rows[0])):  # names of the columns
        rows = rows[1:]
    pictures = sorted(_pictures(source), key=natural)
    alone = all(len(row) == 1 for row in rows)
    if alone and len(rows) != len(pictures):
        if pictures and all(_CLOCK.match(PurePosixPath(name).stem) for name in pictures):  # the list is the scans'
            return _times_in_names(source)
        raise CaptureError(
            "a list of times alone must have one for each picture",
            found=f"{len(rows)} times, {len(pictures)} pictures",
            remedy="write the picture's name behind each time: 1700000000.125 images/0001.jpg",
            file=where,
        )
    images: dict[str, float] = {}
    for number, row in enumerate(rows):
        first, name = (row[0], pictures[number]) if alone else (row[0], row[-1])
        if (time := _seconds(first)) is None:
            time, name = _seconds(name), first
        if time is None:
            raise CaptureError(
                "each line must hold a picture's time and its name",
                found=f"line {number + 1}: {' '.join(row)[:80]!r}",
                remedy="write lines such as: 1700000000.125 images/0001.jpg",
                file=where,
            )
        images[name if name in source.names else f"images/{name}"] = time
    missing = [name for name in images if name not in source.names]
    if missing:
        raise CaptureError(
            f"all pictures that {file} lists must be there",
            found=f"{len(missing)} of {len(images)} missing, first {missing[0]}",
            remedy="copy the whole export",
            file=where,
        )
    return images


def _times_in_names(source: CaptureSource) -> dict[str, float]:
    names = _pictures(source)
    times = {name: _seconds(PurePosixPath(name).stem) for name in names}
    untimed = [name for name, time in times.items() if time is None]
    if untimed or not times:
        raise CaptureError(
            f"pictures must be named by their time in seconds, or listed in {' or '.join(TIME_LISTS)}",
            found=f"{len(untimed)} of {len(times)} without a time{f', first {untimed[0]}' if untimed else ''}",
            remedy=f"name them images/<seconds>.jpg, or write {TIMES} with lines: <seconds> images/<name>",
            file=source.where(untimed[0] if untimed else "images"),
        )
    return {name: time for name, time in times.items() if time is not None}


def list_export(source: CaptureSource) -> Export:
    """Find everything, pictures in the order of time.

    Raises:
        CaptureError: When something is missing, or there is more than one map or camera.
    """
    clouds = _clouds(source)
    if len(clouds) != 1:
        raise CaptureError(
            "one map cloud",
            found=", ".join(clouds[:5]),
            remedy="leave the one that the trajectory belongs to beside it",
            file=source.path / source.prefix,
        )
    trajectory = _trajectory(source)
    assert trajectory is not None
    times = next((name for name in TIME_LISTS if name in source.names), None)
    found = _listed_times(source, times) if times else _times_in_names(source)
    images = dict(sorted(found.items(), key=lambda item: item[1]))
    stems = {PurePosixPath(name).stem for name in images}
    if len(stems) < len(images):
        raise CaptureError(
            "pictures must have different names: one camera's are read",
            found=f"{len(images)} pictures with {len(stems)} names",
            remedy=f"keep one camera's pictures in {times or TIMES}",
            file=source.where(times or TIMES),
        )
    calibrations = dict.fromkeys(images, CAMERA)
    if CAMERA not in source.names:  # RTAB-Map gives each picture its own
        calibrations = {
            name: re.sub(r"_(rgb|left)/", "_calib/", str(PurePosixPath(name).with_suffix(".yaml"))) for name in images
        }
    missing = sorted({name for name in calibrations.values() if name not in source.names})
    if missing:
        raise CaptureError(
            f"a map with pictures needs {CAMERA}, the camera's calibration and place on the body",
            found=f"no {CAMERA}" if len(missing) == len(images) else f"no {missing[0]} and {len(missing) - 1} more",
            remedy=CALIBRATION_REMEDY,
            file=source.where(missing[0] if len(missing) < len(images) else CAMERA),
        )
    of_camera = trajectory.endswith("_camera_poses.txt")
    extrinsics = EXTRINSICS if EXTRINSICS in source.names and not of_camera else None
    return Export(clouds[0], trajectory, of_camera, images, calibrations, times, extrinsics)
