"""Voxels around each robot that the scene's surface passes through, the ground's height, and the head for both.

Rays are cast once per scene, not per step: their hits are stored in a table by horizontal square, in which those
around a robot are looked up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from pipeline.errors import TrainError
from pipeline.geometry import Mesh
from pipeline.geometry.jit import njit
from pipeline.geometry.rays import RayCaster
from pipeline.types import F32, F64, I64, U8, Floats
from sim.env import Observations, SceneEnv
from sim.robots.state import headings
from sim.sensors.height_scan import HEADROOM
from train.encoders.groups import VOXELS, ObservationGroup

SHAPE = (16, 16, 8)
"""Voxels ahead, to the left and up."""
EDGE = 0.15
"""Edge of a voxel [m]."""
LOW = (-0.6, -1.2, -0.525)
"""The grid's rear right lower corner, from the base's origin [m]: more lies ahead, where robots look."""
CLIP = 1.0
"""Largest height above or below the base [m]; -CLIP where it is unknown."""
PITCH = EDGE / 2
"""Distance between rays [m]: in any voxel, some ray hits a horizontal surface."""
MAX_RAYS = 50_000_000

_VERTICAL, _UPWARD, _GUESSED = 1, 2, 4


class _Table(NamedTuple):
    """Hits of rays in S scenes, scene by scene in order of the horizontal squares (along x, then y), then of z.

    Attributes:
        corner: (S, 2) low corner of the squares [m].
        shape: (S, 2) number of squares.
        first: (S + 1,) first square of each scene.
        start: (Q + 1,) first hit of each square.
        points: (M, 3) float32 positions [m].
        kind: (M,) uint8 flags: _VERTICAL for rays along z, _UPWARD and _GUESSED for what they hit.
    """

    corner: F64
    shape: I64
    first: I64
    start: I64
    points: F32
    kind: U8


class VoxelMap:
    """Looks up voxels and heights on a horizontal grid around each robot, rotated with its heading.

    Raises:
        TrainError: When a mesh is too large.
    """

    def __init__(self, scenes: Sequence[Mesh]) -> None:
        corners, shapes, counts, points, kinds = zip(*map(_cast, scenes), strict=True)
        self._table = _Table(
            np.array(corners),
            np.array(shapes),
            np.concatenate([[0], np.cumsum(np.prod(shapes, 1))]),
            np.concatenate([[0], np.cumsum(np.concatenate(counts))]),
            np.concatenate(points),
            np.concatenate(kinds),
        )

    def occupied(self, position: Floats, quaternion: Floats, scene_of: I64) -> U8:
        """Occupied voxels (N, *SHAPE) uint8.

        Bases are at positions (N, 3) [m], world frame, with quaternions (N, 4) wxyz, world from base, in scenes (N,).
        """
        voxels = np.zeros((len(position), *SHAPE), np.uint8)
        _mark(voxels, np.asarray(position, np.float64), headings(quaternion), np.asarray(scene_of), self._table)
        return voxels

    def heights(self, position: Floats, quaternion: Floats, scene_of: I64) -> F32:
        """Height of the ground relative to the base (N, *SHAPE[:2]) [m] at the centres of columns of voxels, clipped.

        The ground is defined as in `sim.sensors.height_scan.HeightScanner`; arguments as for `occupied`.
        """
        ground = np.empty((len(position), *SHAPE[:2]), np.float32)
        _measure(ground, np.asarray(position, np.float64), headings(quaternion), np.asarray(scene_of), self._table)
        return ground


class Voxels(ObservationGroup):
    """Observation group (N, X, Y, Z + 1) float16: 1 where a voxel is occupied, and last the ground's height [m]."""

    name = VOXELS

    def __init__(self, env: SceneEnv) -> None:
        self._map = VoxelMap([scene.collision for scene in env.scenes])

    def read(self, env: SceneEnv, seen: Observations) -> torch.Tensor:
        """Read the current voxels of all robots."""
        state = env.engine.read()
        bases = state.position, state.quaternion, env.scene_of
        occupied, heights = self._map.occupied(*bases), self._map.heights(*bases)
        return torch.from_numpy(np.concatenate([occupied.astype(np.float16), heights[..., None].astype(np.float16)], 3))


