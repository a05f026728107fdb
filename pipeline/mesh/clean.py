"""Cleaning: what the cameras looked through goes, islands go, every face turns towards the cameras."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Mesh
from pipeline.mesh.canonical import canonical
from pipeline.mesh.topology import triangle_components
from pipeline.mesh.visibility import Evidence

MIN_SEEN_THROUGH = 3
SEEN_THROUGH_RATIO = 2.0


@dataclass(frozen=True)
class CleanReport:
    """What was removed or turned.

    Attributes:
        carved_triangles: In free space: at least 3 maps, and twice as many as support them, see through them.
        islands: Components of less than the least area.
        island_triangles: Their triangles.
        flipped_triangles: Turned towards the cameras.
    """

    carved_triangles: int
    islands: int
    island_triangles: int
    flipped_triangles: int


def clean(mesh: Mesh, evidence: Evidence, island_area: float) -> tuple[Mesh, CleanReport]:
    """The cleaned mesh in canonical order.

    Args:
        mesh: [m, world frame].
        evidence: What the maps say of each triangle's centre and normal.
        island_area: Components of less area are removed [m^2].
    """
    turned, flipped = facing_cameras(mesh, evidence.facing)
    carved = in_free_space(evidence)
    kept = turned.with_faces(~carved)
    small, islands = small_islands(kept, island_area)
    report = CleanReport(int(carved.sum()), islands, int(small.sum()), flipped)
    return canonical(kept.with_faces(~small)), report


def in_free_space(evidence: Evidence) -> NDArray[np.bool_]:
    """Triangles (F,) that the cameras looked through."""
    through = evidence.seen_through
    return (through >= MIN_SEEN_THROUGH) & (through > SEEN_THROUGH_RATIO * evidence.seen)


def small_islands(mesh: Mesh, least_area: float) -> tuple[NDArray[np.bool_], int]:
    """Triangles (F,) of components smaller than `least_area` [m^2], and how many such components there are."""
    if not len(mesh.triangles):
        return np.zeros(0, bool), 0
    labels = triangle_components(mesh.triangles)
    small = np.bincount(labels, mesh.face_areas()) < least_area
    return small[labels], int(small.sum())


def facing_cameras(mesh: Mesh, facing: NDArray[np.int32]) -> tuple[Mesh, int]:
    """Turn patches of one winding whose votes (F,) say that cameras saw their back; also says how many triangles.

    Patches vote as a whole: single triangles of a noisy surface may look away from every camera.
    """
    if not len(mesh.triangles):
        return mesh, 0
    labels = triangle_components(mesh.triangles, same_winding=True)
    flip = (np.bincount(labels, facing) < 0)[labels]
    triangles = np.where(flip[:, None], mesh.triangles[:, ::-1], mesh.triangles)
    return replace(mesh, triangles=np.ascontiguousarray(triangles, np.int32)), int(flip.sum())
