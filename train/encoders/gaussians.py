"""Gaussians ahead of a robot as tokens: observations from the splat, without an image; and their encoder.

A token is a Gaussian in the robot's base frame, 13 numbers: position [m] (3); spread (6), the logarithm of the matrix
whose square is the covariance [m^2], as xx, yy, zz, xy, xz, yz in the base's axes: it holds rotation and scales, and
without the jumps that angles, quaternions and sorted axes have (Arsigny et al., 2006, log-Euclidean metrics); colour
(3), 0..1; opacity, 0..1. All 0 where there is none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.geometry import SH_C0, Camera, Gaussians, matrix_from_quaternion
from pipeline.geometry.rays import RayCaster
from pipeline.types import F32, I64, Floats, Mask
from sim.robots.model import Robot
from sim.robots.state import RobotState
from sim.scene.scene import SimScene
from sim.sensors.cameras.props import Props
from train.encoders.groups import ObservationGroup
from train.settings.parts import PolicySettings

if TYPE_CHECKING:
    from sim.env import Observations, SceneEnv

FEATURES = 13
POSITION, SPREAD, COLOR, OPACITY = slice(0, 3), slice(3, 9), slice(9, 12), slice(12, 13)
"""Columns of a token."""
CELL = 0.25
"""Side of the cubes whose Gaussians become one token [m]."""
DUST = 0.05
"""Smallest opacity of a token."""
THINNEST = 0.005
"""Smallest standard deviation of a token along any axis [m]: the thickness of a wall's Gaussians is arbitrary."""
AXES = (0, 1, 2, 0, 0, 1), (0, 1, 2, 1, 2, 2)
"""Rows and columns of the six elements of a symmetric matrix."""


@dataclass(frozen=True, eq=False)
class Tokens:
    """Gaussians in the world frame, in arrays of any shape.

    Attributes:
        position: (..., 3) [m].
        spread: (..., 3, 3) symmetric, log of the square root of the covariance [m].
        color: (..., 3), 0..1.
        opacity: (...), 0..1.
    """

    position: Floats
    spread: Floats
    color: Floats
    opacity: Floats

    def __getitem__(self, index: I64 | Mask) -> Tokens:
        """The chosen tokens."""
        return Tokens(*(getattr(self, field.name)[index] for field in fields(self)))

    def seen_from(self, position: Floats, rotation: Floats, visible: Mask) -> F32:
        """Tokens (N, T) as (N, T, 13) in the robots' base frames, 0 where they aren't visible (N, T).

        Bases are at positions (N, 3) [m], world frame, with rotations (N, 3, 3), world from base.
        """
        spread = rotation.transpose(0, 2, 1)[:, None] @ self.spread @ rotation[:, None]
        numbers = np.empty((*self.opacity.shape, FEATURES), np.float32)
        numbers[..., POSITION] = (self.position - position[:, None]) @ rotation
        numbers[..., SPREAD] = spread[..., AXES[0], AXES[1]]
        numbers[..., COLOR] = self.color
        numbers[..., 12] = self.opacity
        numbers[~visible] = 0
        return numbers