def _cast(mesh: Mesh) -> tuple[F64, I64, I64, F32, U8]:
    """Corner and shape of a scene's squares, hits in each, and their points and kinds in the order of `_Table`."""
    if not len(mesh.triangles):
        nothing = np.zeros((0, 3), np.float32), np.zeros(0, np.uint8)
        return np.zeros(2), np.ones(2, np.int64), np.zeros(1, np.int64), *nothing
    low = mesh.vertices.min(0) - PITCH / np.pi  # so that no ray runs along edges that lie on a round number
    shape = np.ceil((mesh.vertices.max(0) - low) / PITCH).astype(np.int64) + 1
    if (rays := sum(np.delete(shape, axis).prod() for axis in range(3))) > MAX_RAYS:
        raise TrainError(
            f"voxels of a scene come from at most {MAX_RAYS} rays",
            found=f"{rays} in a scene of {' x '.join(f'{side * PITCH:.0f}' for side in shape)} m",
            remedy="train without policy.voxels, or crop the scene",
        )
    caster, upward = RayCaster(mesh), np.asarray(mesh.face_normals()[:, 2] > 0)
    guessed = mesh.face_guessed()
    parts, kinds = list[F32](), list[I64]()
    for axis in range(3):
        sides = [low[k] + (np.arange(shape[k]) + 0.5) * PITCH for k in range(3)]
        sides[axis] = low[axis : axis + 1] - 1
        starts = np.stack(np.meshgrid(*sides, indexing="ij"), -1).reshape(-1, 3).astype(np.float32)
        ray, distance, triangle = caster.all_hits(starts, np.eye(3)[axis])
        points = starts[ray]
        points[:, axis] += distance
        parts.append(points)
        kinds.append((_VERTICAL + _UPWARD * upward[triangle] + _GUESSED * guessed[triangle]) * (axis == 2))
    points, kind = np.concatenate(parts), np.concatenate(kinds).astype(np.uint8)
    square = ((points[:, :2] - low[:2]) / PITCH).astype(np.int64) @ [shape[1], 1]
    order = np.lexsort((points[:, 2], square))
    counts = np.bincount(square, minlength=shape[:2].prod())
    return low[:2].astype(np.float64), shape[:2], counts, points[order], kind[order]


@njit(cache=True, nogil=True)
def _mark(voxels: U8, position: F64, forward: F64, scene_of: I64, table: _Table) -> None:
    """Set voxels (N, X, Y, Z) in which a hit lies."""
    corner, shape, first, start, points, _ = table
    ahead_low, left_low, up_low = LOW
    columns, rows, layers = SHAPE
    for robot in range(len(voxels)):
        scene = scene_of[robot]
        x, y, z = position[robot]
        cos, sin = forward[robot]
        middle, half = ahead_low + columns * EDGE / 2, left_low + rows * EDGE / 2
        reach_x = (abs(cos) * columns + abs(sin) * rows) * EDGE / 2
        reach_y = (abs(sin) * columns + abs(cos) * rows) * EDGE / 2
        centre_x, centre_y = x + cos * middle - sin * half, y + sin * middle + cos * half
        i_low = max(int(np.floor((centre_x - reach_x - corner[scene, 0]) / PITCH)), 0)
        i_high = min(int(np.floor((centre_x + reach_x - corner[scene, 0]) / PITCH)), shape[scene, 0] - 1)
        j_low = max(int(np.floor((centre_y - reach_y - corner[scene, 1]) / PITCH)), 0)
        j_high = min(int(np.floor((centre_y + reach_y - corner[scene, 1]) / PITCH)), shape[scene, 1] - 1)
        for i in range(i_low, i_high + 1):
            row = first[scene] + i * shape[scene, 1]
            for hit in range(start[row + j_low], start[row + j_high + 1]):
                east, north = points[hit, 0] - x, points[hit, 1] - y
                ahead = (cos * east + sin * north - ahead_low) / EDGE
                left = (cos * north - sin * east - left_low) / EDGE
                up = (points[hit, 2] - z - up_low) / EDGE
                if 0 <= ahead < columns and 0 <= left < rows and 0 <= up < layers:
                    voxels[robot, int(ahead), int(left), int(up)] = 1


