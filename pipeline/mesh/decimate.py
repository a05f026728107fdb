"""Fewer triangles for physics, and how far that moved the surface.

Source: M. Garland, P. Heckbert, Surface simplification using quadric error metrics, SIGGRAPH 1997; Open3D's
implementation.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

from pipeline.geometry import Mesh
from pipeline.mesh.canonical import canonical, to_open3d
from pipeline.mesh.rays import RayCaster, sample_surface

logger = logging.getLogger(__name__)

SAMPLES = 60_000
BOUNDARY_WEIGHT = 3.0  # borders of the floor must not creep in


@dataclass(frozen=True)
class DecimationError:
    """Distances between full and decimated surface, both directions together, at evenly spread samples.

    Attributes:
        median: [m].
        p99: [m].
        largest: [m].
    """

    median: float
    p99: float
    largest: float


def decimate(mesh: Mesh, triangles: int) -> Mesh:
    """The mesh with at most `triangles` triangles, orientation kept, colours and marks of the nearest vertices."""
    if len(mesh.triangles) <= triangles:
        return mesh
    source = to_open3d(mesh)
    reduced = source.simplify_quadric_decimation(triangles, boundary_weight=BOUNDARY_WEIGHT)
    vertices = np.asarray(reduced.vertices)
    nearest = KDTree(mesh.vertices).query(vertices, workers=-1)[1]
    result = Mesh(
        vertices.astype(np.float32),
        np.asarray(reduced.triangles).astype(np.int32),
        mesh.colors[nearest],
        mesh.guessed[nearest],
    )
    return canonical(result)


def decimation_error(full: Mesh, reduced: Mesh, rng: np.random.Generator) -> DecimationError:
    """How far the two surfaces lie apart [m]."""
    there, _ = sample_surface(full, SAMPLES, rng)
    back, _ = sample_surface(reduced, SAMPLES, rng)
    distances = np.concatenate([RayCaster(reduced).distances(there), RayCaster(full).distances(back)])
    median, p99 = np.percentile(distances, [50, 99])
    return DecimationError(float(median), float(p99), float(distances.max()))
