"""What can be touched and isn't seen, and what is seen to carry and can't be touched."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from pipeline.audit.looking import CLEARLY, LENS, NEAR, Looks, whole
from pipeline.audit.patches import TURNS, VIEWS, numbered
from pipeline.geometry.rays import RayCaster
from pipeline.types import F32, F64, I64

CELL = 0.1
"""Edge of the cells that are counted [m]."""
OUTVOTED = 3
"""What so many times as many views look through as see it isn't there."""
LEVEL = 0.8
"""Least z of the normal of what carries."""
REACH = 2.0
"""Height over the floor up to which robots touch things [m]."""


@dataclass(frozen=True, eq=False)
class Piece:
    """A connected piece of such surface.

    Attributes:
        cells: (N, 3) middles of its cells [m].
        area: About so large [m^2].
        level: Share of it that faces up.
    """

    cells: F64
    area: float
    level: float

    @property
    def middle(self) -> F64:
        """(3,) [m]."""
        return self.cells.mean(0)


def find_phantoms(looks: Looks, floor: float) -> list[Piece]:
    """Parts of the collision mesh that views look through, the largest first."""
    there, through = looks.same, looks.samples(whole(looks.gaps < -CLEARLY))
    point, normal = (np.concatenate([getattr(one, name) for one in (there, through)]) for name in ("point", "normal"))
    view = np.concatenate([there.view, through.view])
    low = point[:, 2] < floor + REACH
    place = np.floor(point[low] / CELL).astype(np.int64)
    cell, first = numbered(place, np.round(normal[low] * TURNS).astype(np.int64))
    unseen = (np.arange(len(point)) >= len(there.view))[low]
    votes = [_views(cell[kind], view[low][kind], len(first)) for kind in (unseen, ~unseen)]
    chosen = (votes[0] >= VIEWS) & (votes[0] > OUTVOTED * votes[1])
    return _pieces(CELL * (place[first][chosen] + 0.5).astype(np.float64), normal[low][first][chosen, 2])


def find_missing(looks: Looks, floor: float) -> list[Piece]:
    """Level surface that views see and the collision mesh lacks, the largest first."""
    shown = whole(looks.touched - looks.seen > CLEARLY) & (looks.seen > 0) & (_seen_normals(looks) > LEVEL)
    view = np.nonzero(shown)[0]
    point = looks.eyes[view] + looks.directions[shown] * looks.seen[shown][:, None].astype(np.float64)
    low = point[:, 2] < floor + REACH
    place = np.floor(point[low] / CELL).astype(np.int64)
    cell, first = numbered(place)
    votes = _views(cell, view[low], len(first))
    middle = np.column_stack([np.bincount(cell, column) for column in point[low].T]) / np.bincount(cell)[:, None]
    chosen = votes >= VIEWS
    chosen[chosen] = RayCaster(looks.collision).distances(middle[chosen]) > NEAR
    middle, votes = middle[chosen], votes[chosen]
    kept = votes > OUTVOTED * _through(looks, middle)
    return _pieces(middle[kept], np.ones(int(kept.sum())))


def _views(cell: I64, view: I64, count: int) -> I64:
    """How many views (C,) show each cell."""
    return np.bincount(cell[numbered(cell, view)[1]], minlength=count)


def _seen_normals(looks: Looks) -> F32:
    """Z of the normals (V, H, W) of what is seen; 0 at borders."""
    points = looks.directions * looks.seen[..., None]
    across, down = (np.zeros_like(points) for _ in range(2))
    across[:, :, 1:-1] = points[:, :, 2:] - points[:, :, :-2]
    down[:, 1:-1] = points[:, 2:] - points[:, :-2]
    normal = np.cross(down, across)
    return normal[..., 2] / np.maximum(np.linalg.norm(normal, axis=-1), 1e-9)


def _through(looks: Looks, points: F64) -> I64:
    """How many views (N,) see something clearly behind points (N, 3)."""
    found = np.zeros(len(points), np.int64)
    for number, pose in enumerate(looks.poses):
        local = pose.inverse().apply(points)
        rows = np.flatnonzero(local[:, 2] > CLEARLY)
        pixels = np.floor(LENS.project(local[rows])).astype(np.int64)
        inside = np.asarray(((pixels >= 0) & (pixels < [LENS.width, LENS.height])).all(1))
        rows, (column, row) = rows[inside], pixels[inside].T
        found[rows] += looks.seen[number, row, column] > local[rows, 2] + 2 * CLEARLY
    return found


def _pieces(cells: F64, up: F64) -> list[Piece]:
    """Connected pieces of cells (N, 3) whose normals have z (N,), the largest first."""
    pairs = KDTree(cells).query_pairs(1.8 * CELL, output_type="ndarray") if len(cells) else np.zeros((0, 2), int)
    joined = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(cells),) * 2)
    label = connected_components(joined, directed=False)[1] if len(cells) else np.zeros(0, int)
    found = list[Piece]()
    for one in range(label.max(initial=-1) + 1):
        mine = label == one
        places = np.unique(cells[mine], axis=0)
        found.append(Piece(places, len(places) * CELL**2, float((up[mine] > LEVEL).mean())))
    return sorted(found, key=lambda piece: -piece.area)
