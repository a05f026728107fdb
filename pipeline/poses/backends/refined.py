"""The backend that refines given poses: from matched keyframes to the sparse map of the training views."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from pipeline.errors import ReconstructionError
from pipeline.geometry import Camera, Pose, angle_deg
from pipeline.poses.backends.paths import onto_path, path_scale_sigma, positions, scale_onto
from pipeline.poses.backends.shared import (
    Inputs,
    Result,
    adjusted,
    explained_share,
    given_poses,
    map_alone,
    settled_result,
    submodel_report,
)
from pipeline.poses.by_depth.keyframes import PosesByDepth, poses_by_depth
from pipeline.poses.colmap_io import robust_similarity
from pipeline.poses.epipolar import SensorOffset, check_given_poses, fit_sensor_offset
from pipeline.poses.mapping import ImageMap
from pipeline.poses.report import BackendReport
from pipeline.poses.sensor_path import MIN_FEATURES, CheckedPath, SensorPath, check_path, keep_sensor_poses
from pipeline.poses.sparse_map import SparseMap

logger = logging.getLogger(__name__)

MIN_EXPLAINED, MIN_REGISTERED = 0.7, 0.95
"""Least share of the verified matches that the given poses explain, and of the views registered from them; below either
the images are mapped alone."""
MIN_DETERMINED = 3
"""Least number of views that the images determine, for the others to be placed beside them."""
AS_GIVEN = "--set poses.backend=sensor"
SENSOR_PATH_ERROR = 0.25
"""Outlier threshold [m] when a map from images is aligned with the sensor's path."""


def refined(inputs: Inputs) -> Result:
    """Given poses as a prior: corrected by depth where there is some, refined on the images where those say enough.

    Poses and focal length are corrected by the epipolar errors of the matches. Then matches that contradict the sensor
    are dropped and its path is corrected until its loops close; usually the capture is then triangulated and adjusted
    together. Where the images don't determine nearly all views, because walls are plain, the poses by depth and matches
    are the result. Without depth, the images are mapped alone in that case, in case tracking was lost, aligned with the
    sensor's path and adjusted with the same prior; if they can't be, views that the images don't determine stay where
    they were given.
    """
    images, given = inputs.images, given_poses(inputs.images.keyframes)
    by_depth = poses_by_depth(inputs.capture.root, images, inputs.params.threads) if inputs.metric else None
    prior = by_depth.poses if by_depth and by_depth.poses else given
    sigmas = by_depth.sigmas if by_depth and by_depth.poses else dict.fromkeys(given, inputs.sensor_sigma)
    if prior is given:
        check_given_poses(images, inputs.capture)
    training = [k.image_id for k in images.training]
    rng = np.random.default_rng(inputs.params.seed)
    offset = fit_sensor_offset(images, {i: prior[i] for i in training}, rng)
    logger.info("epipolar error under the given poses: %.2f px", offset.error_before)
    sensor = {i: pose @ offset.sensor_from_camera for i, pose in prior.items()}
    cameras = {k.camera_id: offset.camera(k.camera) for k in images.keyframes}
    inputs, checked = _checked(inputs, sensor, cameras)
    images = inputs.images
    path = SensorPath(images.keyframes, checked.poses, inputs.sensor_sigma)
    start = {i: checked.poses[i] for i in training}
    source, mapped, keeps_path = "sensor", None, False
    sparse_map = adjusted(inputs, start, cameras, start)
    explained = explained_share(images, sparse_map)
    blank = keep_sensor_poses(path, images.matches, sparse_map.poses)
    determined = {**sparse_map.poses, **blank} if prior is given else _well_seen(sparse_map)
    registered = len(determined.keys() & start)
    about: BackendReport = {"by_depth": by_depth.report if by_depth else None, "matches_explained": explained}
    found = f"{100 * explained:.0f} % of the matches and {registered} of {len(start)} views"
    enough = explained >= MIN_EXPLAINED and registered >= MIN_REGISTERED * len(start)
    if not enough and by_depth and by_depth.poses:
        logger.info("the images determine %s: poses are those by depth and matches", found)
        scale_sigma = path_scale_sigma(by_depth.poses, given)
        return settled_result(inputs, by_depth.poses, sigmas, {**about, "path": "depth"}, scale_sigma)
    if not enough:
        logger.warning("the given poses explain %s: mapping the images alone", found)
        alone = _alone_on_path(inputs, start, by_depth)
        keeps_path = alone is None
        if alone and (share := explained_share(images, alone[1])) > explained:
            source, (mapped, sparse_map), explained = "images", alone, share
    if keeps_path and len(sparse_map.poses) < MIN_DETERMINED:
        return settled_result(inputs, given, sigmas, {**about, "path": "given"})
    sparse_map = _on_path(sparse_map, start)
    scale_sigma = path_scale_sigma(sparse_map.poses, sensor)
    report: BackendReport = {
        **about,
        "path": source,
        "matches_explained": explained,
        **_moved(sparse_map, given, sensor, offset),
        "loops": _loops(sparse_map, sensor, checked),
    }
    if mapped:
        report |= submodel_report(images, mapped)
    return Result(sparse_map, scale_sigma, offset.sensor_from_camera, report, images.matches, path, sigmas, keeps_path)


