"""The backends: from matched keyframes to the sparse map of the training views, and their reports.

A network's stitched poses are used like a sensor's: matches are triangulated under them, then all is adjusted together.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from pipeline.capture.model import Capture
from pipeline.errors import ReconstructionError
from pipeline.geometry import Camera, Pose, Similarity, angle_deg, fit_similarity
from pipeline.io.results import preview_folder
from pipeline.poses.bundle_adjustment import ROUNDS, Adjuster, Prior
from pipeline.poses.by_depth.keyframes import poses_by_depth
from pipeline.poses.colmap_io import robust_similarity
from pipeline.poses.epipolar import SensorOffset, check_given_poses, fit_sensor_offset
from pipeline.poses.keyframes import Keyframe, write_undistorted
from pipeline.poses.mapping import ImageMap, map_images
from pipeline.poses.matching import MatchedImages, Matches
from pipeline.poses.network import Chunk, ChunkRunner, NetworkDepth, network_session, order_by_matches
from pipeline.poses.params import PosesParams
from pipeline.poses.pose_graph import median_rotation
from pipeline.poses.report import BackendReport
from pipeline.poses.sensor_path import MIN_FEATURES, CheckedPath, SensorPath, check_path, keep_sensor_poses
from pipeline.poses.sparse_map import PoseSigma, SparseMap
from pipeline.poses.stitching import Stitched, stitch
from pipeline.previews import Publisher
from pipeline.types import F64

logger = logging.getLogger(__name__)

MIN_EXPLAINED, MIN_REGISTERED = 0.7, 0.95
"""Least share of the verified matches that the given poses explain, and of the views registered from them; below either
the images are mapped alone."""
MIN_DETERMINED = 3
"""Least number of views that the images determine, for the others to be placed beside them."""
AS_GIVEN = "--set poses.backend=sensor"
SENSOR_PATH_ERROR = 0.25
"""Outlier threshold [m] when a map from images is aligned with the sensor's path."""
MIN_NETWORK_VIEWS = 3
"""Least number of views whose poses of a network are consistent."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """The input of all backends; a network's depth is written to the stage's folder `out_dir`."""

    capture: Capture
    images: MatchedImages
    params: PosesParams
    out_dir: Path

    @property
    def metric(self) -> bool:
        """Whether given poses are in metres."""
        return self.capture.scale_sigma is not None

    @property
    def sensor_sigma(self) -> PoseSigma:
        """One sigma of a given pose."""
        return PoseSigma(self.params.sensor_sigma_rotation_deg, self.params.sensor_sigma_position)


@dataclass(frozen=True, eq=False)
class Result:
    """A backend's map, metric if the sensor gave poses, and the matches that were used.

    Attributes:
        scale_sigma: Relative one sigma of the map's scale by the sensor's path; None without one.
        sensor_from_camera: Fixed offset of the colour camera in the given poses' frame.
        path: The sensor's path that the map started from; None if it is unused or the result.
        path_sigmas: One sigma of its poses, by image id.
        keeps_path: Whether all views that the images don't determine stay where the path has them.
        settled: Poses of all keyframes, held-out ones too, and their sigmas, where the images have no say in them.
    """

    sparse_map: SparseMap
    scale_sigma: float | None
    sensor_from_camera: Pose
    report: BackendReport
    matches: Sequence[Matches]
    path: SensorPath | None = None
    path_sigmas: Mapping[int, PoseSigma] = field(default_factory=dict)
    keeps_path: bool = False
    settled: tuple[Mapping[int, Pose], Mapping[int, PoseSigma]] | None = None


def reconstruct(inputs: Inputs) -> Result:
    """The result of the backend that the parameters name."""
    images = inputs.images
    if inputs.params.backend == "refined":
        return _refined(inputs)
    if inputs.params.backend == "sensor":  # poses and intrinsics as given; only points are computed
        check_given_poses(images, inputs.capture)
        given = given_poses(images.keyframes)
        return _settled(inputs, given, dict.fromkeys(given, inputs.sensor_sigma), {})
    if inputs.params.backend == "colmap":  # poses from the images alone, in an arbitrary frame and scale
        mapped = _mapped(inputs)
        adjuster = Adjuster(images, mapped.poses, mapped.cameras, inputs.params.seed)
        sparse_map = adjuster.refine(None, ROUNDS if mapped.joined > 1 else ROUNDS[-1:])
        return Result(sparse_map, None, Pose.identity(), _submodel_report(images, mapped), images.matches)
    return _from_network(inputs)


def given_poses(keyframes: Sequence[Keyframe]) -> dict[int, Pose]:
    """Poses of the capture by image id."""
    return {k.image_id: k.frame.world_from_camera for k in keyframes if k.frame.world_from_camera}


def _refined(inputs: Inputs) -> Result:
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
    sparse_map = _adjusted(inputs, start, cameras, start)
    explained = _explained_share(images, sparse_map)
    blank = keep_sensor_poses(path, images.matches, sparse_map.poses)
    determined = {**sparse_map.poses, **blank} if prior is given else _well_seen(sparse_map)
    registered = len(determined.keys() & start)
    about: BackendReport = {"by_depth": by_depth.report if by_depth else None, "matches_explained": explained}
    found = f"{100 * explained:.0f} % of the matches and {registered} of {len(start)} views"
    enough = explained >= MIN_EXPLAINED and registered >= MIN_REGISTERED * len(start)
    if not enough and by_depth and by_depth.poses:
        logger.info("the images determine %s: poses are those by depth and matches", found)
        scale_sigma = _path_scale_sigma(by_depth.poses, given)
        return _settled(inputs, by_depth.poses, sigmas, {**about, "path": "depth"}, scale_sigma)
    if not enough:
        logger.warning("the given poses explain %s: mapping the images alone", found)
        try:
            alone = _mapped(inputs)
            from_images = _adjusted(inputs, _aligned(inputs, alone.poses, start), alone.cameras, start)
        except ReconstructionError as error:
            if by_depth:
                found = f"{error.found}; and {by_depth.contradiction}"
                remedy = f"{error.remedy}; if the given poses are good, keep them as they are: {AS_GIVEN}"
                raise ReconstructionError(error.rule, found=found, remedy=remedy, file=error.file) from error
            logger.warning("the images alone can't be mapped (%s): the given poses stay", error.found)
            keeps_path = True
        else:
            if (share := _explained_share(images, from_images)) > explained:
                source, mapped, sparse_map, explained = "images", alone, from_images, share
    if keeps_path and len(sparse_map.poses) < MIN_DETERMINED:
        return _settled(inputs, given, sigmas, {**about, "path": "given"})
    sparse_map = _on_path(sparse_map, start)
    scale_sigma = _path_scale_sigma(sparse_map.poses, sensor)
    report: BackendReport = {
        **about,
        "path": source,
        "matches_explained": explained,
        "epipolar_error_given_px": offset.error_before if np.isfinite(offset.error_before) else None,
        "epipolar_error_offset_px": offset.error_after if np.isfinite(offset.error_after) else None,
        **_moved(sparse_map, given, sensor, offset),
        "loops": _loops(sparse_map, sensor, checked),
    }
    if mapped:
        report |= _submodel_report(images, mapped)
    return Result(sparse_map, scale_sigma, offset.sensor_from_camera, report, images.matches, path, sigmas, keeps_path)


def _on_path(sparse_map: SparseMap, path: Mapping[int, Pose]) -> SparseMap:
    """The map, at the scale and place of a path."""
    return sparse_map.transformed(_onto_path(sparse_map.poses, path, _scale_onto(sparse_map.poses, path)))


def _well_seen(sparse_map: SparseMap) -> dict[int, Pose]:
    """Poses of the views with enough observations to be more accurate than those by depth."""
    counts = np.bincount(sparse_map.image, minlength=max(sparse_map.poses, default=0) + 1)
    return {i: pose for i, pose in sparse_map.poses.items() if counts[i] >= MIN_FEATURES}


def _settled(
    inputs: Inputs,
    poses: Mapping[int, Pose],
    sigmas: Mapping[int, PoseSigma],
    report: BackendReport,
    scale_sigma: float = 0.0,
) -> Result:
    """Poses of all keyframes as they are, and the points that the images give under them."""
    cameras = {k.camera_id: k.camera for k in inputs.images.keyframes}
    training = {k.image_id: poses[k.image_id] for k in inputs.images.training}
    found = _points_only(inputs, training, cameras)
    sparse_map = replace(found, poses=training, cameras={**cameras, **found.cameras})
    images = inputs.images
    return Result(sparse_map, scale_sigma, Pose.identity(), report, images.matches, settled=(poses, sigmas))


def _from_network(inputs: Inputs) -> Result:
    """Poses of the training images by a network; metric and in the source's frame if the capture has metric poses."""
    params, images, training = inputs.params, inputs.images, inputs.images.training
    known = given_poses(training) if inputs.metric else {}
    if known:
        check_given_poses(images, inputs.capture)
    links = {(m.i + 1, m.j + 1): len(m.features) for m in images.matches}
    times = {k.image_id: k.frame.time for k in training}
    in_time = None not in times.values()
    order = sorted(times, key=lambda i: times[i] or 0.0) if in_time else order_by_matches(list(times), links)
    depth = NetworkDepth(inputs.out_dir)
    with tempfile.TemporaryDirectory(dir=inputs.out_dir) as scratch:
        files = {k.image_id: Path(scratch) / f"{k.image_id:06d}.png" for k in training}
        for k in training:
            write_undistorted(inputs.capture.root, k, k.lens(k.camera), files[k.image_id])
        size = training[0].camera.width, training[0].camera.height
        with network_session(params.backend, params) as (session, about):
            chunks = ChunkRunner(session, files, links, depth.keep).run(order, size, in_time=in_time)
    stitched = stitch(chunks.chunks, known, inputs.sensor_sigma, params.seed)
    if len(stitched.poses) < MIN_NETWORK_VIEWS:
        raise ReconstructionError(
            "a network must give poses that fit together",
            found=f"{len(stitched.poses)} of {len(training)} images",
            remedy="use the images alone: --set poses.backend=colmap",
            file=inputs.capture.root,
        )
    scales = {(chunks.chunks[n].run, i): s for n, s in stitched.scales.items() for i in chunks.chunks[n].views}
    depth.finish(params.backend, scales, {k.image_id: (k.name, k.lens(k.camera)) for k in training})
    sparse_map = _adjusted_network(inputs, stitched, _network_cameras(images.keyframes, chunks.chunks), known)
    path = SensorPath(images.keyframes, stitched.poses, inputs.sensor_sigma)
    blank = keep_sensor_poses(path, images.matches, sparse_map.poses)
    report: BackendReport = {
        "weights": about["weights"],
        "licence": about["licence"],
        "chunks": {
            "runs": 1 + max(chunk.run for chunk in chunks.chunks),
            "images_at_once": chunks.capacity,
            "memory_halved": chunks.halved,
            "loops": chunks.loops,
            "joints": stitched.joints,
            "joints_dropped": len(stitched.dropped),
            "anchored": stitched.anchored,
        },
        "not_finite": _names(images, chunks.failed),
        "left_out": [_names(images, ids) for ids in stitched.apart],
        "matches_explained": _explained_share(images, sparse_map),
        "kept_network_poses": _names(images, list(blank)),
    }
    sparse_map = replace(sparse_map, poses={**sparse_map.poses, **blank})
    scale_sigma = _path_scale_sigma(_common(sparse_map.poses, known), known) if stitched.anchored else None
    return Result(sparse_map, scale_sigma, Pose.identity(), report, images.matches)


