"""Metric scale: from the sensor, tags, a known length, a sheet, the camera's height, priors, or assumed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from pipeline.align.params import KnownLength
from pipeline.depth.maps import load_depth_map
from pipeline.errors import ReconstructionError
from pipeline.poses.scene import PosedScene, View
from pipeline.types import F64

logger = logging.getLogger(__name__)

MAX_DISAGREEMENT = 3.0
"""Largest difference of two estimates in sigmas; above it one of them is wrong."""
CLICK_SIGMA_PX = 1.0
"""One sigma of a pixel that a person picks in the photo."""
CAMERA_HEIGHT_SIGMA = 0.1
"""Relative one sigma of a person's estimate of the camera height."""
MIN_SAMPLES = 8
"""Least number of depths around each end of a known length."""
ASSUMED_DEPTH = 2.0
"""Assumed median depth [m] if nothing gives the scale."""


ScaleSource = Literal[
    "sensor",
    "gps",
    "fiducials",
    "known_length",
    "sheet",
    "camera_height",
    "priors",
    "assumed",
    "prior of steps",
    "prior of room height",
    "prior of camera height",
]
"""Sources of a scale; "priors" are all single priors fused."""


@dataclass(frozen=True)
class Scale:
    """A scale `value` [metres per scene unit] with its relative one sigma; None when assumed."""

    value: float
    sigma: float | None
    source: ScaleSource

    def off(self, other: Scale) -> float:
        """Difference to another scale, in sigmas of both."""
        return abs(float(np.log(self.value / other.value))) / float(np.hypot(self.sigma or 0.0, other.sigma or 0.0))


def lowest_sigma(scales: Sequence[Scale]) -> Scale:
    """The scale with the lowest sigma, the first of equals."""
    return min(scales, key=lambda scale: scale.sigma or np.inf)


def log_scale_contradictions(scales: Sequence[Scale], chosen: Scale) -> None:
    """Warn of every scale that differs by more than three sigma from the chosen one."""
    for scale in scales:
        if scale is not chosen and scale.off(chosen) > MAX_DISAGREEMENT:
            logger.warning(
                "the scale from %s is %.1f %% off that from %s: %.1f sigma; one of them is wrong",
                scale.source,
                100 * (scale.value / chosen.value - 1),
                chosen.source,
                scale.off(chosen),
            )


def scale_from_known_length(known: KnownLength, scene: PosedScene, depth_folder: Path) -> Scale:
    """Scale by two points with a known distance, given as pixels of one photo.

    The points are on the front surface in the other views' depth maps, so the photo may be held out.

    Raises:
        ReconstructionError: When the photo isn't registered, a pixel lies outside, or has no depth.
    """
    view = next((view for view in scene.views if view.name == known.image), None)
    if view is None:
        raise ReconstructionError(
            "a known length needs a registered photo",
            found=f"{known.image!r} is not among the {len(scene.views)} registered ones",
            remedy=f"name one of {', '.join(v.name for v in scene.views[:6])} ...",
        )
    rays = [_ray(view, pixel) for pixel in (known.a, known.b)]
    depths = _front_depths(view, np.array(rays), scene, depth_folder)
    ends, sigmas = [], []
    for ray, estimate, pixel in zip(rays, depths, (known.a, known.b), strict=True):
        if estimate is None:
            raise ReconstructionError(
                "a known length's pixels must show surfaces that were reconstructed",
                found=f"no depth at pixel {pixel} of {view.name}",
                remedy="choose pixels on textured surfaces that several photos show",
            )
        depth, sigma = estimate
        ends.append(view.world_from_camera.apply(ray * depth))
        sigmas += [sigma * float(np.linalg.norm(ray)), CLICK_SIGMA_PX * depth / (view.source_camera or view.camera).fx]
    length = float(np.linalg.norm(ends[0] - ends[1]))
    if length <= 0:
        raise ReconstructionError(
            "the two ends of a known length must be apart", found="the same point", remedy="choose other pixels"
        )
    return Scale(known.metres / length, float(np.linalg.norm(sigmas)) / length, "known_length")


def scale_from_camera_height(metres: float, sigma: float | None, height: float | None) -> Scale:
    """Scale by the camera's median height [m] above the floor, its sigma and the reconstructed height [scene units].

    Raises:
        ReconstructionError: When no floor was found.
    """
    if height is None:
        raise ReconstructionError(
            "--camera-height needs a floor in the images",
            found="no large horizontal surface below the cameras",
            remedy="give --known-length instead",
        )
    relative = CAMERA_HEIGHT_SIGMA if sigma is None else sigma / metres
    return Scale(metres / height, relative, "camera_height")


def _ray(view: View, pixel: tuple[float, float]) -> F64:
    """Camera-frame ray (z = 1) of a pixel of the photo as displayed."""
    lens = view.source_camera or view.camera
    if not (0 <= pixel[0] <= lens.width and 0 <= pixel[1] <= lens.height):
        raise ReconstructionError(
            "a known length's pixels must lie in the photo",
            found=f"{pixel} in {view.name}, which is {lens.width} x {lens.height}",
            remedy="read the pixels off the photo in its full size",
        )
    return lens.undistorted_ray(pixel)


def _front_depths(view: View, rays: F64, scene: PosedScene, depth_folder: Path) -> list[tuple[float, float] | None]:
    """Depth along each ray and its sigma [scene units] by all maps that show the point; None where none does."""
    targets = view.camera.project(rays)
    radius = max(3.0, 0.006 * view.camera.width)
    camera_from_world = view.world_from_camera.inverse()
    seen: list[list[F64]] = [[] for _ in rays]
    for other in scene.training:
        if not (depth_folder / f"{other.name}.npz").exists():
            continue
        depth_map = load_depth_map(depth_folder, other.name)
        local = camera_from_world.apply(depth_map.points()[(depth_map.depth > 0) & ~depth_map.guessed])
        local = local[local[:, 2] > 0]
        pixels = view.camera.project(local)
        for target, samples in zip(targets, seen, strict=True):
            offset = pixels - target
            near = (np.abs(offset) < radius).all(1)
            samples.append(np.column_stack([offset[near], local[near, 2]]))
    return [_front_depth(np.concatenate([np.zeros((0, 3)), *samples])) for samples in seen]


def _front_depth(samples: F64) -> tuple[float, float] | None:
    """Depth and its sigma at offset (0, 0) of the nearest surface among samples (N, 3): pixel offsets and depth.

    On a plane, inverse depth is linear in the pixel.
    """
    if len(samples) < MIN_SAMPLES:
        return None
    front = np.percentile(samples[:, 2], 10)
    samples = samples[np.abs(samples[:, 2] / front - 1) < 0.05]
    design = np.column_stack([np.ones(len(samples)), samples[:, :2]])
    inverse = 1 / samples[:, 2]
    keep = np.ones(len(samples), bool)
    solution, spread = np.zeros(3), 0.0
    for _ in range(4):
        solution = np.linalg.lstsq(design[keep], inverse[keep], rcond=None)[0]
        residual = np.abs(inverse - design @ solution)
        spread = float(np.median(residual[keep])) * 1.4826
        keep = residual <= 3 * spread + 1e-12
    depth = 1 / float(solution[0])
    # errors of a map are correlated over a few pixels, so the effective number of samples is small
    return depth, spread * depth**2 / np.sqrt(min(int(keep.sum()), 9))
