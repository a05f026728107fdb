"""Coverage: how far from the camera track the splat's pictures can be trusted.

Away from the track there is no photo to compare with. What can be measured is whether splat and mesh, which
saw the same evidence but generalise differently, still agree on what is where: where they part, at least one is
wrong, and the picture shows the wrong thing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.check.views import MIN_ALPHA, cast_depth
from pipeline.geometry import Camera, Gaussians, Pose, matrix_from_rotvec
from pipeline.mesh.rays import RayCaster
from pipeline.poses.scene import View
from pipeline.progress import track
from pipeline.splat.raster import render

DISTANCES = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
"""How far the cameras are moved [m]."""

AGREEMENT = 0.8
"""Share of pixels that must agree for a distance to be trusted."""

TOLERANCE, RELATIVE_TOLERANCE = 0.05, 0.03
"""Splat and mesh agree within 5 cm or 3 % of the depth."""


@dataclass(frozen=True)
class Coverage:
    """Agreement of splat and mesh, by distance from the track.

    Attributes:
        trusted_distance: Largest tried distance up to which the pictures can be trusted [m]; 0 when none can.
        agreement: Distance [m] to share of pixels where splat and mesh agree.
    """

    trusted_distance: float
    agreement: dict[float, float]


def measure_coverage(
    splat: Gaussians, mesh: RayCaster, views: Sequence[View], rng: np.random.Generator, per_distance: int = 16
) -> Coverage:
    """Move cameras of the track sideways and turn them a little; compare the depths of splat and mesh."""
    agreement: dict[float, float] = {}
    camera = _small(views[0].camera)
    for distance in track(DISTANCES, "measuring coverage"):
        shares = []
        for _ in range(per_distance * 4):
            if len(shares) == per_distance:
                break
            view = views[int(rng.integers(len(views)))]
            pose = _moved(view.world_from_camera, distance, rng)
            if pose.translation[2] < 0.1 or not _reachable(mesh, view.world_from_camera, pose):
                continue
            mesh_depth = cast_depth(mesh, camera, pose)
            rendering = render(splat, camera, pose)
            splat_depth = np.where(rendering.alpha >= MIN_ALPHA, rendering.depth, 0)
            seen = mesh_depth > 0
            close = np.abs(splat_depth - mesh_depth) <= np.maximum(TOLERANCE, RELATIVE_TOLERANCE * mesh_depth)
            shares.append(float((close & seen).sum() / max(1, camera.width * camera.height)))
        if shares:
            agreement[distance] = round(float(np.mean(shares)), 4)
    trusted = 0.0
    for distance, share in agreement.items():
        if share < AGREEMENT:
            break
        trusted = distance
    return Coverage(trusted, agreement)


def _small(camera: Camera) -> Camera:
    factor = 160 / max(camera.width, camera.height)
    return camera.resized(round(camera.width * factor), round(camera.height * factor))


def _moved(pose: Pose, distance: float, rng: np.random.Generator) -> Pose:
    direction = rng.normal(size=3)
    turn = matrix_from_rotvec(np.array([0, 0, rng.uniform(-0.35, 0.35)]))
    return Pose(turn @ pose.rotation, pose.translation + distance * direction / np.linalg.norm(direction))


def _reachable(mesh: RayCaster, start: Pose, end: Pose) -> bool:
    """Whether nothing stands between the two places, with 15 cm to spare behind the second."""
    way = end.translation - start.translation
    length = float(np.linalg.norm(way))
    hit = mesh.cast(start.translation[None], (way / length)[None]).distance[0]
    return bool(hit > length + 0.15)
