"""The three backends: from keyframes with matches to the sparse map of the training views, and what to report."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import ReconstructionError
from pipeline.geometry import Pose, Similarity, angle_deg, fit_similarity, matrix_from_rotvec, rotvec_from_matrix
from pipeline.poses.adjust import ROUNDS, Adjuster, Prior
from pipeline.poses.features import Features
from pipeline.poses.keyframes import Keyframe
from pipeline.poses.mapping import map_pictures
from pipeline.poses.matching import Matches
from pipeline.poses.params import PosesParams
from pipeline.poses.sensor_offset import SensorOffset, fit_sensor_offset
from pipeline.poses.sparse_map import SparseMap

logger = logging.getLogger(__name__)

EXPLAINED, REGISTERED = 0.7, 0.95
"""Shares of verified matches that end up in one point and of registered views; less, and the given poses were no start.

Real recordings with poses 3 cm off reach 0.9."""
SENSOR_TRACK_ERROR = 0.25
"""Outlier threshold [m] when a map from pictures is laid over the sensor's track."""


@dataclass(frozen=True, eq=False)
class Workbench:
    """What all backends work on.

    Attributes:
        root: The capture's folder.
        database: COLMAP database with verified matches.
        keyframes: All keyframes.
        features: Theirs.
        matches: The verified matches.
        params: The stage's parameters.
    """

    root: Path
    database: Path
    keyframes: Sequence[Keyframe]
    features: Sequence[Features]
    matches: Sequence[Matches]
    params: PosesParams

    @property
    def training(self) -> tuple[Keyframe, ...]:
        """Keyframes that the map may use."""
        return tuple(k for k in self.keyframes if not k.held_out)

    def sensor_poses(self, keyframes: Sequence[Keyframe]) -> dict[int, Pose]:
        """Given poses by image id."""
        return {k.image_id: k.frame.world_from_camera for k in keyframes if k.frame.world_from_camera}


@dataclass(frozen=True, eq=False)
class Backend:
    """A backend's answer.

    Attributes:
        found: The map; metric where the sensor gave poses.
        scale_sigma: Relative one sigma of its scale from the fit to the sensor's track; None without one.
        sensor_from_camera: Fixed offset of the colour camera in the given poses' frame that was found.
        report: Plain JSON values.
    """

    found: SparseMap
    scale_sigma: float | None
    sensor_from_camera: Pose
    report: dict[str, Any]


def from_pictures(bench: Workbench) -> Backend:
    """Poses from the pictures alone, frame and scale arbitrary."""
    rough = map_pictures(
        bench.database, bench.keyframes, mapper=bench.params.mapper, seed=bench.params.seed, root=bench.root
    )
    adjuster = Adjuster(bench.database, rough.poses, rough.cameras, bench.params.seed)
    found = adjuster.refine(None, ROUNDS[-1:])
    return Backend(found, None, Pose.identity(), _submodel_report(bench, rough.submodels))


def from_sensor(bench: Workbench) -> Backend:
    """Poses and intrinsics as given; only points are made."""
    poses = bench.sensor_poses(bench.training)
    cameras = {k.camera_id: k.camera for k in bench.keyframes}
    adjuster = Adjuster(bench.database, poses, cameras, bench.params.seed)
    first = ROUNDS[0]
    adjuster.triangulate(first.reach)
    adjuster.adjust(first.loss, first.steps, None, "points")
    adjuster.filter(first.keep)
    found = SparseMap.from_colmap(adjuster.reconstruction)
    return Backend(found, 0.0, Pose.identity(), {})


def refined(bench: Workbench) -> Backend:
    """Given poses refined on the pictures, the sensor's track as prior and its metric scale kept.

    The epipolar errors of the matches tell how far poses and focal length are off; with that corrected the usual
    capture is triangulated and adjusted at once. Where the given poses are no start for that (tracking lost, loops
    not closed) the pictures are mapped alone, laid over the sensor's track and adjusted with the same prior.
    """
    given = bench.sensor_poses(bench.training)
    rng = np.random.default_rng(bench.params.seed)
    offset = fit_sensor_offset(bench.keyframes, bench.features, bench.matches, given, rng)
    logger.info("epipolar error under the given poses: %.2f px", offset.error_before)
    start = {i: pose @ offset.sensor_from_camera for i, pose in given.items()}
    cameras = {k.camera_id: offset.camera(k.camera) for k in bench.keyframes}
    path, submodels = "sensor", ()
    found = _adjust(bench, start, cameras, start)
    explained = explained_share(bench, found)
    if explained < EXPLAINED or len(found.poses) < REGISTERED * len(given):
        logger.warning(
            "the given poses explain %.0f %% of the matches and %d of %d views: mapping the pictures alone",
            100 * explained,
            len(found.poses),
            len(given),
        )
        rough = map_pictures(
            bench.database, bench.keyframes, mapper=bench.params.mapper, seed=bench.params.seed, root=bench.root
        )
        laid = _over_track(bench, rough.poses, start)
        again = _adjust(bench, laid, rough.cameras, start)
        if explained_share(bench, again) > explained:
            path, submodels, found = "pictures", rough.submodels, again
            explained = explained_share(bench, found)
    found = found.transformed(_onto_sensor(found.poses, start))
    scale_sigma = _track_scale_sigma(found.poses, start)
    report = {
        "path": path,
        "matches_explained": explained,
        "epipolar_error_given_px": _finite(offset.error_before),
        "epipolar_error_offset_px": _finite(offset.error_after),
        **_moved(bench, found, given, start, offset),
        **(_submodel_report(bench, submodels) if submodels else {}),
    }
    return Backend(found, scale_sigma, offset.sensor_from_camera, report)


