"""Fusion of depth maps into a truncated signed distance field, and its surface.

Source: B. Curless, M. Levoy, A volumetric method for building complex models from range images, SIGGRAPH 1996,
sections 3 and 4; sparse blocks after M. Niessner et al., Real-time 3D reconstruction at scale using voxel hashing,
SIGGRAPH Asia 2013.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np

from pipeline.depth.maps import DepthMap
from pipeline.errors import ReconstructionError
from pipeline.geometry import Mesh, PointCloud
from pipeline.geometry.jit import njit
from pipeline.mesh.marching_cubes import zero_crossing
from pipeline.mesh.params import MeshParams
from pipeline.mesh.topology import canonical
from pipeline.progress import track
from pipeline.types import F32, F64, I32, I64, U16, Mask

logger = logging.getLogger(__name__)

Made = TypeVar("Made")
RESOLUTION = 8  # voxels along a block's edge
PIXEL_STRIDE = 4  # of the pixels that decide which blocks exist; finer than a block everywhere
REFERENCE_SIGMA = 0.01  # [m]; a depth of this sigma has weight 1
MIN_COSINE = 0.2
MAX_BLOCKS = 150_000  # 77 million voxels, 0.8 GB; their surface has some 14 million triangles
THIN = 0.08
"""Largest truncation [m], but for two voxels: what views of one side of a wall say ends before its other side. Walls of
12 cm became 24 cm thick with 18 cm."""
COARSER = 1.5  # times larger voxels where that many blocks don't suffice
KEY_OFFSET, KEY_BITS = 1 << 20, 21  # block coordinates as one sortable int64


class TooManyVoxelsError(ReconstructionError):
    """The scene is too large for its voxels."""

    @staticmethod
    def over(blocks: int, voxel_size: float) -> TooManyVoxelsError:
        """The error where it needs more than so many blocks of voxels of this size [m]."""
        return TooManyVoxelsError(
            f"the scene must fit into {blocks} blocks of {RESOLUTION}^3 voxels",
            found=f"more, at a voxel size of {voxel_size:g} m",
            remedy="use larger voxels: --set mesh.voxel_size=0.05",
        )


@dataclass(frozen=True, eq=False)
class Part:
    """A box of blocks, low <= (x, y, z) < high.

    Its surface ends on the voxels where the next part's begins, for which the blocks ahead of it are needed, too.
    """

    low: I64  # (3,)
    high: I64  # (3,)

    def of(self, keys: I64) -> I64:
        """Those of the blocks with these keys (K,) that it needs."""
        blocks = unpacked(keys)
        return keys[((blocks >= self.low) & (blocks <= self.high)).all(1)]

    def voxels(self, blocks: I32) -> Mask:
        """Which voxels (B, 8, 8, 8) of blocks (B, 3), indexed [z, y, x], its surface lies between."""
        place = blocks[:, :, None] * RESOLUTION + np.arange(RESOLUTION)
        x, y, z = np.moveaxis(place <= self.high[:, None] * RESOLUTION, 1, 0)
        return z[:, :, None, None] & y[:, None, :, None] & x[:, None, None, :]


class BlockGrid:
    """A sparse signed distance field of blocks of 8x8x8 voxels; voxel (i, j, k) lies at (i, j, k) * voxel_size [m].

    `tsdf` (>= B, 8, 8, 8) is the signed distance / truncation [m], indexed [z, y, x], positive on the free side. Of a
    part it holds what the grid of all blocks would hold there.
    """

    def __init__(self, voxel_size: float, truncation: float, part: Part | None = None) -> None:
        self.voxel_size, self.truncation, self.part = voxel_size, truncation, part
        self.keys = np.zeros(0, np.int64)  # (B,) packed block coordinates in order of their creation
        shape = (0, RESOLUTION, RESOLUTION, RESOLUTION)
        self.tsdf = np.zeros(shape, np.float32)
        self.weight = np.zeros(shape, np.float32)  # sum of the observations' weights
        self.count = np.zeros(shape, np.uint16)  # how many maps observed the voxel

    def slots(self, keys: I64) -> I64:
        """Slots (K,) of the blocks with these unique keys (K,); missing ones are made."""
        new = np.setdiff1d(keys, self.keys)
        if len(new):
            blocks, held = len(self.keys) + len(new), len(self.tsdf)
            if blocks > MAX_BLOCKS:
                raise TooManyVoxelsError.over(MAX_BLOCKS, self.voxel_size)
            self.keys = np.concatenate([self.keys, new])
            if blocks > held:
                added = (max(blocks, min(2 * held, MAX_BLOCKS)) - held, RESOLUTION, RESOLUTION, RESOLUTION)
                self.tsdf = np.concatenate([self.tsdf, np.ones(added, np.float32)])
                self.weight = np.concatenate([self.weight, np.zeros(added, np.float32)])
                self.count = np.concatenate([self.count, np.zeros(added, np.uint16)])
        order = np.argsort(self.keys)
        return order[np.searchsorted(self.keys, keys, sorter=order)]

    def integrate(self, depth_map: DepthMap) -> None:
        """Average one map into the blocks around its surface."""
        keys = touched_blocks(depth_map, self.voxel_size * RESOLUTION, self.truncation)
        if self.part is not None:
            keys = self.part.of(keys)
        if not len(keys):
            return
        slots = self.slots(keys)
        camera_from_world = depth_map.world_from_camera.inverse()
        camera, depth = depth_map.camera, depth_map.depth
        # pixels next to a surface that lies more than the truncation behind them
        rims = np.asarray(cv2.dilate(depth, np.ones((3, 3), np.uint8))) > depth + np.float32(self.truncation)
        _integrate_blocks(
            unpacked(keys),
            slots,
            self.tsdf,
            self.weight,
            self.count,
            self.voxel_size,
            self.truncation,
            camera_from_world.rotation,
            camera_from_world.translation,
            np.array([camera.fx, camera.fy, camera.cx, camera.cy]),
            depth,
            depth_map.sigma,
            depth_map.normals,
            rims,
        )

    def surface(self, min_count: int) -> Mesh:
        """The zero crossing between voxels that at least `min_count` maps observed, as a canonical grey mesh."""
        blocks = len(self.keys)
        known, places = self.count[:blocks] >= min_count, unpacked(self.keys)
        if self.part is not None:
            known &= self.part.voxels(places)
        vertices, triangles = zero_crossing(places, self.tsdf[:blocks], known)
        return canonical(Mesh.from_arrays(vertices * self.voxel_size, triangles))


def reconstruct(maps: Sequence[DepthMap], _cloud: PointCloud | None, params: MeshParams) -> tuple[Mesh, float]:
    """The surface that the maps agree on, and its voxel size [m].

    Raises:
        ReconstructionError: When no surface comes out, or the voxels asked for are too many.
    """
    return fitting(lambda size: fuse(maps, size, params.truncation_voxels, params.min_views), maps, params)


def fitting(make: Callable[[float], Made], maps: Sequence[DepthMap], params: MeshParams) -> tuple[Made, float]:
    """What is made of voxels of a size, and their size [m]; an automatic one grows until the scene fits.

    Raises:
        ReconstructionError: What `make` raises; `TooManyVoxelsError` only for voxels that are asked for.
    """
    size = params.voxel_size or automatic_voxel_size(maps)
    while True:
        try:
            return make(size), size
        except TooManyVoxelsError as error:
            if params.voxel_size:
                raise
            logger.info("voxels of %.3f m are too many (%s): larger ones", size, error.rule)
            size *= COARSER


def fuse(maps: Sequence[DepthMap], voxel_size: float, truncation_voxels: float, min_views: int) -> Mesh:
    """The surface that the depth maps [m, world frame] agree on, oriented towards the free side; all grey.

    Raises:
        ReconstructionError: When the scene needs too many voxels or no surface comes out.
    """
    grid = BlockGrid(voxel_size, truncation_of(voxel_size, truncation_voxels))
    for depth_map in track(maps, "fuse depth maps", len(maps)):
        grid.integrate(depth_map)
    mesh = grid.surface(min(min_views, len(maps)))
    logger.info("TSDF: %d blocks of %g m, %d triangles", len(grid.keys), voxel_size * RESOLUTION, len(mesh.triangles))
    if not len(mesh.triangles):
        raise no_surface(len(maps), min_views)
    return mesh


def no_surface(maps: int, min_views: int) -> ReconstructionError:
    """The error where so many maps have no common surface."""
    return ReconstructionError(
        "the depth maps must share a surface",
        found=f"{maps} maps, no surface seen by {min_views} of them",
        remedy="check poses and depth with `splatyard build --until depth`, or set mesh.min_views=1",
    )


def truncation_of(voxel_size: float, voxels: float) -> float:
    """The truncation distance [m] where so many voxels [m] are asked for."""
    return voxel_size * float(np.clip(THIN / voxel_size, 2, voxels))


def automatic_voxel_size(maps: Sequence[DepthMap]) -> float:
    """2 cm in scenes of 4 m and more, in proportion to smaller ones, never finer than the depth's noise [m].

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
    by_size = 0.02 * min(1.0, size / 4)
    return float(np.clip(max(by_size, np.median(np.concatenate(sigmas))), 0.004, 0.1))


