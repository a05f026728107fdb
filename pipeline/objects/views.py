"""What the capture's views saw of a mesh: what they look through, what they see, and which Gaussians show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pipeline.geometry import Camera, Gaussians, Mesh, Pose
from pipeline.geometry.jit import njit, prange
from pipeline.geometry.rays import RayCaster
from pipeline.raster import Raster, blending_weights, grey, rasterize
from pipeline.types import F32, F64, I64, Mask

SEEN_BEHIND = 0.08
"""A view looks through a cell whose middle is this much nearer than what it sees there [m]."""
MAX_VIEWS, WIDTH, WEIGHED = 60, 160, 20
"""Views that are asked, the longest side of their depth images [px], and in how many Gaussians are weighed."""
ON_IT = 0.05
"""A body is seen where the mesh is not nearer than it by more than this [m]."""


class Views:
    """What the capture's views saw of a mesh: its depth from up to 60 of them."""

    def __init__(self, mesh: Mesh, cameras: Sequence[tuple[Camera, Pose]]) -> None:
        step = -(-len(cameras) // MAX_VIEWS) or 1
        caster = RayCaster(mesh)
        self._views = []
        for camera, pose in cameras[::step]:
            small = camera.within(WIDTH)
            self._views.append((small, pose, caster.depth(small, pose)))
        height, width = (max((depth.shape[axis] for *_, depth in self._views), default=1) for axis in (0, 1))
        self._depth: F32 = np.zeros((len(self._views), height, width), np.float32)
        for number, (*_, depth) in enumerate(self._views):
            rows, columns = depth.shape
            self._depth[number, :rows, :columns] = depth
        self._camera_from_world = np.array([pose.inverse().matrix[:3] for _, pose, _ in self._views]).reshape(-1, 3, 4)
        lenses = [(c.fx, c.fy, c.cx, c.cy, c.width, c.height) for c, *_ in self._views]
        self._lenses = np.array(lenses, np.float64).reshape(-1, 6)

    def look_through(self, points: F64, margin: float = SEEN_BEHIND) -> I64:
        """How many views look through points (N, 3) at what lies behind by more than a margin [m]."""
        return self._count(points, margin, 0.0)

    def see(self, points: F64, margin: float) -> I64:
        """How many views see points (N, 3): no surface lies before them by more than a margin [m]."""
        return self._count(points, -margin, np.inf)

    def _count(self, points: F64, margin: float, nothing: float) -> I64:
        return _count_views(points, self._camera_from_world, self._lenses, self._depth, margin, nothing)

    def shares(self, gaussians: Gaussians, surface: Mesh) -> F64:
        """Which share of what each Gaussian (N,) shows in the views it shows where a body's surface is seen."""
        caster, seen = RayCaster(surface), list[tuple[int, Camera, Pose, Mask]]()
        for camera, pose, depth in self._views:
            own = caster.depth(camera, pose)
            mask = (own > 0) & ((depth == 0) | (own < depth + ON_IT))
            seen.append((int(mask.sum()), camera, pose, mask))
        plain, inside, total = grey(gaussians), np.zeros(len(gaussians)), np.full(len(gaussians), 1e-3)
        for count, camera, pose, mask in sorted(seen, key=lambda one: -one[0])[:WEIGHED]:
            if count:
                raster = _raster(plain, camera, pose)
                inside += blending_weights(raster, plain, mask)
                total += blending_weights(raster, plain, np.ones(mask.shape, bool))
        return inside / total

    def weights(self, gaussians: Gaussians) -> F64:
        """How many pixels each Gaussian (N,) shows in all views together."""
        plain, total = grey(gaussians), np.zeros(len(gaussians))
        for camera, pose, depth in self._views:
            total += blending_weights(_raster(plain, camera, pose), plain, np.ones(depth.shape, bool))
        return total

    def hidden_by(self, mesh: Mesh, points: F64, scene: RayCaster) -> Mask:
        """Which points (N, 3) lie behind a surface in some view, and before the rest of the scene."""
        caster, hidden = RayCaster(mesh), np.zeros(len(points), bool)
        for camera, pose, _ in self._views:
            asked = np.flatnonzero(_in_image(camera, pose, points) & ~hidden)
            eyes, rays = np.broadcast_to(pose.translation, (len(asked), 3)), points[asked] - pose.translation
            before = np.flatnonzero(caster.cast(eyes, rays).distance < 1)
            away = np.linalg.norm(rays[before], axis=1)
            free = scene.cast(eyes[before], rays[before]).distance * away > away - ON_IT
            hidden[asked[before[free]]] = True
        return hidden


def _raster(gaussians: Gaussians, camera: Camera, world_from_camera: Pose) -> Raster:
    """What a view shows, without its distortion."""
    return rasterize(gaussians, replace(camera, distortion=(0.0, 0.0, 0.0, 0.0)), world_from_camera)


def _in_image(camera: Camera, world_from_camera: Pose, points: F64) -> Mask:
    """Whether points (N, 3) are in a view's image without its distortion."""
    local = world_from_camera.inverse().apply(points)
    z = np.maximum(local[:, 2], 1e-6)
    u, v = camera.fx * local[:, 0] / z + camera.cx, camera.fy * local[:, 1] / z + camera.cy
    return (local[:, 2] > 0) & (u >= 0) & (v >= 0) & (u < camera.width) & (v < camera.height)


@njit(parallel=True, cache=True, nogil=True, error_model="numpy")
def _count_views(points: F64, camera_from_world: F64, lenses: F64, depths: F32, margin: float, nothing: float) -> I64:
    """In how many views the depth at points (N, 3) is larger than theirs and a margin; none counts as `nothing` [m]."""
    counts = np.zeros(len(points), np.int64)
    for n in prange(len(points)):
        x, y, z = points[n]
        for view in range(len(lenses)):
            m, lens = camera_from_world[view], lenses[view]
            far = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3]
            if far <= 0:
                continue
            u = lens[0] * (m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3]) / far + lens[2]
            v = lens[1] * (m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3]) / far + lens[3]
            if not (u >= 0 and v >= 0 and u < lens[4] and v < lens[5]):
                continue
            behind = depths[view, int(v), int(u)]
            counts[n] += (behind if behind > 0 else nothing) > far + margin
    return counts
