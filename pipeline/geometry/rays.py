"""Rays against a mesh: first hits, stacks of hits, distances to the surface."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from pipeline.geometry import Camera, Mesh, Pose, bvh
from pipeline.parallel import map_in_order
from pipeline.types import F32, I64, Floats, Mask

NO_TRIANGLE = -1
SHARE = 8192
"""Rays or points that a thread takes at a time."""


@dataclass(frozen=True, eq=False)
class Hits:
    """First hits of rays."""

    distance: F32  # (N,) float32, in lengths of the direction; inf where nothing was hit
    triangle: I64  # (N,) int64, -1 where nothing was hit

    @property
    def hit(self) -> Mask:
        """Which rays hit something (N,)."""
        return self.triangle != NO_TRIANGLE


_TREES: WeakKeyDictionary[Mesh, bvh.Tree] = WeakKeyDictionary()  # of meshes in use: many ask one mesh


class RayCaster:
    """A mesh prepared for ray casting and distance queries; it's prepared once, however many are made of it.

    Attributes:
        tree: Of its triangles; None without any.
    """

    def __init__(self, mesh: Mesh) -> None:
        self.tree = _TREES.get(mesh)
        if self.tree is None and len(mesh.triangles):
            self.tree = _TREES[mesh] = bvh.build(mesh.corners())

    def cast(self, origins: Floats, directions: Floats) -> Hits:
        """First hits of rays from (N, 3) [m] along (N, 3) or one (3,) direction."""
        origins, directions = _rays(origins, directions)
        hits = Hits(np.full(len(origins), np.inf, np.float32), np.full(len(origins), NO_TRIANGLE))
        tree = self.tree
        if tree is not None:
            _share_out(
                lambda part: bvh.first_hits(
                    tree, origins[part], directions[part], hits.distance[part], hits.triangle[part]
                ),
                len(origins),
            )
        return hits

    def depth(self, camera: Camera, world_from_camera: Pose) -> F32:
        """The mesh's depth (H, W) along the camera's optical axis [m]; 0 where it sees no mesh."""
        directions = world_from_camera.rotate(camera.rays()).reshape(-1, 3)  # z = 1: the distance is the depth
        distance = self.cast(np.broadcast_to(world_from_camera.translation, directions.shape), directions).distance
        return np.where(np.isfinite(distance), distance, 0).reshape(camera.height, camera.width).astype(np.float32)

    def all_hits(self, origins: Floats, directions: Floats) -> tuple[I64, F32, I64]:
        """Every crossing of every ray: (ray index, distance, triangle), each (M,), sorted by ray, then distance."""
        origins, directions = _rays(origins, directions)
        ends, distance, triangle = np.zeros(len(origins), np.int64), np.zeros(0, np.float32), np.zeros(0, np.int64)
        if self.tree is not None and len(origins):
            bvh.crossings(self.tree, origins, directions, ends, distance, triangle)
            distance, triangle = np.zeros(ends[-1], np.float32), np.zeros(ends[-1], np.int64)
            bvh.crossings(self.tree, origins, directions, ends, distance, triangle)
        ray = np.repeat(np.arange(len(origins)), np.diff(ends, prepend=0))
        order = np.lexsort((triangle, distance, ray))
        return ray[order], distance[order], triangle[order]

    def distances(self, points: Floats) -> F32:
        """Unsigned distance (N,) [m] of points (N, 3) to the surface; inf from an empty mesh."""
        distance, tree = np.full(len(points), np.inf, np.float32), self.tree
        if tree is not None:
            places = np.array(points, np.float64, order="C")
            _share_out(lambda part: bvh.distances(tree, places[part], distance[part]), len(places))
        return distance


def _rays(origins: Floats, directions: Floats) -> tuple[F32, F32]:
    """Both (N, 3), writable: for what can't be written numba compiles everything once more."""
    start = np.require(origins, np.float32, ["C", "W"])
    along = np.broadcast_to(np.asarray(directions, np.float32), start.shape)
    return start, np.require(along, np.float32, ["C", "W"])


def _share_out(work: Callable[[slice], None], count: int) -> None:
    """Do the work on `count` rows, on all cores if they are many."""
    parts = [slice(start, start + SHARE) for start in range(0, count, SHARE)]
    for _ in map(work, parts) if len(parts) < 2 else map_in_order(work, parts):
        pass


def sample_surface(mesh: Mesh, count: int, rng: np.random.Generator) -> tuple[F32, I64]:
    """Points (count, 3) spread evenly over the surface's area, and their triangles (count,)."""
    if not len(mesh.triangles):
        return np.zeros((0, 3), np.float32), np.zeros(0, np.int64)
    share = np.cumsum(mesh.face_areas())
    positions = (np.arange(count) + rng.random(count)) / count * share[-1]  # stratified: less scatter than uniform
    triangle = np.minimum(np.searchsorted(share, positions, side="right"), len(share) - 1)
    root, second = np.sqrt(rng.random(count)), rng.random(count)
    weights = np.stack([1 - root, root * (1 - second), root * second], 1)
    return np.einsum("nk,nkc->nc", weights, mesh.corners()[triangle]).astype(np.float32), triangle