class GaussianTokens(ObservationGroup):
    """Observation group: tokens (N, T, 13) float32 of what lies ahead of each robot's camera.

    First come the task's props (balls, posts, paint), then the nearest of the scene's smoothed Gaussians. A robot gets
    those whose centres lie in its camera's image and that the collision mesh doesn't occlude: a ray to the centre is
    free, or ends within a cell of it. Props occlude nothing. There are no clocks, latencies or noise as in cameras.
    `count` is the number of the scene's tokens, in addition to the props.
    """

    name = "gaussians"

    def __init__(self, scenes: Sequence[SimScene], robot: Robot, camera: Camera, count: int = 128) -> None:
        self._scenes = [smoothed(scene.gaussians) for scene in scenes]
        self._casters = [RayCaster(scene.collision) for scene in scenes]
        self._base_from_camera, self._camera, self._count = robot.base_from_camera, camera, count

    def read(self, env: SceneEnv, seen: Observations) -> torch.Tensor:
        """Read the current tokens of all N robots."""
        return torch.from_numpy(self.tokens(env.engine.read(), env.scene_of, env.scenario.props()))

    def tokens(self, state: RobotState, scene_of: I64, props: Props) -> F32:
        """Tokens (N, T, 13) for robots."""
        rotation, position = state.world_from_base, state.position
        eye = position + rotation @ self._base_from_camera.translation
        view = rotation @ self._base_from_camera.rotation
        own = tokens_of(props)
        first = own.opacity.shape[1]
        numbers = np.zeros((len(state), first + self._count, FEATURES), np.float32)
        for scene in np.unique(scene_of):
            rows = np.flatnonzero(scene_of == scene)
            chosen, framed = self._nearest(self._scenes[scene], eye[rows], view[rows])
            for tokens, inside, columns in (
                (own[rows], (own.opacity[rows] > 0) & self._framed(own.position[rows], eye[rows], view[rows]), 0),
                (chosen, framed, first),
            ):
                rays = tokens.position - eye[rows][:, None]
                starts = np.broadcast_to(eye[rows][:, None], rays.shape)
                free = self._casters[scene].cast(starts.reshape(-1, 3), rays.reshape(-1, 3)).distance
                behind = (1 - free.reshape(rays.shape[:2])) * np.linalg.norm(rays, axis=2)  # the mesh [m]
                visible = inside & ~np.asarray(behind > CELL)
                numbers[rows, columns : columns + visible.shape[1]] = tokens.seen_from(
                    position[rows], rotation[rows], visible
                )
        return numbers

    def _nearest(self, tokens: Tokens, eye: Floats, view: Floats) -> tuple[Tokens, Mask]:
        """Nearest tokens (N, T) of a scene, at most `count`; and which of them are in the image."""
        everywhere = np.broadcast_to(tokens.position, (len(eye), *tokens.position.shape))
        away = np.square(everywhere - eye[:, None]).sum(2)
        away[~self._framed(everywhere, eye, view)] = np.inf
        if self._count < away.shape[1]:
            chosen = np.argpartition(away, self._count, axis=1)[:, : self._count]
        else:
            chosen = np.tile(np.arange(away.shape[1]), (len(away), 1))
        return tokens[chosen], np.isfinite(np.take_along_axis(away, chosen, 1))

    def _framed(self, positions: Floats, eye: Floats, view: Floats) -> Mask:
        """Positions (N, T, 3) in the images of cameras at (N, 3) with rotations (N, 3, 3), world from camera."""
        x, y, z = np.moveaxis((positions - eye[:, None]) @ view, 2, 0)
        lens = self._camera
        u, v = lens.fx * x + lens.cx * z, lens.fy * y + lens.cy * z  # times z: behind a camera nothing fits between
        return (u >= 0) & (u <= lens.width * z) & (v >= 0) & (v <= lens.height * z)


def smoothed(gaussians: Gaussians, cell: float = CELL) -> Tokens:
    """One token per cube of a grid: mean and covariance of the mixture of all Gaussians with their centres in it.

    Each is weighted by its opacity times the area of its footprint. A grid takes every Gaussian once, unlike means over
    nearest neighbours, which count dense regions twice. A token's opacity is the fraction of the cube's face that its
    Gaussians would cover.
    """
    scales = np.exp(gaussians.log_scales.astype(np.float64))
    axes = matrix_from_quaternion(gaussians.quaternions.astype(np.float64)) * scales[:, None]
    within = axes @ axes.transpose(0, 2, 1)
    opacity = gaussians.opacities
    area = 2 * np.pi * scales.prod(1) / scales.min(1)
    means = gaussians.means.astype(np.float64)
    color = np.clip(0.5 + SH_C0 * gaussians.sh[:, 0].astype(np.float64), 0, 1)

    cells, cell_of = np.unique(np.floor(means / cell).astype(np.int64), axis=0, return_inverse=True)
    weight = opacity * area
    covered = np.bincount(cell_of, weight, len(cells))
    share = weight / np.maximum(covered[cell_of], 1e-12)
    position, mixed = (_sums(values * share[:, None], cell_of, len(cells)) for values in (means, color))
    off = means - position[cell_of]
    spread = (within + off[:, :, None] * off[:, None]) * share[:, None, None]
    covariance = _sums(spread.reshape(-1, 9), cell_of, len(cells)).reshape(-1, 3, 3)
    opacity = np.minimum(covered / cell**2, 1)
    return Tokens(position, _spread(covariance), mixed, opacity)[opacity >= DUST]


def tokens_of(props: Props) -> Tokens:
    """One token (N, K) per ball, post or patch, with its mean and covariance; opacity 0 where there is none."""
    balls, posts, patches = props.balls, props.posts, props.patches
    up = np.array([0, 0, 0.5]) * posts.height[..., None]
    none = np.zeros_like(patches.radius)
    variances = [
        np.repeat(np.square(balls.radius)[..., None] / 5, 3, axis=-1),
        np.stack([np.square(posts.radius) / 4, np.square(posts.radius) / 4, np.square(posts.height) / 12], -1),
        np.stack([np.square(patches.radius) / 4, np.square(patches.radius) / 4, none], -1),
    ]
    radius = np.concatenate([balls.radius, posts.radius, patches.radius], 1)
    return Tokens(
        np.concatenate([balls.center, posts.foot + up, patches.center], 1),
        _spread(np.concatenate(variances, 1)[..., None] * np.eye(3)),
        np.concatenate([balls.color, posts.color, patches.color], 1),
        (radius > 0).astype(np.float64),
    )


