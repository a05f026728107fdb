"""Reader of KITTI odometry sequences: rectified images, poses of the left grey camera, Velodyne scans as depth.

Source: the readme of the benchmark's development kit (A. Geiger, P. Lenz, R. Urtasun, CVPR 2012).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.capture.checks import checked_camera, checked_pose, chosen_cameras, unread_cameras
from pipeline.capture.frames import FrameFiles, ListedFrame, declared_camera, sensor_capture, thinned
from pipeline.capture.images import find_masks, load_image
from pipeline.capture.model import Capture, Skipped
from pipeline.capture.params import CaptureParams
from pipeline.capture.reader import Reader, Sensors, Survey, numbered_files
from pipeline.capture.slam.lidar_depth import LIDAR_RANGE, Spacing, project_cloud, shrunk_pinhole
from pipeline.capture.slam.registration import check_registration
from pipeline.capture.source import CaptureSource
from pipeline.capture.trajectory import number_table, numbers
from pipeline.errors import CaptureError
from pipeline.io.image_files import BadImageError
from pipeline.types import F64, U16

CAMERAS = ("image_2", "image_0", "image_3", "image_1")
"""The best first: left colour, left grey, right colour, right grey."""
SCAN_SPACING = Spacing(radians=0.0075)
"""64 lines over 26.9 degrees."""
DEPTH_SHARE = 0.25
"""Size of depth images relative to the images': a line of the scan in each row."""
MAX_SCAN_POINTS = 1_000_000
_SEQUENCE = re.compile(r"(?P<base>(?:dataset/)?)sequences/(?P<id>\d\d)/")
_IMAGES = re.compile(r"(image[_-]?(?:\d\d?|l|r|left|right))/[^/]+\.(?:png|jpe?g)", re.IGNORECASE)


@dataclass(frozen=True)
class _Listing:
    """Where a sequence's files lie; images (by camera, the best first) and scans by their number."""

    folder: str
    calibration: str
    times: str
    poses: str
    images: dict[str, dict[int, str]]
    scans: dict[int, str]


def _sequences(source: CaptureSource) -> list[tuple[str, str]]:
    if _recognise_in(source, ""):
        return [("", "poses.txt")]
    found = {match[0]: match for name in source.names if (match := _SEQUENCE.match(name))}
    own = {folder: f"{folder}poses.txt" for folder in found}
    poses = {
        folder: own[folder] if own[folder] in source.names else f"{match['base']}poses/{match['id']}.txt"
        for folder, match in found.items()
    }
    return [(folder, name) for folder, name in poses.items() if _recognise_in(source, folder, name)]


def _recognise_in(source: CaptureSource, folder: str, poses: str = "poses.txt") -> bool:
    """Whether a folder ("" or ending in "/") is a sequence's, with files missing or images renamed, too."""
    all_images, calibration = _image_folders(source, folder), f"{folder}calib.txt"
    first = source.read(calibration).split(b"\n", 1)[0].split() if calibration in source.names else []
    named = first[:1] == [b"P0:"]
    scans = any(name.startswith(f"{folder}velodyne/") for name in source.names)
    signs = [named or len(first) == 12, f"{folder}times.txt" in source.names, poses in source.names, scans]
    return bool(all_images) and sum(signs) >= (1 if named or set(all_images) & set(CAMERAS) else 2)


def _image_folders(source: CaptureSource, folder: str) -> list[str]:
    """Folders in a sequence's that hold images by KITTI's name for them, or by one like it."""
    inside = [name[len(folder) :] for name in source.names if name.startswith(folder)]
    return list(dict.fromkeys(match[1] for name in inside if (match := _IMAGES.fullmatch(name))))


