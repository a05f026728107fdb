"""What the readers of finished poses share: names, lenses, missing pictures, and poses without a metric scale."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.capture.frames import ListedFrame, Size, declared_camera
from pipeline.capture.lens import Lens, camera_of, is_straight, pinhole_of, straight_depth, straight_picture
from pipeline.capture.model import Skipped
from pipeline.capture.params import CaptureParams
from pipeline.capture.pictures import Picture, load_picture
from pipeline.capture.reader import require_pictures
from pipeline.capture.source import CaptureSource
from pipeline.geometry import Camera, Pose

NEAREST, FARTHEST = 0.05, 10.0
"""Median distance of the cameras from their middle in which poses of unknown scale stay as they are [units]."""
UNKNOWN_SCALE = "the poses have no metric scale: give one with --known-length, --tag-size or --camera-height"


def natural(name: str) -> list[str | int]:
    """Sort key: folder by folder, digits as numbers, so that 10 comes after 9."""
    return [int(part) if place % 2 else part for place, part in enumerate(re.split(r"([0-9]+)", name))]


def keys_and_names(files: Sequence[str]) -> list[tuple[str, str]]:
    """A unique stem and name for each picture's file: its own, joined with its folders where two cameras' repeat."""
    for parts in (1, 2, 3):
        names = ["_".join(file.split("/")[-parts:]) for file in files]
        stems = [name.rpartition(".")[0] or name for name in names]
        if len(set(stems)) == len(files):
            return list(zip(stems, files if parts == 1 else names, strict=True))
    return [(f"{number:06d}", f"{number:06d}_{name}") for number, name in enumerate(names)]


def posed_frame(
    source: CaptureSource,
    file: str,
    names: tuple[str, str],
    optics: Lens | Callable[[Size], Camera],
    pose: Pose,
    *,
    mask: Callable[[], bytes] | None,
    depth: Callable[[], NDArray[np.uint16]] | None = None,
    depth_name: str = "",
    time: float | None = None,
) -> ListedFrame:
    """A frame as it comes through its lens, made straight where that has to be.

    A picture is resampled only where the canonical camera can't hold the lens; depth wherever the lens has distortion,
    for depth images have none.

    Args:
        source: Where the picture lies.
        file: The picture's name there.
        names: Its key and name in the canonical capture.
        optics: Its lens, or a pinhole camera for pictures of any size.
        pose: World from camera.
        mask: Content of the picture's mask file.
        depth: Depth image of what the picture shows, (H, W) uint16 [mm], of any size.
        depth_name: Its name at the source.
        time: Seconds on the source's clock.
    """
    where = source.where(file)
    given = optics if isinstance(optics, Lens) else None
    raw = ListedFrame(
        key=names[0],
        name=names[1],
        picture=lambda: load_picture(source.read(file), upright=False),
        camera=declared_camera(camera_of(optics, where), where) if isinstance(optics, Lens) else optics,
        time=time,
        source_time=time,
        world_from_camera=pose,
        depth=depth,
        depth_name=depth_name,
        mask=mask,
    )
    if given is None or is_straight(given):
        return raw
    straight = pinhole_of(given, where)
    frame = raw if given.held else replace(raw, picture=lambda: _straight(raw, given, straight), mask=None)
    if depth is None:
        return frame
    return replace(
        frame,
        depth=lambda: straight_depth(depth(), given, straight),
        depth_camera=lambda size: straight.resized(*size),
    )


def _straight(frame: ListedFrame, lens: Lens, pinhole: Camera) -> Picture:
    picture = frame.picture()
    frame.camera(picture.size)  # refuses any size but the lens's
    return straight_picture(picture, frame.mask() if frame.mask else None, lens, pinhole)


def notes_on(optics: Iterable[Lens | Callable[[Size], Camera]], *, depth: bool) -> tuple[str, ...]:
    """What a person should know of pictures and depth that were made straight."""
    lenses = [lens for lens in optics if isinstance(lens, Lens)]
    notes = []
    if pictures := sum(not lens.held for lens in lenses):
        notes.append(f"{pictures} pictures were undistorted here: no later stage knows their lens")
    if depth and (images := sum(not is_straight(lens) for lens in lenses)):
        notes.append(f"{images} depth images were undistorted")
    return tuple(notes)


def without_missing(
    files: Sequence[str | None], named: Sequence[str], source: CaptureSource, params: CaptureParams
) -> list[Skipped]:
    """Pictures that are listed but not there, as skipped: instant-ngp's own sample lists some.

    Raises:
        CaptureError: When too few are there.
    """
    missing = [name for file, name in zip(files, named, strict=True) if file is None]
    require_pictures(len(files) - len(missing), missing, params, source.path / source.prefix)
    return [Skipped(name, "no such file") for name in missing]


def room_sized(poses: Sequence[Pose]) -> tuple[list[Pose], tuple[str, ...]]:
    """Poses of unknown scale, multiplied by a power of ten where they are far from a room's size, and notes on that.

    Later stages have thresholds in metres (a camera that did not move, priors of positions). An arbitrary scale must
    not trip them; it stays unknown.
    """
    positions = np.array([pose.translation for pose in poses]).reshape(-1, 3)
    away = np.linalg.norm(positions - np.median(positions, axis=0), axis=1) if len(poses) else np.zeros(1)
    spread = float(np.median(away)) or float(away.max())
    if spread == 0 or NEAREST <= spread <= FARTHEST:
        return list(poses), (UNKNOWN_SCALE,)
    factor = 10.0 ** round(-np.log10(spread))
    scaled = [Pose(pose.rotation, factor * pose.translation) for pose in poses]
    return scaled, (UNKNOWN_SCALE, f"positions were multiplied by {factor:g} to be of a room's size")
