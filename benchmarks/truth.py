"""Bundles of the sample hall against its exact truth."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline import Bundle
from pipeline.check.surface import f_scores
from pipeline.check.views import cast_depth
from pipeline.depth.maps import DepthMap
from pipeline.geometry import Camera, Mesh, Pose, Similarity, angle_deg, fit_similarity
from pipeline.mesh.rays import RayCaster

TRUTH = Path(__file__).resolve().parents[1] / "tests" / "data" / "hall_truth"


@dataclass(frozen=True)
class TruthFigures:
    """How far a bundle of the hall is from the truth.

    Attributes:
        registered: Photos in the bundle.
        ate: Root mean square of camera positions after the best similarity [m].
        rotation_deg: Median rotation error after it [deg].
        scale_error: Relative, absolute value.
        gravity_error_deg: Angle between the bundle's z and the truth's [deg].
        f_score: Of the mesh inside the seen region, by tolerance [m].
        precision: Share of the mesh near the truth, by tolerance [m].
        recall: Share of the seen truth near the mesh, by tolerance [m].
    """

    registered: int
    ate: float
    rotation_deg: float
    scale_error: float
    gravity_error_deg: float
    f_score: dict[float, float]
    precision: dict[float, float]
    recall: dict[float, float]


def truth_poses() -> dict[str, Pose]:
    """Exact world-from-camera poses by timestamp; Z up, floor at z = 0."""
    frames = json.loads((TRUTH / "poses.json").read_text())["frames"]
    return {stamp: Pose.from_matrix(frame["world_from_camera"]) for stamp, frame in frames.items()}


def truth_cameras() -> dict[str, Camera]:
    """Exact intrinsics by timestamp."""
    frames = json.loads((TRUTH / "poses.json").read_text())["frames"]
    return {stamp: Camera.from_json(frame) for stamp, frame in frames.items()}


def truth_mesh() -> Mesh:
    """The exact surfaces."""
    with np.load(TRUTH / "mesh.npz", allow_pickle=False) as data:
        return Mesh.from_arrays(data["vertices"], data["triangles"])


def truth_from_poses(poses: Mapping[str, Pose]) -> tuple[Similarity, float, float]:
    """The best similarity from camera positions, its ATE [m] and the median rotation error [deg].

    Args:
        poses: World-from-camera of the hall's photos by name.
    """
    exact = truth_poses()
    pairs = [(exact[Path(name).stem], pose) for name, pose in poses.items()]
    here = np.array([pose.translation for _, pose in pairs])
    there = np.array([pose.translation for pose, _ in pairs])
    fitted = fit_similarity(here, there)
    ate = float(np.sqrt(((fitted.apply(here) - there) ** 2).sum(1).mean()))
    turned = np.array([fitted.rotation @ pose.rotation for _, pose in pairs])
    return fitted, ate, float(np.median(angle_deg(turned, np.array([pose.rotation for pose, _ in pairs]))))


def rigid_truth_from_poses(poses: Mapping[str, Pose]) -> Similarity:
    """The rigid motion that brings the camera positions to the true ones; a wrong scale is left in."""
    fitted = truth_from_poses(poses)[0]
    centres = np.array([pose.translation for pose in poses.values()])
    turned = Similarity(1.0, fitted.rotation, np.zeros(3))
    return Similarity(1.0, fitted.rotation, (fitted.apply(centres) - turned.apply(centres)).mean(0))


def compare_with_truth(bundle: Bundle, tolerances: tuple[float, ...] = (0.02, 0.05)) -> TruthFigures:
    """Measure a bundle of the hall; its mesh is compared at the bundle's own scale, so scale errors show."""
    poses = {c.name: c.world_from_camera for c in bundle.cameras}
    fitted, ate, rotation = truth_from_poses(poses)
    mesh = bundle.mesh().transformed(rigid_truth_from_poses(poses))
    scores = f_scores(mesh, truth_mesh(), truth_maps(), tolerances, np.random.default_rng(0))
    z_angle = float(np.rad2deg(np.arccos(np.clip(fitted.rotation[2, 2], -1, 1))))
    return TruthFigures(
        len(bundle.cameras),
        ate,
        rotation,
        abs(1 / fitted.scale - 1),
        z_angle,
        {score.threshold: score.f for score in scores},
        {score.threshold: score.precision for score in scores},
        {score.threshold: score.recall for score in scores},
    )


def truth_maps() -> list[DepthMap]:
    """Exact depth of every frame of the sample."""
    cameras = truth_cameras()
    return exact_maps({stamp: (cameras[stamp], pose) for stamp, pose in truth_poses().items()})


def exact_maps(views: Mapping[str, tuple[Camera, Pose]]) -> list[DepthMap]:
    """Exact depth of views of the hall up to 5 m at a quarter of the photos' size: what the cameras saw."""
    caster, maps = RayCaster(truth_mesh()), []
    for name, (full, pose) in views.items():
        camera = full.resized(full.width // 4, full.height // 4)
        depth = cast_depth(caster, camera, pose)
        depth[depth > 5] = 0
        shape = depth.shape
        nothing = np.zeros(shape, np.float32)
        maps.append(DepthMap(name, False, camera, pose, depth, nothing, np.zeros((*shape, 3), np.float32), nothing > 0))
    return maps