def _list(source: CaptureSource) -> _Listing:
    found, renamed = [], []
    for folder, poses in _sequences(source):
        renamed += [folder + name for name in _image_folders(source, folder) if name not in CAMERAS]
        of_camera = {camera: numbered_files(source, rf"{folder}{camera}/(\d+)\.(?:png|jpg)") for camera in CAMERAS}
        if images := {camera: numbered for camera, numbered in of_camera.items() if numbered}:
            scans = numbered_files(source, rf"{folder}velodyne/(\d+)\.bin")
            found.append(_Listing(folder, f"{folder}calib.txt", f"{folder}times.txt", poses, images, scans))
    if not found and renamed:
        raise CaptureError(
            "a KITTI sequence keeps its images in image_0 and image_1 (grey, left and right), image_2 and image_3 "
            "(colour), after which calib.txt names its lines P0: to P3:",
            found=f"images in {', '.join(renamed)}",
            remedy="rename a left folder to image_0 (grey) or image_2 (colour), a right one to image_1 or image_3, and "
            "let calib.txt have the benchmark's lines; for the images alone copy them into a folder of their own",
            file=source.folder,
        )
    if len(found) != 1:
        several = f"{len(found)} sequences with images: {', '.join(listing.folder for listing in found[:5])}"
        remedy = "copy one sequence's folder and its poses/NN.txt as poses.txt into it, and name that"
        raise source.broken("", "one capture at a time", several, remedy)
    listing = found[0]
    for name, what, remedy in (
        (listing.calibration, "calibration", "unpack data_odometry_calib.zip over the sequence"),
        (listing.poses, "poses", "copy poses/NN.txt into the sequence's folder as poses.txt (11 to 21 have none)"),
        (listing.times, "times", "unpack data_odometry_calib.zip over the sequence"),
    ):
        if name not in source.names:
            rule = "a KITTI sequence needs calib.txt, times.txt and poses"
            raise source.broken(name, rule, f"no {what} ({name})", remedy)
    return listing


def _calibration(source: CaptureSource, listing: _Listing, cameras: list[str]) -> dict[str, F64]:
    """Matrices (3, 4) by name; those of the cameras by theirs."""
    file = source.where(listing.calibration)
    matrices = {}
    for line, fields in enumerate(source.read_table(listing.calibration), 1):
        name = re.sub(r"^P(?=\d$)", "image_", fields[0].rstrip(":"))
        matrices[name] = numbers(fields[1:], 12, file, line).reshape(3, 4)
    needed = [*cameras, *(["Tr"] if listing.scans else [])]
    if missing := [name for name in needed if name not in matrices]:
        rule = f"calib.txt must hold {' and '.join(needed)}".replace("image_", "P")
        found = f"no {', '.join(missing)}".replace("image_", "P")
        remedy = "unpack data_odometry_calib.zip over the sequence: the files in the image archives lack Tr"
        raise source.broken(listing.calibration, rule, found, remedy)
    return matrices


def _survey(source: CaptureSource) -> Survey:
    listing = _list(source)
    images = [name for images in listing.images.values() for name in images.values()]
    masks = {m for camera, of in listing.images.items() for m in find_masks(source, of.values(), camera).values()}
    lists = [listing.calibration, listing.times, listing.poses]
    return Survey(
        sorted([*lists, *images, *listing.scans.values(), *masks]),
        len(next(iter(listing.images.values()))),
        has_poses=True,
        has_depth=bool(listing.scans),
        has_scale=True,
    )


def _rows(source: CaptureSource, name: str, columns: int, least: int) -> F64:
    """A table with a line for each frame."""
    rows = number_table(source.read(name), columns, source.where(name))
    if len(rows) <= least:
        rule, remedy = "poses and times need a line for each image", "take poses, times and images of the same sequence"
        raise source.broken(name, rule, f"{len(rows)} lines, images up to number {least}", remedy)
    return rows