def touched_blocks(depth_map: DepthMap, block_size: float, truncation: float) -> I64:
    """Sorted keys (K,) of the blocks that hold the truncation band round the map's points."""
    camera, pose = depth_map.camera, depth_map.world_from_camera
    coordinates = _band_blocks(
        depth_map.depth,
        depth_map.sigma,
        np.array([camera.fx, camera.fy, camera.cx, camera.cy]),
        pose.rotation,
        pose.translation,
        block_size,
        truncation,
    )
    x, y, z = (coordinates + KEY_OFFSET).T
    return np.unique((x << (2 * KEY_BITS)) | (y << KEY_BITS) | z)


@njit(cache=True, nogil=True)
def _block(direction: float, distance: float, start: float, block_size: float) -> int:
    return int(np.floor((direction * distance + start) / block_size))


@njit(cache=True, nogil=True)
def _band_blocks(
    depth: F32, sigma: F32, intrinsics: F64, rotation: F64, translation: F64, block_size: float, truncation: float
) -> I64:
    """Block coordinates (N, 3), many of them repeated, of five samples through the band at every few pixels."""
    height, width = depth.shape
    fx, fy, cx, cy = intrinsics
    found = np.empty((5 * (height // PIXEL_STRIDE + 1) * (width // PIXEL_STRIDE + 1), 3), np.int64)
    last = np.zeros((5, 3), np.int64)
    count = 0
    for row in range(PIXEL_STRIDE // 2, height, PIXEL_STRIDE):
        for column in range(PIXEL_STRIDE // 2, width, PIXEL_STRIDE):
            z = depth[row, column]
            if z <= 0 or sigma[row, column] >= truncation:
                continue
            x, y = (column + 0.5 - cx) / fx, (row + 0.5 - cy) / fy
            length = np.sqrt(x * x + y * y + 1)
            for sample in range(5):
                far = z + (sample - 2) / 2 * truncation / length
                bx = _block(rotation[0, 0] * x + rotation[0, 1] * y + rotation[0, 2], far, translation[0], block_size)
                by = _block(rotation[1, 0] * x + rotation[1, 1] * y + rotation[1, 2], far, translation[1], block_size)
                bz = _block(rotation[2, 0] * x + rotation[2, 1] * y + rotation[2, 2], far, translation[2], block_size)
                if count and last[sample, 0] == bx and last[sample, 1] == by and last[sample, 2] == bz:
                    continue
                last[sample, 0], last[sample, 1], last[sample, 2] = bx, by, bz
                found[count, 0], found[count, 1], found[count, 2] = bx, by, bz
                count += 1
    return found[:count]


def unpacked(keys: I64) -> I32:
    """Coordinates (N, 3) of blocks with these keys."""
    mask = (1 << KEY_BITS) - 1
    parts = [(keys >> (2 * KEY_BITS)) & mask, (keys >> KEY_BITS) & mask, keys & mask]
    return (np.stack(parts, 1) - KEY_OFFSET).astype(np.int32)


@njit(cache=True, nogil=True)
def _integrate_blocks(
    blocks: I32,
    slots: I64,
    tsdf: F32,
    weights: F32,
    counts: U16,
    voxel_size: float,
    truncation: float,
    rotation: F64,
    translation: F64,
    intrinsics: F64,
    depth: F32,
    sigma: F32,
    normals: F32,
    rims: Mask,
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
                    nearest = depth[row, column]
                    if nearest <= 0 or sigma[row, column] >= truncation:
                        continue
                    seen = _smooth_depth(depth, u - 0.5, v - 0.5, nearest, truncation)
                    ahead = (seen - z) / truncation  # along the ray: a slanted surface must not reach further behind
                    if ahead <= -1 or (ahead < -0.25 and rims[row, column]):  # behind a rim the surface may end
                        continue
                    # the plane through the measured point is |n . ray| times the difference of depths away
                    nx, ny, nz = normals[row, column]
                    slant = abs(nx * (column + 0.5 - cx) / fx + ny * (row + 0.5 - cy) / fy + nz)
                    if nx == 0 and ny == 0 and nz == 0:
                        slant = 1.0
                    distance = min(ahead * max(slant, MIN_COSINE), 1.0)
                    weight = (REFERENCE_SIGMA / max(sigma[row, column], 1e-3)) ** 2
                    weight = min(max(weight, 0.02), 10.0)
                    if ahead < -0.25:  # what lies behind the surface is known less, and may be another one's front
                        weight *= (1 + ahead) / 0.75
                    old = weights[slot, k, j, i]
                    tsdf[slot, k, j, i] = (tsdf[slot, k, j, i] * old + distance * weight) / (old + weight)
                    weights[slot, k, j, i] = old + weight
                    counts[slot, k, j, i] += 1


@njit(cache=True, nogil=True, inline="always")
def _smooth_depth(depth: F32, u: float, v: float, nearest: float, truncation: float) -> float:
    """Depth at (u, v), inverse depth being linear over a plane; the nearest pixel's where the four are no surface."""
    height, width = depth.shape
    column, row = int(np.floor(u)), int(np.floor(v))
    if column < 0 or row < 0 or column + 1 >= width or row + 1 >= height:
        return nearest
    a, b = depth[row, column], depth[row, column + 1]
    c, d = depth[row + 1, column], depth[row + 1, column + 1]
    least = min(min(a, b), min(c, d))
    if least <= 0 or max(max(a, b), max(c, d)) - least > truncation:
        return nearest
    s, t = u - column, v - row
    inverse = (1 - t) * ((1 - s) / a + s / b) + t * ((1 - s) / c + s / d)
    return 1 / inverse
