"""Compare bundles of scenes with exact ground truth, such as the sample hall, with that truth."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from benchmarks.f_score import f_scores
from pipeline import Bundle
from pipeline.depth.maps import DepthMap
from pipeline.geometry import Camera, Mesh, Pose, Similarity, angle_deg, fit_similarity
from pipeline.geometry.rays import RayCaster
from pipeline.types import U8

TRUTH = Path(__file__).resolve().parents[1] / "tests" / "data" / "hall_truth"


@dataclass(frozen=True, eq=False)
class TrueView:
    """A robot's view where no photo was taken.

    Attributes:
        name: Of the image.
        camera: Pinhole.
        world_from_camera: In the truth's world.
        image: (H, W, 3) uint8.
    """

    name: str
    camera: Camera
    world_from_camera: Pose
    image: U8


@dataclass(frozen=True, eq=False)
class Truth:
    """Ground truth of a capture; floor at z = 0 [m].

    Attributes:
        mesh: The surfaces.
        poses: World-from-camera of the photos by name without suffix.
        cameras: Of the photos by name without suffix.
        views: At robot height, off the walk.
        up: (3,) unit, against gravity; buildings lean a little.
    """

    mesh: Mesh
    poses: dict[str, Pose]
    cameras: dict[str, Camera]
    views: list[TrueView]
    up: Sequence[float] = (0.0, 0.0, 1.0)


@dataclass(frozen=True)
class TruthMetrics:
    """Errors of a bundle against the truth.

    Attributes:
        registered: Photos in the bundle.
        ate: Root mean square of camera positions after the best similarity [m].
        rotation_deg: Median rotation error after it [deg].
        scale_error: Relative, absolute value.
        gravity_error_deg: Angle between the bundle's z and the truth's up [deg].
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


def hall_truth() -> Truth:
    """Ground truth of the sample."""
    frames = json.loads((TRUTH / "off_track.json").read_text())["frames"]
    views = [
        TrueView(
            name,
            Camera.from_json(frame),
            Pose.from_matrix(frame["world_from_camera"]),
            np.asarray(cv2.imread(str(TRUTH / "off_track" / name), cv2.IMREAD_COLOR_RGB), np.uint8),
        )
        for name, frame in sorted(frames.items())
    ]
    return Truth(truth_mesh(), truth_poses(), truth_cameras(), views)


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


LOOKED_AT = 2.0
"""Distance of what cameras look at [m]."""


def truth_from_poses(
    poses: Mapping[str, Pose], exact: Mapping[str, Pose] | None = None
) -> tuple[Similarity, float, float]:
    """The best similarity from camera poses, the ATE of positions [m] and the median rotation error [deg].

    It brings cameras, and what is `LOOKED_AT` before them, nearest to the true ones. Positions alone tell of a small
    room's orientation no more than their errors allow: 6 mm within 2 m turned it by a third of a degree. The ATE is
    that after the best similarity of the positions alone, as everywhere.

    Args:
        poses: World-from-camera of the photos by name.
        exact: The true ones by name without suffix; None is the hall's.
    """
    exact = truth_poses() if exact is None else exact
    pairs = [(exact[Path(name).stem], pose) for name, pose in poses.items()]
    here = np.array([pose.translation for _, pose in pairs])
    there = np.array([pose.translation for pose, _ in pairs])
    by_positions = fit_similarity(here, there)
    ate = float(np.sqrt(((by_positions.apply(here) - there) ** 2).sum(1).mean()))
    a, b = here - here.mean(0), there - there.mean(0)
    found, true = (np.array([pair[k].rotation for pair in pairs]) for k in (1, 0))
    moment = by_positions.scale * b.T @ a + LOOKED_AT**2 * np.einsum("nij,nkj->ik", true, found)
    u, _, vt = np.linalg.svd(moment)
    rotation = u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt
    scale = float((b * (a @ rotation.T)).sum() / (a**2).sum())
    fitted = Similarity(scale, rotation, there.mean(0) - scale * rotation @ here.mean(0))
    return fitted, ate, float(np.median(angle_deg(rotation @ found, true)))


def rigid_truth_from_poses(poses: Mapping[str, Pose], exact: Mapping[str, Pose] | None = None) -> Similarity:
    """The rigid motion that aligns the cameras with the true ones; scale errors remain."""
    fitted = truth_from_poses(poses, exact)[0]
    centres = np.array([pose.translation for pose in poses.values()])
    turned = Similarity(1.0, fitted.rotation, np.zeros(3))
    return Similarity(1.0, fitted.rotation, (fitted.apply(centres) - turned.apply(centres)).mean(0))


def compare_with_truth(
    bundle: Bundle, tolerances: tuple[float, ...] = (0.02, 0.05), truth: Truth | None = None
) -> TruthMetrics:
    """Measure a bundle; its mesh is compared at the bundle's own scale, so scale errors show.

    Args:
        bundle: Bundle of the scene.
        tolerances: Of the F-scores [m].
        truth: None is the hall's.
    """
    truth = truth or hall_truth()
    poses = {c.name: c.world_from_camera for c in bundle.cameras}
    fitted, ate, rotation = truth_from_poses(poses, truth.poses)
    mesh = bundle.mesh().transformed(rigid_truth_from_poses(poses, truth.poses))
    seen = exact_maps({stamp: (truth.cameras[stamp], pose) for stamp, pose in truth.poses.items()}, truth.mesh)
    scores = f_scores(mesh, truth.mesh, seen, tolerances, np.random.default_rng(0))
    z_angle = float(np.rad2deg(np.arccos(np.clip(fitted.rotation[:, 2] @ truth.up, -1, 1))))
    return TruthMetrics(
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


def exact_maps(views: Mapping[str, tuple[Camera, Pose]], mesh: Mesh | None = None) -> list[DepthMap]:
    """Exact depth of views, of the hall without a mesh, up to 5 m, at a quarter of the photos' size."""
    caster, maps = RayCaster(truth_mesh() if mesh is None else mesh), []
    for name, (full, pose) in views.items():
        camera = full.resized(full.width // 4, full.height // 4)
        depth = caster.depth(camera, pose)
        depth[depth > 5] = 0
        shape = depth.shape
        nothing = np.zeros(shape, np.float32)
        maps.append(DepthMap(name, False, camera, pose, depth, nothing, np.zeros((*shape, 3), np.float32), nothing > 0))
    return maps


def known_length(truth: Truth) -> str:
    """A hand measurement: two pixels of one photo, 20 % in from its sides, and their true distance."""
    caster = RayCaster(truth.mesh)
    stamp, pose = sorted(truth.poses.items())[3]
    camera = truth.cameras[stamp]
    pixels = [(0.2 * camera.width, 0.7 * camera.height), (0.8 * camera.width, 0.72 * camera.height)]
    ends = []
    for pixel in pixels:
        ray = pose.rotate(camera.rays(pixel))
        ends.append(pose.translation + ray * caster.cast(pose.translation[None], ray[None]).distance[0])
    metres = float(((ends[0] - ends[1]) ** 2).sum() ** 0.5)
    (ua, va), (ub, vb) = pixels
    return f"{metres:.4f}@{stamp}.jpg:{ua:.0f},{va:.0f}:{ub:.0f},{vb:.0f}"
