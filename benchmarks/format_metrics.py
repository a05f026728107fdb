"""Errors of a reader and a build on a synthetic capture of the sample hall."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import ArrayLike

from benchmarks.f_score import f_scores
from benchmarks.hall_room import HallRoom
from pipeline.align.alignment import load_world_scene
from pipeline.capture.model import Capture
from pipeline.depth.maps import DepthMap
from pipeline.geometry import Mesh, Pose, Similarity, angle_deg, fit_similarity
from pipeline.geometry.rays import RayCaster
from pipeline.io.results import run_record

SCANNED = ("kitti", "grandtour", "lidar_slam")  # depth images are computed from points


@dataclass(frozen=True)
class Metrics:
    """Errors of a reader and a build for one format; None if the format lacks the quantity.

    Attributes:
        frames: How many the reader found.
        position: Largest camera position error after one joint fit [mm].
        rotation: Largest error of a camera's direction after it [deg].
        depth: Largest error of a depth image [mm].
        surface: Of depth made of a scanner's points, 95 % are nearer to the true surface than this [mm].
        gravity: Largest error of the direction of gravity, in the world or in an image [deg].
        scale: Relative error [%].
        backend: Of the depth stage.
        f_score: Of the built mesh at 5 cm.
        fine: At 2 cm.
        built_gravity: Angle between the build's z and the truth's [deg].
        built_scale: Relative error of the build's scale [%].
        cpu: Of all stages of the build [s].
    """

    frames: int
    position: float | None
    rotation: float | None
    depth: float | None
    surface: float | None
    gravity: float | None
    scale: float | None
    backend: str
    f_score: float
    fine: float
    built_gravity: float
    built_scale: float | None
    cpu: float


def compare(
    stages: Mapping[str, Path], exact: Mapping[str, Pose], room: HallRoom, seen: Sequence[DepthMap], *, metric: bool
) -> Metrics:
    """Metrics of a build up to the mesh.

    Args:
        stages: Their results.
        exact: World from camera of each frame by name.
        room: What the images show.
        seen: Exact depth of the views that the build may use: the truth that it is asked for.
        metric: Whether the source has a scale.
    """
    capture, found = Capture.load(stages["capture"]), world_poses(stages)
    free = fit(found, exact, with_scale=True)
    mesh = Mesh.load(stages["mesh"] / "mesh.ply").transformed(fit(found, exact, with_scale=False) if metric else free)
    fine, coarse = f_scores(mesh, room.mesh, seen, (0.02, 0.05), np.random.default_rng(0))
    runs = {name: json.loads(run_record(folder).read_text()) for name, folder in stages.items()}
    return Metrics(
        frames=len(capture.frames),
        **reading(capture, exact, room, metric=metric),  # pyright: ignore[reportArgumentType]
        backend=runs["depth"]["backend"],
        f_score=coarse.f,
        fine=fine.f,
        built_gravity=angle_between(free.rotation[2], [0, 0, 1]),
        built_scale=100 * abs(1 / free.scale - 1) if metric else None,
        cpu=sum(run["cpu_seconds"] for run in runs.values()),
    )


def world_poses(stages: Mapping[str, Path]) -> dict[str, Pose]:
    """World from camera of a build's keyframes by name."""
    views = load_world_scene(stages["poses"], stages["align"]).views
    return {view.name: view.world_from_camera for view in views}


def fit(found: Mapping[str, Pose], exact: Mapping[str, Pose], *, with_scale: bool) -> Similarity:
    """Transform from the reconstructed to the true world, from camera positions."""
    here = np.array([pose.translation for pose in found.values()])
    there = np.array([exact[name].translation for name in found])
    return fit_similarity(here, there, with_scale=with_scale)


def angle_between(a: ArrayLike, b: ArrayLike) -> float:
    """Angle between two unit directions [deg]."""
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(np.rad2deg(np.arctan2(np.linalg.norm(np.cross(first, second)), first @ second)))


def reading(capture: Capture, exact: Mapping[str, Pose], room: HallRoom, *, metric: bool) -> dict[str, float | None]:
    """The reader's half of `Metrics`."""
    metrics: dict[str, float | None] = dict.fromkeys(("position", "rotation", "depth", "surface", "gravity", "scale"))
    downs = [(exact[f.name].rotate(f.gravity), [0, 0, -1]) for f in capture.frames if f.gravity is not None]
    if capture.has_poses:
        found = {frame.name: frame.world_from_camera for frame in capture.frames if frame.world_from_camera}
        truth_from_capture = fit(found, exact, with_scale=not metric)
        pairs = [(truth_from_capture.apply_pose(pose), exact[name]) for name, pose in found.items()]
        metrics["position"] = 1000 * max(float(np.linalg.norm(a.translation - b.translation)) for a, b in pairs)
        metrics["rotation"] = max(float(angle_deg(a.rotation, b.rotation)) for a, b in pairs)
        metrics["scale"] = 100 * abs(1 / fit(found, exact, with_scale=True).scale - 1) if metric else None
        if capture.up_in_world is not None:
            downs.append((-truth_from_capture.rotate(capture.up_in_world), [0, 0, -1]))
    metrics["gravity"] = max((angle_between(*pair) for pair in downs), default=None)
    if capture.has_depth:
        metrics |= depth_errors(capture, exact, room)
    return metrics


def depth_errors(capture: Capture, exact: Mapping[str, Pose], room: HallRoom) -> dict[str, float | None]:
    """Errors of every fourth depth image at its known pixels, from the true poses [mm]."""
    errors, distances, caster = [], [], RayCaster(room.mesh)
    for frame in capture.frames[::4]:
        assert frame.depth and frame.depth_camera
        depth = np.asarray(cv2.imread(str(capture.root / frame.depth), cv2.IMREAD_UNCHANGED)) / 1000
        known, pose = depth > 0, exact[frame.name]
        errors.append(np.abs(depth - room.cast(frame.depth_camera, pose)[1])[known])
        distances.append(caster.distances(pose.apply((frame.depth_camera.rays() * depth[..., None])[known])))
    if capture.kind in SCANNED:
        return {"surface": 1000 * float(np.percentile(np.concatenate(distances), 95))}
    return {"depth": 1000 * float(np.concatenate(errors).max())}
