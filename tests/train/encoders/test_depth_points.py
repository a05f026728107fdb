"""Points and voxels of what a camera of colours and depth measures."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.errors import TrainError
from pipeline.geometry import Camera, Pose, matrix_from_rotvec
from sim.sensors.cameras.settings import RobotCamera
from train.encoders.depth_points import CELLS, DepthPoints, DepthVoxels, VoxelCNN
from train.encoders.gaussians import COLOR, OPACITY, POSITION

LENS = Camera(16, 12, 14.0, 13.0, 8.5, 5.25)
AHEAD = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
MOUNT = Pose(AHEAD @ matrix_from_rotvec(np.array([0.3, -0.2, 0.4])), np.array([0.2, -0.1, 0.35]))
"""Link from camera, which looks ahead, askew."""


def rig(lens: Any = LENS, name: str = "") -> Any:
    """A camera on a link."""
    return SimpleNamespace(camera=RobotCamera(lens, name=name), mount=MOUNT)


def seen(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Two robots' images, the second one's depth unknown on the left."""
    depth = rng.uniform(0.3, 3, (2, 12, 16)).astype(np.float32)
    depth[1, :, :8] = 0
    return {"rgb": rng.integers(0, 255, (2, 12, 16, 3), dtype=np.uint8), "depth": depth}


def points_one_by_one(images: dict[str, np.ndarray], robot: int, spacing: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Position in the link's frame and colour of each pixel that is read and has a depth."""
    found = []
    for row in range(spacing // 2, 12, spacing):
        for column in range(spacing // 2, 16, spacing):
            if depth := float(images["depth"][robot, row, column]):
                x, y = (column + 0.5 - 8.5) / 14, (row + 0.5 - 5.25) / 13
                at = MOUNT.matrix @ np.array([x * depth, y * depth, depth, 1])
                found.append((at[:3], images["rgb"][robot, row, column] / 255))
    return found


def test_points_lie_where_they_are_seen():
    """In the frame of the link that carries the camera; what has no depth is no point."""
    images = seen(np.random.default_rng(1))
    tokens = DepthPoints([rig()]).read(SimpleNamespace(), images).numpy()  # type: ignore[arg-type]
    assert tokens.shape == (2, 1, 12, 13)
    for robot in range(2):
        known = tokens[robot, 0, :, 12] > 0
        expected = points_one_by_one(images, robot, 4)
        np.testing.assert_allclose(tokens[robot, 0][known][:, POSITION], [at for at, _ in expected], atol=1e-5)
        np.testing.assert_allclose(tokens[robot, 0][known][:, COLOR], [color for _, color in expected], atol=1e-6)
        assert (tokens[robot, 0][known][:, OPACITY] == 1).all()
        assert (tokens[robot, 0][~known] == 0).all()
    assert len(points_one_by_one(images, 1, 4)) == 6


def test_voxels_are_those_that_points_lie_in():
    """With their mean colour; counted one by one."""
    images = seen(np.random.default_rng(2))
    edge = 0.25
    grid = DepthVoxels([rig()], edge).read(SimpleNamespace(), images).numpy()  # type: ignore[arg-type]
    assert grid.shape == (2, 1, 4, *CELLS)
    for robot in range(2):
        inside: dict[tuple[int, ...], list[np.ndarray]] = {}
        for at, color in points_one_by_one(images, robot, 2):
            cell = tuple(np.floor(at / edge + np.array([0.5, 8, 4])).astype(int).tolist())
            if all(0 <= index < size for index, size in zip(cell, CELLS, strict=True)):
                inside.setdefault(cell, []).append(color)
        assert len(inside) > 5
        expected = np.zeros((4, *CELLS))
        for cell, colors in inside.items():
            expected[(slice(None), *cell)] = 1, *np.mean(colors, 0)
        np.testing.assert_allclose(grid[robot, 0], expected, atol=1e-6)


def test_cameras_are_read_one_by_one():
    """Each by its name."""
    first, other = seen(np.random.default_rng(3)), seen(np.random.default_rng(4))
    images = {f"third_{name}": of for name, of in first.items()} | {f"wrist_{name}": of for name, of in other.items()}
    both = DepthPoints([rig(name="third"), rig(name="wrist")]).read(SimpleNamespace(), images)  # type: ignore[arg-type]
    for number, alone in enumerate((first, other)):
        assert torch.equal(both[:, number], DepthPoints([rig()]).read(SimpleNamespace(), alone)[:, 0])  # type: ignore[arg-type]


def test_a_distorted_lens_is_refused():
    """Its rays are bent."""
    with pytest.raises(TrainError, match="pinhole"):
        DepthPoints([rig(Camera(16, 12, 14.0, 13.0, 8.5, 5.25, distortion=(0.1, 0, 0, 0)))])


def test_the_network_has_the_size_it_says():
    """For one camera and for two, and learns."""
    for cameras in (1, 2):
        network = VoxelCNN((cameras, 4, *CELLS))
        out = network(torch.rand(3, cameras, 4, *CELLS))
        assert out.shape == (3, network.size)
        out.sum().backward()
        assert all(weight.grad is not None and weight.grad.abs().max() > 0 for weight in network.parameters())
