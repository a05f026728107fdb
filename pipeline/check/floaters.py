"""Floaters: mesh and Gaussians where the camera itself went, which must be free."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from pipeline.geometry import Gaussians, Mesh
from pipeline.mesh.path import camera_path
from pipeline.mesh.rays import sample_surface

RADIUS = 0.15  # [m] round the camera's path
SAMPLE_AREA = 1e-4  # [m^2] of mesh per sample
OPAQUE = 0.5


@dataclass(frozen=True)
class Floaters:
    """What lies in the tube round the camera's path.

    Attributes:
        path_length: Of the tube [m].
        triangles: Triangles that reach into it.
        area: Of mesh inside it [m^2].
        gaussians: Centres of Gaussians of opacity over 0.5 inside it.
        opacity: Sum of the opacities of all Gaussians inside it.
    """

    path_length: float
    triangles: int
    area: float
    gaussians: int
    opacity: float


def measure_floaters(
    mesh: Mesh | None, gaussians: Gaussians | None, track: NDArray[np.floating], radius: float = RADIUS
) -> Floaters:
    """Count what is nearer than `radius` [m] to the path of the camera centres (N, 3) in capture order [m, world]."""
    path, length = camera_path(track)
    tree = KDTree(path)
    triangles, area = 0, 0.0
    if mesh is not None and len(mesh.triangles):
        low, high = path.min(0) - radius, path.max(0) + radius
        corners = mesh.corners()
        touching = ((corners.max(1) >= low) & (corners.min(1) <= high)).all(1)
        near = mesh.with_faces(touching)
        count = int(np.clip(near.face_areas().sum() / SAMPLE_AREA, 1000, 2_000_000)) if touching.any() else 0
        points, owner = sample_surface(near, count, np.random.default_rng(0))
        inside = np.isfinite(tree.query(points, distance_upper_bound=radius)[0])
        centres = near.corners().mean(1)
        centred = np.isfinite(tree.query(centres, distance_upper_bound=radius)[0])
        triangles = len(np.union1d(owner[inside], np.flatnonzero(centred)))
        area = float(inside.sum() / max(count, 1) * near.face_areas().sum())
    opaque, opacity = 0, 0.0
    if gaussians is not None and len(gaussians):
        inside = np.isfinite(tree.query(gaussians.means, distance_upper_bound=radius)[0])
        alpha = 1 / (1 + np.exp(-gaussians.opacity_logits[inside].astype(np.float64)))
        opaque, opacity = int((alpha > OPAQUE).sum()), float(alpha.sum())
    return Floaters(length, triangles, area, opaque, opacity)
