"""Images of the check: the splat next to the photos, depths, the mesh from several sides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from scipy.ndimage import label

from pipeline.check.scene import ViewCheck
from pipeline.geometry import Camera, Mesh, Pose
from pipeline.geometry.rays import RayCaster
from pipeline.types import F32, F64, U8, Floats


def write_view_images(checks: Sequence[ViewCheck], folder: Path, count: int) -> dict[str, dict[str, object]]:
    """Write photo, rendering and both depths side by side, of `count` views; their names and metrics by file."""
    shown: dict[str, dict[str, object]] = {}
    for index in np.unique(np.linspace(0, len(checks) - 1, min(count, len(checks))).round().astype(int)):
        check = checks[index]
        far = float(np.percentile(check.mesh_depth[check.mesh_depth > 0], 98)) if (check.mesh_depth > 0).any() else 1.0
        row = [check.photo, check.rendered, colored_depth(check.splat_depth, far), colored_depth(check.mesh_depth, far)]
        name = f"view_{len(shown)}.jpg"
        write_jpeg(folder / name, np.concatenate(row, 1))
        shown[name] = {"name": check.name, "psnr": round(check.psnr, 1), "ssim": round(check.ssim, 3)}
    return shown


def write_mesh_images(mesh: Mesh, track: Floats, folder: Path) -> None:
    """The mesh [world frame] from four sides and the top; surfaces seen from behind are left out, which opens a room.

    By the camera centres (N, 3) a scene captured from one side only is shown from that side.
    """
    points = bulk(mesh).mean(1)
    low, high = np.percentile(points, 1, axis=0), np.percentile(points, 99, axis=0)
    towards = np.mean(track, axis=0) - (low + high) / 2
    one_sided = np.linalg.norm(towards[:2]) > 0.15 * np.linalg.norm(high - low)
    middle = np.rad2deg(np.arctan2(towards[1], towards[0]))
    azimuths = middle + np.array([-52, -17, 17, 52]) if one_sided else np.array([34, 126, 212, 304])
    camera, elevation = Camera(480, 360, 480.0, 480.0, 240.0, 180.0), 14 if one_sided else 37
    images = [shaded_view(mesh, camera, overview_pose(mesh, camera, float(azimuth), elevation)) for azimuth in azimuths]
    grid = np.concatenate([np.concatenate(images[:2], 1), np.concatenate(images[2:], 1)], 0)
    write_jpeg(folder / "mesh.jpg", grid)
    wide = Camera(720, 540, 720.0, 720.0, 360.0, 270.0)
    large = wide if high[0] - low[0] > high[1] - low[1] else Camera(540, 720, 720.0, 720.0, 270.0, 360.0)
    write_jpeg(folder / "mesh_top.jpg", shaded_view(mesh, large, overview_pose(mesh, large, -90, 89.9)))


def colored_depth(depth: F32, far: float) -> U8:
    """Depth (H, W) [m] as colours (H, W, 3); black = unknown."""
    scaled = (255 * np.clip(depth / far, 0, 1)).astype(np.uint8)
    color = np.asarray(cv2.applyColorMap(255 - scaled, cv2.COLORMAP_TURBO), np.uint8)[..., ::-1]
    return np.where(depth[..., None] > 0, color, 0).astype(np.uint8)


def write_jpeg(path: Path, rgb: U8) -> None:
    """Write an RGB image."""
    path.write_bytes(jpeg(rgb))


def jpeg(rgb: U8) -> bytes:
    """An RGB image as a JPEG."""
    encoded = cv2.imencode(".jpg", np.ascontiguousarray(rgb[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 88])[1]
    return encoded.tobytes()


BACKGROUND = np.array([236.0, 239.0, 243.0])
GUESSED = np.array([230.0, 120.0, 30.0])
FILLED = 0.94
"""Share of an image that a mesh fills."""
OUTSIDE = 0.001
"""Share of a mesh's corners that may lie outside at each side of an image."""
APART, SCRAP = 48, 0.1
"""Parts of a mesh with empty cells between them, of which so many make up its diagonal, lie apart; those whose area by
that of the largest is smaller are scraps."""
LIGHT = np.array([0.35, -0.25, 0.9]) / np.linalg.norm([0.35, -0.25, 0.9])


