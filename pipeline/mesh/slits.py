"""Closing slits in floors that are too narrow for any foot or wheel, on every level, marked as guessed.

Depth of stairs and of what stands on a floor ends a little before their edges, and leaves slits of some centimetres
along them. A hole that a foot may fall into stays: what decides is how wide it is across its rim.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Mesh
from pipeline.mesh.canonical import canonical
from pipeline.mesh.rays import RayCaster

WIDEST = 0.045  # [m] across; the feet of small legged robots and castors are about as wide
LEVEL = 0.7  # least z of a floor's normal
NEAREST = 0.004  # [m] beyond the rim: a surface there leaves no slit
STEP = 0.005  # [m] between the places beyond the rim that are looked at
OVERLAP = 0.008  # [m] by which a strip goes on below or into what it leads to
RISE, FALL = 0.03, 0.05  # [m] that the other side may lie higher or lower
HEIGHTS = (0.02, -0.005, -0.02, -0.04)  # [m] over the rim at which a wall or riser is looked for
SINK = 0.001  # [m] by which a strip ends under what it leads to


@dataclass(frozen=True)
class SlitReport:
    """What was closed.

    Attributes:
        edges: Of floors' rims, along slits.
        area: Of the strips [m^2].
    """

    edges: int
    area: float


def close_slits(mesh: Mesh) -> tuple[Mesh, SlitReport]:
    """The mesh with strips over slits up to 4.5 cm wide between a floor's rim and what lies beyond.

    Args:
        mesh: Oriented, neighbours share vertices [m, Z up].
    """
    edges, outward = _rims(mesh)
    if not len(edges):
        return mesh, SlitReport(0, 0.0)
    middles = mesh.vertices[edges].mean(1).astype(np.float64)
    width, height = _across(mesh, middles, outward)
    narrow = width <= WIDEST
    if not narrow.any():
        return mesh, SlitReport(0, 0.0)
    edges, outward, width, height = edges[narrow], outward[narrow], width[narrow], height[narrow]
    strips = _strips(mesh, edges, outward, width + OVERLAP, height)
    report = SlitReport(len(edges), float(strips.face_areas().sum()))
    return canonical(mesh.joined(strips)), report


def _rims(mesh: Mesh) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Edges (E, 2) of floors at which nothing goes on, and the horizontal directions (E, 3) away from the floor."""
    start = mesh.triangles.astype(np.int64)
    directed = np.stack([start, np.roll(start, -1, 1)], -1).reshape(-1, 2)
    count = len(mesh.vertices)
    keys = directed.min(1) * count + directed.max(1)
    _, inverse, used = np.unique(keys, return_inverse=True, return_counts=True)
    level = np.repeat(mesh.face_normals()[:, 2] > LEVEL, 3)
    edges = directed[(used[inverse] == 1) & level]
    along = (mesh.vertices[edges[:, 1]] - mesh.vertices[edges[:, 0]]).astype(np.float64)
    away = np.stack([along[:, 1], -along[:, 0], np.zeros(len(along))], -1)  # the floor lies to the left of its edges
    length = np.linalg.norm(away, axis=1)
    return edges[length > 0], away[length > 0] / length[length > 0, None]


def _across(
    mesh: Mesh, rims: NDArray[np.float64], outward: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How far (E,) it is from points (E, 3) on rims to what lies beyond, inf where no slit is; its height (E,) [m]."""
    caster, normals = RayCaster(mesh), mesh.face_normals()
    down, far = np.array([0, 0, -1.0]), WIDEST + STEP
    width, height = np.full(len(rims), np.inf), rims[:, 2].copy()
    for offset in HEIGHTS:
        hits = caster.cast(rims + [0, 0, offset] + NEAREST * outward, outward)
        distance = np.where(hits.hit, hits.distance + NEAREST, np.inf)
        width = np.minimum(width, distance)
    bridged = np.zeros(len(rims), bool)
    for distance in np.arange(NEAREST, far, STEP):
        hits = caster.cast(rims + [0, 0, RISE] + distance * outward, down)
        floor = hits.hit & (hits.distance < RISE + FALL) & (normals[hits.triangle, 2] > 0)
        if distance == NEAREST:
            width[floor] = np.nan  # nothing is open here
        found = floor & ~bridged & (distance < width)
        width[found], height[found] = distance, (rims[:, 2] + RISE - hits.distance)[found]
        bridged |= found
    return np.where(np.isnan(width), np.inf, width), height


def _strips(
    mesh: Mesh,
    edges: NDArray[np.int64],
    outward: NDArray[np.float64],
    width: NDArray[np.float64],
    height: NDArray[np.float64],
) -> Mesh:
    """A strip (two triangles an edge) from each edge outwards; neighbouring strips share their sides."""
    used, index = np.unique(edges, return_inverse=True)
    index = index.reshape(edges.shape)
    direction, reach = np.zeros((len(used), 3)), np.zeros(len(used))
    end = np.full(len(used), np.inf)
    for side in (0, 1):
        np.add.at(direction, index[:, side], outward)
        np.maximum.at(reach, index[:, side], width)
        np.minimum.at(end, index[:, side], height)
    direction /= np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-9)
    inner = mesh.vertices[used].astype(np.float64)
    outer = inner + reach[:, None] * direction
    outer[:, 2] = np.minimum(inner[:, 2], end) - SINK
    a, b = index.T
    c, d = b + len(used), a + len(used)
    triangles = np.concatenate([np.stack([a, d, c], 1), np.stack([a, c, b], 1)]).astype(np.int32)
    vertices = np.concatenate([inner, outer]).astype(np.float32)
    return Mesh(vertices, triangles, np.tile(mesh.colors[used], (2, 1)), np.ones(len(vertices), bool))