def _points_only(inputs: Inputs, poses: Mapping[int, Pose], cameras: Mapping[int, Camera]) -> SparseMap:
    """A map whose poses and intrinsics are as given."""
    adjuster = Adjuster(inputs.images, poses, cameras, inputs.params.seed)
    first = ROUNDS[0]
    adjuster.triangulate(first.track_error)
    adjuster.adjust(first.loss, first.steps, None, "points")
    adjuster.filter(first.kept_error)
    return SparseMap.from_colmap(adjuster.reconstruction)


def _adjusted(
    inputs: Inputs, poses: Mapping[int, Pose], cameras: Mapping[int, Camera], known: Mapping[int, Pose]
) -> SparseMap:
    """The map adjusted from `poses`, with the positions of the known ones, if any, as a prior."""
    centres = {i: pose.translation for i, pose in known.items()}
    prior = Prior(centres, inputs.params.sensor_sigma_position) if known else None
    return Adjuster(inputs.images, poses, cameras, inputs.params.seed).refine(prior)


def _adjusted_network(
    inputs: Inputs, stitched: Stitched, cameras: Mapping[int, Camera], known: Mapping[int, Pose]
) -> SparseMap:
    """The map under the stitched poses, adjusted if requested; its frame and scale agree with all known poses."""
    if inputs.params.adjust:
        sparse_map = _adjusted(inputs, stitched.poses, cameras, known if stitched.anchored else {})
    else:
        sparse_map = _points_only(inputs, stitched.poses, cameras)
    frame = known if stitched.anchored else stitched.poses
    poses, path = _common(sparse_map.poses, frame), _common(frame, sparse_map.poses)
    if len(poses) < MIN_NETWORK_VIEWS:
        raise ReconstructionError(
            "the images must match where a network's poses are adjusted on them",
            found=f"{len(sparse_map.poses)} images with enough matches that the poses explain",
            remedy="keep the network's poses as they are: --set poses.adjust=false",
            file=inputs.capture.root,
        )
    return sparse_map.transformed(_onto_path(poses, path, _scale_onto(poses, path)))