def _read(source: CaptureSource, out_dir: Path, params: CaptureParams) -> Capture:
    listing = _list(source)
    cameras = chosen_cameras([*listing.images], params.cameras, source.where(listing.folder))
    calibration = _calibration(source, listing, cameras)
    last = max(max(listing.images[camera]) for camera in cameras)
    poses = _rows(source, listing.poses, 12, last)
    times = _rows(source, listing.times, 1, last)[:, 0]
    listed: list[ListedFrame] = []
    skipped: list[Skipped] = []
    for name in cameras:
        images = listing.images[name]
        for frame, number in _frames(source, listing, name, calibration, poses, times):
            if listing.scans and number not in listing.scans:
                skipped.append(Skipped(images[number], "no scan of its number"))
            else:
                listed.append(replace(frame, sensor=name if len(cameras) > 1 else None))
    images = f"images of {', '.join(cameras)}; the world is the left grey camera's first frame, not upright"
    capture = sensor_capture(
        READER,
        thinned(listed, params),
        source,
        out_dir,
        params,
        skipped=skipped,
        notes=[images, *unread_cameras([*listing.images], cameras)],
    )
    if not listing.scans:
        return capture
    remedy = "take images, scans, poses and calib.txt of the same sequence"
    return check_registration(capture, source.folder, remedy)


def _frames(
    source: CaptureSource, listing: _Listing, name: str, calibration: dict[str, F64], poses: F64, times: F64
) -> Iterator[tuple[ListedFrame, int]]:
    """A camera's images and their numbers."""
    images, file = listing.images[name], source.where(listing.calibration)
    projection = calibration[name]
    # P = K [1 | t]: all cameras are rectified to one orientation, t is where the left grey one lies
    intrinsics = (projection[0, 0], projection[1, 1], projection[0, 2] + 0.5, projection[1, 2] + 0.5)
    size = None
    for image in images.values():  # the first that can be decoded; all are rectified to one size
        with suppress(BadImageError):
            size = load_image(source.read(image), upright=False).size
            break
    if size is None:
        name = next(iter(images.values()))
        raise source.broken(name, "a sequence needs readable images", "none", "unpack the archive again")
    camera = checked_camera(intrinsics, size, file)
    shift = np.linalg.solve(projection[:, :3], projection[:, 3])
    camera_from_left = checked_pose(np.column_stack([np.eye(3), shift]), file)
    camera_from_scan = camera_from_left @ checked_pose(calibration["Tr"], file) if listing.scans else None
    depth_camera = shrunk_pinhole(camera, round(DEPTH_SHARE * max(size)))
    files = FrameFiles(source, find_masks(source, images.values(), name))

    def depth_of(scan: str) -> U16:
        assert camera_from_scan
        data = source.read(scan)
        if not data or len(data) % 16 or len(data) > 16 * MAX_SCAN_POINTS:
            raise BadImageError(f"a scan of {len(data)} bytes, expected 16 for each point")
        points = np.frombuffer(data, "<f4").reshape(-1, 4)[:, :3].astype(np.float64)
        points = points[np.isfinite(points).all(1)]
        return project_cloud(points, camera_from_scan, depth_camera, SCAN_SPACING)

    for number, image in sorted(images.items()):
        scan = listing.scans.get(number)
        left = checked_pose(poses[number].reshape(3, 4), f"{source.where(listing.poses)} line {number + 1}")
        yield (
            replace(
                files.frame(f"{number:06d}", image, float(times[number])),
                camera=declared_camera(camera, source.where(image)),
                world_from_camera=left @ camera_from_left.inverse(),
                depth=partial(depth_of, scan) if scan else None,
                depth_name=scan or "",
                depth_camera=lambda _: depth_camera,
            ),
            number,
        )


READER = Reader(
    kind="kitti",
    form="a KITTI odometry sequence (folder or zip): calib.txt, times.txt, poses.txt, image_2/*.png, velodyne/*.bin",
    yields="several cameras, poses, depth from laser scans, times, metric scale",
    recognise=lambda source: bool(_sequences(source)),
    survey=_survey,
    read=_read,
    # GPS/IMU poses better than 10 cm and a laser scanner: the scale is known well below a percent
    sensors=Sensors(scale_sigma=0.005, depth_range=LIDAR_RANGE, on_machine=True),
)
