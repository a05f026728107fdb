"""Pictures of meshes by ray casting: no window system, no graphics driver."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Camera, Mesh, Pose
from pipeline.mesh.rays import RayCaster

BACKGROUND = np.array([236.0, 239.0, 243.0])
GUESSED = np.array([230.0, 120.0, 30.0])
BACK_SIDE = np.array([190.0, 60.0, 90.0])
LIGHT = np.array([0.35, -0.25, 0.9]) / np.linalg.norm([0.35, -0.25, 0.9])


def shaded_view(mesh: Mesh, camera: Camera, world_from_camera: Pose, *, cull_back: bool = False) -> NDArray[np.uint8]:
    """A picture (H, W, 3) uint8 in the mesh's colours, shaded by slope.

    Guessed parts are tinted orange, back sides red. With `cull_back` surfaces seen from behind are left out, which
    opens a room to a view from above.
    """
    directions = world_from_camera.rotate(camera.rays()).reshape(-1, 3)
    origins = np.broadcast_to(world_from_camera.translation, directions.shape)
    caster, normals = RayCaster(mesh), mesh.face_normals()
    triangle = np.full(len(directions), -1)
    distance = np.full(len(directions), np.inf)
    if cull_back:
        ray, far, hit = caster.all_hits(origins, directions)
        front = np.einsum("nc,nc->n", normals[hit], directions[ray]) < 0
        ray, far, hit = ray[front], far[front], hit[front]
        rays, first = np.unique(ray, return_index=True)
        triangle[rays], distance[rays] = hit[first], far[first]
    else:
        hits = caster.cast(origins, directions)
        triangle, distance = hits.triangle, hits.distance.astype(np.float64)
    picture = np.broadcast_to(BACKGROUND, (len(directions), 3)).copy()
    seen = triangle >= 0
    faces, corners = triangle[seen], mesh.triangles[triangle[seen]]
    points = origins[seen] + directions[seen] * distance[seen, None]
    weights = _barycentric(points, mesh.corners()[faces].astype(np.float64))
    color = np.einsum("nk,nkc->nc", weights, mesh.colors[corners].astype(np.float64))
    guessed = np.einsum("nk,nk->n", weights, mesh.guessed[corners].astype(np.float64))[:, None]
    color = color * (1 - 0.6 * guessed) + GUESSED * 0.6 * guessed
    behind = np.einsum("nc,nc->n", normals[faces], directions[seen]) > 0
    color = np.where(behind[:, None], 0.5 * color + 0.5 * BACK_SIDE, color)
    shade = 0.55 + 0.45 * np.abs(normals[faces] @ LIGHT)
    picture[seen] = color * shade[:, None]
    return np.clip(picture, 0, 255).round().astype(np.uint8).reshape(camera.height, camera.width, 3)


def overview_pose(mesh: Mesh, camera: Camera, azimuth_deg: float, elevation_deg: float) -> Pose:
    """World from camera of a camera that sees the whole mesh from that side; x is azimuth 0."""
    low, high = np.percentile(mesh.vertices, [1, 99], axis=0).astype(np.float64)
    centre, radius = (low + high) / 2, float(np.linalg.norm(high - low)) / 2
    azimuth, elevation = np.deg2rad(azimuth_deg), np.deg2rad(elevation_deg)
    outward = np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
    half_angle = np.arctan(min(camera.width / camera.fx, camera.height / camera.fy) / 2)
    forward = -outward
    right = np.array([-np.sin(azimuth), np.cos(azimuth), 0.0])
    down = np.cross(forward, right)
    return Pose(np.stack([right, down, forward], 1), centre + outward * radius / np.sin(half_angle))


def _barycentric(points: NDArray[np.float64], corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights (N, 3) of points (N, 3) in their triangles (N, 3, 3)."""
    a, b, c = np.moveaxis(corners, 1, 0)
    normal = np.cross(b - a, c - a)
    area = np.maximum(np.einsum("nc,nc->n", normal, normal), 1e-30)
    second = np.einsum("nc,nc->n", np.cross(points - a, c - a), normal) / area
    third = np.einsum("nc,nc->n", np.cross(b - a, points - a), normal) / area
    weights = np.clip(np.stack([1 - second - third, second, third], 1), 0, 1)
    return weights / weights.sum(1, keepdims=True)