def _checked(inputs: Inputs, sensor: Mapping[int, Pose], cameras: Mapping[int, Camera]) -> tuple[Inputs, CheckedPath]:
    """The inputs without the matches that contradict the sensor, and its path with the loops closed."""
    if not inputs.metric:  # loop lengths and drift are defined in metres
        return inputs, CheckedPath(sensor, (), (), 0, corrected=False)
    path = SensorPath(inputs.images.keyframes, sensor, inputs.sensor_sigma)
    up, sigma_deg = inputs.capture.up_in_world, inputs.capture.up_sigma_deg or inputs.params.sensor_sigma_rotation_deg
    known_up = None if up is None else (up, float(np.deg2rad(sigma_deg)))
    checked = check_path(path, inputs.images, cameras, known_up, inputs.params.seed)
    # The correction holds the first pose, as noisy as any; the frame is what all given poses agree on.
    common = _onto_path(checked.poses, sensor)
    checked = replace(checked, poses={i: common.apply_pose(pose) for i, pose in checked.poses.items()})
    return replace(inputs, images=inputs.images.without(checked.wrong)), checked


def _network_cameras(keyframes: Sequence[Keyframe], chunks: Sequence[Chunk]) -> dict[int, Camera]:
    """Intrinsics by camera id: as declared, with the network's focal length where that was guessed."""
    cameras = {k.camera_id: k.camera for k in keyframes}
    for camera_id, camera in cameras.items():
        guessed = {k.image_id for k in keyframes if k.camera_id == camera_id and k.frame.focal_source == "guessed"}
        seen = [view.camera for chunk in chunks for i, view in chunk.views.items() if i in guessed]
        if seen:
            focal = np.median([s.resized(camera.width, camera.height).fx for s in seen])
            cameras[camera_id] = replace(camera, fx=float(focal), fy=float(focal) * camera.fy / camera.fx)
    return cameras


