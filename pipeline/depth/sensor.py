"""Depth maps from a depth sensor in its own geometry: cleaned, with normals and measured sigmas."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from pipeline.depth.local_planes import depth_of, drop_flying_pixels, fit_local_planes, map_from_planes, window_step
from pipeline.depth.maps import DepthMap, save_depth_map, unmasked
from pipeline.depth.params import INDOORS, DepthParams
from pipeline.depth.sensor_model import Distortion, NoiseModel, fit_distortion, fit_noise
from pipeline.errors import CaptureError
from pipeline.geometry import Pose
from pipeline.parallel import map_in_order
from pipeline.poses.scene import PosedScene, View, read_sensor_depth
from pipeline.progress import track
from pipeline.types import F32

logger = logging.getLogger(__name__)

NOISE_VIEWS, NOISE_PARTNERS = 10, (4, 8, 16)
"""Number of keyframes on which noise is measured, and the offsets of those that each is compared with: neighbours
share their errors."""

BROAD_TOLERANCE = np.float32(0.35)
"""The broad fit takes depths as one surface within this share of the fine fit's tolerance."""


@dataclass(frozen=True, eq=False)
class SensorDepth:
    """A cleaned map [scene units], and the shares of pixels with depth in the image and in the map."""

    depth_map: DepthMap
    measured: float
    kept: float


def write_maps(
    scene: PosedScene, inputs: Mapping[str, Path], params: DepthParams, out_dir: Path, *, with_gaps: bool = False
) -> tuple[list[str], dict[str, object]]:
    """Write the cleaned map of every view with a depth image; returns names and report.

    Raises:
        CaptureError: When there is no depth image, or one is damaged.
    """
    capture_folder = inputs["capture"]
    count = sum(view.sensor_depth is not None for view in scene.views)
    if not count:
        raise CaptureError(
            f"the {params.backend} backend needs depth images",
            found="a capture without any",
            remedy="leave depth.backend at auto, or set it to mvs",
            file=capture_folder,
        )
    distortion, distortion_report = fit_distortion(scene, capture_folder, params)
    noise, comparisons = measure_noise(scene, capture_folder, params, distortion)
    logger.info("sensor noise %s by %d comparisons", noise, comparisons)
    per_view: dict[str, dict[str, float]] = {}
    maps = sensor_depth_maps(scene, capture_folder, params, noise, distortion, with_gaps=with_gaps)
    for result in track(maps, "depth", count):
        save_depth_map(out_dir, unmasked(result.depth_map, scene, inputs["poses"]))
        per_view[result.depth_map.name] = {"measured": result.measured, "kept": result.kept}
    return list(per_view), {
        "noise": noise.report() | {"comparisons": comparisons},
        "distortion": distortion_report,
        "kept_share": float(np.mean([values["kept"] for values in per_view.values()])),
        "views": per_view,
    }


def measure_noise(
    scene: PosedScene, capture_folder: Path, params: DepthParams, distortion: Distortion | None = None
) -> tuple[NoiseModel, int]:
    """The sensor's noise by the disagreement of neighbouring keyframes, and the number of pixels compared."""
    views = [view for view in scene.training if view.sensor_depth]
    chosen = np.unique(np.linspace(0, len(views) - 1, NOISE_VIEWS).astype(int)) if len(views) > 1 else []
    partners = [offset for offset in NOISE_PARTNERS if offset < len(views)] or [1]

    def cleaned(index: int) -> DepthMap:
        view = views[index]
        return clean_sensor_depth(view, scene.depth_scale, capture_folder, params, NoiseModel(), distortion).depth_map

    pairs: list[tuple[DepthMap, DepthMap]] = []
    for index in chosen:
        first = cleaned(index)
        pairs += [(first, cleaned(index + offset)) for offset in partners if index + offset < len(views)]
    return fit_noise(pairs, scene.depth_scale)


