# ruff: noqa: ANN001, ANN202 - numba infers the types of compiled functions
"""Fusion of depth maps into one oriented, coloured cloud: the shared input of mesh and splat."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipeline.depth.consistency import Comparison, DepthMapSet
from pipeline.depth.maps import DepthMap
from pipeline.geometry import Camera, PointCloud, Pose
from pipeline.geometry.jit import njit
from pipeline.parallel import map_in_order
from pipeline.points.params import PointsParams
from pipeline.progress import track
from pipeline.types import F32, F64, U8, Mask

ColorSource = Callable[[str], tuple[U8, Camera, Pose]]
"""From a view's name its RGB image, that image's camera and world_from_camera."""
_MIN_COSINE = 0.05
"""Least weight of a pixel at a grazing angle, or without a normal."""


def fuse(
    maps: list[DepthMap], color_source: ColorSource, params: PointsParams, threads: int | None = None
) -> tuple[PointCloud, dict[str, object]]:
    """Merge the maps, already subsampled, into one cloud.

    A pixel is kept unless the neighbours that see through it outnumber half of those that confirm it; agreeing depths
    are averaged along the pixel's ray before points are merged by cells, weighted with cos(incidence) / sigma^2.
    Guessed pixels only fill cells without measured points in or next to them. Maps and cloud are in the world frame.
    By default all cores are used; the result does not depend on the number of threads.

    Returns:
        The cloud and its statistics.
    """
    packed = DepthMapSet.pack(maps)
    neighbours = packed.neighbours(params.neighbours)
    measured, guessed = VoxelGrid(params.voxel), VoxelGrid(params.voxel, guessed=True)
    pixels, kept, confirmed = 0, 0, 0
    disagreements = []

    def compare(index: int) -> tuple[PointCloud, F32, Mask, F32]:
        comparison = packed.compare(maps[index], neighbours[index], params.max_deviation)
        return _consistent_points(maps[index], comparison, *color_source(maps[index].name))

    results = track(map_in_order(compare, range(len(maps)), threads), "points", len(maps))
    for index, (cloud, weights, has_color, disagreement) in enumerate(results):
        for grid, chosen in ((measured, ~cloud.guessed), (guessed, cloud.guessed)):
            grid.add(cloud[chosen], weights[chosen], has_color[chosen], index)
        pixels += int((maps[index].depth > 0).sum())
        kept += len(cloud)
        confirmed += int((cloud.views > 1).sum())
        disagreements.append(disagreement)
    cloud, voxel = measured.cloud(), params.voxel
    filling = guessed.cloud()
    cloud = PointCloud.concatenate([cloud, filling[~measured.touches(filling.points)]])
    while len(cloud) > params.max_points:
        # Points lie on surfaces, so their number falls with the square of the cell; a little more saves a round.
        voxel *= 1.05 * float(np.sqrt(len(cloud) / params.max_points))
        cloud = _coarser(cloud, voxel)
    distances = np.concatenate([np.zeros(0, np.float32), *disagreements])
    return cloud, {
        "points": len(cloud),
        "guessed": int(cloud.guessed.sum()),
        "voxel": voxel,
        "pixels": pixels,
        "kept_share": kept / max(pixels, 1),
        "confirmed_share": confirmed / max(kept, 1),
        "disagreement": float(np.median(distances)) if len(distances) else 0.0,
        "median_sigma": float(np.median(cloud.sigma)) if len(cloud) else 0.0,
        "median_views": float(np.median(cloud.views)) if len(cloud) else 0.0,
    }


def _consistent_points(
    depth_map: DepthMap, comparison: Comparison, image: U8, camera: Camera, world_from_camera: Pose
) -> tuple[PointCloud, F32, Mask, F32]:
    """A map's points, their weights, whether they have a colour, and a sample of the distances to agreeing maps."""
    good = (depth_map.depth > 0) & (2 * comparison.violations.astype(np.int32) <= comparison.agreeing)
    image_from_map = world_from_camera.inverse() @ depth_map.world_from_camera
    points, normals, colors, has_color, facing = _unproject(
        good,
        comparison.depth,
        depth_map.normals,
        _intrinsics(depth_map.camera),
        depth_map.world_from_camera.matrix[:3].copy(),
        image,
        _intrinsics(camera),
        image_from_map.matrix[:3].copy(),
    )
    sigma = comparison.sigma[good]
    agreeing = comparison.agreeing[good].astype(np.int32) + 1
    cloud = PointCloud(points, normals, colors, sigma, agreeing, depth_map.guessed[good])
    confirmed = comparison.disagreement[good & (comparison.agreeing > 0)]
    return cloud, facing / sigma**2, has_color, confirmed[::16]


def _intrinsics(camera: Camera) -> F64:
    return np.array([camera.fx, camera.fy, camera.cx, camera.cy])