def _explained_share(images: MatchedImages, sparse_map: SparseMap) -> float:
    """Share of the verified matches between training views whose two features belong to one point of the map."""
    points = {
        k.image_id: sparse_map.points_of(k.image_id, len(images.features[k.image_id - 1])) for k in images.training
    }
    same = total = 0
    for m in images.matches:
        a, b = points.get(m.i + 1), points.get(m.j + 1)
        if a is not None and b is not None:
            first, second = a[m.features[:, 0]], b[m.features[:, 1]]
            same += int(((first == second) & (first >= 0)).sum())
            total += len(m.features)
    return same / max(total, 1)


def _aligned(inputs: Inputs, poses: Mapping[int, Pose], start: Mapping[int, Pose]) -> dict[int, Pose]:
    """Poses of an arbitrary frame, aligned with the sensor's path by a robust similarity."""
    ids = sorted(poses)
    source, target = _positions(ids, poses, start)
    fit = robust_similarity(source, target, SENSOR_PATH_ERROR, inputs.params.seed)
    if fit is None:
        raise ReconstructionError(
            "the given poses must fit the images somewhere",
            found=f"no three of {len(ids)} given positions agree with the images",
            remedy="use the images alone: --set poses.backend=colmap",
            file=inputs.capture.root,
        )
    return {i: fit[0].apply_pose(poses[i]) for i in ids}


