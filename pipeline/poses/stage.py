"""The poses stage: keyframes in, a posed scene with pinhole pictures and sparse points out."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipeline.capture.model import Capture
from pipeline.errors import ReconstructionError
from pipeline.geometry import Camera, Pose, Similarity
from pipeline.poses import reconstruct
from pipeline.poses.by_network import from_network
from pipeline.poses.calibrate import Calibration, calibrate, depth_ratio
from pipeline.poses.drift import held_by_sensor
from pipeline.poses.features import Features, extract, similarity
from pipeline.poses.keyframes import Keyframe, load_keyframes, read_keyframe_mask, read_picture
from pipeline.poses.localise import Localised, localise
from pipeline.poses.lost import why_lost
from pipeline.poses.mapping import require_motion
from pipeline.poses.matching import match, read_matches, write_database
from pipeline.poses.movers import mask_movers
from pipeline.poses.notes import notes
from pipeline.poses.pairs import EXHAUSTIVE, Pairs, picture_pairs, posed_pairs
from pipeline.poses.params import PosesParams
from pipeline.poses.reconstruct import Backend, Workbench
from pipeline.poses.scene import PosedScene, SparsePoints, View
from pipeline.poses.sparse_map import SparseMap
from pipeline.poses.steadiness import steadiness
from pipeline.poses.uncertainty import PoseSigma
from pipeline.poses.undistort import pinhole_for, undistort, undistort_mask
from pipeline.progress import track

logger = logging.getLogger(__name__)

SENSOR_SCALE, RATIO_SCALE = 0.01, 0.05
"""Relative one sigma of a map's scale before the depth images decide: by the sensor's track, by a median ratio."""


def run(inputs: Mapping[str, Path], params: PosesParams, out_dir: Path) -> None:
    """Find poses, intrinsics and calibration of the selected keyframes.

    Args:
        inputs: Folders "capture" and "select".
        params: With a concrete backend.
        out_dir: Gets scene.json, points.npz and images/; with a network's poses its depth in network/.

    Raises:
        ReconstructionError: When the pictures don't determine the poses.
    """
    capture = Capture.load(inputs["capture"])
    keyframes = load_keyframes(capture, inputs["select"] / "selection.json", params.image_size)
    needs_poses = params.backend in ("sensor", "refined")
    if needs_poses and not all(k.frame.world_from_camera for k in keyframes):
        raise ReconstructionError(
            f"the poses backend {params.backend!r} needs a pose for every picture",
            found="pictures without poses",
            remedy="use the pictures alone: --set poses.backend=colmap",
            file=capture.root,
        )
    features = extract(capture.root, keyframes, params.features)
    with tempfile.TemporaryDirectory() as scratch:
        database = Path(scratch) / "features.db"
        write_database(database, keyframes, features)
        pairs = _pairs(keyframes, features, params, posed=needs_poses)
        match(database, keyframes, pairs, seed=params.seed, threads=params.threads)
        require_motion(database, capture.root)
        up = None
        if capture.up_in_world is not None:
            up = capture.up_in_world, np.deg2rad(capture.up_sigma_deg or params.sensor_sigma_rotation_deg)
        metric, matches = capture.scale_sigma is not None, read_matches(database)
        bench = Workbench(capture.root, database, keyframes, features, matches, params, metric, up, out_dir)
        answer = _reconstruct(bench)
        steady = steadiness(bench, answer.found) if capture.kind == "generated" else None
        if steady and steady.frames:
            steady_only = [replace(k, held_out=k.held_out or k.image_id in steady.frames) for k in keyframes]
            answer = _reconstruct(replace(bench, keyframes=steady_only))
    found, scale_sigma, calibration = _scaled(capture, bench, answer)
    if params.backend == "sensor":
        given = {k.image_id: k.frame.world_from_camera for k in keyframes if k.frame.world_from_camera}
        poses, held_out = given, {}
        sigma = PoseSigma(params.sensor_sigma_rotation_deg, params.sensor_sigma_position)
        sigmas = dict.fromkeys(poses, sigma)
    else:
        mapped = {k.camera_id for k in keyframes if k.image_id in found.poses}  # of others the lens is unknown
        wanted = [k.image_id for k in keyframes if k.held_out and k.camera_id in mapped]
        wanted = [i for i in wanted if steady is None or i not in steady.frames]
        held_out = localise(wanted, keyframes, features, answer.matches, found, params.seed)
        poses = {**found.poses, **{i: view.pose for i, view in held_out.items()}}
        sigmas = {**found.sigma, **{i: view.sigma for i, view in held_out.items()}}
        if answer.track:
            held = held_by_sensor(answer.track, answer.matches, poses)
            poses |= held
            sigmas |= dict.fromkeys(held, PoseSigma(params.sensor_sigma_rotation_deg, params.sensor_sigma_position))
    registered = [k for k in keyframes if k.image_id in poses]
    views = [_view(k, poses[k.image_id], k.lens(found.cameras[k.camera_id]), sigmas, calibration) for k in registered]
    _write_pictures(capture.root, out_dir, registered, found)
    masked: dict[str, Any] | None = None
    if params.mask_movers:
        taken_by, depth_folder = [k.camera_id for k in registered], None if scale_sigma is None else capture.root
        views, masked = mask_movers(out_dir, views, taken_by, found.xyz, depth_folder, params.threads)
    report: dict[str, Any] = {
        "backend": params.backend,
        "mapper": params.mapper,
        "pairs_matched": len(pairs),
        **_registration(bench, found, held_out, poses, answer),
        **answer.report,
        "calibration": None if calibration is None else calibration.report,
        "movers": masked,
        "steadiness": None if steady is None else steady.report(),
    }
    report["notes"] = list(notes(report))
    for note in report["notes"]:
        logger.info("%s", note)
    PosedScene(
        views=tuple(views),
        points=_points(bench, found, [k.image_id for k in registered]),
        scale_sigma=scale_sigma,
        depth_scale=1.0,
        report=report,
        depth_range=capture.depth_range,
    ).save(out_dir)


def _pairs(keyframes: Sequence[Keyframe], features: Sequence[Features], params: PosesParams, *, posed: bool) -> Pairs:
    poses = [k.frame.world_from_camera for k in keyframes]
    if posed:
        return posed_pairs([pose for pose in poses if pose], [k.camera for k in keyframes])
    likeness = None
    if len(keyframes) > EXHAUSTIVE:
        likeness = similarity(features, np.random.default_rng(params.seed))
    return picture_pairs(len(keyframes), likeness)


def _reconstruct(bench: Workbench) -> Backend:
    backends = {
        "sensor": reconstruct.from_sensor,
        "refined": reconstruct.refined,
        "colmap": reconstruct.from_pictures,
        "vggt": from_network,
        "depth_anything_3": from_network,
    }
    return backends[bench.params.backend](bench)


def _scaled(capture: Capture, bench: Workbench, answer: Backend) -> tuple[SparseMap, float | None, Calibration | None]:
    """The map at the scale of the depth images where there are any, its scale's sigma, and the calibration."""
    found, params = answer.found, bench.params
    metric = answer.scale_sigma is not None and capture.scale_sigma is not None
    known = float(np.hypot(answer.scale_sigma or 0.0, capture.scale_sigma or 0.0)) if metric else None
    if not all(bench.keyframes[i - 1].frame.depth for i in found.poses) or params.backend == "sensor":
        return found, known, None
    rng = np.random.default_rng(params.seed)
    args = bench.root, bench.keyframes, bench.features
    scale_prior = RATIO_SCALE if known is None else float(np.hypot(known, SENSOR_SCALE))
    if known is None:
        ratio = depth_ratio(*args, found, rng)
        if ratio is None:
            return found, None, None
        found = found.transformed(Similarity(ratio, np.eye(3), np.zeros(3)))
    starts = [Pose.identity()]
    if float(np.linalg.norm(answer.sensor_from_camera.matrix - np.eye(4))) > 1e-6:
        starts.append(answer.sensor_from_camera.inverse())
    result = calibrate(*args, found, starts, scale_prior, rng)
    if result is None:
        return found, known, None
    scaled = found.transformed(Similarity(result.map_scale, np.eye(3), np.zeros(3)))
    return scaled, float(np.hypot(result.scale_sigma, capture.scale_sigma or SENSOR_SCALE)), result


