"""What cameras of colours and depth measure, as points or voxels around the link that carries them; an encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from pipeline.errors import TrainError
from pipeline.geometry import Camera
from pipeline.types import F32, F64
from train.encoders.gaussians import COLOR, FEATURES, OPACITY, POSITION, SPREAD, USUAL_SPREAD
from train.encoders.groups import ObservationGroup
from train.settings.parts import PolicySettings

if TYPE_CHECKING:
    from sim.env import Observations, SceneEnv
    from sim.sensors.cameras.rig import CameraRig

POINT_SPACING, VOXEL_SPACING = 4, 2
"""Distance of the pixels that become points, and of those that fill voxels [px]."""
CELLS = (16, 16, 8)
"""Voxels ahead, to the left and up."""
EDGE, EDGE_AT_A_TABLE = 0.15, 0.05
"""Edge of a voxel [m], around a robot that goes somewhere and around one that stands."""


class _Pixels:
    """Pixels of a robot's cameras in the frames of the links that carry them, a point each.

    Raises:
        TrainError: When a lens is no pinhole.
    """

    def __init__(self, rigs: Sequence[CameraRig], spacing: int) -> None:
        self._spacing = spacing
        self._cameras = [(rig.camera.key("rgb"), rig.camera.key("depth"), *_placed(rig, spacing)) for rig in rigs]

    def read(self, seen: Observations) -> tuple[F32, F32, F32]:
        """Positions (N, C, T, 3) [m], colours (N, C, T, 3) 0..1, and where there is a depth (N, C, T) 0 or 1."""
        first = self._spacing // 2
        parts = []
        for colors, depths, rays, place in self._cameras:
            depth = seen[depths][:, first :: self._spacing, first :: self._spacing].reshape(len(seen[depths]), -1)
            color = seen[colors][:, first :: self._spacing, first :: self._spacing].reshape(*depth.shape, 3)
            parts.append((depth[..., None] * rays + place, color / np.float32(255), depth > 0))
        position, color, known = (np.stack(part, 1).astype(np.float32) for part in zip(*parts, strict=True))
        return position, color, known


def _placed(rig: CameraRig, spacing: int) -> tuple[F64, F64]:
    """Rays (T, 3) of pixels to a depth of 1 m, and the camera's position (3,) [m], in the link's frame."""
    lens = rig.camera.lens
    if not isinstance(lens, Camera) or not lens.is_pinhole:
        raise TrainError(
            "the encoders points and voxels see by pinholes",
            found=f"the lens of the camera {rig.camera.name!r} is distorted",
            remedy="use a pinhole, or policy.encoder: cnn",
        )
    rows, columns = (np.arange(spacing // 2, size, spacing) + 0.5 for size in (lens.height, lens.width))
    rays = lens.rays(np.stack(np.meshgrid(columns, rows), -1).reshape(-1, 2))
    return rays @ rig.mount.matrix[:3, :3].T, rig.mount.matrix[:3, 3]


class DepthPoints(ObservationGroup):
    """Observation group: points as tokens of the form of `train.encoders.gaussians`, alike in spread and opacity."""

    name = "points"

    def __init__(self, rigs: Sequence[CameraRig]) -> None:
        self._pixels = _Pixels(rigs, POINT_SPACING)

    def read(self, env: SceneEnv, seen: Observations) -> torch.Tensor:
        """Tokens (N, C, T, 13), 0 where there is no depth."""
        position, color, known = self._pixels.read(seen)
        tokens = np.zeros((*known.shape, FEATURES), np.float32)
        tokens[..., POSITION], tokens[..., COLOR], tokens[..., OPACITY] = position, color, 1
        tokens[..., SPREAD][..., :3] = np.log(USUAL_SPREAD)
        return torch.from_numpy(tokens * known[..., None])


class DepthVoxels(ObservationGroup):
    """Observation group: voxels that points of the last images lie in, with their mean colours."""

    name = "grid"

    def __init__(self, rigs: Sequence[CameraRig], edge: float) -> None:
        self._pixels, self._edge = _Pixels(rigs, VOXEL_SPACING), edge

    def read(self, env: SceneEnv, seen: Observations) -> torch.Tensor:
        """Whether a voxel is occupied, and its colour, 0..1 (N, C, 4, X, Y, Z), rows along the link's axes.

        The grid begins half a voxel behind the link's origin, which is in the middle of its other sides.
        """
        position, color, known = self._pixels.read(seen)
        low = -self._edge * np.array([0.5, CELLS[1] / 2, CELLS[2] / 2])
        cell = np.floor((position - low) / self._edge).astype(np.int64)
        inside = (known > 0) & ((cell >= 0) & (cell < CELLS)).all(-1)
        grids = np.arange(known.shape[0] * known.shape[1]).reshape(*known.shape[:2], 1)
        index = (grids * np.prod(CELLS) + np.ravel_multi_index(tuple(np.moveaxis(cell, -1, 0)), CELLS, "clip"))[inside]
        size = grids.size * int(np.prod(CELLS))
        count = np.bincount(index, minlength=size)
        means = [np.bincount(index, color[inside][:, c], size) / np.maximum(count, 1) for c in range(3)]
        values = np.stack([count > 0, *means]).astype(np.float32).reshape(4, *known.shape[:2], *CELLS)
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(values, 0, 2)))


class VoxelCNN(nn.Module):
    """Three convolutions over voxels (C, 4, X, Y, Z); those of several cameras are encoded one by one."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(shape[1], 16, 3, stride=2, padding=1),
            nn.ELU(),
            nn.Conv3d(16, 32, 3, stride=2, padding=1),
            nn.ELU(),
            nn.Conv3d(32, 32, 3, padding=1),
            nn.ELU(),
            nn.Flatten(),
        )
        cells = int(np.prod([-(-size // 4) for size in shape[2:]]))
        self.size = shape[0] * 32 * cells

    def forward(self, voxels: torch.Tensor) -> torch.Tensor:
        """Encode voxels (B, C, 4, X, Y, Z) as (B, size)."""
        return self.layers(voxels.flatten(0, 1) - 0.5).reshape(len(voxels), -1)


def points(env: SceneEnv, policy: PolicySettings, device: str) -> ObservationGroup:
    """Points of a simulation's cameras."""
    return DepthPoints(env.cameras)


def voxels(env: SceneEnv, policy: PolicySettings, device: str) -> ObservationGroup:
    """Voxels of a simulation's cameras, finer at a table."""
    return DepthVoxels(env.cameras, EDGE_AT_A_TABLE if env.robot.fixed_base else EDGE)
