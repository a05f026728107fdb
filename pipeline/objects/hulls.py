"""Closed bodies as convex pieces, which physics engines take."""

from __future__ import annotations

import numpy as np
from scipy.spatial import ConvexHull

from pipeline.geometry import Mesh
from pipeline.geometry.convex import extreme_points
from pipeline.geometry.rays import RayCaster, sample_surface
from pipeline.scenes.objects import MAX_CORNERS, MAX_HULLS
from pipeline.types import F64

CLOSE, SHARE, SAMPLES = 0.01, 0.95, 4000
"""A body is one hull where this share of the hull's samples is this near to its surface [m]."""
DIRECTIONS = (512, 256, 128, MAX_CORNERS)
"""In how many directions corners are looked for: as many as give no more than may be."""
DETAIL = 0.03
"""Concavity that pieces may have left [m]."""
RESOLUTION, ITERATIONS, NODES = 30, 60, 10
"""Effort of CoACD: seconds, not minutes."""


def hulls_of(mesh: Mesh) -> tuple[F64, ...]:
    """Corners (V, 3) of convex pieces that together are a watertight body, each of at most 64 corners.

    One hull where that is within a centimetre; else by X. Wei et al., Approximate convex decomposition for 3D meshes
    with collision-aware concavity and tree search, SIGGRAPH 2022.
    """
    vertices = mesh.vertices.astype(np.float64)
    whole = _corners(vertices)
    if _off(mesh, whole) < CLOSE:
        return (whole,)
    import coacd

    coacd.set_log_level("error")
    size = float(np.ptp(vertices, axis=0).max())
    pieces = coacd.run_coacd(
        coacd.Mesh(vertices, mesh.triangles),
        threshold=min(DETAIL / size, 1.0),
        max_convex_hull=MAX_HULLS,
        preprocess_resolution=RESOLUTION,
        mcts_iterations=ITERATIONS,
        mcts_nodes=NODES,
        max_ch_vertex=MAX_CORNERS,
        real_metric=False,
        seed=0,
    )
    return tuple(_corners(np.asarray(corners, np.float64)) for corners, _ in pieces) or (whole,)


def _corners(points: F64) -> F64:
    """At most 64 corners (V, 3) of the hull of points (N, 3)."""
    return next(few for count in DIRECTIONS if len(few := extreme_points(points, count)) <= MAX_CORNERS)


def _off(mesh: Mesh, corners: F64) -> float:
    """How far most of the hull around corners (V, 3) is off a surface [m]."""
    hull = Mesh.from_arrays(corners, ConvexHull(corners).simplices)
    points, _ = sample_surface(hull, SAMPLES, np.random.default_rng(0))
    return float(np.quantile(RayCaster(mesh).distances(points), SHARE))
