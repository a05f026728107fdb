"""The three backends: from keyframes with matches to the sparse map of the training views, and what to report."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ReconstructionError
from pipeline.geometry import (
    Camera,
    Pose,
    Similarity,
    angle_deg,
    fit_similarity,
    matrix_from_rotvec,
    rotvec_from_matrix,
)
from pipeline.poses.adjust import ROUNDS, Adjuster, Prior
from pipeline.poses.bridge import robust_similarity
from pipeline.poses.drift import Checked, check_track, held_by_sensor
from pipeline.poses.features import Features
from pipeline.poses.keyframes import Keyframe
from pipeline.poses.mapping import PictureMap, map_pictures
from pipeline.poses.matching import Matches, forget
from pipeline.poses.params import PosesParams
from pipeline.poses.sensor_offset import SensorOffset, fit_sensor_offset
from pipeline.poses.sensor_track import Track
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
        metric: Whether given poses are in metres.
        up: (3,) unit up direction in the given poses' world and its one sigma [rad], or None.
        out_dir: Where what later stages need besides the map is kept.
    """

    root: Path
    database: Path
    keyframes: Sequence[Keyframe]
    features: Sequence[Features]
    matches: Sequence[Matches]
    params: PosesParams
    metric: bool = False
    up: tuple[NDArray[np.float64], float] | None = None
    out_dir: Path = Path()

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
        matches: The matches that were believed.
        track: The sensor's track that the map was started from; None where it plays no part or is the answer.
    """

    found: SparseMap
    scale_sigma: float | None
    sensor_from_camera: Pose
    report: dict[str, Any]
    matches: Sequence[Matches]
    track: Track | None = None


def from_pictures(bench: Workbench) -> Backend:
    """Poses from the pictures alone, frame and scale arbitrary."""
    rough = _mapped(bench)
    adjuster = Adjuster(bench.database, rough.poses, rough.cameras, bench.params.seed)
    found = adjuster.refine(None, ROUNDS if rough.joined > 1 else ROUNDS[-1:])
    return Backend(found, None, Pose.identity(), _submodel_report(bench, rough), bench.matches)


def from_sensor(bench: Workbench) -> Backend:
    """Poses and intrinsics as given; only points are made."""
    cameras = {k.camera_id: k.camera for k in bench.keyframes}
    found = points_only(bench, bench.sensor_poses(bench.training), cameras)
    return Backend(found, 0.0, Pose.identity(), {}, bench.matches)


def points_only(bench: Workbench, poses: Mapping[int, Pose], cameras: Mapping[int, Camera]) -> SparseMap:
    """A map whose poses and intrinsics are as given."""
    adjuster = Adjuster(bench.database, poses, cameras, bench.params.seed)
    first = ROUNDS[0]
    adjuster.triangulate(first.reach)
    adjuster.adjust(first.loss, first.steps, None, "points")
    adjuster.filter(first.keep)
    return SparseMap.from_colmap(adjuster.reconstruction)


def refined(bench: Workbench) -> Backend:
    """Given poses refined on the pictures, the sensor's track as prior and its metric scale kept.

    The epipolar errors of the matches tell how far poses and focal length are off. With that corrected, matches that
    contradict the sensor are dropped and its track is bent until its loops close; then the usual capture is
    triangulated and adjusted at once. Where the given poses are no start for that (tracking lost) the pictures are
    mapped alone, laid over the sensor's track and adjusted with the same prior.
    """
    given = bench.sensor_poses(bench.training)
    rng = np.random.default_rng(bench.params.seed)
    offset = fit_sensor_offset(bench.keyframes, bench.features, bench.matches, given, rng)
    logger.info("epipolar error under the given poses: %.2f px", offset.error_before)
    sensor = {i: pose @ offset.sensor_from_camera for i, pose in bench.sensor_poses(bench.keyframes).items()}
    cameras = {k.camera_id: offset.camera(k.camera) for k in bench.keyframes}
    bench, checked = _checked(bench, sensor, cameras)
    track = Track(bench.keyframes, checked.poses, _sensor_sigma(bench))
    start = {i: checked.poses[i] for i in given}
    path, mapped = "sensor", None
    found = _adjust(bench, start, cameras, start)
    explained = explained_share(bench, found)
    unseen = held_by_sensor(track, bench.matches, found.poses)
    if explained < EXPLAINED or len(found.poses) + len(unseen.keys() & given) < REGISTERED * len(given):
        logger.warning(
            "the given poses explain %.0f %% of the matches and %d of %d views: mapping the pictures alone",
            100 * explained,
            len(found.poses),
            len(given),
        )
        rough = _mapped(bench)
        laid = _over_track(bench, rough.poses, start)
        again = _adjust(bench, laid, rough.cameras, start)
        if explained_share(bench, again) > explained:
            path, mapped, found = "pictures", rough, again
            explained = explained_share(bench, found)
    found = found.transformed(onto_track(found.poses, start, scale_onto(found.poses, start)))
    report = {
        "path": path,
        "matches_explained": explained,
        "epipolar_error_given_px": _finite(offset.error_before),
        "epipolar_error_offset_px": _finite(offset.error_after),
        **_moved(found, given, sensor, offset),
        "loops": _loops(found, sensor, checked),
        **(_submodel_report(bench, mapped) if mapped else {}),
    }
    scale_sigma = track_scale_sigma(found.poses, sensor)
    return Backend(found, scale_sigma, offset.sensor_from_camera, report, bench.matches, track)


def _sensor_sigma(bench: Workbench) -> tuple[float, float]:
    return bench.params.sensor_sigma_position, bench.params.sensor_sigma_rotation_deg


def _checked(bench: Workbench, sensor: Mapping[int, Pose], cameras: Mapping[int, Camera]) -> tuple[Workbench, Checked]:
    """The bench without the matches that contradict the sensor, and its track with the loops closed."""
    if not bench.metric:  # what is far, and what a sensor may drift, is said in metres
        return bench, Checked(sensor, (), (), 0, closed=False)
    track = Track(bench.keyframes, sensor, _sensor_sigma(bench))
    args = bench.keyframes, bench.features, bench.matches
    checked = check_track(track, *args, cameras, bench.up, bench.params.seed)
    # Bending holds the first pose, as noisy as any; the frame is what all given poses agree on.
    common = onto_track(checked.poses, sensor)
    checked = replace(checked, poses={i: common.apply_pose(pose) for i, pose in checked.poses.items()})
    forget(bench.database, checked.wrong)
    wrong = set(checked.wrong)
    matches = [m for m in bench.matches if (m.i + 1, m.j + 1) not in wrong]
    return replace(bench, matches=matches), checked


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
    ids = sorted(poses)
    source, target = (np.array([p[i].translation for i in ids]) for p in (poses, start))
    answer = robust_similarity(source, target, SENSOR_TRACK_ERROR, bench.params.seed)
    if answer is None:
        raise ReconstructionError(
            "the given poses must fit the pictures somewhere",
            found=f"no three of {len(ids)} given positions agree with the pictures",
            remedy="use the pictures alone: --set poses.backend=colmap",
            file=bench.root,
        )
    return {i: answer[0].apply_pose(poses[i]) for i in ids}


def scale_onto(poses: Mapping[int, Pose], track: Mapping[int, Pose]) -> float:
    """The scale that brings the poses to the size of a track, places that are far off left out."""
    ids = sorted(poses)
    source, target = (np.array([p[i].translation for i in ids]) for p in (poses, track))
    scale, keep = 1.0, np.ones(len(ids), bool)
    for _ in range(5):
        fit = fit_similarity(source[keep], target[keep])
        scale, residual = fit.scale, np.linalg.norm(fit.apply(source) - target, axis=1)
        keep = residual <= 3 * np.median(residual)
    return scale


def onto_track(poses: Mapping[int, Pose], track: Mapping[int, Pose], scale: float = 1.0) -> Similarity:
    """The similarity of that scale onto a track's poses: turn by rotations, shift by the median.

    The adjustment converges slowly along these seven directions, for pictures don't feel them. Positions alone
    leave the turn about a straight track open; the source's up direction stays true through its rotations.
    """
    ids = sorted(poses)
    source, target = (np.array([p[i].translation for i in ids]) for p in (poses, track))
    rotation = np.eye(3)
    for _ in range(5):
        turn = rotvec_from_matrix(np.array([track[i].rotation @ poses[i].rotation.T @ rotation.T for i in ids]))
        rotation = matrix_from_rotvec(np.median(turn, axis=0)) @ rotation
    shift = np.median(target - scale * source @ rotation.T, axis=0)
    return Similarity(scale, rotation, shift)


def track_scale_sigma(poses: Mapping[int, Pose], start: Mapping[int, Pose]) -> float:
    """Relative one sigma of the scale that the sensor's track gives: its robust residual over the track's extent.

    Errors of a track drift, so only every tenth residual counts as independent.
    """
    ids = sorted(poses)
    a, b = (np.array([p[i].translation for i in ids]) for p in (poses, start))
    residual = 1.4826 * float(np.median(np.abs(a - b)))
    extent = float(np.sqrt(((a - a.mean(0)) ** 2).sum(1).mean()))
    return residual / max(extent, 1e-9) / np.sqrt(max(len(ids) / 10, 1.0))


def _moved(
    found: SparseMap, given: Mapping[int, Pose], sensor: Mapping[int, Pose], offset: SensorOffset
) -> dict[str, Any]:
    """How far poses went from what was given, a motion common to all left out, and the cameras' fixed offset."""
    ids = sorted(found.poses)

    def change(reference: Mapping[int, Pose]) -> dict[str, float]:
        common = onto_track(found.poses, reference)
        poses = [common.apply_pose(found.poses[i]) for i in ids]
        shift = np.linalg.norm(
            [p.translation - reference[i].translation for p, i in zip(poses, ids, strict=True)], axis=1
        )
        turn = angle_deg(np.array([p.rotation for p in poses]), np.array([reference[i].rotation for i in ids]))
        return {
            "position_median_m": float(np.median(shift)),
            "position_max_m": float(shift.max()),
            "rotation_median_deg": float(np.median(turn)),
            "rotation_max_deg": float(turn.max()),
        }

    return {
        "moved": change(given),
        "moved_beyond_offset": change(sensor),
        "sensor_from_camera": {
            "rotation_deg": float(angle_deg(np.eye(3), offset.sensor_from_camera.rotation)),
            "translation_m": offset.sensor_from_camera.translation.tolist(),
        },
    }


