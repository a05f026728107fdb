"""Pictures of the check: the splat beside the photo, depths, the mesh from several sides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.check.views import ViewCheck
from pipeline.geometry import Camera, Mesh
from pipeline.mesh.picture import overview_pose, shaded_view

Picture = NDArray[np.uint8]


def write_view_pictures(checks: Sequence[ViewCheck], folder: Path, count: int) -> list[tuple[str, str]]:
    """Photo, rendering, splat depth and mesh depth side by side, for `count` views spread over the capture.

    Returns:
        (file name, caption) of each.
    """
    names = []
    for index in np.unique(np.linspace(0, len(checks) - 1, min(count, len(checks))).round().astype(int)):
        check = checks[index]
        far = float(np.percentile(check.mesh_depth[check.mesh_depth > 0], 98)) if (check.mesh_depth > 0).any() else 1.0
        row = [check.photo, check.rendered, colored_depth(check.splat_depth, far), colored_depth(check.mesh_depth, far)]
        name = f"view_{len(names)}.jpg"
        write_jpeg(folder / name, np.concatenate(row, 1))
        names.append((name, f"{check.name}: {check.psnr:.1f} dB, SSIM {check.ssim:.3f}"))
    return names


def write_mesh_pictures(mesh: Mesh, track: NDArray[np.floating], folder: Path) -> list[str]:
    """The mesh from four sides and from the top; surfaces seen from behind are left out, which opens a room.

    Args:
        mesh: In the world frame.
        track: Camera centres (N, 3): a place captured from one side only is shown from that side.
        folder: Where to write.
    """
    low, high = np.percentile(mesh.vertices, 1, axis=0), np.percentile(mesh.vertices, 99, axis=0)
    towards = np.mean(track, axis=0) - (low + high) / 2
    one_sided = np.linalg.norm(towards[:2]) > 0.15 * np.linalg.norm(high - low)
    middle = np.rad2deg(np.arctan2(towards[1], towards[0]))
    azimuths = middle + np.array([-52, -17, 17, 52]) if one_sided else np.array([34, 126, 212, 304])
    camera, elevation = Camera(480, 360, 480.0, 480.0, 240.0, 180.0), 14 if one_sided else 37
    pictures = [
        shaded_view(mesh, camera, overview_pose(mesh, camera, float(azimuth), elevation), cull_back=True)
        for azimuth in azimuths
    ]
    grid = np.concatenate([np.concatenate(pictures[:2], 1), np.concatenate(pictures[2:], 1)], 0)
    write_jpeg(folder / "mesh.jpg", grid)
    large = camera.resized(720, 540)
    top = shaded_view(mesh, large, overview_pose(mesh, large, -90, 89.9), cull_back=True)
    write_jpeg(folder / "mesh_top.jpg", top)
    return ["mesh.jpg", "mesh_top.jpg"]


def colored_depth(depth: NDArray[np.float32], far: float) -> Picture:
    """Depth (H, W) [m] as colours (H, W, 3); black = unknown."""
    scaled = (255 * np.clip(depth / far, 0, 1)).astype(np.uint8)
    color = np.asarray(cv2.applyColorMap(255 - scaled, cv2.COLORMAP_TURBO), np.uint8)[..., ::-1]
    return np.where(depth[..., None] > 0, color, 0).astype(np.uint8)


def write_jpeg(path: Path, rgb: Picture) -> None:
    """Write an RGB picture."""
    encoded = cv2.imencode(".jpg", np.ascontiguousarray(rgb[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 88])[1]
    path.write_bytes(encoded.tobytes())
