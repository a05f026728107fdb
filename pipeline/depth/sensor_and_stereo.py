# ruff: noqa: ANN001, ANN202 - numba infers the types of compiled functions
"""Fusion of sensor and stereo depth: where they agree the average, where they conflict the one that other views see."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.depth import sensor as sensor_backend
from pipeline.depth.consistency import MAX_RELATIVE, DepthMapSet, intrinsics
from pipeline.depth.free_space import small
from pipeline.depth.maps import FROM_SENSOR, FROM_STEREO, DepthMap, load_depth_map, save_depth_map
from pipeline.depth.mvs import estimate_depth, saved_maps, stereo_report
from pipeline.depth.params import DepthParams
from pipeline.depth.sensor import measured_share
from pipeline.errors import ReconstructionError
from pipeline.geometry import Camera
from pipeline.geometry.jit import njit
from pipeline.io.results import resume_folder
from pipeline.poses.scene import PosedScene, View
from pipeline.progress import track
from pipeline.types import F32, I32, I64, Mask

logger = logging.getLogger(__name__)

_f4 = np.float32

STEREO_EVERY = 2
"""Every so many training views are matched; the others' sensor depth is fused with stereo in the points stage."""
SOURCES_FROM_SENSOR = 8
"""Most images that an image is matched with when the sensor says where to look: more of them change nothing."""
WHOLE_IMAGE = 0.95
"""Least mean share of pixels with depth for that; a scanner of few lines leaves large parts of the images without, so
that all views are matched, and fused at the finer resolution."""
NEIGHBOURS, NEIGHBOURS_WITH_GAPS = 8, 12
"""Views that decide a conflict; with a scanner's gaps also about stereo alone, where fewer would hardly show the
image's border."""
MAX_DEVIATION = np.float32(3.0)
"""Sensor and stereo see one surface when their depths differ by at most this many standard deviations."""
MIN_SUPPORT = 2
"""Neighbours that must agree where only stereo has a depth."""
_STEPS = 4
_MAX_SHIFT = np.float32(0.7)
"""Iterations along a ray converge when the pixel moves by less [px]."""
_MIN_ALONG = np.float32(-0.05)
"""A plane at a more grazing angle does not determine the depth."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """One view's sensor and stereo depth seen from one camera; `guessed` of the stereo map marks filled patches.

    Where both have a depth, they `agree` on a surface or are in `conflict` (H, W).
    """

    sensor: DepthMap
    stereo: DepthMap
    agree: Mask
    conflict: Mask

    @property
    def alone(self) -> Mask:
        """(H, W) only stereo has a depth."""
        return (self.stereo.depth > 0) & (self.sensor.depth <= 0)


def write_maps(
    scene: PosedScene, inputs: Mapping[str, Path], params: DepthParams, out_dir: Path
) -> tuple[list[str], dict[str, object]]:
    """Write the sensor's maps, then fuse some of them (all of a scanner with gaps) with stereo.

    For errors see `sensor.write_maps` and `mvs.estimate_depth`.
    """
    with_gaps = measured_share(scene, inputs["capture"]) <= WHOLE_IMAGE
    names, report = sensor_backend.write_maps(scene, inputs, params, out_dir, with_gaps=with_gaps)
    report["combined"] = _add_stereo(scene, inputs["poses"], params, out_dir, with_gaps=with_gaps)
    return names, report


def _add_stereo(
    scene: PosedScene, poses_folder: Path, params: DepthParams, out_dir: Path, *, with_gaps: bool
) -> dict[str, object]:
    """Match some views and fuse their sensor maps in `out_dir` with the stereo maps; returns the report."""
    every, count = (1, NEIGHBOURS_WITH_GAPS) if with_gaps else (STEREO_EVERY, NEIGHBOURS)
    training = [view.name for view in scene.training if view.sensor_depth]
    if not with_gaps:
        fewer = max(SOURCES_FROM_SENSOR, params.min_agreeing)
        params = params.changed(source_views=min(params.source_views, fewer))
    with tempfile.TemporaryDirectory(dir=out_dir) as scratch:
        folder = Path(scratch)

        def start(view: View, camera: Camera) -> F32:
            unseen = np.zeros((camera.height, camera.width), np.float32)
            own = load_depth_map(out_dir, view.name)
            pose = view.world_from_camera
            return hypotheses(seen_from(own, replace(own, camera=camera, world_from_camera=pose, depth=unseen)))

        maps = estimate_depth(
            scene,
            poses_folder,
            params,
            resume_folder(out_dir),
            names=training[::every],
            start=None if with_gaps else start,
        )
        try:
            matched, report = stereo_report(saved_maps(maps, scene, poses_folder, folder))
        except ReconstructionError as error:
            logger.warning("sensor depth alone is used: %s", error)
            return {"reason": f"the images could not be matched: {error}"}

        def both(name: str) -> Candidates:
            own, stereo = load_depth_map(out_dir, name), load_depth_map(folder, name)
            finer = with_gaps and stereo.camera.fx > own.camera.fx
            return candidates(seen_from(own, stereo) if finer else own, stereo)

        views = DepthMapSet.pack(
            [small(uncontested(both(name)) if name in matched else load_depth_map(out_dir, name)) for name in training]
        )
        neighbours = views.neighbours(count)
        shares: dict[str, dict[str, float]] = {}
        for name, near in track(zip(training, neighbours, strict=True), "combine depth", len(training)):
            if name in matched:
                depth_map, shares[name] = fuse(both(name), views, near)
                save_depth_map(out_dir, depth_map)
    return report | {key: float(np.mean([s[key] for s in shares.values()])) for key in next(iter(shares.values()))}


def candidates(sensor: DepthMap, stereo: DepthMap) -> Candidates:
    """Test each pixel of a view's sensor map for agreement with its stereo map, of the colour camera at any size."""
    seen = seen_from(stereo, sensor)
    both = (sensor.depth > 0) & (seen.depth > 0) & ~seen.guessed
    tolerance = MAX_DEVIATION * np.sqrt(sensor.sigma**2 + seen.sigma**2)
    agree = both & (np.abs(sensor.depth - seen.depth) <= tolerance)
    return Candidates(sensor, seen, agree, both & ~agree)


