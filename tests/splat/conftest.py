"""A small scene to train on, and gsplat without a GPU."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from pipeline.geometry import PointCloud
from pipeline.splat.views import TrainingView, depth_in_view, training_view
from tests.raster.conftest import gaussians  # noqa: F401 - a fixture
from tests.synthetic import CAMERA, Room, depth_maps, walk

TINY = CAMERA.resized(80, 60)


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
    monkeypatch.setattr(backend, "MIN_GAUSSIANS", 100)
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