def shaded_view(mesh: Mesh, camera: Camera, world_from_camera: Pose) -> U8:
    """An image (H, W, 3) uint8 in the mesh's colours, shaded by slope; guessed parts are tinted orange.

    Surfaces seen from behind are left out, which opens a room to a view from above.
    """
    directions = world_from_camera.rotate(camera.rays()).reshape(-1, 3)
    origins = np.broadcast_to(world_from_camera.translation, directions.shape)
    normals = mesh.face_normals()
    ray, distance, triangle = RayCaster(mesh).all_hits(origins, directions)
    front = np.flatnonzero(np.einsum("nc,nc->n", normals[triangle], directions[ray]) < 0)
    seen, first = np.unique(ray[front], return_index=True)
    faces, corners = triangle[front[first]], mesh.triangles[triangle[front[first]]]
    points = origins[seen] + directions[seen] * distance[front[first], None].astype(np.float64)
    weights = _barycentric(points, mesh.corners()[faces].astype(np.float64))
    color = np.einsum("nk,nkc->nc", weights, mesh.colors[corners].astype(np.float64))
    guessed = np.einsum("nk,nk->n", weights, mesh.guessed[corners].astype(np.float64))[:, None]
    color = color * (1 - 0.6 * guessed) + GUESSED * 0.6 * guessed
    shade = 0.55 + 0.45 * np.abs(normals[faces] @ LIGHT)
    image = np.broadcast_to(BACKGROUND, (len(directions), 3)).copy()
    image[seen] = color * shade[:, None]
    return np.clip(image, 0, 255).round().astype(np.uint8).reshape(camera.height, camera.width, 3)


def overview_pose(mesh: Mesh, camera: Camera, azimuth_deg: float, elevation_deg: float) -> Pose:
    """World from camera of a camera whose image the bulk of the mesh fills, from that side; x is azimuth 0.

    What faces away from the camera isn't drawn and needs no room.
    """
    azimuth, elevation = np.deg2rad(azimuth_deg), np.deg2rad(elevation_deg)
    outward = np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
    right = np.array([-np.sin(azimuth), np.cos(azimuth), 0.0])
    world_from_camera = np.stack([right, np.cross(-outward, right), -outward], 1)
    corners = bulk(mesh)
    facing = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) @ outward > 0
    points = (corners[facing] if facing.any() else corners).reshape(-1, 3) @ world_from_camera
    eye, farthest = np.zeros(3), np.inf
    for axis, slope in enumerate((camera.width / camera.fx, camera.height / camera.fy)):
        # a point is in the image where |point - eye| < reach * depth along the axis
        reach = FILLED * slope / 2
        most, least = (_most(sign * points[:, axis] - reach * points[:, 2]) for sign in (1, -1))
        eye[axis], farthest = (most - least) / 2, min(farthest, -(most + least) / (2 * reach))
    eye[2] = farthest
    return Pose(world_from_camera, world_from_camera @ eye)


def bulk(mesh: Mesh) -> F64:
    """Corners (T, 3, 3) of the triangles of a mesh [m], without scraps that lie apart from the rest."""
    corners = mesh.corners().astype(np.float64)
    centres = corners.mean(1)
    low = centres.min(0)
    cell = float(np.linalg.norm(centres.max(0) - low)) / APART or 1.0
    x, y, z = ((centres - low) / cell).astype(int).T
    grid = np.zeros((x.max() + 1, y.max() + 1, z.max() + 1), bool)
    grid[x, y, z] = True
    parts = np.zeros(grid.shape, np.int32)
    label(grid, np.ones((3, 3, 3)), parts)
    part = parts[x, y, z]
    share = np.bincount(
        part, np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    )
    return corners[share[part] > SCRAP * share.max()]


def _most(values: F64) -> float:
    """The largest but for a few."""
    return float(np.quantile(values, 1 - OUTSIDE, method="higher"))


def _barycentric(points: F64, corners: F64) -> F64:
    """Weights (N, 3) of points (N, 3) in their triangles (N, 3, 3)."""
    a, b, c = np.moveaxis(corners, 1, 0)
    normal = np.cross(b - a, c - a)
    area = np.maximum(np.einsum("nc,nc->n", normal, normal), 1e-30)
    second = np.einsum("nc,nc->n", np.cross(points - a, c - a), normal) / area
    third = np.einsum("nc,nc->n", np.cross(b - a, points - a), normal) / area
    weights = np.clip(np.stack([1 - second - third, second, third], 1), 0, 1)
    return weights / weights.sum(1, keepdims=True)
