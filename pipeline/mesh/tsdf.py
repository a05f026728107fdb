"""Fusion of depth maps into a truncated signed distance field, and its surface.

Source: B. Curless, M. Levoy, A volumetric method for building complex models from range images, SIGGRAPH 1996,
sections 3 and 4; sparse blocks after M. Niessner et al., Real-time 3D reconstruction at scale using voxel hashing,
SIGGRAPH Asia 2013. Open3D's VoxelBlockGrid draws the surface; the integration is our own, since Open3D's knows
neither a depth's sigma nor its normal.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.depth.maps import DepthMap
from pipeline.errors import ReconstructionError
from pipeline.geometry import Mesh
from pipeline.mesh.canonical import canonical
from pipeline.progress import track

logger = logging.getLogger(__name__)

RESOLUTION = 8  # voxels along a block's edge
PIXEL_STRIDE = 3  # of the pixels that decide which blocks exist; finer than a block everywhere
REFERENCE_SIGMA = 0.01  # [m]; a depth of this sigma has weight 1
MIN_COSINE = 0.2
MAX_BLOCKS = 150_000  # 77 million voxels, 0.8 GB
KEY_OFFSET, KEY_BITS = 1 << 20, 21  # block coordinates as one sortable int64


@dataclass
class BlockGrid:
    """A sparse signed distance field of blocks of 8x8x8 voxels; voxel (i, j, k) lies at (i, j, k) * voxel_size.

    Attributes:
        voxel_size: [m].
        truncation: [m].
        keys: (B,) int64, packed block coordinates in order of their creation.
        tsdf: (>= B, 8, 8, 8) float32, signed distance / truncation, indexed [z, y, x], positive on the free side.
        weight: (>= B, 8, 8, 8) float32, sum of the observations' weights.
        count: (>= B, 8, 8, 8) uint16, how many maps observed the voxel.
    """

    voxel_size: float
    truncation: float
    keys: NDArray[np.int64]
    tsdf: NDArray[np.float32]
    weight: NDArray[np.float32]
    count: NDArray[np.uint16]

    @staticmethod
    def empty(voxel_size: float, truncation: float) -> BlockGrid:
        """A grid without blocks."""
        shape = (0, RESOLUTION, RESOLUTION, RESOLUTION)
        return BlockGrid(
            voxel_size,
            truncation,
            np.zeros(0, np.int64),
            np.zeros(shape, np.float32),
            np.zeros(shape, np.float32),
            np.zeros(shape, np.uint16),
        )

    def slots(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """Places (K,) of the blocks with these unique keys (K,); missing ones are made."""
        new = np.setdiff1d(keys, self.keys)
        if len(new):
            if len(self.keys) + len(new) > MAX_BLOCKS:
                raise ReconstructionError(
                    f"the scene must fit into {MAX_BLOCKS} blocks of {RESOLUTION}^3 voxels",
                    found=f"more, at a voxel size of {self.voxel_size:g} m",
                    remedy="use larger voxels: --set mesh.voxel_size=0.05",
                )
            self.keys = np.concatenate([self.keys, new])
            self._reserve(len(self.keys))
        order = np.argsort(self.keys)
        return order[np.searchsorted(self.keys, keys, sorter=order)]

    def _reserve(self, blocks: int) -> None:
        held = len(self.tsdf)
        if blocks <= held:
            return
        added = (max(blocks, 2 * held) - held, RESOLUTION, RESOLUTION, RESOLUTION)
        self.tsdf = np.concatenate([self.tsdf, np.ones(added, np.float32)])
        self.weight = np.concatenate([self.weight, np.zeros(added, np.float32)])
        self.count = np.concatenate([self.count, np.zeros(added, np.uint16)])

    def integrate(self, depth_map: DepthMap) -> None:
        """Average one map into the blocks around its surface."""
        keys = _touched_blocks(depth_map, self.voxel_size * RESOLUTION, self.truncation)
        if not len(keys):
            return
        slots = self.slots(keys)
        camera_from_world = depth_map.world_from_camera.inverse()
        camera = depth_map.camera
        weight = _pixel_weights(depth_map, self.truncation)
        _integrate_blocks(
            _unpacked(keys),
            slots,
            self.tsdf,
            self.weight,
            self.count,
            self.voxel_size,
            self.truncation,
            camera_from_world.rotation,
            camera_from_world.translation,
            np.array([camera.fx, camera.fy, camera.cx, camera.cy]),
            np.ascontiguousarray(depth_map.depth, np.float32),
            weight,
            _slant(depth_map),
        )

    def surface(self, min_count: int) -> Mesh:
        """The zero crossing between voxels that at least `min_count` maps observed, as a canonical grey mesh."""
        import open3d as o3d

        core = o3d.core
        blocks = len(self.keys)
        if not blocks:
            return Mesh.from_arrays(np.zeros((0, 3)), np.zeros((0, 3), np.int32))
        grid = o3d.t.geometry.VoxelBlockGrid(
            ("tsdf", "weight"), (core.float32, core.float32), ((1), (1)), self.voxel_size, RESOLUTION, blocks
        )
        slots, _ = grid.hashmap().activate(core.Tensor(_unpacked(self.keys)))
        place = slots.numpy().astype(np.int64)
        grid.attribute("tsdf").numpy()[place, ..., 0] = self.tsdf[:blocks]
        grid.attribute("weight").numpy()[place, ..., 0] = self.count[:blocks] >= min_count
        try:
            drawn = grid.extract_triangle_mesh(weight_threshold=0.5)
        except RuntimeError:  # Open3D can't hand out a mesh without triangles
            return Mesh.from_arrays(np.zeros((0, 3)), np.zeros((0, 3), np.int32))
        return canonical(Mesh.from_arrays(drawn.vertex.positions.numpy(), drawn.triangle.indices.numpy()))


def fuse(maps: Sequence[DepthMap], voxel_size: float, truncation_voxels: float, min_views: int) -> Mesh:
    """The surface that the depth maps [m, world frame] agree on, oriented towards the free side; all grey.

    Raises:
        ReconstructionError: When the scene needs too many voxels or no surface comes out.
    """
    grid = BlockGrid.empty(voxel_size, voxel_size * truncation_voxels)
    for depth_map in track(maps, "fuse depth maps", len(maps)):
        grid.integrate(depth_map)
    mesh = grid.surface(min(min_views, len(maps)))
    logger.info("TSDF: %d blocks of %g m, %d triangles", len(grid.keys), voxel_size * RESOLUTION, len(mesh.triangles))
    if not len(mesh.triangles):
        raise ReconstructionError(
            "the depth maps must share a surface",
            found=f"{len(maps)} maps, {len(grid.keys)} blocks with depth, no surface seen by {min_views} of them",
            remedy="check poses and depth with `splatyard build --until depth`, or set mesh.min_views=1",
        )
    return mesh


def automatic_voxel_size(maps: Sequence[DepthMap]) -> float:
    """2 cm in scenes of 4 to 10 m, in proportion to smaller and larger ones, never finer than the depth's noise [m].

    The size is the diagonal of the box that holds the middle 96 % of the points along each axis.
    """
    points, sigmas = [], []
    for depth_map in maps[:: max(1, len(maps) // 40)]:
        sparse = (slice(None, None, 8), slice(None, None, 8))
        known = depth_map.depth[sparse] > 0
        points.append(depth_map.points()[sparse][known])
        sigmas.append(depth_map.sigma[sparse][known])
    everything = np.concatenate(points)
    if not len(everything):
        return 0.02
    low, high = np.percentile(everything, [2, 98], axis=0)
    size = float(np.linalg.norm(high - low))
    by_size = 0.02 * min(1.0, size / 4) * max(1.0, size / 10)
    return float(np.clip(max(by_size, np.median(np.concatenate(sigmas))), 0.004, 0.1))


def _pixel_weights(depth_map: DepthMap, truncation: float) -> NDArray[np.float32]:
    """Weight (H, W) of each pixel: inverse variance, 0 where unknown or too uncertain for the truncation band."""
    usable = (depth_map.depth > 0) & (depth_map.sigma < truncation)
    weight = (REFERENCE_SIGMA / np.maximum(depth_map.sigma, 1e-3)) ** 2
    return np.where(usable, np.clip(weight, 0.02, 10.0), 0).astype(np.float32)


def _slant(depth_map: DepthMap) -> NDArray[np.float32]:
    """Distance to the surface's plane per unit of depth difference (H, W); 1 where the normal is unknown.

    Along one pixel's ray, the plane through the measured point is |n . ray| times the difference of depths away.
    """
    along = np.abs(np.einsum("hwc,hwc->hw", depth_map.normals, depth_map.camera.rays().astype(np.float32)))
    known = np.any(depth_map.normals != 0, -1)
    return np.where(known, np.clip(along, MIN_COSINE, None), 1).astype(np.float32)


def _touched_blocks(depth_map: DepthMap, block_size: float, truncation: float) -> NDArray[np.int64]:
    """Sorted keys of the blocks that hold the truncation band round the map's points."""
    sparse = (slice(PIXEL_STRIDE // 2, None, PIXEL_STRIDE),) * 2
    depth = depth_map.depth[sparse].astype(np.float64)
    known = (depth > 0) & (depth_map.sigma[sparse] < truncation)
    rays = depth_map.camera.rays()[sparse][known]
    surface = rays * depth[known][:, None]
    step = rays / np.linalg.norm(rays, axis=1, keepdims=True) * truncation
    band = np.concatenate([surface - step, surface - step / 2, surface, surface + step / 2, surface + step])
    coordinates = np.floor(depth_map.world_from_camera.apply(band) / block_size).astype(np.int64)
    return np.unique(_packed(coordinates))


def _packed(coordinates: NDArray[np.int64]) -> NDArray[np.int64]:
    x, y, z = (coordinates + KEY_OFFSET).T
    return (x << (2 * KEY_BITS)) | (y << KEY_BITS) | z


def _unpacked(keys: NDArray[np.int64]) -> NDArray[np.int32]:
    mask = (1 << KEY_BITS) - 1
    parts = [(keys >> (2 * KEY_BITS)) & mask, (keys >> KEY_BITS) & mask, keys & mask]
    return (np.stack(parts, 1) - KEY_OFFSET).astype(np.int32)


@njit(cache=True, nogil=True)
def _integrate_blocks(  # noqa: PLR0913
    blocks: NDArray[np.int32],
    slots: NDArray[np.int64],
    tsdf: NDArray[np.float32],
    weights: NDArray[np.float32],
    counts: NDArray[np.uint16],
    voxel_size: float,
    truncation: float,
    rotation: NDArray[np.float64],
    translation: NDArray[np.float64],
    intrinsics: NDArray[np.float64],
    depth: NDArray[np.float32],
    pixel_weight: NDArray[np.float32],
    slant: NDArray[np.float32],
) -> None:
    height, width = depth.shape
    fx, fy, cx, cy = intrinsics
    for index in range(len(blocks)):
        slot = slots[index]
        for k in range(RESOLUTION):
            wz = (blocks[index, 2] * RESOLUTION + k) * voxel_size
            for j in range(RESOLUTION):
                wy = (blocks[index, 1] * RESOLUTION + j) * voxel_size
                for i in range(RESOLUTION):
                    wx = (blocks[index, 0] * RESOLUTION + i) * voxel_size
                    z = rotation[2, 0] * wx + rotation[2, 1] * wy + rotation[2, 2] * wz + translation[2]
                    if z < 0.02:
                        continue
                    x = rotation[0, 0] * wx + rotation[0, 1] * wy + rotation[0, 2] * wz + translation[0]
                    y = rotation[1, 0] * wx + rotation[1, 1] * wy + rotation[1, 2] * wz + translation[1]
                    u, v = fx * x / z + cx, fy * y / z + cy
                    column, row = int(np.floor(u)), int(np.floor(v))
                    if column < 0 or row < 0 or column >= width or row >= height:
                        continue
                    weight = pixel_weight[row, column]
                    if weight <= 0:
                        continue
                    nearest = depth[row, column]
                    seen = _smooth_depth(depth, pixel_weight, u - 0.5, v - 0.5, nearest, truncation)
                    distance = (seen - z) * slant[row, column] / truncation
                    if distance < -1:
                        continue
                    distance = min(distance, 1.0)
                    if distance < -0.25:  # what lies behind the surface is known less, and may be another one's front
                        weight *= (1 + distance) / 0.75
                        if weight <= 0:
                            continue
                    old = weights[slot, k, j, i]
                    tsdf[slot, k, j, i] = (tsdf[slot, k, j, i] * old + distance * weight) / (old + weight)
                    weights[slot, k, j, i] = old + weight
                    counts[slot, k, j, i] += 1


@njit(cache=True, nogil=True, inline="always")
def _smooth_depth(
    depth: NDArray[np.float32],
    pixel_weight: NDArray[np.float32],
    u: float,
    v: float,
    nearest: float,
    truncation: float,
) -> float:
    """Bilinear depth at pixel-centre coordinates (u, v), or the nearest pixel's where the four lie on no one surface.

    Interpolation is of inverse depth, which is linear over a plane.
    """
    height, width = depth.shape
    column, row = int(np.floor(u)), int(np.floor(v))
    if column < 0 or row < 0 or column + 1 >= width or row + 1 >= height:
        return nearest
    if (
        pixel_weight[row, column] <= 0
        or pixel_weight[row, column + 1] <= 0
        or pixel_weight[row + 1, column] <= 0
        or pixel_weight[row + 1, column + 1] <= 0
    ):
        return nearest
    a, b = depth[row, column], depth[row, column + 1]
    c, d = depth[row + 1, column], depth[row + 1, column + 1]
    if max(max(a, b), max(c, d)) - min(min(a, b), min(c, d)) > truncation:
        return nearest
    s, t = u - column, v - row
    inverse = (1 - t) * ((1 - s) / a + s / b) + t * ((1 - s) / c + s / d)
    return 1 / inverse