def uncontested(pair: Candidates) -> DepthMap:
    """The map of all pixels that are not in conflict, by which conflicts in other views are decided."""
    return _merged(pair, pair.agree, (pair.sensor.depth > 0) & ~pair.conflict, pair.alone)


def fuse(pair: Candidates, views: DepthMapSet, neighbours: I64) -> tuple[DepthMap, dict[str, float]]:
    """Average depths that agree, weighted with 1 / sigma^2; of others choose the one that more neighbours support.

    A neighbour that sees the same surface counts for it, one that sees through it against it. The sensor is chosen
    with equal support, and where stereo is far off and no neighbour contradicts the sensor: stereo confuses textures,
    in all views alike, while a sensor's errors at edges are small. Where only stereo has a depth, neighbours must
    agree with it and none may see through it.

    `views` are the `uncontested` maps of all views, with the indices of this one's neighbours. Returned are the map
    with `origin`, and the shares of its pixels where both agree, where they are in conflict, where stereo won that,
    and where only stereo has a depth.
    """
    sensor, stereo = pair.sensor, pair.stereo
    for_stereo, against_stereo = _support(stereo, pair.conflict | pair.alone, views, neighbours)
    for_sensor, against_sensor = _support(sensor, pair.conflict, views, neighbours)
    more = for_stereo - against_stereo > for_sensor - against_sensor
    near = np.abs(stereo.depth - sensor.depth) <= MAX_RELATIVE * sensor.depth
    stereo_wins = pair.conflict & more & (near | (against_sensor > for_sensor))
    alone = pair.alone & (for_stereo >= MIN_SUPPORT) & (against_stereo == 0)
    depth_map = _merged(pair, pair.agree, (sensor.depth > 0) & ~stereo_wins, alone | stereo_wins)
    shares = {"both": pair.agree, "conflict": pair.conflict, "stereo_won": stereo_wins, "stereo_only": alone}
    return depth_map, {name: float(pixels.mean()) for name, pixels in shares.items()}


def hypotheses(depth_map: DepthMap) -> F32:
    """Inverse depth and its slopes per pixel (3, H, W) of a map's local planes, 0 where unknown; see `patchmatch`."""
    facing = (depth_map.normals * depth_map.camera.rays()).sum(-1)
    known = (depth_map.depth > 0) & (facing < _MIN_ALONG)
    w = np.divide(1, depth_map.depth, out=np.zeros_like(depth_map.depth), where=known)
    per_ray = np.divide(w, facing, out=np.zeros_like(w), where=known)
    slopes = (per_ray * depth_map.normals[..., k] / focal for k, focal in enumerate(intrinsics(depth_map.camera)[:2]))
    return np.stack([w, *slopes]).astype(np.float32)


def seen_from(depth_map: DepthMap, target: DepthMap) -> DepthMap:
    """A map seen from the camera of `target`, in that camera's geometry, at any resolution.

    Each target pixel's ray is intersected with the map's surface by fixed-point iteration, the surface being the plane
    of the map's pixel there; rays that do not converge (behind an edge) stay unknown.
    """
    source_from_target = depth_map.world_from_camera.inverse() @ target.world_from_camera
    known = depth_map.depth[depth_map.depth > 0]
    start = float(np.median(known)) if len(known) else 1.0
    depth, sigma, normals, guessed = _look_up(
        depth_map.depth,
        depth_map.sigma,
        depth_map.normals,
        depth_map.guessed,
        intrinsics(depth_map.camera),
        intrinsics(target.camera),
        source_from_target.matrix[:3].astype(np.float32),
        np.zeros(target.depth.shape, np.float32),
        _f4(1 / start),
    )
    return replace(target, depth=depth, sigma=sigma, normals=normals, guessed=guessed)


def _support(depth_map: DepthMap, where: Mask, views: DepthMapSet, neighbours: I64) -> tuple[I32, I32]:
    """Number of neighbours (H, W) that see the map's surface, and that see through it, at the pixels `where`."""
    chosen = replace(depth_map, depth=np.where(where, depth_map.depth, 0).astype(np.float32))
    comparison = views.compare(chosen, neighbours, float(MAX_DEVIATION))
    return comparison.agreeing.astype(np.int32), comparison.violations.astype(np.int32)


def _merged(pair: Candidates, both: Mask, from_sensor: Mask, from_stereo: Mask) -> DepthMap:
    """The map of pixels from both, from the sensor and from stereo; where masks overlap the first counts."""
    sensor, stereo = pair.sensor, pair.stereo
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


@njit(nogil=True, error_model="numpy", cache=True)
def _look_up(depth, sigma, normals, guessed, camera, target, m, shape, start):
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