@njit(nogil=True, cache=True, error_model="numpy")
def _unproject(chosen, depth, normals, lens, world_from_map, image, image_lens, image_from_map):
    """World points, world normals, bilinear colours, whether they lie in the image, cosines of incidence."""
    count = chosen.sum()
    points = np.zeros((count, 3), np.float32)
    world_normals = np.zeros((count, 3), np.float32)
    colors = np.zeros((count, 3), np.uint8)
    has_color = np.zeros(count, np.bool_)
    facing = np.zeros(count, np.float32)
    world, local = world_from_map, image_from_map
    height, width = image.shape[:2]
    k = 0
    for y in range(chosen.shape[0]):
        for x in range(chosen.shape[1]):
            if not chosen[y, x]:
                continue
            ray_x, ray_y = (x + 0.5 - lens[2]) / lens[0], (y + 0.5 - lens[3]) / lens[1]
            z = depth[y, x]
            nx, ny, nz = normals[y, x, 0], normals[y, x, 1], normals[y, x, 2]
            cosine = -(nx * ray_x + ny * ray_y + nz) / np.sqrt(ray_x * ray_x + ray_y * ray_y + 1.0)
            facing[k] = min(max(cosine, _MIN_COSINE), 1.0)
            for axis in range(3):
                point = world[axis, 0] * ray_x + world[axis, 1] * ray_y + world[axis, 2]
                points[k, axis] = z * point + world[axis, 3]
                world_normals[k, axis] = world[axis, 0] * nx + world[axis, 1] * ny + world[axis, 2] * nz
            ahead = z * (local[2, 0] * ray_x + local[2, 1] * ray_y + local[2, 2]) + local[2, 3]
            if ahead > 0:
                right = z * (local[0, 0] * ray_x + local[0, 1] * ray_y + local[0, 2]) + local[0, 3]
                down = z * (local[1, 0] * ray_x + local[1, 1] * ray_y + local[1, 2]) + local[1, 3]
                u = right / ahead * image_lens[0] + image_lens[2]
                v = down / ahead * image_lens[1] + image_lens[3]
                if u >= 0 and v >= 0 and u < width and v < height:
                    has_color[k] = True
                    u, v = min(max(u - 0.5, 0.0), width - 1.001), min(max(v - 0.5, 0.0), height - 1.001)
                    column, row = int(u), int(v)
                    du, dv = u - column, v - row
                    for channel in range(3):
                        upper = image[row, column, channel] * (1 - du) + image[row, column + 1, channel] * du
                        lower = image[row + 1, column, channel] * (1 - du) + image[row + 1, column + 1, channel] * du
                        colors[k, channel] = int(upper * (1 - dv) + lower * dv + 0.5)
            k += 1
    return points, world_normals, colors, has_color, facing


def _coarser(cloud: PointCloud, voxel: float) -> PointCloud:
    """The cloud merged in larger cells, measured and guessed points separately."""
    parts = []
    for guessed in (False, True):
        part = cloud[cloud.guessed == guessed]
        grid = VoxelGrid(voxel, guessed=guessed)
        grid.add(part, (1 / part.sigma**2).astype(np.float32), np.ones(len(part), bool), 0)
        parts.append(grid.cloud())
    return PointCloud.concatenate(parts)


_compile = njit(nogil=True, cache=True)

_OFFSET = 1 << 20
"""Cells are numbered from minus this: 10 km in each direction at 1 cm."""
_EMPTY = -1
_MAX_LOAD = 0.6
_FIRST_CAPACITY = 1 << 16
# Columns of the sums: weight, position in the cell, normal, colour, weight of the colour, sigma.
_COLUMNS = 12


