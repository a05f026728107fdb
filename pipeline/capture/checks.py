"""Rules for poses, intrinsics and times that every reader with sensors applies."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.capture.model import Frame
from pipeline.capture.source import check_text
from pipeline.errors import CaptureError
from pipeline.geometry import CV_FROM_GL, Camera, Pose

ROTATION_TOLERANCE = 1e-3
FARTHEST = 1e8
"""From the origin of the poses' world [m]: that of the earth is 6 400 km away."""
FOCUSING = 0.08
"""Relative change of a focal length that focusing down to 10 cm may cause (5 %, by the thin lens), and some more."""


def checked_pose(matrix: Any, file: str, *, axes: str = "CV") -> Pose:
    """A camera-to-world pose in CV axes from a (3, 4) or (4, 4) matrix; the rotation exactly orthonormal after that.

    Args:
        matrix: The numbers as the source has them [m].
        file: For messages.
        axes: The source's camera axes, "CV" or "GL".

    Raises:
        CaptureError: When it isn't finite, mirrored or not rigid.
    """
    values = np.asarray(matrix, np.float64)
    rule = "a camera pose must be a rigid camera-to-world transform"
    remedy = "remove this frame's files, or export the poses again"
    if values.shape not in ((3, 4), (4, 4)):
        raise CaptureError(rule, found=f"numbers of shape {values.shape}", remedy=remedy, file=file)
    if not np.isfinite(values).all():
        raise CaptureError(rule, found="NaN or infinity: tracking was lost here", remedy=remedy, file=file)
    if np.abs(values).max() > FARTHEST:
        raise CaptureError(rule, found=f"a number of {np.abs(values).max():.3g}", remedy=remedy, file=file)
    if values.shape == (4, 4) and np.abs(values[3] - [0, 0, 0, 1]).max() > 1e-6:
        found = f"the last row {values[3].tolist()} instead of 0 0 0 1"
        raise CaptureError(rule, found=found, remedy="write matrices row by row", file=file)
    rotation = values[:3, :3]
    determinant = float(np.linalg.det(rotation))
    if determinant < 0:
        found = f"a mirrored (left-handed) rotation, determinant {determinant:.3f}"
        raise CaptureError(rule, found=found, remedy="export in a right-handed frame", file=file)
    error = float(np.abs(rotation @ rotation.T - np.eye(3)).max())
    if error > ROTATION_TOLERANCE or abs(determinant - 1) > 3 * ROTATION_TOLERANCE:
        found = f"scale or shear: determinant {determinant:.4f}, off orthonormal by {error:.2g}"
        raise CaptureError(rule, found=found, remedy="export rotations without scale, positions in metres", file=file)
    u, _, vt = np.linalg.svd(rotation)
    nearest = u @ vt
    return Pose(nearest @ CV_FROM_GL if axes == "GL" else nearest, values[:3, 3])


def checked_camera(intrinsics: tuple[float, float, float, float], size: tuple[int, int], file: str) -> Camera:
    """A pinhole camera from fx, fy, cx, cy [px] and (width, height).

    Raises:
        CaptureError: When the numbers can't belong to a picture of that size.
    """
    width, height = size
    fx, fy, cx, cy = intrinsics
    rule = f"intrinsics must belong to the picture's size, {width} x {height}"
    remedy = "give the intrinsics of these pictures (all four numbers scale with the size)"
    if min(size) < 1 or not np.isfinite(intrinsics).all() or fx <= 0 or fy <= 0:
        raise CaptureError(rule, found=f"fx, fy, cx, cy = {fx}, {fy}, {cx}, {cy}", remedy=remedy, file=file)
    if max(abs(cx / width - 0.5), abs(cy / height - 0.5)) > 0.2:
        found = f"a principal point of {cx:g}, {cy:g}: that fits {2 * cx:.0f} x {2 * cy:.0f}"
        raise CaptureError(rule, found=found, remedy=remedy, file=file)
    if not 0.25 < fx / max(size) < 10 or not 0.6 < fx / fy < 1.7:
        raise CaptureError(rule, found=f"focal lengths of {fx:g}, {fy:g}", remedy=remedy, file=file)
    return Camera(width, height, fx, fy, cx, cy)


