"""What is round each robot: voxels that the scene's surface passes through, and the ground's height.

Rays are cast once per scene, not per step: their hits lie in a table by the square of the floor below them, and of a
robot's surroundings its hits are looked up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray

from pipeline.errors import TrainError
from pipeline.geometry import Mesh, matrix_from_quaternion
from pipeline.mesh.rays import RayCaster
from sim.env import SceneEnv
from sim.height_scan import HEADROOM
from sim.physics.state import Float, Int

VOXELS = "voxels"
"""Group of observations that no network gets: a lesson compares with it what the policy makes of its memory."""
SHAPE = (16, 16, 8)
"""Voxels ahead, to the left and up."""
EDGE = 0.15
"""Of a voxel [m]."""
LOW = (-0.6, -1.2, -0.525)
"""The grid's rear right lower corner, from the base's origin [m]: more lies ahead, where robots look."""
CLIP = 1.0
"""Heights further above or below the base are given as that [m], and as -CLIP where nothing is known."""
PITCH = EDGE / 2
"""Between rays [m]. A level surface's share of a voxel holds a circle of that radius, so that some ray meets it."""
MAX_RAYS = 50_000_000

_VERTICAL, _UPWARD, _GUESSED = 1, 2, 4


@dataclass(frozen=True, eq=False)
class _Hits:
    """Where rays met one scene, in order of the squares of the floor, then of z.

    Attributes:
        corner: (2,) low corner of the squares [m].
        shape: (2,) how many there are.
        place: (M, 3) float32 [m].
        kind: (M,) uint8, of _VERTICAL for rays along z, _UPWARD and _GUESSED for what they met.
        square: (M,) of each, counted along x, then y.
    """

    corner: NDArray[np.float64]
    shape: NDArray[np.int64]
    place: NDArray[np.float32]
    kind: NDArray[np.uint8]
    square: NDArray[np.int64]


class Surroundings:
    """Looks up voxels and heights on a grid round each robot, level, turned with its heading.

    Args:
        scenes: Collision meshes, world frames.

    Raises:
        TrainError: When a mesh is too large.
    """

    def __init__(self, scenes: Sequence[Mesh]) -> None:
        found = [_cast(mesh) for mesh in scenes]
        self._corner = np.array([hits.corner for hits in found])
        self._shape = np.array([hits.shape for hits in found])
        squares = self._shape.prod(1)
        self._first = np.concatenate([[0], np.cumsum(squares)])
        counts = [np.bincount(hits.square, minlength=size) for hits, size in zip(found, squares, strict=True)]
        self._start = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
        self._place = np.concatenate([hits.place for hits in found])
        self._kind = np.concatenate([hits.kind for hits in found])

    def occupied(
        self, position: NDArray[np.floating], quaternion: NDArray[np.floating], scene_of: Int
    ) -> NDArray[np.uint8]:
        """Which voxels hold a hit (N, *SHAPE) uint8.

        Args:
            position: (N, 3) of the bases [m], world frame.
            quaternion: (N, 4) wxyz, world from base.
            scene_of: (N,) in which scene each is.
        """
        voxels = np.zeros((len(position), *SHAPE), np.uint8)
        table = (self._corner, self._shape, self._first, self._start, self._place)
        _mark(voxels, np.asarray(position, np.float64), _forward(quaternion), np.asarray(scene_of), *table)
        return voxels

    def heights(self, position: NDArray[np.floating], quaternion: NDArray[np.floating], scene_of: Int) -> Float:
        """The ground over the base (N, *SHAPE[:2]) [m] in the middle of each column of voxels, clipped.

        What is ground is what `sim.height_scan.HeightScanner` takes for it; arguments as for `occupied`.
        """
        ground = np.empty((len(position), *SHAPE[:2]), np.float32)
        table = (self._corner, self._shape, self._first, self._start, self._place, self._kind)
        _measure(ground, np.asarray(position, np.float64), _forward(quaternion), np.asarray(scene_of), *table)
        return ground


class Voxels:
    """Both, as one observation (N, X, Y, Z + 1) float16: 1 where a voxel is occupied, and last the height [m].

    Args:
        env: Whose robots and scenes; the same as is read.
    """

    group = VOXELS

    def __init__(self, env: SceneEnv) -> None:
        self._surroundings = Surroundings([scene.collision for scene in env.scenes])

    def read(self, env: SceneEnv, seen: dict[str, Any]) -> torch.Tensor:
        """Round all robots now."""
        state = env.engine.read()
        place = state.position, state.quaternion, env.scene_of
        occupied, heights = self._surroundings.occupied(*place), self._surroundings.heights(*place)
        return torch.from_numpy(np.concatenate([occupied.astype(np.float16), heights[..., None].astype(np.float16)], 3))


