"""Sensor and stereo depth of one view into one map: what agrees is averaged, what conflicts other views decide."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.depth.agreement import MAX_RELATIVE, MapSet
from pipeline.depth.maps import FROM_SENSOR, FROM_STEREO, DepthMap

_COMPILE: dict[str, Any] = {"nogil": True, "error_model": "numpy", "cache": True}
_f4 = np.float32

MAX_DEVIATION = np.float32(3.0)
"""Sensor and stereo see one surface when their depths differ by at most so many standard deviations."""
LEAST_SUPPORT = 2
"""Neighbours that must agree where only stereo has a depth."""
_STEPS = 4
_MAX_SHIFT = np.float32(0.7)
"""Looking up the other camera's depth along a ray has ended when the pixel moves by less [px]."""
_MIN_ALONG = np.float32(-0.05)
"""A plane seen at a more grazing angle says nothing about the depth."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """What both say of one view's pixels, in the geometry of `sensor`.

    Attributes:
        sensor: The sensor's map, as it is or as another camera sees it.
        stereo: The stereo map seen by that camera; its `guessed` marks filled patches.
        agree: (H, W) bool, both know the pixel and see one surface.
        conflict: (H, W) bool, both know it and see different ones.
    """

    sensor: DepthMap
    stereo: DepthMap
    agree: NDArray[np.bool_]
    conflict: NDArray[np.bool_]

    @property
    def alone(self) -> NDArray[np.bool_]:
        """(H, W) only stereo has a depth."""
        return (self.stereo.depth > 0) & (self.sensor.depth <= 0)


@dataclass(frozen=True, eq=False)
class Combined:
    """One view's combined map and how it came about, in shares of all pixels.

    Attributes:
        depth_map: With `origin`.
        both: Where both agree.
        conflict: Where they did not.
        stereo_won: Where they did not, and other views supported stereo.
        stereo_only: Where only stereo knows a depth.
    """

    depth_map: DepthMap
    both: float
    conflict: float
    stereo_won: float
    stereo_only: float

    def shares(self) -> dict[str, float]:
        """Plain JSON values."""
        return {name: getattr(self, name) for name in ("both", "conflict", "stereo_won", "stereo_only")}


def candidates(sensor: DepthMap, stereo: DepthMap) -> Candidates:
    """Bring both maps of a view together and test each pixel for agreement.

    Args:
        sensor: Its map, same frame.
        stereo: Its map, in the colour camera's geometry at any size.
    """
    seen = seen_from(stereo, sensor)
    both = (sensor.depth > 0) & (seen.depth > 0) & ~seen.guessed
    tolerance = MAX_DEVIATION * np.sqrt(sensor.sigma**2 + seen.sigma**2)
    agree = both & (np.abs(sensor.depth - seen.depth) <= tolerance)
    return Candidates(sensor, seen, agree, both & ~agree)


def evidence(found: Candidates) -> DepthMap:
    """The map of all pixels that are not in conflict: what other views' conflicts are decided by."""
    return _merged(found, found.agree, (found.sensor.depth > 0) & ~found.conflict, found.alone)


def combine(found: Candidates, views: MapSet, neighbours: NDArray[np.int64]) -> Combined:
    """Average what agrees, weighted with 1 / sigma^2; of what conflicts take what more of the neighbours support.

    A neighbour that sees the same surface supports it, one that looks through it speaks against it. With equal support
    the sensor is believed. So it is when stereo is far off and no neighbour refutes the sensor: stereo errs far, by
    taking one texture for another, and does so alike in all views; a sensor's errors at edges are small. Where only
    stereo has a depth, it needs neighbours that agree and none that looks through.

    Args:
        found: Both maps of the view.
        views: The `evidence` of all views.
        neighbours: Which of them to ask.
    """
    sensor, stereo = found.sensor, found.stereo
    for_stereo, against_stereo = _ask(stereo, found.conflict | found.alone, views, neighbours)
    for_sensor, against_sensor = _ask(sensor, found.conflict, views, neighbours)
    more = for_stereo - against_stereo > for_sensor - against_sensor
    near = np.abs(stereo.depth - sensor.depth) <= MAX_RELATIVE * sensor.depth
    stereo_wins = found.conflict & more & (near | (against_sensor > for_sensor))
    alone = found.alone & (for_stereo >= LEAST_SUPPORT) & (against_stereo == 0)
    depth_map = _merged(found, found.agree, (sensor.depth > 0) & ~stereo_wins, alone | stereo_wins)
    return Combined(
        depth_map,
        float(found.agree.mean()),
        float(found.conflict.mean()),
        float(stereo_wins.mean()),
        float(alone.mean()),
    )


def seen_from(depth_map: DepthMap, target: DepthMap) -> DepthMap:
    """A map as the camera of `target` would see it, in that camera's geometry (its pixels may be smaller or larger).

    Each target pixel's ray is followed to the map's surface by fixed-point iteration, the surface being the plane of
    the map's pixel there; rays that do not settle (behind an edge) stay unknown.
    """
    source_from_target = depth_map.world_from_camera.inverse() @ target.world_from_camera
    known = depth_map.depth[depth_map.depth > 0]
    start = float(np.median(known)) if len(known) else 1.0
    camera, other = target.camera, depth_map.camera
    depth, sigma, normals, guessed = _look_up(
        depth_map.depth,
        depth_map.sigma,
        depth_map.normals,
        depth_map.guessed,
        np.array([other.fx, other.fy, other.cx, other.cy], np.float32),
        np.array([camera.fx, camera.fy, camera.cx, camera.cy], np.float32),
        source_from_target.matrix[:3].astype(np.float32),
        np.zeros(target.depth.shape, np.float32),
        _f4(1 / start),
    )
    return replace(target, depth=depth, sigma=sigma, normals=normals, guessed=guessed)