def _scale_onto(poses: Mapping[int, Pose], path: Mapping[int, Pose]) -> float:
    """The scale that brings the poses to the size of a path, without distant outliers."""
    ids = sorted(poses)
    source, target = _positions(ids, poses, path)
    scale, keep = 1.0, np.ones(len(ids), bool)
    for _ in range(5):
        fit = fit_similarity(source[keep], target[keep])
        scale, residual = fit.scale, np.linalg.norm(fit.apply(source) - target, axis=1)
        keep = residual <= 3 * np.median(residual)
    return scale


def _onto_path(poses: Mapping[int, Pose], path: Mapping[int, Pose], scale: float = 1.0) -> Similarity:
    """The similarity of that scale onto a path's poses: its rotation from the rotations, its shift by the median.

    The adjustment converges slowly along these seven directions, because the images don't constrain them. Positions
    alone don't determine the rotation about a straight path; rotations preserve the source's up direction.
    """
    ids = sorted(poses)
    source, target = _positions(ids, poses, path)
    relative = np.array([path[i].rotation @ poses[i].rotation.T for i in ids])
    rotation = median_rotation(relative, np.eye(3), rounds=5)
    return Similarity(scale, rotation, np.median(target - scale * source @ rotation.T, axis=0))


def _path_scale_sigma(poses: Mapping[int, Pose], start: Mapping[int, Pose]) -> float:
    """Relative one sigma of the scale by the sensor's path: its robust residual over the path's extent.

    The errors drift along the path, so only every tenth residual is independent.
    """
    ids = sorted(poses)
    a, b = _positions(ids, poses, start)
    residual = 1.4826 * float(np.median(np.abs(a - b)))
    extent = float(np.sqrt(((a - a.mean(0)) ** 2).sum(1).mean()))
    return residual / max(extent, 1e-9) / np.sqrt(max(len(ids) / 10, 1.0))


def _positions(ids: Sequence[int], *paths: Mapping[int, Pose]) -> tuple[F64, ...]:
    """Camera positions (N, 3) of several paths."""
    return tuple(np.array([poses[i].translation for i in ids]) for poses in paths)


def _common(poses: Mapping[int, Pose], others: Mapping[int, Pose]) -> dict[int, Pose]:
    return {i: pose for i, pose in poses.items() if i in others}


def _moved(
    sparse_map: SparseMap, given: Mapping[int, Pose], sensor: Mapping[int, Pose], offset: SensorOffset
) -> BackendReport:
    """Distance of the poses from the given ones after alignment, and the cameras' fixed offset."""
    ids = sorted(sparse_map.poses)

    def change(reference: Mapping[int, Pose]) -> dict[str, float]:
        common = _onto_path(sparse_map.poses, reference)
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


def _mapped(inputs: Inputs) -> ImageMap:
    params, previews = inputs.params, Publisher(preview_folder(inputs.out_dir))
    return map_images(
        inputs.images, mapper=params.mapper, seed=params.seed, root=inputs.capture.root, previews=previews
    )


def _submodel_report(images: MatchedImages, mapped: ImageMap) -> BackendReport:
    names = [_names(images, ids) for ids in mapped.submodels]
    return {"submodels": [len(ids) for ids in mapped.submodels], "joined": mapped.joined, "left_out": names[1:]}


def _names(images: MatchedImages, ids: Sequence[int]) -> list[str]:
    return [images.keyframes[i - 1].name for i in ids]
