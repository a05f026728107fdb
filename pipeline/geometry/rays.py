"""Rays against a mesh (Embree through Open3D): first hits, stacks of hits, distances to the surface."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.geometry import Camera, Mesh, Pose
from pipeline.types import F32, I64, Floats, Mask

NO_TRIANGLE = -1


@dataclass(frozen=True, eq=False)
class Hits:
    """First hits of rays."""

    distance: F32  # (N,) float32, in lengths of the direction; inf where nothing was hit
    triangle: I64  # (N,) int64, -1 where nothing was hit

    @property
    def hit(self) -> Mask:
        """Which rays hit something (N,)."""
        return self.triangle != NO_TRIANGLE


class RayCaster:
    """A mesh prepared for ray casting and distance queries."""

    def __init__(self, mesh: Mesh) -> None:
        import open3d as o3d

        self._tensor = o3d.core.Tensor.from_numpy
        self._scene = o3d.t.geometry.RaycastingScene()
        self._empty = not len(mesh.triangles)
        if not self._empty:
            self._scene.add_triangles(
                self._tensor(np.ascontiguousarray(mesh.vertices, np.float32)),
                self._tensor(np.ascontiguousarray(mesh.triangles, np.uint32)),
            )

    def cast(self, origins: Floats, directions: Floats) -> Hits:
        """First hits of rays from (N, 3) [m] along (N, 3) or one (3,) direction."""
        rays = _rays(origins, directions)
        if self._empty or not len(rays):
            return Hits(np.full(len(rays), np.inf, np.float32), np.full(len(rays), NO_TRIANGLE))
        answer = self._scene.cast_rays(self._tensor(rays))
        distance, triangle = answer["t_hit"].numpy(), answer["primitive_ids"].numpy().astype(np.int64)
        triangle[~np.isfinite(distance)] = NO_TRIANGLE
        return Hits(distance, triangle)

    def depth(self, camera: Camera, world_from_camera: Pose) -> F32:
        """The mesh's depth (H, W) along the camera's optical axis [m]; 0 where it sees no mesh."""
        directions = world_from_camera.rotate(camera.rays()).reshape(-1, 3)  # z = 1: the distance is the depth
        distance = self.cast(np.broadcast_to(world_from_camera.translation, directions.shape), directions).distance
        return np.where(np.isfinite(distance), distance, 0).reshape(camera.height, camera.width).astype(np.float32)

    def all_hits(self, origins: Floats, directions: Floats) -> tuple[I64, F32, I64]:
        """Every crossing of every ray: (ray index, distance, triangle), each (M,), sorted by ray, then distance."""
        rays = _rays(origins, directions)
        if self._empty or not len(rays):
            return np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.int64)
        answer = self._scene.list_intersections(self._tensor(rays))
        ray, distance = answer["ray_ids"].numpy().astype(np.int64), answer["t_hit"].numpy()
        triangle = answer["primitive_ids"].numpy().astype(np.int64)
        order = np.lexsort((triangle, distance, ray))
        return ray[order], distance[order], triangle[order]

    def distances(self, points: Floats) -> F32:
        """Unsigned distance (N,) [m] of points (N, 3) to the surface; inf from an empty mesh."""
        if self._empty or not len(points):
            return np.full(len(points), np.inf, np.float32)
        # one thread: Open3D's parallel distance queries were seen to crash next to other OpenMP users
        answer = self._scene.compute_distance(self._tensor(np.ascontiguousarray(points, np.float32)), nthreads=1)
        return answer.numpy()


def _rays(origins: Floats, directions: Floats) -> F32:
    start = np.asarray(origins, np.float32)
    return np.concatenate([start, np.broadcast_to(np.asarray(directions, np.float32), start.shape)], -1)


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
