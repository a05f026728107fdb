"""Numbers that are finite and still belong to no capture: found once, where every reader's capture ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.capture.checks import FARTHEST
from pipeline.capture.model import Capture, Frame
from pipeline.errors import CaptureError

EXTENT_METRES = 20_000.0
"""Nobody carries a camera further in a capture [m]; poses without a scale may be in any unit."""
EXTENT_UNITS = 1e7
FOCAL = (0.05, 200.0)
"""Focal lengths, in the picture's longer side: from a fisheye lens to a telescope."""
LONGEST_TIME = 1e8
"""Three years [s]."""
DEEPEST = 1e5
"""That a sensor's depth may reach [m]."""


def check_plausible(capture: Capture, source: Path) -> None:
    """Check what stages compute with: a damaged file can hold any number, and squares of large ones are no numbers.

    Raises:
        CaptureError: When poses, lenses, times, depths or gravity are beyond those of any capture.
    """
    problem = next(_problems(capture), None)
    if problem is not None:
        rule, found = problem
        raise CaptureError(
            rule, found=found, remedy="export the capture again, or remove the frames that say so", file=source
        )


def _problems(capture: Capture) -> Iterator[tuple[str, str]]:
    """Rules that are broken, and how."""
    posed = [frame for frame in capture.frames if frame.world_from_camera is not None]
    places = np.array([frame.world_from_camera.translation for frame in posed if frame.world_from_camera])
    if len(places):
        low, high = places.min(0), places.max(0)
        far = int(np.abs(places - np.median(places, 0)).max(1).argmax())
        limit = EXTENT_UNITS if capture.scale_sigma is None else EXTENT_METRES
        where = f"{posed[far].name} at {', '.join(f'{value:.4g}' for value in places[far])}"
        if np.abs(places).max() > FARTHEST:
            yield f"a camera lies within {FARTHEST / 1000:.0f} km of its world's origin", where
        elif (high - low).max() > limit:
            rule = (
                f"the cameras of a capture lie within {limit / 1000:.0f} km"
                if capture.scale_sigma
                else (f"the cameras of a capture lie within {limit:.0f} units")
            )
            yield rule, where
    for frame in capture.frames:
        yield from _of_frame(frame)
    known = (capture.scale_sigma, capture.up_sigma_deg, capture.depth_range)
    if not all(value is None or 0 <= value <= DEEPEST for value in known):
        yield "sigmas and the depth's range are positive numbers", ", ".join(map(str, known))


def _of_frame(frame: Frame) -> Iterator[tuple[str, str]]:
    for camera in (frame.camera, frame.depth_camera):
        if camera is None:
            continue
        side = max(camera.width, camera.height)
        if not (FOCAL[0] * side < min(camera.fx, camera.fy) and max(camera.fx, camera.fy) < FOCAL[1] * side):
            found = f"{frame.name}: {camera.fx:.4g} and {camera.fy:.4g} px"
            yield f"focal lengths of {side} pixels are {FOCAL[0] * side:.0f} to {FOCAL[1] * side:.0f} px", found
    if frame.time is not None and not abs(frame.time) <= LONGEST_TIME:
        yield "a capture takes less than three years", f"{frame.name} {frame.time:.4g} s after the first frame"
    if frame.gravity is not None and not _is_unit(frame.gravity):
        yield "the direction of gravity is of length 1", f"{frame.name}: {frame.gravity.tolist()}"


def _is_unit(vector: NDArray[np.float64]) -> bool:
    return bool((np.abs(vector) < 2).all()) and abs(float(np.linalg.norm(vector)) - 1) < 1e-3
