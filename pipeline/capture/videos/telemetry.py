"""Gravity and positions that a camera recorded beside its video, joined with the frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image

from pipeline.capture.cameras.gpmf import Telemetry
from pipeline.capture.images import turned
from pipeline.capture.metadata import GpsPosition, from_middle, location_of
from pipeline.capture.model import Capture
from pipeline.types import F64, I64

GRAVITY_SIGMA_DEG = 1.0
"""One sigma of a camera's gravity in all frames: how its sensor is mounted, and what acceleration leaves in it."""
MAX_GAP = 1.5
"""Longest time between positions within which frames lie on the line between them [s]; a lost second is one."""
MAX_AWAY = 0.2
"""Longest time between a frame and its gravity [s]."""


def with_telemetry(
    capture: Capture, telemetry: Telemetry, rotation: Image.Transpose | None, *, keep_gps: bool
) -> Capture:
    """The capture of a video with gravity and positions by the frames' source times.

    `rotation` makes the stored images upright. Gravity by which most images would be upside down is not used.
    """
    times = np.array([frame.source_time for frame in capture.frames], np.float64)
    notes, frames = list(capture.notes), list(capture.frames)
    nearest = _nearest(times, telemetry.gravity_times)
    down = turned(telemetry.gravity[nearest], rotation) if len(telemetry.gravity) else np.zeros((0, 3))
    if len(down) and np.median(down[:, 1]) > 0:
        near = np.abs(telemetry.gravity_times[nearest] - times) <= MAX_AWAY
        frames = [
            replace(frame, gravity=own if is_near else None)
            for frame, own, is_near in zip(frames, down, near, strict=True)
        ]
        notes.append(f"gravity of {int(near.sum())} frames is the camera's own (GPMF)")
    elif len(down):
        notes.append("the camera's own gravity (GPMF) is not used: by it most images are upside down")
    positions, sigmas = _positions(times, telemetry)
    metres = from_middle(positions)
    frames = [
        replace(frame, gps=at, gps_sigma=None if at is None else sigma)
        for frame, at, sigma in zip(frames, metres, sigmas, strict=True)
    ]
    if placed := sum(at is not None for at in metres):
        notes.append(f"{placed} frames have positions of the camera's own (GPMF)")
    return replace(
        capture,
        frames=tuple(frames),
        notes=tuple(notes),
        gravity_sigma_deg=GRAVITY_SIGMA_DEG if any(frame.gravity is not None for frame in frames) else None,
        location=location_of([position for position in positions if position]) if keep_gps else None,
    )


def _nearest(times: F64, readings: F64) -> I64:
    """Index (N,) of the reading, in the order of time, that is nearest to each time (N,)."""
    after = np.searchsorted(readings, times).clip(1, max(len(readings) - 1, 1))
    if len(readings) < 2:
        return np.zeros(len(times), np.int64)
    return after - (times - readings[after - 1] < readings[after] - times)


def _positions(times: F64, telemetry: Telemetry) -> tuple[list[GpsPosition | None], list[tuple[float, float]]]:
    """Positions on the lines between readings, None in gaps, and the larger sigma of both ends."""
    readings = telemetry.position_times
    if len(readings) < 2:
        return [None] * len(times), [(0.0, 0.0)] * len(times)
    after = np.searchsorted(readings, times).clip(1, len(readings) - 1)
    begin, end = readings[after - 1], readings[after]
    inside = (begin <= times) & (times <= end) & (end - begin <= MAX_GAP)
    along = np.column_stack([np.interp(times, readings, values) for values in telemetry.positions.T])
    sigma = np.maximum(telemetry.sigmas[after - 1], telemetry.sigmas[after])
    positions = [
        (float(row[0]), float(row[1]), float(row[2])) if known else None
        for row, known in zip(along, inside, strict=True)
    ]
    return positions, [(float(horizontal), float(vertical)) for horizontal, vertical in sigma]
