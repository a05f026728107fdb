"""Soft shadows of things, which are taken as ellipsoids.

Under a lamp, things darken the level surface that they lie on: the shadow of an ellipsoid on a plane is an ellipse (the
projection of its matrix along the light), and a wide lamp blurs its edge by the height above the surface. Under light
from everywhere, they darken what is close to them.
"""

from __future__ import annotations

import numpy as np

from pipeline.geometry import Camera
from pipeline.geometry.jit import njit, prange
from pipeline.types import F32, Floats
from sim.sensors.cameras.props import Lighting, Solids, bounds, rotated, transformed

LEVEL = np.float32(0.05)
"""What a splat shows this near to the surface's height is the surface [m]: its depth is uneven. On the table of the
sample hall 99.9 % of the pixels of a wrist camera are, 99 % within 3.3 cm."""
DARK = np.float32(0.5)
"""Share of the colour that the darkest shadow takes."""
SOFT, SPREAD = np.float32(0.008), np.float32(0.15)
"""Half the width of an edge [m], at the surface, and more by the height of the thing's middle."""
THIN = np.float32(1e-6)
"""Least square of an ellipse's half axis [m^2]."""
HIGHEST = np.float32(1.0)
"""What is higher or lower than this has no shadow [m]."""
NEARBY = np.float32(50.0)
"""What is farther away than this many times its largest outline is wide, squared, hides too little light to count."""


def draw_shadows(
    rgb: F32, depth: F32, solids: Solids, ellipsoids: F32, lighting: Lighting, world_from_cameras: Floats, lens: Camera
) -> None:
    """Darken each image where it shows the surface and a solid is before the light; changes `rgb` in place.

    Images (B, H, W, 3) are 0..1, depths (B, H, W) along the camera's z [m], 0 = unknown; the B rows of solids and light
    are those of the images. `ellipsoids` (K, 4, 3) are the middle and the half axes of the K solids, in their axes [m].
    """
    _darken(
        rgb,
        depth,
        np.ascontiguousarray(world_from_cameras, np.float32),
        np.array([lens.fx, lens.fy, lens.cx, lens.cy], np.float32),
        np.ascontiguousarray(solids.pose, np.float32),
        ellipsoids,
        np.ascontiguousarray(lighting.toward, np.float32),
        np.ascontiguousarray(lighting.surface, np.float32),
    )


@njit(parallel=True, cache=True, nogil=True, error_model="numpy")
def _darken(
    rgb: F32, depth: F32, cameras: F32, intrinsics: F32, solids: F32, ellipsoids: F32, toward: F32, surface: F32
) -> None:
    count, height, width = depth.shape
    fx, fy, cx, cy = intrinsics
    half = np.float32(0.5)
    for b in prange(count):
        rotation, eye = cameras[b, :3, :3], cameras[b, :3, 3]
        over = eye[2] - surface[b]
        slope_x, slope_y = toward[b, 0] / toward[b, 2], toward[b, 1] / toward[b, 2]
        for k in range(len(ellipsoids)):
            pose = solids[b, k]
            middle = np.empty(3, np.float32)
            middle[0], middle[1], middle[2] = transformed(pose, ellipsoids[k, 0])
            above = middle[2] - surface[b]
            if abs(above) > HIGHEST:
                continue
            xx, xy, yy = np.float32(0), np.float32(0), np.float32(0)  # the ellipse is q^T M^-1 q = 1
            for axis in range(3):
                x, y, z = rotated(pose, ellipsoids[k, 1 + axis])
                x, y = x - slope_x * z, y - slope_y * z
                xx, xy, yy = xx + x * x, xy + x * y, yy + y * y
            xx, yy = xx + THIN, yy + THIN
            area = xx * yy - xy * xy
            high = SPREAD * max(above, np.float32(0))
            dark = DARK * np.sqrt(
                area / ((xx + high * high) * (yy + high * high) - xy * xy)
            )  # as much light is missing
            soft = SOFT + high
            middle[0], middle[1], middle[2] = middle[0] - slope_x * above, middle[1] - slope_y * above, surface[b]
            reach = np.array([np.sqrt(xx) + soft, np.sqrt(yy) + soft, 0], np.float32)
            top, bottom, left, right = bounds(rotation, middle - eye, reach, intrinsics, height, width)
            for row in range(top, bottom):
                v = (row + half - cy) / fy
                for column in range(left, right):
                    u = (column + half - cx) / fx
                    falls = rotation[2, 0] * u + rotation[2, 1] * v + rotation[2, 2]
                    far = depth[b, row, column]
                    if far <= 0 or abs(over + far * falls) > LEVEL:
                        continue
                    far = -over / falls  # at the surface itself, whose depth is smooth
                    x = eye[0] + far * (rotation[0, 0] * u + rotation[0, 1] * v + rotation[0, 2]) - middle[0]
                    y = eye[1] + far * (rotation[1, 0] * u + rotation[1, 1] * v + rotation[1, 2]) - middle[1]
                    off = np.sqrt((yy * x * x - 2 * xy * x * y + xx * y * y) / area)
                    beyond = (1 - 1 / max(off, THIN)) * np.sqrt(x * x + y * y)  # the edge, on the way from the middle
                    if beyond >= soft or far <= 0:
                        continue
                    share = min((soft - beyond) / (2 * soft), np.float32(1))
                    left_over = 1 - dark * share * share * (3 - 2 * share)
                    for channel in range(3):
                        rgb[b, row, column, channel] *= left_over