def measured_share(scene: PosedScene, capture_folder: Path) -> float:
    """Mean share of pixels with depth in the depth images."""
    shares = [(read_sensor_depth(capture_folder, view)[0] > 0).mean() for view in scene.views if view.sensor_depth]
    return float(np.mean(shares)) if shares else 0.0


def sensor_depth_maps(
    scene: PosedScene,
    capture_folder: Path,
    params: DepthParams,
    noise: NoiseModel,
    distortion: Distortion | None = None,
    threads: int | None = None,
    *,
    with_gaps: bool = False,
) -> Iterator[SensorDepth]:
    """Cleaned maps of all views that have a depth image, held-out ones included, in order; see `clean_sensor_depth`."""
    scale = scene.depth_scale
    return map_in_order(
        lambda view: clean_sensor_depth(view, scale, capture_folder, params, noise, distortion, with_gaps=with_gaps),
        [view for view in scene.views if view.sensor_depth],
        threads,
    )


def clean_sensor_depth(
    view: View,
    depth_scale: float,
    capture_folder: Path,
    params: DepthParams,
    noise: NoiseModel,
    distortion: Distortion | None = None,
    *,
    with_gaps: bool = False,
) -> SensorDepth:
    """Read and clean the depth image of a view that has one; `depth_scale` is scene units per metre of the sensor.

    If it is a scanner's that leaves parts of the images empty (`with_gaps`), smoothing bridges creases, so its shift of
    the surface is part of sigma. In a dense image that shift is noise at edges; larger sigmas there would let free
    space remove thin objects.

    Raises:
        CaptureError: When the depth image is missing, not 16-bit, or not of its camera's size.
    """
    metres, confidence, camera = read_sensor_depth(capture_folder, view)
    measured = metres > 0
    trusted = (metres >= params.min_range) & (metres <= params.farthest) & (confidence >= params.min_confidence)
    depth = np.where(trusted, metres, 0).astype(np.float32)
    if distortion is not None:
        depth = distortion.corrected(depth, camera.rays())
    # The smoothing's tolerance is at least the usual noise: the fit measures agreement, not texture. Beyond the range
    # of rooms only LiDARs measure, whose noise doesn't grow with the square of the distance.
    usual = NoiseModel()
    tolerance = np.maximum(usual.sigma(np.minimum(depth, np.float32(INDOORS))), noise.sigma(depth))
    depth = drop_flying_pixels(depth, tolerance, camera.fx)
    planes = _smooth(depth, tolerance, camera.fx)
    smooth = depth_of(planes[0])
    sigma = noise.sigma(smooth) * (2 - confidence.astype(np.float32) / 255)
    if with_gaps:  # noise averages out over 3x3 pixels, a crease that smoothing rounds off in all views alike doesn't
        known = (smooth > 0).astype(np.float32)
        shift = cv2.blur((smooth - depth) * known, (3, 3))
        sigma = np.hypot(sigma, np.abs(shift / np.maximum(cv2.blur(known, (3, 3)), np.float32(1e-6))))
    depth_map = map_from_planes(view, camera, planes, sigma)
    depth_map = replace(
        depth_map,
        world_from_camera=view.world_from_camera @ (view.camera_from_depth or Pose.identity()),
        depth=depth_map.depth * np.float32(depth_scale),
        sigma=depth_map.sigma * np.float32(depth_scale),
    )
    return SensorDepth(depth_map, float(measured.mean()), float((smooth > 0).mean()))


def _smooth(depth: F32, tolerance: F32, focal: float) -> tuple[F32, F32, F32]:
    """Inverse depth and its slopes by a fine fit, replaced by one twice as broad where the two are close."""
    step = window_step(focal)
    fine = fit_local_planes(depth, tolerance, focal, step)
    broad = fit_local_planes(depth_of(fine[0]), BROAD_TOLERANCE * tolerance, focal, 2 * step)
    use = broad[0] > 0
    inverse_depth, slope_x, slope_y = (np.where(use, b, f) for b, f in zip(broad, fine, strict=True))
    return inverse_depth, slope_x, slope_y
