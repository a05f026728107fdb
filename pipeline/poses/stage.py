"""The poses stage: keyframes in, a posed scene with pinhole images and sparse points out."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.capture.images import save_mask
from pipeline.capture.model import Capture, Selection
from pipeline.errors import ReconstructionError
from pipeline.geometry import Camera, Pose, Similarity
from pipeline.parallel import map_in_order
from pipeline.poses import matching, pairs
from pipeline.poses.backends.reconstruction import reconstruct
from pipeline.poses.backends.shared import Inputs, Result, given_poses
from pipeline.poses.depth_calibration import Calibration, calibrate, depth_ratio
from pipeline.poses.dynamic_masks import mask_dynamic
from pipeline.poses.epipolar import contradicted_focals, temporal_consistency
from pipeline.poses.keyframes import (
    Keyframe,
    load_keyframes,
    pinhole_for,
    read_keyframe_mask,
    undistort_mask,
    write_undistorted,
)
from pipeline.poses.mapping import require_motion, why_unregistered
from pipeline.poses.matching import MatchedImages
from pipeline.poses.params import PosesParams
from pipeline.poses.report import FocalCorrection, PosesReport, notes
from pipeline.poses.scene import PosedScene, SparsePoints, View
from pipeline.poses.sensor_path import keep_sensor_poses
from pipeline.poses.sparse_map import Localised, PoseSigma, SparseMap, localise
from pipeline.progress import track

logger = logging.getLogger(__name__)

SENSOR_SCALE_SIGMA = 0.01
"""Relative one sigma of a map's scale by the sensor's path, before it is fitted to the depth images."""
RATIO_SCALE_SIGMA = 0.05
"""Relative one sigma of a scale by the median ratio to the depth images."""


def run(inputs: Mapping[str, Path], params: PosesParams, out_dir: Path) -> None:
    """Estimate poses, intrinsics and calibration of the selected keyframes.

    Writes scene.json, points.npz, images/ and masks/; with a network's poses also its depth in network/.

    Raises:
        ReconstructionError: When the images don't determine the poses.
    """
    capture = Capture.load(inputs["capture"])
    keyframes = load_keyframes(capture, Selection.load(inputs["select"]), params.image_size)
    posed = params.backend in ("sensor", "refined")
    if posed:
        _require_poses(keyframes, capture, params)
    features = matching.extract(capture.root, keyframes, params.features, params.threads)
    with tempfile.TemporaryDirectory() as scratch:
        database = Path(scratch) / "features.db"
        wanted = _pairs(keyframes, features, params, posed=posed)
        _match(database, keyframes, features, wanted, params)
        if not posed:
            require_motion(database, capture.root)
        keyframes, corrected = _with_focals(keyframes, contradicted_focals(database, keyframes))
        if corrected:  # how matches are verified, and the map begun, depends on the focal length
            database.unlink()
            _match(database, keyframes, features, wanted, params)
        images = MatchedImages(database, keyframes, features, matching.read_matches(database))
        data = Inputs(capture, images, params, out_dir)
        result, drifting, consistency = _reconstructed(data)
    sparse_map, scale_sigma, calibration = _metric(data, result)
    poses = _register(data, result, sparse_map, drifting)
    registered = [k for k in keyframes if k.image_id in poses.poses]
    (out_dir / "images").mkdir(parents=True, exist_ok=True)

    def write(keyframe: Keyframe) -> View:
        return _write_view(keyframe, data, poses, sparse_map.cameras[keyframe.camera_id], calibration)

    views = list(track(map_in_order(write, registered, params.threads), "undistorted images", len(registered)))
    masked = None
    if params.mask_dynamic:
        camera_ids, depth_folder = [k.camera_id for k in registered], None if scale_sigma is None else capture.root
        views, masked = mask_dynamic(out_dir, views, camera_ids, sparse_map.xyz, depth_folder, params.threads)
    report = _report(data, result, sparse_map, poses, len(wanted))
    report["calibration"] = None if calibration is None else calibration.report
    report["dynamic_masks"] = masked
    report["temporal_consistency"] = consistency
    report["focal_lengths_corrected"] = corrected
    report["notes"] = list(notes(report))
    for note in report["notes"]:
        logger.info("%s", note)
    PosedScene(
        views=tuple(views),
        points=_points(data.images, sparse_map, [k.image_id for k in registered]),
        scale_sigma=scale_sigma,
        depth_scale=1.0,
        report=report,
        depth_range=capture.depth_range,
        source_from_scene=_source_from_scene(capture, result, calibration),
    ).save(out_dir)


def _require_poses(keyframes: Sequence[Keyframe], capture: Capture, params: PosesParams) -> None:
    if not all(k.frame.world_from_camera for k in keyframes):
        raise ReconstructionError(
            f"the poses backend {params.backend!r} needs a pose for every image",
            found="images without poses",
            remedy="use the images alone: --set poses.backend=colmap",
            file=capture.root,
        )


def _match(
    database: Path,
    keyframes: Sequence[Keyframe],
    features: Sequence[matching.Features],
    wanted: pairs.Pairs,
    params: PosesParams,
) -> None:
    matching.write_database(database, keyframes, features)
    matching.match(database, keyframes, features, wanted, seed=params.seed, threads=params.threads)


def _with_focals(
    keyframes: Sequence[Keyframe], found: Mapping[int, Camera]
) -> tuple[tuple[Keyframe, ...], list[FocalCorrection]]:
    """Keyframes with the focal lengths found of some cameras, as guesses, and a report on those."""
    groups = {camera_id: [k for k in keyframes if k.camera_id == camera_id] for camera_id in found}
    corrected: list[FocalCorrection] = [
        {
            "camera": group[0].frame.sensor,
            "images": len(group),
            "source": group[0].frame.focal_source,
            "declared_px": group[0].camera.fx,
            "found_px": found[camera_id].fx,
        }
        for camera_id, group in groups.items()
    ]
    changed = [
        replace(k, camera=found[k.camera_id], frame=replace(k.frame, focal_source="guessed"))
        if k.camera_id in found
        else k
        for k in keyframes
    ]
    return tuple(changed), corrected


def _pairs(
    keyframes: Sequence[Keyframe], features: Sequence[matching.Features], params: PosesParams, *, posed: bool
) -> pairs.Pairs:
    if posed:
        return pairs.posed_pairs(list(given_poses(keyframes).values()), [k.camera for k in keyframes])
    likeness = None
    if len(keyframes) > pairs.EXHAUSTIVE:
        likeness = pairs.similarity(features, np.random.default_rng(params.seed))
    return pairs.image_pairs(len(keyframes), likeness)


def _reconstructed(data: Inputs) -> tuple[Result, Collection[int], dict[str, object] | None]:
    """The backend's result; of a generated video without the images whose content drifts, their ids, and a report."""
    result = reconstruct(data)
    if data.capture.kind != "generated":
        return result, (), None
    drifting, consistency = temporal_consistency(data.images, result.sparse_map, data.capture.root)
    if drifting:
        held_out = [replace(k, held_out=k.held_out or k.image_id in drifting) for k in data.images.keyframes]
        result = reconstruct(replace(data, images=replace(data.images, keyframes=held_out)))
    return result, drifting, consistency