def _forward(quaternion: NDArray[np.floating]) -> NDArray[np.float64]:
    """Headings (N, 2), unit."""
    ahead = matrix_from_quaternion(np.asarray(quaternion, np.float64))[:, :2, 0]
    return ahead / np.maximum(np.linalg.norm(ahead, axis=1, keepdims=True), 1e-9)


def _cast(mesh: Mesh) -> _Hits:
    """Meet a mesh with rays along all axes."""
    if not len(mesh.triangles):
        nothing = np.zeros(0, np.int64)
        return _Hits(np.zeros(2), np.ones(2, np.int64), np.zeros((0, 3), np.float32), np.zeros(0, np.uint8), nothing)
    low = mesh.vertices.min(0) - PITCH / np.pi  # so that no ray runs along edges that lie on a round number
    shape = np.ceil((mesh.vertices.max(0) - low) / PITCH).astype(np.int64) + 1
    if (rays := sum(np.delete(shape, axis).prod() for axis in range(3))) > MAX_RAYS:
        raise TrainError(
            f"what is round a robot is told from at most {MAX_RAYS} rays through its scene",
            found=f"{rays} in a scene of {' x '.join(f'{side * PITCH:.0f}' for side in shape)} m",
            remedy="train without policy.voxels, or crop the scene",
        )
    caster, upward = RayCaster(mesh), np.asarray(mesh.face_normals()[:, 2] > 0)
    guessed = np.asarray(mesh.guessed[mesh.triangles].any(1))
    places, kinds = list[NDArray[np.float32]](), list[NDArray[np.int64]]()
    for axis in range(3):
        sides = [low[k] + (np.arange(shape[k]) + 0.5) * PITCH for k in range(3)]
        sides[axis] = low[axis : axis + 1] - 1
        starts = np.stack(np.meshgrid(*sides, indexing="ij"), -1).reshape(-1, 3).astype(np.float32)
        ray, distance, triangle = caster.all_hits(starts, np.eye(3)[axis])
        place = starts[ray]
        place[:, axis] += distance
        places.append(place)
        kinds.append((_VERTICAL + _UPWARD * upward[triangle] + _GUESSED * guessed[triangle]) * (axis == 2))
    place, kind = np.concatenate(places), np.concatenate(kinds).astype(np.uint8)
    square = ((place[:, :2] - low[:2]) / PITCH).astype(np.int64) @ [shape[1], 1]
    order = np.lexsort((place[:, 2], square))
    return _Hits(low[:2].astype(np.float64), shape[:2], place[order], kind[order], square[order])


@njit(cache=True, nogil=True)
def _mark(
    voxels: NDArray[np.uint8],
    position: NDArray[np.float64],
    forward: NDArray[np.float64],
    scene_of: Int,
    corner: NDArray[np.float64],
    shape: Int,
    first: Int,
    start: Int,
    place: Float,
) -> None:
    """Set voxels (N, X, Y, Z) in which a hit lies; the table as `Surroundings` has it."""
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
                east, north = place[hit, 0] - x, place[hit, 1] - y
                ahead = (cos * east + sin * north - ahead_low) / EDGE
                left = (cos * north - sin * east - left_low) / EDGE
                up = (place[hit, 2] - z - up_low) / EDGE
                if 0 <= ahead < columns and 0 <= left < rows and 0 <= up < layers:
                    voxels[robot, int(ahead), int(left), int(up)] = 1


@njit(cache=True, nogil=True)
def _measure(
    ground: Float,
    position: NDArray[np.float64],
    forward: NDArray[np.float64],
    scene_of: Int,
    corner: NDArray[np.float64],
    shape: Int,
    first: Int,
    start: Int,
    place: Float,
    kind: NDArray[np.uint8],
) -> None:
    """Fill in heights (N, X, Y) over the base [m]; the table as `Surroundings` has it."""
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
                    height = _ground(place, kind, start[square], start[square + 1], z + HEADROOM) - z
                ground[robot, column, row] = min(max(height, -CLIP), CLIP)


@njit(cache=True, nogil=True)
def _ground(place: Float, kind: NDArray[np.uint8], begin: Int, end: Int, plane: float) -> float:
    """The ground's z [m] among hits of one square: below the plane, or above it where the plane is in something."""
    height, sure = -np.inf, False
    for hit in range(begin, end):
        if not kind[hit] & _VERTICAL:
            continue
        upward = kind[hit] & _UPWARD
        if place[hit, 2] > plane:
            return place[hit, 2] if upward and not sure else height
        height = place[hit, 2] if upward else -np.inf
        sure = upward and not kind[hit] & _GUESSED
    return height