def check_track(frames: Sequence[Frame], min_track: float, source: Path) -> None:
    """Check that the cameras moved.

    Raises:
        CaptureError: When all positions lie within `min_track` [m].
    """
    positions = np.array([frame.world_from_camera.translation for frame in frames if frame.world_from_camera])
    extent = float(np.linalg.norm(np.ptp(positions, axis=0)))
    if extent < min_track:
        raise CaptureError(
            f"the camera must move by at least {100 * min_track:g} cm: turning on the spot shows no depth",
            found=f"{len(positions)} poses within {100 * extent:.2g} cm",
            remedy="walk while you record (docs/capture-guide.md); if you did, the poses are not in metres",
            file=source,
        )


def check_one_camera(frames: Sequence[Frame], source: Path) -> None:
    """Check that the pictures of a recording have one size, and focal lengths as one camera's (it may focus).

    Raises:
        CaptureError: Naming the two that differ most.
    """
    ranked = sorted(frames, key=lambda frame: (frame.camera.width, frame.camera.height, frame.camera.fx))
    least, most = ranked[0], ranked[-1]
    one, other = least.camera, most.camera
    if (one.width, one.height) != (other.width, other.height) or other.fx > (1 + FOCUSING) * one.fx:
        raise CaptureError(
            "a recording's pictures must be of one camera: two devices are mixed",
            found=f"{one.width} x {one.height} with a focal length of {one.fx:.0f} px ({least.name}), "
            f"{other.width} x {other.height} with {other.fx:.0f} px ({most.name})",
            remedy="keep each device's recording in a folder of its own",
            file=source,
        )


def check_increasing(times: Sequence[float], files: Sequence[str]) -> None:
    """Check that time runs forward.

    Raises:
        CaptureError: Naming the first frame whose time is not after the one before.
    """
    for before, after, file in zip(times, times[1:], files[1:], strict=False):
        if after <= before:
            raise CaptureError(
                "time must increase from frame to frame",
                found=f"{after} after {before}",
                remedy="remove repeated frames, or export again",
                file=file,
            )


def chosen_cameras(cameras: Sequence[str], wanted: str, file: str) -> list[str]:
    """Names of the cameras of a rig that are read.

    Args:
        cameras: All names, the best first.
        wanted: What `CaptureParams.cameras` says.
        file: For messages.

    Raises:
        CaptureError: When a camera that was named isn't there.
    """
    if wanted in ("first", "all"):
        return [*cameras[:1]] if wanted == "first" else [*cameras]
    named = [*dict.fromkeys(name.strip() for name in wanted.split(","))]
    if missing := [name for name in named if name not in cameras]:
        raise CaptureError(
            "capture.cameras must be first, all, or names of cameras with commas between them",
            found=f"no {', '.join(map(repr, missing))}; there are {', '.join(cameras)}",
            remedy=f"write for example capture.cameras={','.join(cameras[:2])}",
            file=file,
        )
    return named


def unread_cameras(cameras: Sequence[str], chosen: Sequence[str]) -> list[str]:
    """A note on the cameras of a rig that are left out, if there are any."""
    others = [name for name in cameras if name not in chosen]
    return [f"other cameras, not read: {', '.join(others)} (capture.cameras)"] if others else []


def read_object(data: bytes, file: str) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        CaptureError: When it is none, or too large.
    """
    check_text(data, file)
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        content = error
    if not isinstance(content, dict):
        found = f"{content}" if isinstance(content, Exception) else type(content).__name__
        raise CaptureError("the file must hold a JSON object", found=found, remedy="export it again", file=file)
    return content
