"""Pieces of a scan that the other doesn't have: where its views look through them, and all that hangs together.

Surface is gone where the other scan's views look through it; what they didn't look at is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import label

from pipeline.changes.register import Scan, looked_through
from pipeline.changes.surfaces import Surface
from pipeline.geometry import Mesh, Pose
from pipeline.objects.find import LEAST_AREA
from pipeline.types import F64, Mask

SEED = 0
AWAY = 0.025
"""Surface as near to the other scan's has not moved [m]."""
EMPTY = 0.05
"""A view looks through what lies before its surface by more than this [m]."""
GAP = 0.06
"""Changed surface this near belongs together [m]."""
NARROWEST = 0.05
"""Least mean width of a piece, its area by its longest side [m]: two scans differ along the edges of what stays."""
MOST = 12
"""So many of the largest pieces of either scan are looked at."""
POINTS, FEWEST, FEW = 5000, 1000, 250
"""Most and fewest surface points of a piece in the last fit, and those in the first."""
SPACING = 0.014
"""Distance of these points [m], as far as there are as many."""
LAID = 0.02
"""What is as near to the other's surface lies on it [m]."""


@dataclass(frozen=True, eq=False)
class Piece:
    """Part of a scan that the other doesn't have.

    Attributes:
        triangles: (F,) of the scan's mesh.
        surface: Points on it, in the scan's frame.
        low: (3,) lowest corner of its bounds [m].
        high: (3,) highest.
        area: [m^2].
    """

    triangles: Mask
    surface: Surface
    low: F64
    high: F64
    area: float


def changed_triangles(own: Scan, other: Scan, other_from_own: Pose) -> Mask:
    """Which measured triangles (F,) of a scan the other's views look through."""
    mesh = own.mesh
    there, normals = other_from_own.apply(mesh.corners().mean(1)), other_from_own.rotate(mesh.face_normals())
    changed = ~mesh.face_guessed()
    changed[changed] = ~other.has(there[changed], normals[changed], AWAY)
    return looked_through(other, there, changed, EMPTY)


def pieces_of(own: Scan, other: Scan, other_from_own: Pose) -> list[Piece]:
    """Parts of a scan that the other's views look through, the largest first."""
    mesh, changed = own.mesh, changed_triangles(own, other, other_from_own)
    areas, rows = mesh.face_areas(), np.flatnonzero(changed)
    if not len(rows):
        return []
    of = clusters(mesh.corners()[rows].mean(1).astype(np.float64))
    sizes = np.bincount(of, areas[rows])
    found = list[Piece]()
    for number in np.argsort(-sizes, kind="stable")[:MOST]:
        if sizes[number] < LEAST_AREA:
            break
        mask = np.zeros(len(areas), bool)
        mask[rows[of == number]] = True
        piece = _piece(mesh, mask)
        if piece.area > NARROWEST * float((piece.high - piece.low).max()):
            found.append(piece)
    return found


def clusters(points: F64) -> np.ndarray:
    """Which of the groups of points (N, 3) each belongs to, of those that lie near each other."""
    cells = np.floor((points - points.min(0)) / GAP).astype(np.int64)
    filled = np.zeros(cells.max(0) + 1, bool)
    filled[tuple(cells.T)] = True
    numbers = np.asarray(label(filled, np.ones((3, 3, 3)))[0])  # type: ignore[index]
    return numbers[tuple(cells.T)] - 1


def _piece(mesh: Mesh, triangles: Mask) -> Piece:
    part = mesh.with_faces(triangles)
    area = float(part.face_areas().sum())
    count = int(np.clip(area / SPACING**2, FEWEST, POINTS))
    surface = Surface.of_mesh(part, count, np.random.default_rng(SEED))
    low, high = part.vertices.min(0).astype(np.float64), part.vertices.max(0).astype(np.float64)
    return Piece(triangles, surface, low, high, area)


def grown(own: Scan, other: Scan, other_from_own: Pose, moved: Pose, piece: Piece, spread: float) -> Piece:
    """A piece of a scan with what hangs together with it and lies, once `moved`, on the other scan's surface.

    What is there in the other scan as well has not moved; nor does it say anything if what it lies on then has not:
    floors lie on each other anywhere. Surface may miss the other's by a `spread` [m] aside: a motion that is off along
    it would never be put right.
    """
    mesh = own.mesh
    middle = mesh.corners().mean(1).astype(np.float64)
    near = np.flatnonzero(((middle > piece.low - GAP * 4) & (middle < piece.high + GAP * 4)).all(1) | piece.triangles)
    normals = mesh.face_normals()[near]
    stays = other.has(other_from_own.apply(middle[near]), other_from_own.rotate(normals), AWAY)
    lies = np.zeros(len(near), bool)
    across = np.stack([np.cross(normals, axis) for axis in np.eye(3)])
    for step in (np.zeros_like(normals), *(spread * across), *(-spread * across)):
        lies |= other.has(moved.apply(middle[near] + step), moved.rotate(normals), LAID)
    on_own = other_from_own.inverse() @ moved
    tells = ~own.has(on_own.apply(middle[near]), on_own.rotate(normals), AWAY)
    chosen = near[lies & tells & ~stays]
    # its other side may be hidden by now; but it is nothing of it that would be where nothing is
    kept = piece.triangles[near] & ~looked_through(other, moved.apply(middle[near]), ~lies, EMPTY)
    triangles = np.zeros(len(mesh.triangles), bool)
    triangles[chosen] = True
    triangles[near[kept]] = True
    rows = np.flatnonzero(triangles)
    if not len(rows):
        return piece
    of = clusters(middle[rows])
    belongs = np.isin(of, np.unique(of[piece.triangles[rows]]))
    whole = np.zeros(len(mesh.triangles), bool)
    whole[rows[belongs]] = True
    return _piece(mesh, whole)
