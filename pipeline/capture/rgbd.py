"""Reader of RGB-D frames with poses, laid out as 7-Scenes: colour, 16-bit depth, pose files and one intrinsics file."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.capture.checks import check_increasing, check_track, checked_camera, checked_pose
from pipeline.capture.depth_images import write_depth
from pipeline.capture.depth_units import check_depth_unit
from pipeline.capture.masks import find_masks, picture_mask, save_mask
from pipeline.capture.model import Capture, Frame, Skipped
from pipeline.capture.params import CaptureParams
from pipeline.capture.pictures import BadPictureError, load_picture
from pipeline.capture.reader import Reader, in_threads, number_of, require_pairs, split_results
from pipeline.capture.source import CaptureSource
from pipeline.errors import CaptureError
from pipeline.stage import Traits

INTRINSICS = "camera-intrinsics.txt"
SCALE_SIGMA = 0.015
"""Relative one sigma of the scale of a depth camera's poses (structured light: 1 to 2 %)."""
_PART = re.compile(r"(?P<id>[^/]+)\.(?P<part>color\.(?:jpg|jpeg|png)|depth\.png|pose\.txt)", re.IGNORECASE)


@dataclass(frozen=True)
class _Listing:
    """File names by frame id."""

    color: dict[str, str]
    depth: dict[str, str]
    pose: dict[str, str]

    def ids(self) -> list[str]:
        return sorted(self.color, key=number_of)


def _list(source: CaptureSource) -> _Listing:
    listing = _Listing({}, {}, {})
    for name in source.names:
        if match := _PART.fullmatch(name):
            part = getattr(listing, match["part"].partition(".")[0].lower())
            if match["id"] in part:
                raise CaptureError(
                    "each frame must exist once",
                    found=f"{part[match['id']]} and {name}",
                    remedy="remove one of them",
                    file=source.where(name),
                )
            part[match["id"]] = name
    return listing


def _recognise(source: CaptureSource) -> bool:
    parts = [match["part"].partition(".")[0].lower() for name in source.names if (match := _PART.fullmatch(name))]
    return "color" in parts and ("depth" in parts or "pose" in parts)


def _complete(source: CaptureSource) -> _Listing:
    listing = _list(source)
    parts = {"colour": set(listing.color), "depth": set(listing.depth), "pose": set(listing.pose)}
    require_pairs(parts, source, ("colour", "depth", "pose"))
    if INTRINSICS not in source.names:
        raise CaptureError(
            f"RGB-D frames need {INTRINSICS}, a 3x3 matrix for pictures of their size",
            found="no such file",
            remedy="write it as three lines: fx 0 cx / 0 fy cy / 0 0 1 (Kinect v1: 585 0 320 / 0 585 240 / 0 0 1)",
            file=source.where(INTRINSICS),
        )
    return listing


def _traits(source: CaptureSource) -> Traits:
    count = len(_complete(source).color)
    return Traits("rgbd", count, has_poses=True, has_depth=True, has_gravity=False, ordered=True)


def _files(source: CaptureSource) -> list[str]:
    listing = _complete(source)
    names = [INTRINSICS, *listing.color.values(), *listing.depth.values(), *listing.pose.values()]
    return sorted([*names, *find_masks(source, listing.color.values()).values()])


def _numbers(data: bytes, file: str, shape: tuple[int, int]) -> np.ndarray:
    try:
        values = np.array([line.split() for line in data.decode().splitlines() if line.strip()], np.float64)
    except ValueError as error:
        values = np.array(str(error))
    if values.shape != shape:
        raise CaptureError(
            f"the file must hold {shape[0]} x {shape[1]} numbers",
            found=str(values) if not values.shape else f"shape {values.shape}",
            remedy="write them row by row, separated by blanks",
            file=file,
        )
    return values


def _read(source: CaptureSource, out_dir: Path, params: CaptureParams) -> Capture:
    listing = _complete(source)
    for part in ("images", "depth"):
        (out_dir / part).mkdir(parents=True, exist_ok=True)
    matrix = _numbers(source.read(INTRINSICS), source.where(INTRINSICS), (3, 3))
    intrinsics = (float(matrix[0, 0]), float(matrix[1, 1]), float(matrix[0, 2]), float(matrix[1, 2]))

    masks = find_masks(source, listing.color.values())

    def read_one(key: str) -> Frame | Skipped:
        color, depth, pose = listing.color[key], listing.depth[key], listing.pose[key]
        world_from_camera = checked_pose(_numbers(source.read(pose), source.where(pose), (4, 4)), source.where(pose))
        try:
            picture = load_picture(source.read(color), upright=False)
            mask = picture_mask(picture, source.read(masks[color]) if color in masks else None)
        except BadPictureError as error:
            return Skipped(color, str(error))
        try:
            size = write_depth(source.read(depth), source.where(depth), out_dir / "depth" / f"{key}.png")
        except BadPictureError as error:
            return Skipped(depth, str(error))
        camera = checked_camera(intrinsics, picture.image.size, source.where(INTRINSICS))
        number = number_of(key)[0]
        return Frame(
            name=color,
            image=f"images/{picture.save(out_dir / 'images' / key).name}",
            camera=camera,
            focal_source="given",
            source_time=float(number) if number >= 0 else None,
            world_from_camera=world_from_camera,
            depth=f"depth/{key}.png",
            depth_camera=camera.resized(*size),
            mask=None if mask is None else save_mask(mask, out_dir, key),
        )

    frames, bad = split_results(in_threads(read_one, listing.ids(), "reading RGB-D frames"), source, params)
    where = source.path / source.prefix
    check_increasing([frame.source_time or 0.0 for frame in frames], [source.where(frame.name) for frame in frames])
    check_track(frames, params.min_track, where)
    capture = Capture(out_dir, "rgbd", frames, ordered=True, scale_sigma=SCALE_SIGMA, skipped=bad)
    notes = (check_depth_unit(capture, where), "the declared intrinsics serve colour and depth alike until calibrated")
    return replace(capture, notes=notes)


READER = Reader(
    kind="rgbd",
    form=f"a folder (or zip) of RGB-D frames: *.color.jpg|png, *.depth.png, *.pose.txt and {INTRINSICS}",
    recognise=_recognise,
    traits=_traits,
    files=_files,
    read=_read,
)