def _spread(covariance: Floats) -> Floats:
    """Log of the square root of covariances (..., 3, 3)."""
    variances, axes = np.linalg.eigh(covariance)
    scales = np.log(np.maximum(variances, THINNEST**2)) / 2
    return (axes * scales[..., None, :]) @ axes.swapaxes(-1, -2)


def _sums(values: Floats, row_of: NDArray[np.integer], rows: int) -> Floats:
    result = np.zeros((rows, values.shape[1]))
    np.add.at(result, row_of, values)
    return result


NEIGHBOURHOOD = 2.0
"""Typical distance of Gaussians [m]."""
USUAL_SPREAD = 0.1
"""Typical spread of a Gaussian [m]."""
HIDDEN = -1e4
"""Attention bias of empty tokens."""


class SetTransformer(nn.Module):
    """Tokens attend to each other, then a few learned queries to all of them (Lee et al., 2019: SAB and PMA).

    The output depends neither on the tokens' order nor on empty ones among them. Tokens (C, T, 13) of several cameras
    are encoded one by one.
    """

    shift: torch.Tensor
    scale: torch.Tensor

    def __init__(self, shape: tuple[int, ...], width: int = 32, queries: int = 4) -> None:
        super().__init__()
        if shape[-1] != FEATURES:
            raise ValueError(f"a token has {FEATURES} numbers, got {shape[-1]}")
        shift, scale = torch.zeros(FEATURES), torch.ones(FEATURES)
        scale[POSITION] = 1 / NEIGHBOURHOOD
        shift[SPREAD][:3] = -torch.tensor(USUAL_SPREAD).log()
        shift[COLOR] = -0.5
        self.register_buffer("shift", shift, persistent=False)
        self.register_buffer("scale", scale, persistent=False)
        self.embed = nn.Sequential(nn.Linear(FEATURES, width), nn.ELU(), nn.Linear(width, width))
        self.among = _Attention(width)
        self.queries = nn.Parameter(torch.randn(queries, width))
        self.pool = _Attention(width)
        self.size = math.prod(shape[:-2]) * queries * width

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Encode tokens (B, T, 13) or (B, C, T, 13) as (B, size)."""
        batch, tokens = len(tokens), tokens.flatten(0, -3)
        bias = torch.where(tokens[..., OPACITY] > 0, 0.0, HIDDEN).transpose(1, 2)[:, None]
        embedded = self.embed((tokens + self.shift) * self.scale)
        embedded = self.among(embedded, embedded, bias)
        return self.pool(self.queries.expand(len(tokens), -1, -1), embedded, bias).reshape(batch, -1)


class _Attention(nn.Module):
    """A block of a transformer with cross attention and pre-normalisation (Xiong et al., 2020).

    Made of torch's functions, since its modules take paths in evaluation that can't be exported.
    """

    def __init__(self, width: int, heads: int = 2) -> None:
        super().__init__()
        self._heads = heads
        self.asking, self.asked = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.value, self.out = (nn.Linear(width, width) for _ in range(3))
        self.key = nn.Linear(width, width, bias=False)  # one would shift a query's attention to all alike
        self.layers = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.ELU(), nn.Linear(2 * width, width)
        )

    def forward(self, rows: torch.Tensor, others: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """New rows (B, Q, D) from rows (B, Q, D) that attend to others (B, T, D), with a bias (B, 1, 1, T)."""
        query = self._split(self.query(self.asking(rows)))
        others = self.asked(others)
        key, value = self._split(self.key(others)), self._split(self.value(others))
        seen = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        rows = rows + self.out(seen.transpose(1, 2).flatten(2))
        return rows + self.layers(rows)

    def _split(self, rows: torch.Tensor) -> torch.Tensor:
        """Split rows (B, T, D) into heads (B, heads, T, D / heads)."""
        return rows.unflatten(2, (self._heads, -1)).transpose(1, 2)


def tokens(env: SceneEnv, policy: PolicySettings, device: str) -> ObservationGroup:
    """Gaussians ahead of a simulation's robots."""
    return GaussianTokens(env.scenes, env.robot, env.task.camera)