def _alone_on_path(
    inputs: Inputs, path: Mapping[int, Pose], by_depth: PosesByDepth | None
) -> tuple[ImageMap, SparseMap] | None:
    """The map of the images alone, and what it is once it is laid on a path and adjusted; None where there is none.

    Raises:
        ReconstructionError: When there is none, and depth contradicts the path.
    """
    try:
        alone = map_alone(inputs)
        return alone, adjusted(inputs, _aligned(inputs, alone.poses, path), alone.cameras, path)
    except ReconstructionError as error:
        if by_depth:
            found = f"{error.found}; and {by_depth.contradiction}"
            remedy = f"{error.remedy}; if the given poses are good, keep them as they are: {AS_GIVEN}"
            raise ReconstructionError(error.rule, found=found, remedy=remedy, file=error.file) from error
        logger.warning("the images alone can't be mapped (%s): the given poses stay", error.found)
        return None


def _on_path(sparse_map: SparseMap, path: Mapping[int, Pose]) -> SparseMap:
    """The map, at the scale and place of a path."""
    return sparse_map.transformed(onto_path(sparse_map.poses, path, scale_onto(sparse_map.poses, path)))


def _well_seen(sparse_map: SparseMap) -> dict[int, Pose]:
    """Poses of the views with enough observations to be more accurate than those by depth."""
    counts = np.bincount(sparse_map.image, minlength=max(sparse_map.poses, default=0) + 1)
    return {i: pose for i, pose in sparse_map.poses.items() if counts[i] >= MIN_FEATURES}


def _checked(inputs: Inputs, sensor: Mapping[int, Pose], cameras: Mapping[int, Camera]) -> tuple[Inputs, CheckedPath]:
    """The inputs without the matches that contradict the sensor, and its path with the loops closed."""
    if not inputs.metric:  # loop lengths and drift are defined in metres
        return inputs, CheckedPath(sensor, (), (), 0, corrected=False)
    path = SensorPath(inputs.images.keyframes, sensor, inputs.sensor_sigma)
    up, sigma_deg = inputs.capture.up_in_world, inputs.capture.up_sigma_deg or inputs.params.sensor_sigma_rotation_deg
    known_up = None if up is None else (up, float(np.deg2rad(sigma_deg)))
    checked = check_path(path, inputs.images, cameras, known_up, inputs.params.seed)
    # The correction holds the first pose, as noisy as any; the frame is what all given poses agree on.
    common = onto_path(checked.poses, sensor)
    checked = replace(checked, poses={i: common.apply_pose(pose) for i, pose in checked.poses.items()})
    return replace(inputs, images=inputs.images.without(checked.wrong)), checked


def _aligned(inputs: Inputs, poses: Mapping[int, Pose], start: Mapping[int, Pose]) -> dict[int, Pose]:
    """Poses of an arbitrary frame, aligned with the sensor's path by a robust similarity."""
    ids = sorted(poses)
    source, target = positions(ids, poses, start)
    fit = robust_similarity(source, target, SENSOR_PATH_ERROR, inputs.params.seed)
    if fit is None:
        raise ReconstructionError(
            "the given poses must fit the images somewhere",
            found=f"no three of {len(ids)} given positions agree with the images",
            remedy="use the images alone: --set poses.backend=colmap",
            file=inputs.capture.root,
        )
    return {i: fit[0].apply_pose(poses[i]) for i in ids}


def _moved(
    sparse_map: SparseMap, given: Mapping[int, Pose], sensor: Mapping[int, Pose], offset: SensorOffset
) -> BackendReport:
    """Distance of the poses from the given ones after alignment, the cameras' fixed offset, and epipolar errors."""
    ids = sorted(sparse_map.poses)

    def change(reference: Mapping[int, Pose]) -> dict[str, float]:
        common = onto_path(sparse_map.poses, reference)
        poses = [common.apply_pose(sparse_map.poses[i]) for i in ids]
        shift = np.linalg.norm(
            [p.translation - reference[i].translation for p, i in zip(poses, ids, strict=True)], axis=1
        )
        angle = angle_deg(np.array([p.rotation for p in poses]), np.array([reference[i].rotation for i in ids]))
        return {
            "position_median_m": float(np.median(shift)),
            "position_max_m": float(shift.max()),
            "rotation_median_deg": float(np.median(angle)),
            "rotation_max_deg": float(angle.max()),
        }

    return {
        "epipolar_error_given_px": offset.error_before if np.isfinite(offset.error_before) else None,
        "epipolar_error_offset_px": offset.error_after if np.isfinite(offset.error_after) else None,
        "moved": change(given),
        "moved_beyond_offset": change(sensor),
        "sensor_from_camera": {
            "rotation_deg": float(angle_deg(np.eye(3), offset.sensor_from_camera.rotation)),
            "translation_m": offset.sensor_from_camera.translation.tolist(),
        },
    }


def _loops(sparse_map: SparseMap, sensor: Mapping[int, Pose], checked: CheckedPath) -> dict[str, int | float | None]:
    """The sensor's drift between the ends of loops: its relative poses compared with the map's."""
    poses = sparse_map.poses
    pairs = [(r.i, r.j) for r in checked.loops if r.i in poses and r.j in poses]
    drift = [(poses[i].inverse() @ poses[j]).inverse() @ (sensor[i].inverse() @ sensor[j]) for i, j in pairs]
    shift = [float(np.linalg.norm(d.translation)) for d in drift]
    rotation = [float(angle_deg(np.eye(3), d.rotation)) for d in drift]
    return {
        "pairs": len(pairs),
        "path_corrected": checked.corrected,
        "contradicting_pairs": len(checked.wrong),
        "jumps": checked.jumps,
        "drift_median_m": float(np.median(shift)) if pairs else None,
        "drift_max_m": max(shift, default=None),
        "drift_median_deg": float(np.median(rotation)) if pairs else None,
        "drift_max_deg": max(rotation, default=None),
    }
