"""Coarse clouds, meshes and splats in seconds: what a build will show, before its stages have come that far.

Depth maps are taken as they are, at a fraction of their size, of a few keyframes. Nothing here is used by a stage.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial import KDTree

from pipeline.depth.maps import DepthMap, subsampled_to
from pipeline.depth.params import DepthParams
from pipeline.errors import CaptureError, ReconstructionError
from pipeline.geometry import Camera, Gaussians, Mesh, PointCloud, Pose
from pipeline.io.working_images import load_written
from pipeline.mesh.tsdf import BlockGrid
from pipeline.poses.scene import View, read_sensor_depth
from pipeline.previews import spread
from pipeline.splat.initialization import NEIGHBOURS, discs_on
from pipeline.types import F32, U8, Mask

SHOTS = 48
"""Most keyframes that a coarse model is made of."""
SIDE = 160
"""Longer side of their depth maps, about [px]."""
CLOUD_CELLS, MESH_CELLS = 250, 120
"""Cells along the scene's diagonal: one point a cell of the cloud, one value a cell of the mesh's distance field."""
TRUNCATION = 3.0
"""Truncation of the distance field [its cells]."""
JUMP = 0.05
"""Largest difference of neighbouring depths on one surface, as a share of them."""
SPLAT_COUNT, OPACITY, FLATNESS = 30_000, 0.8, 0.3
"""Number of Gaussians of a coarse splat at most, their opacity, and their thickness over their width."""
WIDEST = 2.0
"""Largest width of a Gaussian over the median: points that stand alone would be balls in front of everything."""


@dataclass(frozen=True, eq=False)
class Shot:
    """A small depth map, and the photo that colours it: its file, camera and world_from_camera."""

    depth_map: DepthMap
    photo: Path
    camera: Camera
    pose: Pose


def sensor_shots(capture_folder: Path, views: Sequence[View], photos: Path, depth_scale: float) -> Iterator[Shot]:
    """Shots of the sensor's depth in some of the views; those without, and damaged ones, are left out.

    `depth_scale` is scene units per metre of the sensor; the views' images lie below `photos`.
    """
    params = DepthParams()
    with_depth = [view for view in views if view.sensor_depth]
    for index in spread(len(with_depth), SHOTS):
        view = with_depth[index]
        try:
            metres, confidence, camera = read_sensor_depth(capture_folder, view)
        except (CaptureError, OSError):
            continue
        used = (metres >= params.min_range) & (metres <= params.farthest) & (confidence >= params.min_confidence)
        pose = view.world_from_camera @ (view.camera_from_depth or Pose.identity())
        depth = np.where(used, metres * np.float32(depth_scale), 0).astype(np.float32)
        yield Shot(small_map(view.name, camera, pose, depth), photos / view.image, view.camera, view.world_from_camera)


def small_map(name: str, camera: Camera, pose: Pose, depth: F32) -> DepthMap:
    """A depth map (H, W) [scene units] at about `SIDE` pixels, with normals from neighbouring pixels."""
    camera = replace(camera, distortion=(0.0, 0.0, 0.0, 0.0))  # less than a pixel of so few
    nothing = np.zeros_like(depth)
    normals = np.broadcast_to(np.float32(0), (*depth.shape, 3))
    whole = DepthMap(name, False, camera, pose, depth, nothing, normals, np.zeros(depth.shape, bool))
    depth_map = subsampled_to(whole, SIDE)
    return replace(depth_map, normals=_normals(depth_map))


def _normals(depth_map: DepthMap) -> F32:
    """Unit normals (H, W, 3) in camera axes, towards the camera; zero beside jumps and unknown depth."""
    depth = depth_map.depth
    points = depth_map.camera.rays() * depth[..., None].astype(np.float64)
    normals = np.zeros((*depth.shape, 3), np.float32)
    right, down = points[1:-1, 2:] - points[1:-1, :-2], points[2:, 1:-1] - points[:-2, 1:-1]
    cross = np.cross(down, right)  # of x to the right and y down: towards the camera
    length = np.linalg.norm(cross, axis=-1)
    around = np.stack([depth[1:-1, 2:], depth[1:-1, :-2], depth[2:, 1:-1], depth[:-2, 1:-1]])
    middle = depth[1:-1, 1:-1]
    smooth = (around > 0).all(0) & (np.abs(around - middle) < JUMP * middle).all(0) & (length > 0)
    normals[1:-1, 1:-1][smooth] = cross[smooth] / length[smooth, None]
    return normals


def cloud_of(shots: Sequence[Shot], min_pixels: int = 1) -> PointCloud:
    """One coloured, oriented point for each cell of space in which at least so many pixels of the shots lie."""
    points, normals, colors = [np.zeros((0, 3))], [np.zeros((0, 3))], [np.zeros((0, 3), np.uint8)]
    for shot in shots:
        known = (shot.depth_map.normals != 0).any(-1)
        there = shot.depth_map.points()[known]
        points.append(there)
        normals.append(shot.depth_map.world_from_camera.rotate(shot.depth_map.normals[known]))
        colors.append(_colors(shot, there))
    everything = np.concatenate(points)
    if not len(everything):
        return sparse_cloud(np.zeros((0, 3)), np.zeros((0, 3), np.uint8))
    cells = np.floor(everything / (diagonal(everything) / CLOUD_CELLS)).astype(np.int64)
    cells -= cells.min(0)
    key = np.ravel_multi_index(tuple(cells.T), tuple(cells.max(0) + 1))
    _, cell, count = np.unique(key, return_inverse=True, return_counts=True)

    def mean(values: np.ndarray) -> np.ndarray:
        sums = [np.bincount(cell, values[:, axis], len(count)) for axis in range(3)]
        return np.stack(sums, 1) / count[:, None]

    towards = mean(np.concatenate(normals))
    length = np.linalg.norm(towards, axis=1)
    kept = (count >= min_pixels) & (length > 0)
    cloud = sparse_cloud(mean(everything)[kept], mean(np.concatenate(colors))[kept].round().astype(np.uint8))
    return replace(cloud, normals=(towards[kept] / length[kept, None]).astype(np.float32))


def sparse_cloud(points: np.ndarray, colors: U8) -> PointCloud:
    """A cloud of points (N, 3) and colours (N, 3) of which nothing else is known."""
    count = len(points)
    zero = np.zeros((count, 3), np.float32)
    sigma, views = np.zeros(count, np.float32), np.ones(count, np.int32)
    return PointCloud(points.astype(np.float32), zero, colors, sigma, views, np.zeros(count, bool))


def diagonal(points: np.ndarray) -> float:
    """Diagonal of the box that holds the middle 96 % of points (N, 3) along each axis; above 0."""
    low, high = np.percentile(points, [2, 98], axis=0)
    return max(float(np.linalg.norm(high - low)), 1e-3)


def _colors(shot: Shot, points: np.ndarray) -> U8:
    """The photo's colours (N, 3) where it shows world points (N, 3); grey beside it, and where it can't be read."""
    colors = np.full((len(points), 3), 128, np.uint8)
    try:
        photo = load_written(shot.photo, cv2.IMREAD_REDUCED_COLOR_2)[..., ::-1]
    except OSError:
        return colors
    height, width = photo.shape[:2]
    local = shot.pose.inverse().apply(points)
    ahead = local[:, 2] > 0
    pixel = shot.camera.resized(width, height).project(np.where(ahead[:, None], local, 1.0))
    column, row = np.floor(np.clip(pixel, -1, 1e6)).astype(np.int64).T
    inside: Mask = ahead & (column >= 0) & (row >= 0) & (column < width) & (row < height)
    colors[inside] = photo[row[inside], column[inside]]
    return colors


def mesh_of(shots: Sequence[Shot], cloud: PointCloud, min_shots: int = 1) -> Mesh | None:
    """A surface in the cloud's colours that at least so many shots saw; None where there is none."""
    if not len(cloud):
        return None
    cell = diagonal(cloud.points) / MESH_CELLS
    grid = BlockGrid(cell, TRUNCATION * cell)
    for shot in shots:
        known = shot.depth_map.depth > 0
        depth_map = replace(shot.depth_map, sigma=np.where(known, np.float32(cell / 4), 0).astype(np.float32))
        try:
            grid.integrate(depth_map)
        except ReconstructionError:  # a scene that is larger than its middle by far
            return None
    mesh = grid.surface(min(min_shots, len(shots)))
    if not len(mesh.triangles):
        return None
    nearest = np.asarray(KDTree(cloud.points).query(mesh.vertices)[1])
    return replace(mesh, colors=cloud.colors[nearest])


def splat_of(cloud: PointCloud) -> Gaussians | None:
    """Discs on the cloud, balls where it has no normals; None where there are hardly any points."""
    if len(cloud) <= NEIGHBOURS:
        return None
    discs = discs_on(cloud, SPLAT_COUNT, 1, np.random.default_rng(0), opacity=OPACITY, flatness=FLATNESS)
    return replace(discs, log_scales=np.minimum(discs.log_scales, np.median(discs.log_scales) + np.log(WIDEST)))
