"""Bundles of the sample hall against its exact truth."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline import Bundle
from pipeline.geometry import Camera, Mesh, Pose, Similarity, angle_deg, fit_similarity
from pipeline.mesh.rays import RayCaster, sample_surface

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


def truth_from_bundle(bundle: Bundle) -> tuple[Similarity, float, float]:
    """The best similarity from camera positions, its ATE [m] and the median rotation error [deg]."""
    exact = truth_poses()
    pairs = [(exact[Path(c.name).stem], c.world_from_camera) for c in bundle.cameras]
    here = np.array([pose.translation for _, pose in pairs])
    there = np.array([pose.translation for pose, _ in pairs])
    fitted = fit_similarity(here, there)
    ate = float(np.sqrt(((fitted.apply(here) - there) ** 2).sum(1).mean()))
    turned = np.array([fitted.rotation @ pose.rotation for _, pose in pairs])
    return fitted, ate, float(np.median(angle_deg(turned, np.array([pose.rotation for pose, _ in pairs]))))


def compare_with_truth(bundle: Bundle, tolerances: tuple[float, ...] = (0.02, 0.05)) -> TruthFigures:
    """Measure a bundle of the hall; its mesh is compared at the bundle's own scale, so scale errors show."""
    fitted, ate, rotation = truth_from_bundle(bundle)
    rigid = Similarity(1.0, fitted.rotation, np.zeros(3))
    centres = np.array([c.world_from_camera.translation for c in bundle.cameras])
    rigid = Similarity(1.0, fitted.rotation, fitted.apply(centres).mean(0) - rigid.apply(centres).mean(0))
    mesh, exact = bundle.mesh().transformed(rigid), truth_mesh()
    rng = np.random.default_rng(0)
    built_points, _ = sample_surface(mesh, 100_000, rng)
    true_points, triangle = sample_surface(exact, 300_000, rng)
    seen = seen_by_cameras(true_points, exact.face_normals()[triangle], exact)
    to_truth, to_built = RayCaster(exact).distances(built_points), RayCaster(mesh).distances(true_points[seen])
    precision = {t: float((to_truth < t).mean()) for t in tolerances}
    recall = {t: float((to_built < t).mean()) for t in tolerances}
    z_angle = float(np.rad2deg(np.arccos(np.clip(fitted.rotation[2, 2], -1, 1))))
    f_score = {t: 2 * precision[t] * recall[t] / (precision[t] + recall[t]) for t in tolerances}
    return TruthFigures(
        len(bundle.cameras), ate, rotation, abs(1 / fitted.scale - 1), z_angle, f_score, precision, recall
    )


def seen_by_cameras(points: np.ndarray, normals: np.ndarray, mesh: Mesh, views: int = 2) -> np.ndarray:
    """Which points (N, 3) of the exact mesh lie in at least `views` pictures, unoccluded and nearer than 5 m."""
    caster, count = RayCaster(mesh), np.zeros(len(points), int)
    cameras = truth_cameras()
    for stamp, pose in truth_poses().items():
        camera = cameras[stamp]
        local = pose.inverse().apply(points)
        ahead = (local[:, 2] > 0.1) & (local[:, 2] < 5)
        pixel = np.full((len(points), 2), -1.0)
        pixel[ahead] = camera.project(local[ahead])
        inside = ahead & (pixel >= 0).all(1) & (pixel < [camera.width, camera.height]).all(1)
        towards = pose.translation - points
        inside &= np.einsum("nc,nc->n", normals, towards) > 0
        index = np.flatnonzero(inside)
        distance = np.linalg.norm(towards[index], axis=1)
        start = points[index] + 1e-3 * normals[index]
        hit = caster.cast(start, towards[index] / distance[:, None]).distance
        count[index] += hit > distance - 0.01
    return count >= views