class VoxelGrid:
    """A hash map from cells to weighted sums; equal points in equal order give an equal cloud."""

    def __init__(self, size: float, *, guessed: bool = False) -> None:
        """Set the edge of a cell [m], and whether the cloud's points are marked as guessed."""
        self._size, self._guessed = size, guessed
        self._allocate(_FIRST_CAPACITY)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def _allocate(self, capacity: int) -> None:
        self._keys = np.full(capacity, _EMPTY, np.int64)
        self._sums = np.zeros((capacity, _COLUMNS), np.float32)
        self._views = np.zeros(capacity, np.int32)
        self._agreeing = np.zeros(capacity, np.int32)
        self._last_view = np.full(capacity, -1, np.int32)

    def add(self, cloud: PointCloud, weights: F32, has_color: Mask, view: int) -> None:
        """Add the points of view number `view`, on each of which `cloud.views` keyframes agree, with weights (N,)."""
        capacity = len(self._keys)
        while self._count + len(cloud) > _MAX_LOAD * capacity:  # as if every point had a cell of its own
            capacity *= 2
        if capacity > len(self._keys):
            old = self._keys, self._sums, self._views, self._agreeing, self._last_view
            self._allocate(capacity)
            _rehash(*old, self._keys, self._sums, self._views, self._agreeing, self._last_view)
        cells = np.floor(cloud.points / np.float32(self._size)).astype(np.int64)
        local = cloud.points / np.float32(self._size) - cells.astype(np.float32)
        if len(cells) and np.abs(cells).max() >= _OFFSET:
            raise ValueError(f"points must lie within {_OFFSET * self._size:.0f} m, got {np.abs(cloud.points).max()} m")
        x, y, z = (cells + _OFFSET).T
        keys = (x << 42) | (y << 21) | z
        samples = np.empty((len(cloud), _COLUMNS), np.float32)
        samples[:, 0] = weights
        samples[:, 1:4] = local
        samples[:, 4:7] = cloud.normals
        samples[:, 7:10] = cloud.colors
        samples[:, 10] = has_color
        samples[:, 11] = cloud.sigma
        self._count += _insert(
            keys, samples, cloud.views, view,
            self._keys, self._sums, self._views, self._agreeing, self._last_view,
        )  # fmt: skip

    def cloud(self) -> PointCloud:
        """The merged points, sorted by cell."""
        order = np.flatnonzero(self._keys != _EMPTY)
        order = order[np.argsort(self._keys[order])]
        sums = self._sums[order]
        mean = sums[:, 1:] / sums[:, :1]
        normals = mean[:, 3:6] / np.maximum(np.linalg.norm(mean[:, 3:6], axis=1, keepdims=True), 1e-6)
        colors = mean[:, 6:9] / np.maximum(mean[:, 9:10], 1e-6)
        colors[sums[:, 10] == 0] = 128
        keys, mask = self._keys[order], (1 << 21) - 1
        cells = np.stack([keys >> 42, (keys >> 21) & mask, keys & mask], 1).astype(np.float64) - _OFFSET
        return PointCloud(
            ((cells + mean[:, :3].astype(np.float64)) * self._size).astype(np.float32),
            normals.astype(np.float32),
            np.clip(np.round(colors), 0, 255).astype(np.uint8),
            mean[:, 10].astype(np.float32),
            np.maximum(self._views[order], self._agreeing[order]),
            np.full(len(order), self._guessed),
        )

    def touches(self, points: F32) -> Mask:
        """Whether the cell of each point (N, 3), or one of the 26 around it, is occupied."""
        cells = np.floor(points / np.float32(self._size)).astype(np.int64)
        return _touches(cells, self._keys)


@_compile
def _slot(key, keys):
    """Index of the key, or of the slot where it belongs. Source: S. Vigna, splitmix64, for the mixing."""
    h = np.uint64(key)
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mask = np.uint64(len(keys) - 1)
    slot = (h ^ (h >> np.uint64(31))) & mask
    while keys[slot] != _EMPTY and keys[slot] != key:
        slot = (slot + np.uint64(1)) & mask
    return slot


@_compile
def _insert(new_keys, samples, agreeing, view, keys, sums, views, most_agreeing, last_view):
    """Add samples to their cells; returns the number of new cells."""
    created = 0
    for i in range(len(new_keys)):
        slot = _slot(new_keys[i], keys)
        if keys[slot] == _EMPTY:
            keys[slot] = new_keys[i]
            created += 1
        weight = samples[i, 0]
        sums[slot, 0] += weight
        for column in range(1, samples.shape[1]):
            if column < 7 or column >= 10:
                sums[slot, column] += weight * samples[i, column]
            else:
                sums[slot, column] += weight * samples[i, column] * samples[i, 10]
        if last_view[slot] != view:
            last_view[slot] = view
            views[slot] += 1
        most_agreeing[slot] = max(most_agreeing[slot], agreeing[i])
    return created


@_compile
def _rehash(keys, sums, views, agreeing, last_view, new_keys, new_sums, new_views, new_agreeing, new_last):
    for i in range(len(keys)):
        if keys[i] != _EMPTY:
            slot = _slot(keys[i], new_keys)
            new_keys[slot] = keys[i]
            for column in range(sums.shape[1]):  # a whole row at once takes numba seconds to compile
                new_sums[slot, column] = sums[i, column]
            new_views[slot] = views[i]
            new_agreeing[slot] = agreeing[i]
            new_last[slot] = last_view[i]


@_compile
def _touches(cells, keys):
    result = np.zeros(len(cells), np.bool_)
    for i in range(len(cells)):
        for step in range(27):
            x = cells[i, 0] + step // 9 - 1 + _OFFSET
            y = cells[i, 1] + step // 3 % 3 - 1 + _OFFSET
            z = cells[i, 2] + step % 3 - 1 + _OFFSET
            key = (x << 42) | (y << 21) | z
            if keys[_slot(key, keys)] == key:
                result[i] = True
                break
    return result