def _view(
    keyframe: Keyframe,
    pose: Pose,
    lens: Camera,
    sigmas: Mapping[int, PoseSigma],
    calibration: Calibration | None,
) -> View:
    frame, sigma = keyframe.frame, sigmas.get(keyframe.image_id)
    declared = (frame.depth_camera or frame.camera) if frame.depth else None
    relative = Pose.identity() if frame.depth else None
    if declared is not None and calibration is not None:
        declared, relative = calibration.depth_camera(declared), calibration.camera_from_depth
    return View(
        name=keyframe.name,
        image=_picture_path(keyframe),
        camera=pinhole_for(lens),
        world_from_camera=pose,
        held_out=keyframe.held_out,
        sigma_rotation_deg=None if sigma is None else sigma.rotation_deg,
        sigma_position=None if sigma is None else sigma.position,
        sensor_depth=frame.depth,
        sensor_confidence=frame.confidence,
        depth_camera=declared,
        camera_from_depth=relative,
        gravity=frame.gravity,
        source_camera=lens.resized(*(frame.source_size or (frame.camera.width, frame.camera.height))),
        mask=None if frame.mask is None else _mask_path(keyframe),
        sensor=frame.sensor,
    )


def _picture_path(keyframe: Keyframe) -> str:
    return f"images/{keyframe.image_id:06d}.png"


