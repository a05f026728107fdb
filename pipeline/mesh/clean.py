"""Cleaning: what cameras looked or went through goes, islands go, every face turns towards the cameras."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from pipeline.geometry import Mesh
from pipeline.mesh.canonical import canonical
from pipeline.mesh.topology import triangle_components
from pipeline.mesh.visibility import Evidence

MIN_SEEN_THROUGH = 3
SEEN_THROUGH_RATIO = 2.0
FEW_TRIANGLES = 20_000
CAMERA_ROOM = 4.0  # [voxels] round the cameras' path that are free: they were there


@dataclass(frozen=True)
class CleanReport:
    """What was removed or turned.

    Attributes:
        carved_triangles: In free space: at least 3 maps, and twice as many as support them, see through them, or a
            camera passed.
        islands: Components of less than the least volume.
        island_triangles: Their triangles.
        flipped_triangles: Turned towards the cameras.
    """

    carved_triangles: int
    islands: int
    island_triangles: int
    flipped_triangles: int


def clean(
    mesh: Mesh, evidence: Evidence, path: NDArray[np.floating], voxel_size: float, island_volume: float
) -> tuple[Mesh, CleanReport]:
    """The cleaned mesh in canonical order.

    Args:
        mesh: [m, world frame].
        evidence: What the maps say of each triangle's centre and normal.
        path: Points (N, 3) where a camera was [m].
        voxel_size: [m].
        island_volume: Components of less volume are removed [m^3].
    """
    turned, flipped = facing_cameras(mesh, evidence.facing)
    room = KDTree(path).query(mesh.corners().mean(1), distance_upper_bound=CAMERA_ROOM * voxel_size, workers=-1)[0]
    carved = in_free_space(evidence) | np.isfinite(room)
    kept = turned.with_faces(~carved)
    small, islands = small_islands(kept, island_volume, voxel_size)
    report = CleanReport(int(carved.sum()), islands, int(small.sum()), flipped)
    return canonical(kept.with_faces(~small)), report


def in_free_space(evidence: Evidence) -> NDArray[np.bool_]:
    """Triangles (F,) that the cameras looked through."""
    through = evidence.seen_through
    return (through >= MIN_SEEN_THROUGH) & (through > SEEN_THROUGH_RATIO * evidence.seen)


def small_islands(mesh: Mesh, least_volume: float, voxel_size: float) -> tuple[NDArray[np.bool_], int]:
    """Triangles (F,) of components smaller than `least_volume` [m^3], and how many such components there are.

    The volume is that of the box along the component's principal axes, whose sides are at least a voxel [m]: flakes
    have next to none, whatever their area.
    """
    labels = triangle_components(mesh.triangles)
    few = np.bincount(labels) < FEW_TRIANGLES  # larger ones need no box
    number = np.cumsum(few) - 1
    if not few.any():
        return np.zeros(len(labels), bool), 0
    members = np.flatnonzero(few[labels])
    order = members[np.argsort(labels[members], kind="stable")]
    owner = np.repeat(number[labels[order]], 3)
    first = np.searchsorted(owner, np.arange(few.sum()))
    points = mesh.corners()[order].reshape(-1, 3).astype(np.float64)
    count = np.diff(first, append=len(points))
    local = points - (np.add.reduceat(points, first) / count[:, None])[owner]
    axes = np.linalg.eigh(np.add.reduceat(local[:, :, None] * local[:, None, :], first))[1]
    along = np.einsum("nc,ncd->nd", local, axes[owner])
    sides = np.maximum.reduceat(along, first) - np.minimum.reduceat(along, first)
    small = np.zeros(len(few), bool)
    small[few] = np.maximum(sides, voxel_size).prod(1) < least_volume
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
