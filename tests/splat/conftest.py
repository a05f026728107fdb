"""Gaussians before a camera, small enough for the brute-force reference."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from pipeline.geometry import Camera, Gaussians, PointCloud, Pose, matrix_from_rotvec
from pipeline.splat.supervision import depth_in_view
from pipeline.splat.views import TrainingView, training_view
from tests.synthetic import CAMERA, Room, depth_maps, walk

TINY = CAMERA.resized(80, 60)
SMALL_CAMERA = Camera(40, 36, 45.0, 47.0, 19.2, 17.3)
SMALL_POSE = Pose(matrix_from_rotvec([0.2, -0.5, 0.3]), np.array([0.3, -0.2, -0.4]))


def scatter(count: int, rng: np.random.Generator, coefficients: int = 16, scale: float = 0.25) -> Gaussians:
    """Gaussians that `SMALL_CAMERA` at `SMALL_POSE` sees, 2 to 5 m away, some across the picture's border."""
    depth = rng.uniform(2, 5, count)
    slope = rng.uniform(-0.55, 0.55, (count, 2))
    means = SMALL_POSE.apply(np.concatenate([slope * depth[:, None], depth[:, None]], 1))
    sh = rng.normal(size=(count, coefficients, 3)) * 0.12
    sh[:, 0] = rng.uniform(-0.8, 1.5, (count, 3))
    return Gaussians(
        means.astype(np.float32),
        np.log(scale * rng.uniform(0.3, 1.5, (count, 3))).astype(np.float32),
        rng.normal(size=(count, 4)).astype(np.float32),
        rng.normal(0.3, 1.2, count).astype(np.float32),
        sh.astype(np.float32),
    )


@pytest.fixture
def gaussians(rng) -> Gaussians:
    """Sixty Gaussians of SH degree 3."""
    return scatter(60, rng)


@pytest.fixture
def gsplat_on_cpu(monkeypatch) -> Iterator[None]:
    """Gsplat without its CUDA kernels, for few Gaussians; one thread, since several cost more than they bring."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("gsplat")
    from pipeline.splat import gsplat as backend
    from tests.fakes.gsplat_on_cpu import kernels

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    kernels.install(monkeypatch.setattr)
    monkeypatch.setattr(backend, "DEVICE", "cpu")
    monkeypatch.setattr(backend, "LEAST", 100)
    yield
    torch.set_num_threads(threads)


def tiny_scene() -> tuple[list[TrainingView], PointCloud]:
    """Nine small views of the synthetic room with depth, and grey points of it; the same in every process."""
    room, poses, views, points, normals = Room.make(), walk(9), [], [], []
    for pose, depth_map in zip(poses, depth_maps(room, poses, TINY), strict=True):
        depth = depth_in_view(depth_map, TINY, pose)
        views.append(training_view(depth_map.name, room.render(TINY, pose)[0], TINY, pose, depth))
        points.append(depth_map.points()[::4, ::4].reshape(-1, 3))
        normals.append(pose.rotate(depth_map.normals[::4, ::4]).reshape(-1, 3))
    count = sum(map(len, points))
    return views, PointCloud(
        np.concatenate(points).astype(np.float32),
        np.concatenate(normals).astype(np.float32),
        np.full((count, 3), 128, np.uint8),
        np.full(count, 0.01, np.float32),
        np.full(count, 2, np.int32),
        np.zeros(count, bool),
    )
