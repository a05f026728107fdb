"""Depth maps from a depth sensor, in the sensor's own geometry, cleaned, with normals and an honest sigma."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipeline.depth.local_planes import drop_flying_pixels, fit_local_planes, plane_normals, window_step
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
"""The noise is measured on this many keyframes, each against those that come so much later: neighbours share their
errors and would look too good."""

BROAD_TOLERANCE = np.float32(0.35)
"""The broad fit takes depths as one surface within this share of the fine fit's tolerance."""


@dataclass(frozen=True, eq=False)
class SensorDepth:
    """What became of one depth image.

    Attributes:
        depth_map: The cleaned map, scene units.
        measured: Share of the pixels that the sensor gave a depth for.
        kept: Share of the pixels that have one afterwards.
    """

    depth_map: DepthMap
    measured: float
    kept: float


def write_maps(
    scene: PosedScene, inputs: Mapping[str, Path], params: DepthParams, out_dir: Path, *, with_gaps: bool = False
) -> tuple[list[str], dict[str, Any]]:
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
    names: list[str] = []
    per_view: dict[str, dict[str, float]] = {}
    maps = sensor_depth_maps(scene, capture_folder, params, noise, distortion, with_gaps=with_gaps)
    for result in track(maps, "depth", count):
        name = result.depth_map.name
        save_depth_map(out_dir, unmasked(result.depth_map, scene, inputs["poses"]))
        names.append(name)
        per_view[name] = {"measured": result.measured, "kept": result.kept}
    return names, {
        "noise": noise.report() | {"comparisons": comparisons},
        "distortion": distortion_report,
        "kept_share": float(np.mean([values["kept"] for values in per_view.values()])),
        "views": per_view,
    }


def measure_noise(
    scene: PosedScene, capture_folder: Path, params: DepthParams, distortion: Distortion | None = None
) -> tuple[NoiseModel, int]:
    """The sensor's noise by how far neighbouring keyframes disagree, and how many pixels were compared."""
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
    """Mean share of the pixels in depth images that have any.

    Raises:
        CaptureError: As `clean_sensor_depth`.
    """
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
    """Cleaned maps of all views that have a depth image, held-out ones included, in order; see `clean_sensor_depth`.

    Raises:
        CaptureError: When a depth image is missing, not 16-bit, or not of its camera's size.
    """
    views = [view for view in scene.views if view.sensor_depth]
    yield from map_in_order(
        lambda view: clean_sensor_depth(
            view, scene.depth_scale, capture_folder, params, noise, distortion, with_gaps=with_gaps
        ),
        views,
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
    """Read one view's depth image and make it a map.

    Args:
        view: With `sensor_depth`.
        depth_scale: Scene units per metre of the sensor.
        capture_folder: What the view's paths are relative to.
        params: Ranges and the required confidence.
        noise: The sensor's noise.
        distortion: Its correction, if any.
        with_gaps: It is a scanner's that leaves parts of the images open, and its creases are bridged: sigma counts
            how far smoothing moved the surface, too. In a dense image that is noise at rims; wider sigmas there would
            let free space eat into thin things.

    Raises:
        CaptureError: When the depth image is missing, not 16-bit, or not of its camera's size.
    """
    metres, confidence, camera = read_sensor_depth(capture_folder, view)
    measured = metres > 0
    trusted = (metres >= params.min_range) & (metres <= params.farthest) & (confidence >= params.min_confidence)
    depth = np.where(trusted, metres, 0).astype(np.float32)
    if distortion is not None:
        depth = distortion.corrected(depth, camera.rays())
    # The smoothing's tolerance must not shrink below the sensor's usual noise: the fit knows agreement, not texture.
    # Beyond the range of rooms only LiDARs measure, whose noise doesn't grow with the distance's square.
    usual = NoiseModel()
    tolerance = np.maximum(usual.sigma(np.minimum(depth, np.float32(INDOORS))), noise.sigma(depth))
    depth = drop_flying_pixels(depth, tolerance, camera.fx)
    inverse_depth, slope_x, slope_y = _smooth(depth, tolerance, camera.fx)
    known = inverse_depth > 0
    smooth = np.where(known, 1 / np.maximum(inverse_depth, 1e-6), 0).astype(np.float32)
    sigma = noise.sigma(smooth) * (2 - confidence.astype(np.float32) / 255)
    if with_gaps:
        sigma = np.hypot(sigma, _bias(depth, smooth))
    normals = plane_normals(camera, inverse_depth, slope_x, slope_y)
    depth_map = DepthMap(
        name=view.name,
        held_out=view.held_out,
        camera=camera,
        world_from_camera=view.world_from_camera @ (view.camera_from_depth or Pose.identity()),
        depth=smooth * np.float32(depth_scale),
        sigma=np.where(known, sigma * np.float32(depth_scale), 0).astype(np.float32),
        normals=np.where(known[..., None], normals, 0).astype(np.float32),
        guessed=np.zeros(known.shape, bool),
    )
    return SensorDepth(depth_map, float(measured.mean()), float(known.mean()))


def _bias(depth: F32, smooth: F32) -> F32:
    """How far smoothing moved the surface (H, W) [m]: noise averages out over 3x3 pixels, a rounded crease does not.

    A plane fitted across the seam of floor and wall is off in all views alike, which comparing them doesn't show.
    """
    known = (smooth > 0).astype(np.float32)
    moved = cv2.blur((smooth - depth) * known, (3, 3))
    return np.abs(moved / np.maximum(cv2.blur(known, (3, 3)), np.float32(1e-6)))


def _smooth(depth: F32, tolerance: F32, focal: float) -> tuple[F32, F32, F32]:
    """Inverse depth and its slopes after a fine fit and, where it stays close to that, one twice as broad."""
    step = window_step(focal)
    fine = fit_local_planes(depth, tolerance, focal, step)
    smooth = np.where(fine[0] > 0, 1 / np.maximum(fine[0], 1e-6), 0).astype(np.float32)
    broad = fit_local_planes(smooth, BROAD_TOLERANCE * tolerance, focal, 2 * step)
    use = broad[0] > 0
    inverse_depth, slope_x, slope_y = (np.where(use, b, f) for b, f in zip(broad, fine, strict=True))
    return inverse_depth, slope_x, slope_y
