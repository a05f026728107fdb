"""Two rounds through a furnished hall, about 60 m, with exact depth and what images of it would match."""

from __future__ import annotations

import numpy as np

from pipeline.geometry import Camera, Pose
from tests.fakes.simulated_network import Truth
from tests.synthetic import box_faces, look_at

CAMERA = Camera(130, 98, 110, 110, 65, 49)
SIZE = np.array([14.0, 9.0, 3.0])
NEAR = 20
"""Images that follow one another so closely are matched."""


def long_walk(count: int) -> tuple[Truth, dict[tuple[int, int], int]]:
    """Truth of `count` images, and verified matches of their pairs by index."""
    import open3d as o3d

    scene = _hall()
    poses, depths = [], []
    for angle in np.linspace(0, 4 * np.pi, count):
        eye = np.array([7 + 5.6 * np.cos(angle), 4.5 + 3.6 * np.sin(angle), 1.5 + 0.05 * np.sin(5 * angle)])
        ahead = eye + 6 * np.array([-np.sin(angle), np.cos(angle), -0.05]) + 1.5 * np.array([np.cos(angle), 0, 0])
        poses.append(look_at(eye, ahead))
        directions = poses[-1].rotate(CAMERA.rays())
        rays = np.concatenate([np.broadcast_to(eye, directions.shape), directions], -1).astype(np.float32)
        depths.append(scene.cast_rays(o3d.core.Tensor(rays), nthreads=1)["t_hit"].numpy())
    return Truth(CAMERA, poses, depths), _matches(poses, depths)


def path_length(poses: list[Pose]) -> float:
    """The way from pose to pose [m]."""
    return float(np.linalg.norm(np.diff([pose.translation for pose in poses], axis=0), axis=1).sum())


def _hall():
    import open3d as o3d

    rng = np.random.default_rng(3)
    parts = [box_faces(np.zeros(3), SIZE, inward=True)]
    for _ in range(80):
        low = np.array([rng.uniform(0.3, 13), rng.uniform(0.3, 8), 0])
        size = np.array([rng.uniform(0.2, 0.9), rng.uniform(0.2, 0.9), rng.uniform(0.3, 1.8)])
        x, y = (low + size / 2 - [7, 4.5, 0])[:2] / [5.6, 3.6]
        if not 0.75 < np.hypot(x, y) < 1.25:  # not in the way
            parts.append(box_faces(low, low + size))
    offsets = np.cumsum([0] + [len(vertices) for vertices, _ in parts[:-1]])
    triangles = np.concatenate([faces + start for (_, faces), start in zip(parts, offsets, strict=True)])
    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(np.concatenate([v for v, _ in parts]).astype(np.float32), triangles.astype(np.uint32))
    return scene


def _matches(poses: list[Pose], depths: list[np.ndarray]) -> dict[tuple[int, int], int]:
    """In proportion to the surface that both see; of the same place seen again only from close by."""
    cells = (slice(6, None, 14), slice(6, None, 14))
    rays = CAMERA.rays()[cells].reshape(-1, 3)
    points = [pose.apply(rays * depth[cells].reshape(-1, 1)) for pose, depth in zip(poses, depths, strict=True)]
    result = {}
    for i in range(len(poses)):
        for j in range(i + 1, len(poses)):
            if j - i > NEAR and np.linalg.norm(poses[i].translation - poses[j].translation) > 1:
                continue
            local = poses[j].inverse().apply(points[i])
            ahead = local[:, 2] > 0.1
            column, row = np.floor(CAMERA.project(np.where(ahead[:, None], local, 1.0))).astype(int).T
            inside = ahead & (column >= 0) & (row >= 0) & (column < CAMERA.width) & (row < CAMERA.height)
            inside[inside] = np.abs(depths[j][row[inside], column[inside]] / local[inside, 2] - 1) < 0.05
            result[i, j] = int(300 * inside.mean())
    return result
