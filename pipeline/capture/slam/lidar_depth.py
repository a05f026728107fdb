"""Depth images of LiDAR points: projected, the nearest point of each pixel kept, what lies behind surfaces left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.capture.depth_images import millimetres
from pipeline.geometry import Camera, Pose
from pipeline.io.working_images import fitting
from pipeline.types import F64, U16

LIDAR_RANGE = 30.0
"""Distance to which a LiDAR's points show surfaces [m]: there the lines of usual scanners are 10 to 20 cm apart."""
_FINENESS = 1.3  # pixels from sample to sample that a depth image is sized for
_MIN_SIDE, _MAX_SIDE = 64, 640  # px


@dataclass(frozen=True)
class Spacing:
    """Distance of neighbouring samples of one surface: evenly in space (maps), over directions (scans); the larger."""

    metres: float = 0.0
    radians: float = 0.0


def point_spacing(points: F64) -> Spacing:
    """Spacing of a map (N, 3) as though its samples lay on a square grid, from the distance of the fourth neighbour.

    Samples scattered at random with density d have it at sqrt(4 / (pi d)), those of a grid at sqrt(1 / d).
    """
    from scipy.spatial import KDTree

    probes = points[:: max(1, len(points) // 2000)]
    tree = KDTree(points, balanced_tree=False, compact_nodes=False)
    distance, _ = tree.query(probes, k=min(5, len(points)))
    return Spacing(metres=float(np.median(distance[:, -1])))


def depth_camera_for(camera: Camera, points: F64, views: Sequence[Pose], spacing: Spacing) -> Camera:
    """The pinhole camera whose pixels are about as far apart as a map's samples, seen from typical views.

    Finer depth images would have more gaps, coarser ones lose detail. `views` are some `camera_from_points`.
    """
    coarse = shrunk_pinhole(camera, _MIN_SIDE)
    seen = [depth[depth > 0] for view in views if (depth := _samples(points, view, coarse)[..., 0]).any()]
    if not seen or spacing.metres <= 0:
        return coarse
    focal = _FINENESS * float(np.median(np.concatenate(seen))) / spacing.metres
    side = round(max(camera.width, camera.height) * focal / camera.fx)
    return shrunk_pinhole(camera, int(np.clip(side, _MIN_SIDE, _MAX_SIDE)))


def shrunk_pinhole(camera: Camera, longer: int) -> Camera:
    """The camera without its distortion, at most as large, its longer side `longer` pixels."""
    return without_distortion(camera).resized(*fitting(camera.width, camera.height, longer))


def without_distortion(camera: Camera) -> Camera:
    """The pinhole camera of the same intrinsics."""
    return Camera(camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy)


def project_cloud(points: F64, camera_from_points: Pose, camera: Camera, spacing: Spacing) -> U16:
    """Depth (H, W) [mm] of points (N, 3) [m] at a pinhole camera's pixel centres, 0 where none is seen.

    Gaps of a pixel or two in surfaces are filled.

    Each sample stands for a patch of surface as wide as the distance to its neighbours; a point clearly behind such
    patches is hidden. Without that, far walls shine through the gaps between samples of near surfaces. Planes through
    neighbouring samples then give the depth at pixel centres: the sample itself lies anywhere in its pixel.
    """
    from pipeline.capture.slam.kernels import REACH, at_centres, drop_hidden

    wide = replace(  # samples next to the image hide what is in it, too
        camera,
        width=camera.width + 2 * REACH,
        height=camera.height + 2 * REACH,
        cx=camera.cx + REACH,
        cy=camera.cy + REACH,
    )
    samples = _samples(points, camera_from_points, wide)
    drop_hidden(samples[..., 0], camera.fx, spacing.metres, spacing.radians)
    return millimetres(at_centres(samples)[REACH:-REACH, REACH:-REACH])


def _samples(points: F64, camera_from_points: Pose, camera: Camera) -> F64:
    """Nearest point of each pixel (H, W, 3): depth [m], 0 = none, and its offset from the pixel's centre [px]."""
    from pipeline.capture.slam.kernels import z_buffer

    intrinsics = np.array([camera.fx, camera.fy, camera.cx, camera.cy])
    shape = (camera.height, camera.width)
    return z_buffer(points, camera_from_points.rotation, camera_from_points.translation, intrinsics, shape)