def draw_contacts(
    rgb: F32, depth: F32, ellipsoids: F32, world_from_owners: Floats, world_from_cameras: Floats, lens: Camera
) -> None:
    """Darken each image where K ellipsoids hide light that comes from above, evenly; changes `rgb` in place.

    Images (B, H, W, 3) are 0..1, depths (B, H, W) along the camera's z [m], 0 = unknown; `ellipsoids` (K, 4, 3) are
    middle and half axes in the axes of their owners [m], whose poses are (B, K, 4, 4). All surfaces are taken as level.

    What an ellipsoid hides is what a disc of its outline would that faces the point: its form factor. That is exact for
    balls and for plates.
    """
    points = np.einsum("bkij,kaj->bkai", world_from_owners[:, :, :3, :3], ellipsoids)
    points[:, :, 0] += world_from_owners[:, :, :3, 3]
    squares = np.einsum("bkai,bkaj->bkij", points[:, :, 1:], points[:, :, 1:]) + THIN * np.eye(3)
    outlines = np.linalg.det(squares)[..., None, None] * np.linalg.inv(squares)
    _hide(
        rgb,
        depth,
        points[:, :, 0].astype(np.float32),
        squares.astype(np.float32),
        outlines.astype(np.float32),
        np.sqrt(np.linalg.eigvalsh(outlines)[..., -1]).astype(np.float32),
        np.ascontiguousarray(world_from_cameras, np.float32),
        np.array([lens.fx, lens.fy, lens.cx, lens.cy], np.float32),
    )


@njit(parallel=True, cache=True, nogil=True, error_model="numpy")
def _hide(
    rgb: F32, depth: F32, middles: F32, squares: F32, outlines: F32, largest: F32, cameras: F32, intrinsics: F32
) -> None:
    """From a direction u, sqrt(u @ square @ u) is an ellipsoid's reach, sqrt(u @ outline @ u) its area over pi."""
    count, height, width = depth.shape
    fx, fy, cx, cy = intrinsics
    half = np.float32(0.5)
    for row in prange(count * height):
        b, y = row // height, row % height
        rotation, eye = cameras[b, :3, :3], cameras[b, :3, 3]
        v = (y + half - cy) / fy
        for column in range(width):
            far = depth[b, y, column]
            if far <= 0:
                continue
            u, light = (column + half - cx) / fx, np.float32(1)
            px = eye[0] + far * (rotation[0, 0] * u + rotation[0, 1] * v + rotation[0, 2])
            py = eye[1] + far * (rotation[1, 0] * u + rotation[1, 1] * v + rotation[1, 2])
            pz = eye[2] + far * (rotation[2, 0] * u + rotation[2, 1] * v + rotation[2, 2])
            for k in range(middles.shape[1]):
                x, y_, z = middles[b, k, 0] - px, middles[b, k, 1] - py, middles[b, k, 2] - pz
                square = x * x + y_ * y_ + z * z
                if z <= 0 or square > NEARBY * largest[b, k]:
                    continue
                area = np.sqrt(max(_between(outlines[b, k], x, y_, z) / square, np.float32(0)))
                reach = _between(squares[b, k], x, y_, z) / square  # squared
                light *= 1 - z / np.sqrt(square) * area / (max(square - reach, np.float32(0)) + area)
            for channel in range(3):
                rgb[b, y, column, channel] *= light


@njit(cache=True, nogil=True, inline="always")
def _between(matrix: F32, x: np.float32, y: np.float32, z: np.float32) -> np.float32:
    """V @ matrix @ v of a symmetric matrix."""
    mixed = matrix[0, 1] * x * y + matrix[0, 2] * x * z + matrix[1, 2] * y * z
    return matrix[0, 0] * x * x + matrix[1, 1] * y * y + matrix[2, 2] * z * z + 2 * mixed
