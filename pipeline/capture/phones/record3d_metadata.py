"""What Record3D writes of its frames: the JSON file `metadata` of an .r3d archive, or `metadata.json` of an export.

Sources: as in `record3d`. Old versions of the app leave out sizes, times and the intrinsics of single frames.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.capture.checks import read_object
from pipeline.capture.frames import Size
from pipeline.capture.phones.lzfse import unpacked_size
from pipeline.capture.pictures import BadPictureError, load_picture
from pipeline.capture.source import CaptureSource
from pipeline.capture.trajectory import pose_of
from pipeline.errors import CaptureError
from pipeline.geometry import CV_FROM_GL, Pose, angle_deg

MAX_DEPTH_PIXELS = 960 * 720
"""Largest depth image of the app (Face ID camera); LiDAR has 256 x 192."""
SAME_TURN_DEG = 0.1
"""A first pose turned by less than that is the identity, but for rounding: the world begins at the first camera."""
AS_EXPORTED = "export the recording again as .r3d or as EXR + JPG"


@dataclass(frozen=True, eq=False)
class Metadata:
    """What the metadata say of the frames, by frame number.

    Attributes:
        poses: World from camera, CV axes.
        up: (3,) unit up direction of the poses' world, or None where that is the first camera's, however it was tilted.
        intrinsics: fx, fy, cx, cy [px] for pictures of `size`, as ARKit counts; one row for each frame, or one for all.
        times: [s], or None.
        size: Width and height that the intrinsics belong to.
        depth_size: Width and height of the depth images, or None.
    """

    poses: list[Pose]
    up: NDArray[np.float64] | None
    intrinsics: NDArray[np.float64]
    times: NDArray[np.float64] | None
    size: Size
    depth_size: Size | None

    @property
    def frames(self) -> int:
        """How many frames have everything."""
        lengths = [len(self.poses)]
        if len(self.intrinsics) > 1:
            lengths.append(len(self.intrinsics))
        if self.times is not None:
            lengths.append(len(self.times))
        return min(lengths)


def _array(content: Mapping[str, Any], key: str, columns: int, file: str) -> NDArray[np.float64] | None:
    """A list of rows of numbers (N, columns); None where the key is absent or its list empty."""
    values = content.get(key)
    if values is None or values == []:
        return None
    try:
        table = np.asarray(values, np.float64).reshape(len(values), -1)
    except (TypeError, ValueError):
        table = np.zeros((0, 0))
    if table.shape[1:] != (columns,) or (key == "frameTimestamps" and not np.isfinite(table).all()):
        raise CaptureError(
            f"{key} must be a list of rows of {columns} number(s)",
            found=repr(values)[:80],
            remedy=AS_EXPORTED,
            file=file,
        )
    return table


def _size(content: Mapping[str, Any], width: str, height: str, file: str) -> Size | None:
    values = content.get(width), content.get(height)
    if values == (None, None):
        return None
    if not all(isinstance(value, int | float) and 1 <= value <= 65535 and value == int(value) for value in values):
        raise CaptureError(
            f"{width} and {height} must be a picture's width and height",
            found=f"{values[0]!r}, {values[1]!r}",
            remedy=AS_EXPORTED,
            file=file,
        )
    return int(values[0] or 0), int(values[1] or 0)


def _intrinsics(content: Mapping[str, Any], file: str) -> NDArray[np.float64]:
    """fx, fy, cx, cy of each frame, or of the first one where the app did not write more."""
    each = _array(content, "perFrameIntrinsicCoeffs", 4, file)
    if each is not None:
        return each
    first = _array(content, "K", 1, file)
    matrix = np.zeros(0) if first is None else first[:, 0]
    if matrix.shape != (9,) or np.abs(matrix[[1, 2, 3, 5]]).max() > 1e-6 or abs(matrix[8] - 1) > 1e-6:
        raise CaptureError(
            "K must be nine numbers, column by column: fx 0 0 0 fy 0 cx cy 1",
            found=repr(content.get("K"))[:80],
            remedy=AS_EXPORTED,
            file=file,
        )
    return matrix[None, [0, 4, 6, 7]]


def _poses(content: Mapping[str, Any], file: str) -> list[Pose]:
    """Rows of qx, qy, qz, qw, x, y, z [m]: world from camera in GL axes."""
    table = _array(content, "poses", 7, file)
    lidar = "record with the LiDAR camera: the Face ID (selfie) camera gives no poses"
    if table is None:
        raise CaptureError("a Record3D recording must have poses", found="none", remedy=lidar, file=file)
    if len(table) > 1 and np.ptp(table, axis=0).max() < 1e-9:
        found = f"{len(table)} times the same"
        raise CaptureError("a Record3D recording must have poses", found=found, remedy=lidar, file=file)
    if abs(abs(table[0, 0]) - 1) < 1e-3 and np.abs(table[0, 1:4]).max() < 0.05:
        raise CaptureError(
            "poses must be qx, qy, qz, qw, x, y, z",
            found=f"first {table[0, :4].tolist()}: a camera upside down, or a quaternion with its scalar first",
            remedy=AS_EXPORTED,
            file=file,
        )
    poses = []
    for number, row in enumerate(table):
        pose = pose_of(row[4:], row[:4], f"{file} (poses, frame {number})")
        poses.append(Pose(pose.rotation @ CV_FROM_GL, pose.translation))
    return poses


def up_of(poses: Sequence[Pose]) -> NDArray[np.float64] | None:
    """Up (3,) in the poses' world: ARKit's has y up; one that begins at the first camera says nothing of gravity."""
    begins_at_camera = angle_deg(poses[0].rotation, CV_FROM_GL) < SAME_TURN_DEG
    return None if begins_at_camera else np.array([0.0, 1.0, 0.0])


def has_up(source: CaptureSource, name: str) -> bool:
    """Whether the metadata of that name tell where up is.

    Raises:
        CaptureError: When they have no poses, or malformed ones.
    """
    file = source.where(name)
    return up_of(_poses(read_object(source.read(name), file), file)) is not None


def read_metadata(source: CaptureSource, name: str, images: Mapping[int, str], depth: Mapping[int, str]) -> Metadata:
    """Read the metadata, with what old versions of the app left out.

    Args:
        source: The recording.
        name: Of the metadata file.
        images: Names of the pictures by frame number.
        depth: Likewise of the depth images.

    Raises:
        CaptureError: When something is missing, malformed or of another number of frames than there are.
    """
    file = source.where(name)
    content = read_object(source.read(name), file)
    poses, intrinsics = _poses(content, file), _intrinsics(content, file)
    stamps = _array(content, "frameTimestamps", 1, file)
    pictures = max(images) + 1
    gaps = len(images) < pictures
    counts = {"poses": len(poses)}
    if len(intrinsics) > 1:
        counts["perFrameIntrinsicCoeffs"] = len(intrinsics)
    if stamps is not None:
        counts["frameTimestamps"] = len(stamps)
    for key, count in counts.items():
        # where numbers are left out someone removed pictures, and the numbers still say which pose is whose
        if pictures > count + 1 or (pictures < count - 1 and not gaps) or abs(count - len(poses)) > 1:
            raise CaptureError(
                f"{key} must have one entry for each picture",
                found=f"{count} entries, {len(poses)} poses, pictures up to number {pictures - 1}",
                remedy=AS_EXPORTED,
                file=file,
            )
    times = None if stamps is None else stamps[:, 0]
    fps = content.get("fps")
    if times is None and isinstance(fps, int | float) and 0 < fps < 1000:
        times = np.arange(len(poses)) / fps
    size = _size(content, "w", "h", file) or _picture_size(source, images)
    depth_size = _size(content, "dw", "dh", file)
    if depth_size is None and depth and depth[min(depth)].lower().endswith(".depth"):
        depth_size = _guessed_depth_size(source, depth, size)
    if depth_size is not None and depth_size[0] * depth_size[1] > MAX_DEPTH_PIXELS:
        raise CaptureError(
            f"dw x dh must be at most {MAX_DEPTH_PIXELS}",
            found=f"{depth_size[0]} x {depth_size[1]}",
            remedy=AS_EXPORTED,
            file=file,
        )
    return Metadata(poses, up_of(poses), intrinsics, times, size, depth_size)


def _picture_size(source: CaptureSource, images: Mapping[int, str]) -> Size:
    first = images[min(images)]
    try:
        return load_picture(source.read(first), upright=False).size
    except BadPictureError as error:
        raise CaptureError(
            "the first picture must be readable where the metadata have no w and h",
            found=str(error),
            remedy=AS_EXPORTED,
            file=source.where(first),
        ) from error


def _guessed_depth_size(source: CaptureSource, depth: Mapping[int, str], size: Size) -> Size:
    """The size of as many values as there are, in the picture's shape: old metadata have no dw and dh."""
    name = depth[min(depth)]
    try:
        pixels = unpacked_size(source.read(name)) / 4
    except BadPictureError as error:
        pixels, reason = 0.0, str(error)
    else:
        reason = f"{pixels:g} values"
    width, height = (round(math.sqrt(pixels * a / b)) for a, b in (size, size[::-1]))
    if pixels == 0 or width * height != pixels:
        raise CaptureError(
            "depth must have the picture's shape where the metadata have no dw and dh",
            found=f"{reason}, pictures of {size[0]} x {size[1]}",
            remedy="add dw and dh, the depth's width and height, to the metadata",
            file=source.where(name),
        )
    return width, height
