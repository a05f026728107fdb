"""Gaussians before a robot as tokens: what a policy sees straight from the splat, without a picture.

A token is a Gaussian in the robot's base frame, 13 numbers: place [m] (3); spread (6), the logarithm of the matrix
whose square is the covariance [m^2], as xx, yy, zz, xy, xz, yz in the base's axes: it holds rotation and scales, and
without the jumps that angles, quaternions and sorted axes have (Arsigny et al., 2006, log-Euclidean metrics); colour
(3), 0..1; opacity, 0..1. All 0 where there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.geometry import SH_C0, Camera, Gaussians, matrix_from_quaternion
from pipeline.mesh.rays import RayCaster
from sim.cameras.things import Things
from sim.env import SceneEnv
from sim.physics.state import Int, RobotState
from sim.robots.model import Robot
from sim.scene import SimScene

Array = NDArray[np.floating]

FEATURES = 13
POSITION, SPREAD, COLOR, OPACITY = slice(0, 3), slice(3, 9), slice(9, 12), slice(12, 13)
"""Of a token's numbers."""
CELL = 0.25
"""Gaussians of a cube of this side become one [m]."""
DUST = 0.05
"""Cells of which less is covered are left out."""
THINNEST = 0.005
"""Least standard deviation of a token along any axis [m]: how thin a wall's Gaussians are tells nothing."""
AXES = (0, 1, 2, 0, 0, 1), (0, 1, 2, 1, 2, 2)
"""Rows and columns of a symmetric matrix's six numbers."""