def _mask_path(keyframe: Keyframe) -> str:
    return f"masks/{keyframe.image_id:06d}.png"


def _write_pictures(root: Path, out_dir: Path, keyframes: Sequence[Keyframe], found: SparseMap) -> None:
    (out_dir / "images").mkdir(parents=True, exist_ok=True)
    for keyframe in track(keyframes, "undistorted pictures"):
        lens = keyframe.lens(found.cameras[keyframe.camera_id])
        picture = undistort(read_picture(root, keyframe), lens, pinhole_for(lens))
        path = out_dir / _picture_path(keyframe)
        _, data = cv2.imencode(".png", picture[:, :, ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
        data.tofile(path)
        mask = read_keyframe_mask(root, keyframe)
        if mask is not None:
            path = out_dir / _mask_path(keyframe)
            path.parent.mkdir(exist_ok=True)
            kept = undistort_mask(mask, lens, pinhole_for(lens))
            _, data = cv2.imencode(".png", np.where(kept, np.uint8(255), np.uint8(0)))
            data.tofile(path)


def _points(bench: Workbench, found: SparseMap, ids: Sequence[int]) -> SparsePoints:
    error = found.reprojection(bench.keyframes, [f.pixels for f in bench.features])
    views = np.maximum(np.bincount(found.point, minlength=len(found.xyz)), 1)
    mean_error = np.bincount(found.point, error, minlength=len(found.xyz)) / views
    colors = np.zeros((len(found.xyz), 3))
    for image_id in np.unique(found.image):
        rows = found.image == image_id
        np.add.at(colors, found.point[rows], bench.features[image_id - 1].colors[found.feature[rows]])
    return SparsePoints(
        xyz=found.xyz,
        rgb=np.round(colors / views[:, None]).astype(np.uint8),
        error=mean_error,
        view_index=np.searchsorted(ids, found.image).astype(np.int32),
        point_index=found.point.astype(np.int32),
    )


def _registration(
    bench: Workbench, found: SparseMap, held_out: Mapping[int, Localised], poses: Mapping[int, Pose], answer: Backend
) -> dict[str, Any]:
    error = found.reprojection(bench.keyframes, [f.pixels for f in bench.features])
    wanted = [k.image_id for k in bench.keyframes if k.held_out]
    lost = why_lost(bench.keyframes, answer.matches, poses, answer.report.get("left_out", []))
    by_pictures = set(poses) if bench.params.backend == "sensor" else set(found.poses) | set(held_out)
    held = [k.name for k in bench.keyframes if k.image_id in set(poses) - by_pictures]
    if lost:
        named = "; ".join(f"{name}: {reason}" for name, reason in list(lost.items())[:10])
        logger.warning("%d of %d keyframes not registered: %s", len(lost), len(bench.keyframes), named)
    return {
        "keyframes": len(bench.keyframes),
        "registered": len(poses),
        "registered_share": len(poses) / len(bench.keyframes),
        "held_out": len(wanted),
        "held_out_registered": len(poses.keys() & wanted),
        "lost": list(lost),
        "lost_because": lost,
        "held_by_sensor": held,
        "points": len(found.xyz),
        "observations": len(found.image),
        "reprojection_error_px": float(error.mean()) if len(error) else None,
        "held_out_reprojection_error_px": float(np.mean([v.error for v in held_out.values()])) if held_out else None,
        "cameras": {
            str(k.camera_id): {"declared": k.camera.to_json(), "found": found.cameras[k.camera_id].to_json()}
            for k in {k.camera_id: k for k in bench.keyframes}.values()
        },
    }