def _ask(
    depth_map: DepthMap, where: NDArray[np.bool_], views: MapSet, neighbours: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """How many neighbours see the map's surface, and how many look through it (H, W), at the pixels `where`."""
    asked = replace(depth_map, depth=np.where(where, depth_map.depth, 0).astype(np.float32))
    comparison = views.compare(asked, neighbours, float(MAX_DEVIATION))
    return comparison.agreeing.astype(np.int32), comparison.violations.astype(np.int32)


def _merged(
    found: Candidates, both: NDArray[np.bool_], from_sensor: NDArray[np.bool_], from_stereo: NDArray[np.bool_]
) -> DepthMap:
    """The map of what comes from both, from the sensor and from stereo; where masks overlap the first counts."""
    sensor, stereo = found.sensor, found.stereo
    only_sensor, only_stereo = from_sensor & ~both, from_stereo & ~both
    weight_sensor = np.where(both | only_sensor, 1 / np.maximum(sensor.sigma, 1e-9) ** 2, 0)
    weight_stereo = np.where(both | only_stereo, 1 / np.maximum(stereo.sigma, 1e-9) ** 2, 0)
    total = weight_sensor + weight_stereo
    known = total > 0
    share = np.where(known, weight_stereo / np.maximum(total, 1e-12), 0)
    normals = sensor.normals * (1 - share[..., None]) + stereo.normals * share[..., None]
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-6)
    origin = np.where(weight_sensor > 0, FROM_SENSOR, 0) | np.where(weight_stereo > 0, FROM_STEREO, 0)
    return replace(
        sensor,
        depth=np.where(known, sensor.depth * (1 - share) + stereo.depth * share, 0).astype(np.float32),
        sigma=np.where(known, 1 / np.sqrt(np.maximum(total, 1e-12)), 0).astype(np.float32),
        normals=np.where(known[..., None], normals, 0).astype(np.float32),
        guessed=only_stereo & stereo.guessed,
        origin=origin.astype(np.uint8),
    )


@njit(**_COMPILE)
def _look_up(depth, sigma, normals, guessed, camera, target, m, shape, start):  # noqa: ANN001, ANN202
    """Depth, sigma, normals and guessed of a map at the target's pixels; m is source_from_target (3, 4)."""
    height, width = shape.shape
    rows, columns = depth.shape
    new_depth = np.zeros((height, width), np.float32)
    new_sigma = np.zeros((height, width), np.float32)
    new_normals = np.zeros((height, width, 3), np.float32)
    new_guessed = np.zeros((height, width), np.bool_)
    for y in range(height):
        ray_y = (_f4(y) + _f4(0.5) - target[3]) / target[1]
        w = start
        for x in range(width):
            ray_x = (_f4(x) + _f4(0.5) - target[2]) / target[0]
            ax = m[0, 0] * ray_x + m[0, 1] * ray_y + m[0, 2]
            ay = m[1, 0] * ray_x + m[1, 1] * ray_y + m[1, 2]
            az = m[2, 0] * ray_x + m[2, 1] * ray_y + m[2, 2]
            last_u, last_v = _f4(-1e6), _f4(-1e6)
            for _ in range(_STEPS):
                far = az + m[2, 3] * w
                if far <= _f4(1e-4):
                    break
                dx, dy = (ax + m[0, 3] * w) / far, (ay + m[1, 3] * w) / far
                u, v = dx * camera[0] + camera[2], dy * camera[1] + camera[3]
                if not (u >= 0 and v >= 0 and u < columns and v < rows):
                    break
                column, row = int(u), int(v)
                z = depth[row, column]
                if not z > 0:
                    break
                pixel_x = (_f4(column) + _f4(0.5) - camera[2]) / camera[0]
                pixel_y = (_f4(row) + _f4(0.5) - camera[3]) / camera[1]
                nx, ny, nz = normals[row, column, 0], normals[row, column, 1], normals[row, column, 2]
                along = nx * dx + ny * dy + nz
                at_pixel = nx * pixel_x + ny * pixel_y + nz
                if along < _MIN_ALONG and at_pixel < _MIN_ALONG:
                    z *= at_pixel / along
                # The point in the target's axes: rotation transposed times (point - translation).
                px, py, pz = dx * z - m[0, 3], dy * z - m[1, 3], z - m[2, 3]
                near = m[0, 2] * px + m[1, 2] * py + m[2, 2] * pz
                if near <= _f4(1e-4):
                    break
                w = _f4(1) / near
                if abs(u - last_u) < _MAX_SHIFT and abs(v - last_v) < _MAX_SHIFT:
                    new_depth[y, x] = near
                    new_sigma[y, x] = sigma[row, column] * near / z
                    for axis in range(3):
                        new_normals[y, x, axis] = m[0, axis] * nx + m[1, axis] * ny + m[2, axis] * nz
                    new_guessed[y, x] = guessed[row, column]
                    break
                last_u, last_v = u, v
            if not new_depth[y, x] > 0:
                w = start
    return new_depth, new_sigma, new_normals, new_guessed
