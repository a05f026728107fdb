"""Rules for poses, intrinsics and times that all readers with sensors apply, and plausibility of a whole capture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from pipeline.capture.model import Capture, Frame, Size
from pipeline.errors import CaptureError
from pipeline.geometry import CV_FROM_GL, Camera, Pose
from pipeline.geometry.camera import FOCAL
from pipeline.types import F64

ROTATION_TOLERANCE = 1e-3
MAX_DISTANCE = 1e8
"""Largest distance from the origin of the poses' world [m]: the centre of the earth is 6 400 km away."""
FOCUSING = 0.08
"""Relative change of a focal length that focusing down to 10 cm may cause (5 %, by the thin lens), and some more."""
EXTENT_METRES, EXTENT_UNITS = 20_000.0, 1e7
"""Nobody carries a camera farther in a capture [m]; poses without a scale may be in any unit."""
MAX_TIME = 1e8
"""Longest capture, three years [s]."""
MAX_DEPTH = 1e5
"""Farthest range of a depth sensor [m]."""


def checked_array(values: object, what: str, file: str) -> F64:
    """Numbers of a JSON or YAML file as an array.

    Raises:
        CaptureError: When they are no numbers, or rows of several lengths.
    """
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise CaptureError(
            f"{what} must be numbers", found=f"{values!r}"[:80], remedy="export the file again", file=file
        ) from error


def checked_pose(matrix: object, file: str, *, axes: str = "CV") -> Pose:
    """A camera-to-world pose in CV axes from a (3, 4) or (4, 4) matrix [m] in "CV" or "GL" camera axes.

    The rotation is exactly orthonormal after that.

    Raises:
        CaptureError: When it isn't finite, mirrored or not rigid.
    """

    def broken(found: str, remedy: str = "remove this frame's files, or export the poses again") -> CaptureError:
        rule = "a camera pose must be a rigid camera-to-world transform"
        return CaptureError(rule, found=found, remedy=remedy, file=file)

    values = checked_array(matrix, "a camera pose", file)
    if values.shape not in ((3, 4), (4, 4)):
        raise broken(f"numbers of shape {values.shape}")
    if not np.isfinite(values).all():
        raise broken("NaN or infinity: tracking was lost here")
    if np.abs(values).max() > MAX_DISTANCE:
        raise broken(f"a number of {np.abs(values).max():.3g}")
    if values.shape == (4, 4) and np.abs(values[3] - [0, 0, 0, 1]).max() > 1e-6:
        raise broken(f"the last row {values[3].tolist()} instead of 0 0 0 1", "write matrices row by row")
    rotation = values[:3, :3]
    determinant = float(np.linalg.det(rotation))
    if determinant < 0:
        found = f"a mirrored (left-handed) rotation, determinant {determinant:.3f}"
        raise broken(found, "export in a right-handed frame")
    error = float(np.abs(rotation @ rotation.T - np.eye(3)).max())
    if error > ROTATION_TOLERANCE or abs(determinant - 1) > 3 * ROTATION_TOLERANCE:
        found = f"scale or shear: determinant {determinant:.4f}, off orthonormal by {error:.2g}"
        raise broken(found, "export rotations without scale, positions in metres")
    u, _, vt = np.linalg.svd(rotation)
    nearest = u @ vt
    return Pose(nearest @ CV_FROM_GL if axes == "GL" else nearest, values[:3, 3])


def checked_matrix(values: dict[str, object], key: str, shapes: tuple[tuple[int, int], ...], file: str) -> F64:
    """A matrix of one of the shapes: a list of numbers row by row, of rows, or {rows, cols, data}.

    Raises:
        CaptureError: When it is missing or of another size.
    """
    value = values.get(key)
    content = value.get("data") if isinstance(value, dict) else value
    flat = checked_array(content, key, file).ravel()
    for shape in shapes:
        if flat.size == shape[0] * shape[1]:
            return flat.reshape(shape)
    expected = " or ".join(f"{rows} x {columns}" for rows, columns in shapes)
    raise CaptureError(
        f"{key} must hold {expected} numbers, row by row",
        found="nothing" if value is None else f"{str(content)[:80]!r}",
        remedy=f"write {key}: {{rows: {shapes[0][0]}, cols: {shapes[0][1]}, data: [...]}}",
        file=file,
    )


