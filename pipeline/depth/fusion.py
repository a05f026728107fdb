"""Fusion of depth maps into one oriented, coloured cloud: the shared intermediate of mesh and splat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.depth.agreement import Comparison, MapSet
from pipeline.depth.maps import DepthMap
from pipeline.depth.parallel import map_in_order
from pipeline.depth.params import PointsParams
from pipeline.depth.voxel_grid import VoxelGrid
from pipeline.geometry import Camera, PointCloud, Pose
from pipeline.progress import track

ColorSource = Callable[[str], tuple[NDArray[np.uint8], Camera, Pose]]
"""From a view's name its RGB picture, that picture's camera and world_from_camera."""
_MIN_COSINE = 0.05
"""A pixel seen at a grazing angle, or without a normal, counts this much at least."""


@dataclass(frozen=True, eq=False)
class Fused:
    """The cloud and how it came about.

    Attributes:
        cloud: Merged points, world frame.
        voxel: Edge of the cells they were merged in [m].
        pixels: Depths that went in.
        kept: Of these, how many no neighbour contradicted.
        confirmed: Of the kept, how many another map agrees with.
        disagreement: Median distance between agreeing maps' surfaces [m].
    """

    cloud: PointCloud
    voxel: float
    pixels: int
    kept: int
    confirmed: int
    disagreement: float

    def report(self) -> dict[str, Any]:
        """Plain JSON values for the manifest."""
        return {
            "points": len(self.cloud),
            "guessed": int(self.cloud.guessed.sum()),
            "voxel": self.voxel,
            "pixels": self.pixels,
            "kept_share": self.kept / max(self.pixels, 1),
            "confirmed_share": self.confirmed / max(self.kept, 1),
            "disagreement": self.disagreement,
            "median_sigma": float(np.median(self.cloud.sigma)) if len(self.cloud) else 0.0,
            "median_views": float(np.median(self.cloud.views)) if len(self.cloud) else 0.0,
        }


def subsampled(depth_map: DepthMap, stride: int) -> DepthMap:
    """Every `stride`-th pixel of a map, with the camera that sees just these."""
    camera, first = depth_map.camera, stride // 2
    chosen = (slice(first, None, stride), slice(first, None, stride))
    depth = np.ascontiguousarray(depth_map.depth[chosen])
    height, width = depth.shape
    # Pixel centre first + 0.5 + stride * k of the map becomes k + 0.5.
    shift = (first + 0.5) / stride - 0.5
    smaller = Camera(
        width, height, camera.fx / stride, camera.fy / stride, camera.cx / stride - shift, camera.cy / stride - shift
    )
    return replace(
        depth_map,
        camera=smaller,
        depth=depth,
        sigma=np.ascontiguousarray(depth_map.sigma[chosen]),
        normals=np.ascontiguousarray(depth_map.normals[chosen]),
        guessed=np.ascontiguousarray(depth_map.guessed[chosen]),
        origin=None if depth_map.origin is None else np.ascontiguousarray(depth_map.origin[chosen]),
    )


def fuse(maps: list[DepthMap], color_source: ColorSource, params: PointsParams, threads: int | None = None) -> Fused:
    """Merge the maps, already subsampled, into one cloud.

    A pixel stays unless the neighbours that look through it outnumber half of those that confirm it; what agrees is
    averaged along the pixel's ray before points are merged by cells, weighted with cos(incidence) / sigma^2.
    Guessed pixels only fill cells that no measured point is in or next to.

    Args:
        maps: World frame.
        color_source: Where to get the pictures.
        params: See there.
        threads: How many; None = all cores. The result does not depend on it.
    """
    packed = MapSet.pack(maps)
    neighbours = packed.neighbours(params.neighbours)
    measured, guessed = VoxelGrid(params.voxel), VoxelGrid(params.voxel, guessed=True)
    pixels, kept, confirmed = 0, 0, 0
    disagreements = []

    def compare(index: int) -> _Samples:
        comparison = packed.compare(maps[index], neighbours[index], params.max_deviation)
        return _samples(maps[index], comparison, *color_source(maps[index].name))

    for index, samples in enumerate(track(map_in_order(compare, range(len(maps)), threads), "points", len(maps))):
        for grid, chosen in ((measured, ~samples.cloud.guessed), (guessed, samples.cloud.guessed)):
            grid.add(samples.cloud[chosen], samples.weights[chosen], samples.has_color[chosen], index)
        pixels += samples.pixels
        kept += len(samples.cloud)
        confirmed += int((samples.cloud.views > 1).sum())
        disagreements.append(samples.disagreement)
    cloud, voxel = measured.cloud(), params.voxel
    filling = guessed.cloud()
    cloud = _joined(cloud, filling[~measured.touches(filling.points)])
    while len(cloud) > params.max_points:
        # Points lie on surfaces, so their number falls with the square of the cell; a little more saves a round.
        voxel *= 1.05 * float(np.sqrt(len(cloud) / params.max_points))
        cloud = _coarser(cloud, voxel)
    distances = np.concatenate([np.zeros(0, np.float32), *disagreements])
    disagreement = float(np.median(distances)) if len(distances) else 0.0
    return Fused(cloud, voxel, pixels, kept, confirmed, disagreement)


@dataclass(frozen=True, eq=False)
class _Samples:
    """One map's points; `disagreement` holds the distances of a sample of them."""

    cloud: PointCloud
    weights: NDArray[np.float32]
    has_color: NDArray[np.bool_]
    pixels: int
    disagreement: NDArray[np.float32]