def _loops(found: SparseMap, sensor: Mapping[int, Pose], checked: Checked) -> dict[str, Any]:
    """Places that were seen again, and the sensor's drift between the visits: its relative poses against the map's."""
    pairs = [(r.i, r.j) for r in checked.loops if r.i in found.poses and r.j in found.poses]
    drift = [
        (found.poses[i].inverse() @ found.poses[j]).inverse() @ (sensor[i].inverse() @ sensor[j]) for i, j in pairs
    ]
    shift = [float(np.linalg.norm(d.translation)) for d in drift]
    turn = [float(angle_deg(np.eye(3), d.rotation)) for d in drift]
    return {
        "pairs": len(pairs),
        "track_bent": checked.closed,
        "contradicting_pairs": len(checked.wrong),
        "jumps": checked.jumps,
        "drift_median_m": float(np.median(shift)) if pairs else None,
        "drift_max_m": max(shift, default=None),
        "drift_median_deg": float(np.median(turn)) if pairs else None,
        "drift_max_deg": max(turn, default=None),
    }


def _mapped(bench: Workbench) -> PictureMap:
    params = bench.params
    return map_pictures(
        bench.database, bench.keyframes, bench.matches, mapper=params.mapper, seed=params.seed, root=bench.root
    )


def _submodel_report(bench: Workbench, rough: PictureMap) -> dict[str, Any]:
    names = [[bench.keyframes[i - 1].name for i in ids] for ids in rough.submodels]
    return {"submodels": [len(ids) for ids in rough.submodels], "joined": rough.joined, "left_out": names[1:]}


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