def checked_camera(intrinsics: tuple[float, float, float, float], size: Size, file: str) -> Camera:
    """A pinhole camera from fx, fy, cx, cy [px] and (width, height).

    Raises:
        CaptureError: When the numbers can't belong to an image of that size.
    """
    width, height = size
    fx, fy, cx, cy = intrinsics
    found = ""
    if min(size) < 1 or not np.isfinite(intrinsics).all() or fx <= 0 or fy <= 0:
        found = f"fx, fy, cx, cy = {fx}, {fy}, {cx}, {cy}"
    elif max(abs(cx / width - 0.5), abs(cy / height - 0.5)) > 0.2:
        found = f"a principal point of {cx:g}, {cy:g}: that fits {2 * cx:.0f} x {2 * cy:.0f}"
    elif not 0.25 < fx / max(size) < 10 or not 0.6 < fx / fy < 1.7:
        found = f"focal lengths of {fx:g}, {fy:g}"
    if found:
        raise CaptureError(
            f"intrinsics must belong to the image's size, {width} x {height}",
            found=found,
            remedy="give the intrinsics of these images (all four numbers scale with the size)",
            file=file,
        )
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
            f"the camera must move by at least {100 * min_track:g} cm: rotating on the spot shows no depth",
            found=f"{len(positions)} poses within {100 * extent:.2g} cm",
            remedy="walk while you record (docs/capture-guide.md); if you did, the poses are not in metres",
            file=source,
        )


def check_one_camera(frames: Sequence[Frame], source: Path) -> None:
    """Check that the images of a recording have one size, and focal lengths as one camera's (it may focus).

    Raises:
        CaptureError: Naming the two that differ most.
    """
    ranked = sorted(frames, key=lambda frame: (frame.camera.width, frame.camera.height, frame.camera.fx))
    first, last = ranked[0].camera, ranked[-1].camera
    if (first.width, first.height) != (last.width, last.height) or last.fx > (1 + FOCUSING) * first.fx:
        raise CaptureError(
            "a recording's images must be of one camera: two devices are mixed",
            found=f"{first.width} x {first.height} with a focal length of {first.fx:.0f} px ({ranked[0].name}), "
            f"{last.width} x {last.height} with {last.fx:.0f} px ({ranked[-1].name})",
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


def chosen_cameras(cameras: Sequence[str], requested: str, file: str) -> list[str]:
    """Names of those cameras of a rig (the best first) that `CaptureParams.cameras` requests.

    Raises:
        CaptureError: When a named camera does not exist.
    """
    if requested in ("first", "all"):
        return [*cameras[:1]] if requested == "first" else [*cameras]
    named = [*dict.fromkeys(name.strip() for name in requested.split(","))]
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


def check_plausible(capture: Capture, source: Path) -> None:
    """Check what stages compute with: a damaged file can hold any finite number, and squares of large ones overflow.

    Raises:
        CaptureError: When poses, lenses, times, depths or gravity are beyond those of any capture.
    """
    for rule, found in _problems(capture):
        remedy = "export the capture again, or remove the frames that say so"
        raise CaptureError(rule, found=found, remedy=remedy, file=source)


def _problems(capture: Capture) -> Iterator[tuple[str, str]]:
    posed = [(frame.name, frame.world_from_camera) for frame in capture.frames if frame.world_from_camera]
    positions = np.array([pose.translation for _, pose in posed])
    if len(positions):
        far = int(np.abs(positions - np.median(positions, 0)).max(1).argmax())
        limit = EXTENT_UNITS if capture.scale_sigma is None else EXTENT_METRES
        where = f"{posed[far][0]} at {', '.join(f'{value:.4g}' for value in positions[far])}"
        if np.abs(positions).max() > MAX_DISTANCE:
            yield f"a camera lies within {MAX_DISTANCE / 1000:.0f} km of its world's origin", where
        elif np.ptp(positions, axis=0).max() > limit:
            size = f"{limit / 1000:.0f} km" if capture.scale_sigma else f"{limit:.0f} units"
            yield f"the cameras of a capture lie within {size}", where
    for frame in capture.frames:
        for camera in filter(None, (frame.camera, frame.depth_camera)):
            side = max(camera.width, camera.height)
            if not camera.is_lens:
                found = f"{frame.name}: {camera.fx:.4g} and {camera.fy:.4g} px"
                yield f"focal lengths of {side} pixels are {FOCAL[0] * side:.0f} to {FOCAL[1] * side:.0f} px", found
        if frame.time is not None and not abs(frame.time) <= MAX_TIME:
            yield "a capture takes less than three years", f"{frame.name} {frame.time:.4g} s after the first frame"
        g = frame.gravity
        if g is not None and not ((np.abs(g) < 2).all() and abs(float(np.linalg.norm(g)) - 1) < 1e-3):
            yield "the direction of gravity is of length 1", f"{frame.name}: {g.tolist()}"
    known = (capture.scale_sigma, capture.up_sigma_deg, capture.depth_range)
    if not all(value is None or 0 <= value <= MAX_DEPTH for value in known):
        yield "sigmas and the depth's range are positive numbers", ", ".join(map(str, known))