def _samples(
    depth_map: DepthMap, comparison: Comparison, picture: NDArray[np.uint8], camera: Camera, world_from_camera: Pose
) -> _Samples:
    known = depth_map.depth > 0
    good = known & (2 * comparison.violations.astype(np.int32) <= comparison.agreeing)
    picture_from_map = world_from_camera.inverse() @ depth_map.world_from_camera
    points, normals, colors, has_color, facing = _place_pixels(
        good,
        comparison.depth,
        depth_map.normals,
        _intrinsics(depth_map.camera),
        depth_map.world_from_camera.matrix[:3].copy(),
        picture,
        _intrinsics(camera),
        picture_from_map.matrix[:3].copy(),
    )
    sigma = comparison.sigma[good]
    agreeing = comparison.agreeing[good].astype(np.int32) + 1
    cloud = PointCloud(points, normals, colors, sigma, agreeing, depth_map.guessed[good])
    confirmed = comparison.disagreement[good & (comparison.agreeing > 0)]
    return _Samples(cloud, facing / sigma**2, has_color, int(known.sum()), confirmed[::16])


def _intrinsics(camera: Camera) -> NDArray[np.float64]:
    return np.array([camera.fx, camera.fy, camera.cx, camera.cy])


@njit(nogil=True, cache=True, error_model="numpy")
def _place_pixels(chosen, depth, normals, lens, world_from_map, picture, picture_lens, picture_from_map):  # noqa: ANN001, ANN202
    """World points, world normals, bilinear colours, whether they lie in the picture, cosines of incidence."""
    count = chosen.sum()
    points = np.zeros((count, 3), np.float32)
    turned = np.zeros((count, 3), np.float32)
    colors = np.zeros((count, 3), np.uint8)
    has_color = np.zeros(count, np.bool_)
    facing = np.zeros(count, np.float32)
    world, local = world_from_map, picture_from_map
    height, width = picture.shape[:2]
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
                turned[k, axis] = world[axis, 0] * nx + world[axis, 1] * ny + world[axis, 2] * nz
            ahead = z * (local[2, 0] * ray_x + local[2, 1] * ray_y + local[2, 2]) + local[2, 3]
            if ahead > 0:
                right = z * (local[0, 0] * ray_x + local[0, 1] * ray_y + local[0, 2]) + local[0, 3]
                down = z * (local[1, 0] * ray_x + local[1, 1] * ray_y + local[1, 2]) + local[1, 3]
                u = right / ahead * picture_lens[0] + picture_lens[2]
                v = down / ahead * picture_lens[1] + picture_lens[3]
                if u >= 0 and v >= 0 and u < width and v < height:
                    has_color[k] = True
                    u, v = min(max(u - 0.5, 0.0), width - 1.001), min(max(v - 0.5, 0.0), height - 1.001)
                    column, row = int(u), int(v)
                    du, dv = u - column, v - row
                    for channel in range(3):
                        upper = picture[row, column, channel] * (1 - du) + picture[row, column + 1, channel] * du
                        lower = (
                            picture[row + 1, column, channel] * (1 - du) + picture[row + 1, column + 1, channel] * du
                        )
                        colors[k, channel] = int(upper * (1 - dv) + lower * dv + 0.5)
            k += 1
    return points, turned, colors, has_color, facing


def _joined(first: PointCloud, second: PointCloud) -> PointCloud:
    return PointCloud(
        *(np.concatenate([getattr(first, n), getattr(second, n)]) for n in PointCloud.__dataclass_fields__)
    )


def _coarser(cloud: PointCloud, voxel: float) -> PointCloud:
    """The cloud merged in larger cells, measured points and guessed ones apart."""
    parts = []
    for guessed in (False, True):
        part = cloud[cloud.guessed == guessed]
        grid = VoxelGrid(voxel, guessed=guessed)
        grid.add(part, (1 / part.sigma**2).astype(np.float32), np.ones(len(part), bool), 0)
        parts.append(grid.cloud())
    return _joined(parts[0], parts[1])