def _metric(data: Inputs, result: Result) -> tuple[SparseMap, float | None, Calibration | None]:
    """The map, scaled by the depth images if there are any; its scale's sigma, and the depth camera's calibration."""
    capture, images, sparse_map = data.capture, data.images, result.sparse_map
    known = None
    if result.scale_sigma is not None and capture.scale_sigma is not None:
        known = float(np.hypot(result.scale_sigma, capture.scale_sigma))
    all_depth = all(images.keyframes[i - 1].frame.depth for i in sparse_map.poses)
    if not all_depth or result.settled is not None:
        return sparse_map, known, None
    rng = np.random.default_rng(data.params.seed)
    args = capture.root, images
    scale_prior = RATIO_SCALE_SIGMA if known is None else float(np.hypot(known, SENSOR_SCALE_SIGMA))
    if known is None:
        ratio = depth_ratio(*args, sparse_map, rng)
        if ratio is None:
            return sparse_map, None, None
        sparse_map = sparse_map.transformed(Similarity(ratio, np.eye(3), np.zeros(3)))
    starts = [Pose.identity()]
    if float(np.linalg.norm(result.sensor_from_camera.matrix - np.eye(4))) > 1e-6:
        starts.append(result.sensor_from_camera.inverse())
    calibration = calibrate(*args, sparse_map, starts, scale_prior, rng)
    if calibration is None:
        return sparse_map, known, None
    scaled = sparse_map.transformed(Similarity(calibration.map_scale, np.eye(3), np.zeros(3)))
    sigma = float(np.hypot(calibration.scale_sigma, capture.scale_sigma or SENSOR_SCALE_SIGMA))
    return scaled, sigma, calibration


def _source_from_scene(capture: Capture, result: Result, calibration: Calibration | None) -> Similarity | None:
    """The source's world from the map, which is in the given poses' frame where it has their scale."""
    if capture.world_origin is None or result.scale_sigma is None:
        return None
    scale = capture.world_origin.scale / (calibration.map_scale if calibration else 1.0)
    return Similarity(scale, np.eye(3), np.array(capture.world_origin.position))


@dataclass(frozen=True, eq=False)
class _Registration:
    """Poses of all registered keyframes by image id, their sigmas, and the sources of those not in the map."""

    poses: Mapping[int, Pose]
    sigmas: Mapping[int, PoseSigma]
    localised: Mapping[int, Localised]
    from_sensor: Collection[int]