def explained_share(bench: Workbench, found: SparseMap) -> float:
    """Share of the verified matches between training views whose two features belong to one point of the map."""
    points = {k.image_id: found.points_of(k.image_id, len(bench.features[k.image_id - 1])) for k in bench.training}
    same = total = 0
    for m in bench.matches:
        a, b = points.get(m.i + 1), points.get(m.j + 1)
        if a is not None and b is not None:
            first, second = a[m.features[:, 0]], b[m.features[:, 1]]
            same += int(((first == second) & (first >= 0)).sum())
            total += len(m.features)
    return same / max(total, 1)


def _adjust(
    bench: Workbench, poses: Mapping[int, Pose], cameras: Mapping[int, Any], start: Mapping[int, Pose]
) -> SparseMap:
    prior = Prior({i: start[i].translation for i in poses}, bench.params.sensor_sigma_position)
    return Adjuster(bench.database, poses, cameras, bench.params.seed).refine(prior)


def _over_track(bench: Workbench, poses: Mapping[int, Pose], start: Mapping[int, Pose]) -> dict[int, Pose]:
    """Poses of an arbitrary frame, laid over the sensor's track by a robust similarity."""
    import pycolmap

    ids = sorted(poses)
    source, target = (np.array([p[i].translation for i in ids]) for p in (poses, start))
    options = pycolmap.RANSACOptions(max_error=SENSOR_TRACK_ERROR, random_seed=bench.params.seed)
    # The stubs promise a Sim3d; it is a dictionary with the inliers, which are all that is needed.
    rough: Any = pycolmap.estimate_sim3d_robust(source, target, options)
    if rough is None or rough["num_inliers"] < 3:
        raise ReconstructionError(
            "the given poses must fit the pictures somewhere",
            found=f"no three of {len(ids)} given positions agree with the pictures",
            remedy="use the pictures alone: --set poses.backend=colmap",
            file=bench.root,
        )
    near = np.asarray(rough["inlier_mask"], bool)
    fit = fit_similarity(source[near], target[near])
    return {i: fit.apply_pose(poses[i]) for i in ids}


def _onto_sensor(poses: Mapping[int, Pose], start: Mapping[int, Pose]) -> Similarity:
    """The similarity onto the sensor's poses: scale by positions, turn by rotations, shift by the median.

    The adjustment converges slowly along these seven directions, for pictures don't feel them. Positions alone
    leave the turn about a straight track open; the source's up direction stays true through its rotations.
    """
    ids = sorted(poses)
    source, target = (np.array([p[i].translation for i in ids]) for p in (poses, start))
    scale, keep = 1.0, np.ones(len(ids), bool)
    for _ in range(5):
        fit = fit_similarity(source[keep], target[keep])
        scale, residual = fit.scale, np.linalg.norm(fit.apply(source) - target, axis=1)
        keep = residual <= 3 * np.median(residual)
    rotation = np.eye(3)
    for _ in range(5):
        turn = rotvec_from_matrix(np.array([start[i].rotation @ poses[i].rotation.T @ rotation.T for i in ids]))
        rotation = matrix_from_rotvec(np.median(turn, axis=0)) @ rotation
    shift = np.median(target - scale * source @ rotation.T, axis=0)
    return Similarity(scale, rotation, shift)


def _track_scale_sigma(poses: Mapping[int, Pose], start: Mapping[int, Pose]) -> float:
    """Relative one sigma of the scale that the sensor's track gives: its robust residual over the track's extent.

    Errors of a track drift, so only every tenth residual counts as independent.
    """
    ids = sorted(poses)
    a, b = (np.array([p[i].translation for i in ids]) for p in (poses, start))
    residual = 1.4826 * float(np.median(np.abs(a - b)))
    extent = float(np.sqrt(((a - a.mean(0)) ** 2).sum(1).mean()))
    return residual / max(extent, 1e-9) / np.sqrt(max(len(ids) / 10, 1.0))


def _moved(
    bench: Workbench, found: SparseMap, given: Mapping[int, Pose], start: Mapping[int, Pose], offset: SensorOffset
) -> dict[str, Any]:
    """How far poses and intrinsics went from what was given."""
    ids = sorted(found.poses)

    def change(reference: Mapping[int, Pose]) -> dict[str, float]:
        shift = np.array([np.linalg.norm(found.poses[i].translation - reference[i].translation) for i in ids])
        turn = angle_deg(
            np.array([found.poses[i].rotation for i in ids]), np.array([reference[i].rotation for i in ids])
        )
        return {
            "position_median_m": float(np.median(shift)),
            "position_max_m": float(shift.max()),
            "rotation_median_deg": float(np.median(turn)),
            "rotation_max_deg": float(turn.max()),
        }

    return {
        "moved": change(given),
        "moved_beyond_offset": change(start),
        "sensor_from_camera": {
            "rotation_deg": float(angle_deg(np.eye(3), offset.sensor_from_camera.rotation)),
            "translation_m": offset.sensor_from_camera.translation.tolist(),
        },
    }


def _submodel_report(bench: Workbench, submodels: Sequence[Sequence[int]]) -> dict[str, Any]:
    names = [[bench.keyframes[i - 1].name for i in ids] for ids in submodels]
    return {"submodels": [len(ids) for ids in submodels], "left_out": names[1:]}


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