@njit(cache=True, nogil=True)
def _measure(ground: F32, position: F64, forward: F64, scene_of: I64, table: _Table) -> None:
    """Fill in heights (N, X, Y) over the base [m]."""
    corner, shape, first, start, points, kind = table
    columns, rows, _ = SHAPE
    for robot in range(len(ground)):
        scene = scene_of[robot]
        x, y, z = position[robot]
        cos, sin = forward[robot]
        for column in range(columns):
            ahead = LOW[0] + (column + 0.5) * EDGE
            for row in range(rows):
                left = LOW[1] + (row + 0.5) * EDGE
                i = int(np.floor((x + cos * ahead - sin * left - corner[scene, 0]) / PITCH))
                j = int(np.floor((y + sin * ahead + cos * left - corner[scene, 1]) / PITCH))
                height = -np.inf
                if 0 <= i < shape[scene, 0] and 0 <= j < shape[scene, 1]:
                    square = first[scene] + i * shape[scene, 1] + j
                    height = _ground(points, kind, start[square], start[square + 1], z + HEADROOM) - z
                ground[robot, column, row] = min(max(height, -CLIP), CLIP)


@njit(cache=True, nogil=True)
def _ground(points: F32, kind: U8, begin: I64, end: I64, plane: float) -> float:
    """The ground's z [m] among hits of one square: below the plane, or above it where the plane is in something."""
    height, sure = -np.inf, False
    for hit in range(begin, end):
        if not kind[hit] & _VERTICAL:
            continue
        upward = kind[hit] & _UPWARD
        if points[hit, 2] > plane:
            return points[hit, 2] if upward and not sure else height
        height = points[hit, 2] if upward else -np.inf
        sure = upward and not kind[hit] & _GUESSED
    return height


NEAR = 0.1
"""Errors of heights below this are squared [m]."""


class VoxelHead(nn.Module):
    """3-D transposed convolutions, each doubling the grid; 50 000 parameters for a small memory.

    The grid's sides are multiples of 8.
    """

    def __init__(self, latent: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        x, y, z = (side // 8 for side in shape)
        self.network = nn.Sequential(
            nn.Linear(latent, 48 * x * y * z),
            nn.Unflatten(1, (48, x, y, z)),
            nn.ELU(),
            nn.ConvTranspose3d(48, 24, 3, stride=2, padding=1, output_padding=1),
            nn.ELU(),
            nn.ConvTranspose3d(24, 12, 3, stride=2, padding=1, output_padding=1),
            nn.ELU(),
            nn.ConvTranspose3d(12, 2, 2, stride=2),  # no overlap: on a CPU this layer decides how long all takes
        )
        self.height = nn.Linear(shape[2], 1)

    def forward(self, latent: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of occupancy (B, X, Y, Z) and heights of the ground (B, X, Y) [m] from latents (B, L)."""
        occupied, columns = self.network(latent).unbind(1)
        return occupied, self.height(columns).squeeze(-1)


def voxel_loss(logits: torch.Tensor, heights: torch.Tensor, truth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross entropy, balanced between occupied and free voxels, and smooth L1 of the heights.

    Logits are (B, X, Y, Z), heights (B, X, Y) [m]; truth (B, X, Y, Z + 1) is the target from `Voxels`.

    Returns:
        The loss, and the IoU of predicted and occupied voxels.
    """
    truth = truth.to(logits.dtype)
    occupied, ground = truth[..., :-1], truth[..., -1]
    wrong = functional.binary_cross_entropy_with_logits(logits, occupied, reduction="none")
    full, free = occupied.sum().clamp(min=1), (1 - occupied).sum().clamp(min=1)
    balanced = ((wrong * occupied).sum() / full + (wrong * (1 - occupied)).sum() / free) / 2
    taken = logits.detach() > 0
    union = (taken | (occupied > 0)).sum().clamp(min=1)
    iou = (taken & (occupied > 0)).sum() / union
    return balanced + functional.smooth_l1_loss(heights, ground, beta=NEAR), iou