def _register(data: Inputs, result: Result, sparse_map: SparseMap, left_out: Collection[int]) -> _Registration:
    """The map's poses, held-out views localised against it, and the sensor's poses of images without features."""
    keyframes, params = data.images.keyframes, data.params
    if result.settled is not None:
        return _Registration(*result.settled, {}, ())
    mapped = {k.camera_id for k in keyframes if k.image_id in sparse_map.poses}  # other lenses are unknown
    held_out = [k.image_id for k in keyframes if k.held_out and k.camera_id in mapped and k.image_id not in left_out]
    localised = localise(held_out, replace(data.images, matches=result.matches), sparse_map, params.seed)
    poses = {**sparse_map.poses, **{i: view.pose for i, view in localised.items()}}
    sigmas = {**sparse_map.sigma, **{i: view.sigma for i, view in localised.items()}}
    kept = (
        {}
        if result.path is None
        else keep_sensor_poses(result.path, result.matches, poses, all_others=result.keeps_path)
    )
    return _Registration(poses | kept, sigmas | {i: result.path_sigmas[i] for i in kept}, localised, kept)


def _write_view(
    keyframe: Keyframe, data: Inputs, poses: _Registration, camera: Camera, calibration: Calibration | None
) -> View:
    """Write a keyframe's undistorted image and mask; `camera` is the estimate for its group of images."""
    frame, lens, sigma = keyframe.frame, keyframe.lens(camera), poses.sigmas.get(keyframe.image_id)
    pinhole, image = pinhole_for(lens), f"images/{keyframe.image_id:06d}.png"
    write_undistorted(data.capture.root, keyframe, lens, data.out_dir / image)
    mask = read_keyframe_mask(data.capture.root, keyframe)
    declared = (frame.depth_camera or frame.camera) if frame.depth else None
    relative = Pose.identity() if frame.depth else None
    if declared is not None and calibration is not None:
        declared, relative = calibration.depth_camera(declared), calibration.camera_from_depth
    return View(
        name=keyframe.name,
        image=image,
        camera=pinhole,
        world_from_camera=poses.poses[keyframe.image_id],
        held_out=keyframe.held_out,
        sigma_rotation_deg=None if sigma is None else sigma.rotation_deg,
        sigma_position=None if sigma is None else sigma.position,
        sensor_depth=frame.depth,
        sensor_confidence=frame.confidence,
        depth_camera=declared,
        camera_from_depth=relative,
        gravity=frame.gravity,
        source_camera=lens.resized(*(frame.source_size or (frame.camera.width, frame.camera.height))),
        mask=None if mask is None else save_mask(undistort_mask(mask, lens, pinhole), data.out_dir, Path(image).stem),
        sensor=frame.sensor,
    )


def _points(images: MatchedImages, sparse_map: SparseMap, ids: Sequence[int]) -> SparsePoints:
    error = sparse_map.reprojection(images)
    views = np.maximum(np.bincount(sparse_map.point, minlength=len(sparse_map.xyz)), 1)
    mean_error = np.bincount(sparse_map.point, error, minlength=len(sparse_map.xyz)) / views
    return SparsePoints(
        xyz=sparse_map.xyz,
        rgb=sparse_map.colors(images),
        error=mean_error,
        view_index=np.searchsorted(ids, sparse_map.image).astype(np.int32),
        point_index=sparse_map.point.astype(np.int32),
    )


def _report(data: Inputs, result: Result, sparse_map: SparseMap, poses: _Registration, pairs: int) -> PosesReport:
    images = data.images
    error = sparse_map.reprojection(images)
    held_out = {k.image_id for k in images.keyframes if k.held_out}
    unregistered = why_unregistered(
        images.keyframes, result.matches, poses.poses.keys(), result.report.get("left_out", [])
    )
    if unregistered:
        first = "; ".join(f"{name}: {reason}" for name, reason in list(unregistered.items())[:10])
        logger.warning("%d of %d keyframes not registered: %s", len(unregistered), len(images.keyframes), first)
    localised = [view.error for view in poses.localised.values()]
    return {
        "backend": data.params.backend,
        "mapper": data.params.mapper,
        "pairs_matched": pairs,
        "keyframes": len(images.keyframes),
        "registered": len(poses.poses),
        "registered_share": len(poses.poses) / len(images.keyframes),
        "held_out": len(held_out),
        "held_out_registered": len(poses.poses.keys() & held_out),
        "unregistered": unregistered,
        "kept_sensor_poses": [k.name for k in images.keyframes if k.image_id in poses.from_sensor],
        "points": len(sparse_map.xyz),
        "observations": len(sparse_map.image),
        "reprojection_error_px": float(error.mean()) if len(error) else None,
        "held_out_reprojection_error_px": float(np.mean(localised)) if localised else None,
        "cameras": {
            str(k.camera_id): {"declared": k.camera.to_json(), "found": sparse_map.cameras[k.camera_id].to_json()}
            for k in {k.camera_id: k for k in images.keyframes}.values()
        },
        **result.report,
        "calibration": None,
        "dynamic_masks": None,
        "focal_lengths_corrected": [],
        "temporal_consistency": None,
        "notes": [],
    }
