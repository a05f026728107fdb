"""The align stage: gravity, scale, floor and the world frame."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline.align import gravity
from pipeline.align.alignment import Alignment
from pipeline.align.gps import fit_gps
from pipeline.align.gravity import UpEstimate
from pipeline.align.lines import up_from_lines
from pipeline.align.params import AlignParams
from pipeline.align.planar_targets import scale_from_sheets, scale_from_tags
from pipeline.align.priors import find_priors, scale_from_priors
from pipeline.align.scale import (
    ASSUMED_DEPTH,
    Scale,
    log_scale_contradictions,
    lowest_sigma,
    scale_from_camera_height,
    scale_from_known_length,
)
from pipeline.align.surfaces import Floor, find_floor, sample_surfaces
from pipeline.capture.model import Capture
from pipeline.geometry import Similarity
from pipeline.poses.scene import PosedScene, View
from pipeline.types import F64

logger = logging.getLogger(__name__)


def run(inputs: Mapping[str, Path], params: AlignParams, out_dir: Path) -> None:
    """Read capture, poses and depth; write `alignment.json`.

    Raises:
        ReconstructionError: When a given scale can't be applied.
    """
    capture, scene = Capture.load(inputs["capture"]), PosedScene.load(inputs["poses"])
    surfaces = sample_surfaces(inputs["depth"])
    views = scene.training
    apart = one_of_each_shot(capture, views)
    gps = fit_gps(capture, apart)
    sensors = [
        gravity.up_from_readings(apart, capture.gravity_sigma_deg, capture.gravity_sources),
        gravity.up_from_capture_world(capture, views),
        gravity.up_from_turntable(views) if capture.turntable else None,
        gps.up,
    ]
    estimates = [estimate for estimate in sensors if estimate is not None] or [gravity.up_from_cameras(views)]
    rough = gravity.fuse(estimates)
    others = [gravity.up_from_surfaces(surfaces, rough), up_from_lines(views, inputs["poses"], inputs["depth"], rough)]
    estimates += [estimate for estimate in others if estimate is not None]
    fused = gravity.fuse(estimates)
    gravity.log_up_contradictions(estimates)
    if fused.sources == ("cameras",):
        logger.warning("no source of gravity; up is estimated from how the camera was held")

    centres = np.array([view.world_from_camera.translation for view in views])
    floor = find_floor(surfaces, fused.up, centres)
    height = float(np.median(centres @ fused.up) - floor.height) if floor else None
    priors = find_priors(surfaces, views, fused.up, floor, on_machine=capture.on_machine)
    scales = [*_scales(params, scene, inputs, height, priors), *([gps.scale] if gps.scale else [])]
    scale = lowest_sigma(scales) if scales else scale_from_priors(priors)
    if scale is None:  # approximately life-size; the gate fails
        points = surfaces.points if len(surfaces.points) else scene.points.xyz
        depth = float(np.median(np.linalg.norm(points - np.median(centres, 0), axis=1)))
        scale = Scale(ASSUMED_DEPTH / depth, None, "assumed")
    log_scale_contradictions([*scales, *priors], scale)
    x_axis = gravity.dominant_wall_direction(surfaces, fused.up, views)
    alignment = Alignment(
        world_from_scene=_world_from_scene(fused.up, x_axis, scale, centres, floor, surfaces.points),
        gravity_sources=fused.sources,
        gravity_sigma_deg=fused.sigma_deg,
        scale_source=scale.source,
        scale_sigma=scale.sigma,
        floor_found=floor is not None,
        report=_report(estimates, fused, floor, [*scales, *priors], scale, height),
    )
    alignment.save(out_dir)
    logger.info(
        "gravity from %s +- %.2f deg, of %s; scale from %s, of %s",
        fused.source,
        fused.sigma_deg,
        ", ".join(estimate.source for estimate in estimates),
        scale.source if scale.sigma is None else f"{scale.source} +- {100 * scale.sigma:.2g} %",
        ", ".join(s.source for s in [*scales, *priors]) or "nothing",
    )


def one_of_each_shot(capture: Capture, views: Sequence[View]) -> list[View]:
    """The first view of each moment: what the others say of gravity and position is the same reading again."""
    shot = {frame.name: frame.shot for frame in capture.frames}
    return list({shot.get(view.name, view.name): view for view in reversed(views)}.values())[::-1]


def _scales(
    params: AlignParams, scene: PosedScene, inputs: Mapping[str, Path], height: float | None, priors: list[Scale]
) -> list[Scale]:
    """All scales except priors, the most reliable kind first; priors only distinguish similar sheets of paper."""
    scales = []
    if scene.scale_sigma is not None:
        scales.append(Scale(1.0, scene.scale_sigma, "sensor"))
    if params.tag_size is not None:
        scales.append(scale_from_tags(params.tag_size, scene, inputs["poses"]))
    if params.known_length is not None:
        scales.append(scale_from_known_length(params.known_length, scene, inputs["depth"]))
    if params.camera_height is not None:
        scales.append(scale_from_camera_height(params.camera_height, params.camera_height_sigma, height))
    if params.sheet is not None:
        scales.append(scale_from_sheets(params.sheet, scene, inputs["poses"], scales or priors))
    return scales


def _world_from_scene(up: F64, x_axis: F64, scale: Scale, centres: F64, floor: Floor | None, points: F64) -> Similarity:
    """Z up, X along the walls, origin on the floor below the median camera position."""
    rotation = np.stack([x_axis, np.cross(up, x_axis), up])
    middle = scale.value * rotation @ np.median(centres, 0)
    if floor is not None:
        ground = floor.height
    elif len(points):
        ground = float(min(np.percentile(points @ up, 1), (centres @ up).min()))
    else:
        ground = float((centres @ up).min())
    return Similarity(scale.value, rotation, -np.array([middle[0], middle[1], scale.value * ground]))


def _report(
    estimates: list[UpEstimate],
    fused: UpEstimate,
    floor: Floor | None,
    scales: list[Scale],
    scale: Scale,
    height: float | None,
) -> dict[str, object]:
    return {
        "gravity": [estimate.report(fused) for estimate in estimates],
        "scale": [
            {
                "source": other.source,
                "sigma": other.sigma,
                "off_the_result": round(other.value / scale.value - 1, 5),
                "off_the_result_sigmas": 0.0 if other is scale else round(other.off(scale), 2),
            }
            for other in scales
        ],
        "floor": None
        if floor is None
        else {"rms_m": round(floor.rms * scale.value, 5), "share_of_horizontal_area": round(floor.share, 4)},
        "camera_height_m": None if height is None else round(height * scale.value, 4),
        "metres_per_scene_unit": scale.value,
    }