@dataclass(frozen=True, eq=False)
class Tokens:
    """Gaussians in the world frame, in rows and columns of any shape.

    Attributes:
        position: (..., 3) [m].
        spread: (..., 3, 3) symmetric, log of the square root of the covariance [m].
        color: (..., 3), 0..1.
        opacity: (...), 0..1.
    """

    position: Array
    spread: Array
    color: Array
    opacity: Array

    def __getitem__(self, index: Any) -> Tokens:
        """The chosen ones."""
        return Tokens(*(getattr(self, field.name)[index] for field in fields(self)))

    def seen_from(self, position: Array, turn: Array, visible: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Numbers (N, T, 13) of tokens (N, T), 0 where they aren't visible (N, T).

        Args:
            position: (N, 3) of the robots' bases [m], world frame.
            turn: (N, 3, 3), world from base.
            visible: Which robots see which.
        """
        spread = turn.transpose(0, 2, 1)[:, None] @ self.spread @ turn[:, None]
        numbers = np.empty((*self.opacity.shape, FEATURES), np.float32)
        numbers[..., POSITION] = (self.position - position[:, None]) @ turn
        numbers[..., SPREAD] = spread[..., AXES[0], AXES[1]]
        numbers[..., COLOR] = self.color
        numbers[..., 12] = self.opacity
        numbers[~visible] = 0
        return numbers


class GaussianTokens:
    """The sense: tokens (N, T, 13) float32 of what lies before each robot's camera.

    First come the task's things (balls, posts, paint), then the nearest of the scene's smoothed Gaussians. A robot gets
    those whose centres lie in its camera's picture, and that the collision mesh doesn't hide: a ray to the centre goes
    through, or ends nearer to it than a cell. Things hide nothing. There are no clocks, latencies or flaws as cameras
    have them.

    Args:
        scenes: Where robots are.
        robot: Whose camera it is.
        camera: Pinhole.
        count: Gaussians of the scene, beside the things.

    Attributes:
        group: Name of the observation.
    """

    group = "gaussians"

    def __init__(self, scenes: Sequence[SimScene], robot: Robot, camera: Camera, count: int = 128) -> None:
        self._scenes = [smoothed(scene.gaussians) for scene in scenes]
        self._casters = [RayCaster(scene.collision) for scene in scenes]
        self._base_from_camera, self._camera, self._count = robot.base_from_camera, camera, count

    def read(self, env: SceneEnv, seen: dict[str, Any]) -> torch.Tensor:
        """What all N robots have before them now."""
        return torch.from_numpy(self.look(env.engine.read(), env.scene_of, env.course.things()))

    def look(self, state: RobotState, scene_of: Int, things: Things) -> NDArray[np.float32]:
        """Tokens (N, T, 13) for robots.

        Args:
            state: Of N robots.
            scene_of: (N,) in which scene each is.
            things: In the place of each.
        """
        turn, position = state.world_from_base, state.position
        eye = position + turn @ self._base_from_camera.translation
        view = turn @ self._base_from_camera.rotation
        own = tokens_of(things)
        first = own.opacity.shape[1]
        numbers = np.zeros((len(state), first + self._count, FEATURES), np.float32)
        for scene in np.unique(scene_of):
            rows = np.flatnonzero(scene_of == scene)
            chosen, framed = self._nearest(self._scenes[scene], eye[rows], view[rows])
            for tokens, inside, columns in (
                (own[rows], (own.opacity[rows] > 0) & self._framed(own.position[rows], eye[rows], view[rows]), 0),
                (chosen, framed, first),
            ):
                visible = inside & ~self._hidden(self._casters[scene], tokens.position, eye[rows])
                numbers[rows, columns : columns + visible.shape[1]] = tokens.seen_from(
                    position[rows], turn[rows], visible
                )
        return numbers

    def _nearest(self, tokens: Tokens, eye: Array, view: Array) -> tuple[Tokens, NDArray[np.bool_]]:
        """Tokens (N, T) of a scene, T as wanted or all there are; and which of them are in the picture."""
        everywhere = np.broadcast_to(tokens.position, (len(eye), *tokens.position.shape))
        away = np.square(everywhere - eye[:, None]).sum(2)
        away[~self._framed(everywhere, eye, view)] = np.inf
        if self._count < away.shape[1]:
            chosen = np.argpartition(away, self._count, axis=1)[:, : self._count]
        else:
            chosen = np.tile(np.arange(away.shape[1]), (len(away), 1))
        return tokens[chosen], np.isfinite(np.take_along_axis(away, chosen, 1))

    def _framed(self, places: Array, eye: Array, view: Array) -> NDArray[np.bool_]:
        """Which places (N, T, 3) lie in the pictures of cameras at (N, 3), turned by (N, 3, 3) world from camera."""
        x, y, z = np.moveaxis((places - eye[:, None]) @ view, 2, 0)
        lens = self._camera
        u, v = lens.fx * x + lens.cx * z, lens.fy * y + lens.cy * z  # times z: behind a camera nothing fits between
        return (u >= 0) & (u <= lens.width * z) & (v >= 0) & (v <= lens.height * z)

    def _hidden(self, caster: RayCaster, places: Array, eye: Array) -> NDArray[np.bool_]:
        """Which places (N, T, 3) the mesh hides from (N, 3)."""
        ways = places - eye[:, None]
        starts = np.broadcast_to(eye[:, None], ways.shape)
        free = caster.cast(starts.reshape(-1, 3), ways.reshape(-1, 3)).distance.reshape(ways.shape[:2])
        return np.asarray((1 - free) * np.linalg.norm(ways, axis=2) > CELL)


def smoothed(gaussians: Gaussians, cell: float = CELL) -> Tokens:
    """One token a cube of a grid: the mean and covariance of the mixture of all that have their centre in it.

    Each weighs as much as it covers, its opacity times the area of its footprint. A grid takes every Gaussian once,
    which means over nearest neighbours don't: no place counts twice for being dense. A token's opacity is the share of
    the cube's face that its Gaussians would cover.

    Args:
        gaussians: Of a scene [world frame].
        cell: Side of the cubes [m].
    """
    scales = np.exp(gaussians.log_scales.astype(np.float64))
    axes = matrix_from_quaternion(gaussians.quaternions.astype(np.float64)) * scales[:, None]
    within = axes @ axes.transpose(0, 2, 1)
    opacity = 1 / (1 + np.exp(-gaussians.opacity_logits.astype(np.float64)))
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


def tokens_of(things: Things) -> Tokens:
    """One token (N, K) a ball, post or patch, with its mean and covariance; with opacity 0 where there is none."""
    balls, posts, patches = things.balls, things.posts, things.patches
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


def _spread(covariance: Array) -> Array:
    """Log of the square root of covariances (..., 3, 3)."""
    variances, axes = np.linalg.eigh(covariance)
    scales = np.log(np.maximum(variances, THINNEST**2)) / 2
    return (axes * scales[..., None, :]) @ axes.swapaxes(-1, -2)


def _sums(values: Array, row_of: NDArray[np.integer], rows: int) -> Array:
    result = np.zeros((rows, values.shape[1]))
    np.add.at(result, row_of, values)
    return result
