"""Fusion of depth maps into one oriented, coloured cloud: the shared intermediate of mesh and splat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
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
        comparison = packed.compare(index, neighbours[index], maps[index], params.max_deviation)
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
    rays = depth_map.camera.rays()[good]
    points = depth_map.world_from_camera.apply(rays * comparison.depth[good][:, None].astype(np.float64))
    normals = depth_map.normals[good]
    facing = np.clip(-(normals * rays).sum(1) / np.linalg.norm(rays, axis=1), 0.05, 1)
    sigma = comparison.sigma[good]
    colors, has_color = _sample_colors(points, picture, camera, world_from_camera)
    cloud = PointCloud(
        points.astype(np.float32),
        depth_map.world_from_camera.rotate(normals).astype(np.float32),
        colors,
        sigma,
        comparison.agreeing[good].astype(np.int32) + 1,
        depth_map.guessed[good],
    )
    confirmed = comparison.disagreement[good & (comparison.agreeing > 0)]
    return _Samples(cloud, (facing / sigma**2).astype(np.float32), has_color, int(known.sum()), confirmed[::16])


def _sample_colors(
    points: NDArray[np.float64], picture: NDArray[np.uint8], camera: Camera, world_from_camera: Pose
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Colours (N, 3) of world points in a picture, bilinear, and which of them lie inside it."""
    local = world_from_camera.inverse().apply(points)
    ahead = local[:, 2] > 1e-6
    pixels = camera.project(np.where(ahead[:, None], local, 1.0))
    inside = ahead & (pixels > 0).all(1) & (pixels < (camera.width, camera.height)).all(1)
    # cv2.remap can't make more than 32767 columns: one column per point fails, so the list is folded.
    columns = 4096
    padded = np.zeros((-(-len(points) // columns) * columns, 2), np.float32)
    padded[: len(points)] = np.where(inside[:, None], pixels - 0.5, 0)
    folded = padded.reshape(-1, columns, 2)
    if len(points) == 0:
        return np.zeros((0, 3), np.uint8), inside
    colors = cv2.remap(picture, folded, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # pyright: ignore[reportCallIssue, reportArgumentType]
    return np.asarray(colors, np.uint8).reshape(-1, 3)[: len(points)], inside


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
