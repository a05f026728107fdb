"""Depth images of meshes, many at once: what depth cameras of a simulator measure.

An image is done in tiles, whose rays go through the mesh's tree together: a box is entered if it reaches into the
tile's pyramid and nearer than what all its rays have met, and a triangle is tried with all rays in one flat loop, which
LLVM makes vector code of. Depths are those of `pipeline.geometry.rays.RayCaster` to the bit. One call takes images of
any number of meshes, so that cores share the work however few there are of each.

Sources: those of `pipeline.geometry.bvh`; I. Wald et al., Ray tracing deformable scenes using dynamic bounding volume
hierarchies, TOG 2007, section 5 (groups of rays against boxes).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Camera, bvh
from pipeline.geometry.jit import array_at, njit, prange
from pipeline.geometry.rays import RayCaster
from pipeline.types import F32, F64, I64, Floats

SIDE = 8
"""Side of a tile [px]."""
RAYS = SIDE * SIDE
PLANES = 4
"""Sides of a tile's pyramid."""
NEARLY = 1e-3
"""By how much a ray may miss a triangle's bounds [px]: more than all rounding."""
SLACK = 1e-5
"""By how much a box may be beside a tile's pyramid, or farther than what was met, relative to how far away it is: more
than all rounding."""


def mesh_depths(meshes: Sequence[RayCaster], of: NDArray[np.integer], camera: Camera, poses: Floats) -> F32:
    """Depths (B, H, W) along the axes of pinholes of one lens [m]; inf where nothing is.

    Args:
        meshes: What there is to see.
        of: (B,) which of them each camera sees.
        camera: Pinhole.
        poses: (B, 4, 4) world from camera.

    Raises:
        ValueError: When the camera has lens distortion.
    """
    if not camera.is_pinhole:
        raise ValueError("depths of meshes need pinhole cameras; undistort first")
    poses = np.asarray(poses, np.float64)
    depth = np.full((len(poses), camera.height, camera.width), np.inf, np.float32)
    columns, rows = (np.arange(-(-size // SIDE) * SIDE) + 0.5 for size in (camera.width, camera.height))  # whole tiles
    _draw(
        np.array([_place(mesh.tree) for mesh in meshes], np.int64),
        np.asarray(of, np.int64),
        np.asarray((columns - camera.cx) / camera.fx, np.float64),
        np.asarray((rows - camera.cy) / camera.fy, np.float64),
        np.ascontiguousarray(poses[:, :3, :3]),
        poses[:, :3, 3].astype(np.float32).astype(np.float64),
        depth,
    )
    return depth


def _place(tree: bvh.Tree | None) -> tuple[int, ...]:
    """Where the arrays of a tree are, and how many nodes and triangles it has."""
    if tree is None:
        return (0,) * 6
    return *(part.ctypes.data for part in tree[:4]), len(tree.first), len(tree.corners)


@njit(parallel=True, cache=True, nogil=True, error_model="numpy")
def _draw(places: I64, of: I64, x: F64, y: F64, rotations: F64, eyes: F64, depth: F32) -> None:
    """Fill in depths (B, H, W) from rays (x, y, 1) of rotations (B, 3, 3) and eyes (B, 3).

    `of` (B,) says which tree each sees, by its row of `places`, see `_place`.
    """
    for image in prange(len(depth)):
        boxes, first, size, corners, nodes, triangles = places[of[image]]
        if triangles == 0:
            continue
        tree = bvh.Tree(
            array_at(boxes, (nodes, 6), np.float32),
            array_at(first, (nodes,), np.int32),
            array_at(size, (nodes,), np.int32),
            array_at(corners, (triangles, 3, 3), np.float32),
            array_at(first, (0,), np.int32),
        )
        rotation, eye, (height, width) = rotations[image], eyes[image], depth[image].shape
        directions = np.empty((RAYS, 3), np.float32)
        for top in range(0, height, SIDE):
            for left in range(0, width, SIDE):
                for ray in range(RAYS):
                    a, b = x[left + ray % SIDE], y[top + ray // SIDE]
                    for axis in range(3):
                        directions[ray, axis] = rotation[axis, 0] * a + rotation[axis, 1] * b + rotation[axis, 2]
                normals = _pyramid(rotation, x[left], x[left + SIDE - 1], y[top], y[top + SIDE - 1])
                nearest = _tile(tree, eye, directions, normals)
                for ray in range(RAYS):
                    row, column = top + ray // SIDE, left + ray % SIDE
                    if row < height and column < width:
                        depth[image, row, column] = nearest[ray]


@njit(cache=True, nogil=True, error_model="numpy")
def _pyramid(rotation: F64, x0: float, x1: float, y0: float, y1: float) -> F64:
    """Inward normals (PLANES, 3) of the sides of a tile's pyramid, then the camera's axis; world axes."""
    normals = np.empty((PLANES + 1, 3))
    for axis in range(3):
        right, down, ahead = rotation[axis, 0], rotation[axis, 1], rotation[axis, 2]
        normals[0, axis], normals[1, axis] = right - x0 * ahead, x1 * ahead - right
        normals[2, axis], normals[3, axis] = down - y0 * ahead, y1 * ahead - down
        normals[PLANES, axis] = ahead
    return normals


@njit(cache=True, nogil=True, error_model="numpy")
def _enters(box: F32, eye: F64, normals: F64, far: float) -> float:
    """How far along the axis a box begins, at least, if it reaches into the pyramid before `far`; inf if not."""
    x0, y0, z0 = box[0] - eye[0], box[1] - eye[1], box[2] - eye[2]
    x1, y1, z1 = box[3] - eye[0], box[4] - eye[1], box[5] - eye[2]
    slack = SLACK * (max(abs(x0), abs(x1)) + max(abs(y0), abs(y1)) + max(abs(z0), abs(z1)))
    a, b, c = normals[PLANES, 0], normals[PLANES, 1], normals[PLANES, 2]
    near = min(x0 * a, x1 * a) + min(y0 * b, y1 * b) + min(z0 * c, z1 * c) - slack
    if near > far:
        return np.inf
    for side in range(PLANES + 1):
        a, b, c = normals[side, 0], normals[side, 1], normals[side, 2]
        if max(x0 * a, x1 * a) + max(y0 * b, y1 * b) + max(z0 * c, z1 * c) < -slack:
            return np.inf
    return near


@njit(cache=True, nogil=True, error_model="numpy")
def _may_show(corners: F32, eye: F64, normals: F64) -> bool:
    """Whether a ray of a tile goes through the bounds of a triangle with corners (3, 3)."""
    left, right, above, below = np.inf, -np.inf, np.inf, -np.inf
    for corner in range(3):
        x, y, z = corners[corner, 0] - eye[0], corners[corner, 1] - eye[1], corners[corner, 2] - eye[2]
        beyond_left = x * normals[0, 0] + y * normals[0, 1] + z * normals[0, 2]
        before_right = x * normals[1, 0] + y * normals[1, 1] + z * normals[1, 2]
        beyond_top = x * normals[2, 0] + y * normals[2, 1] + z * normals[2, 2]
        before_bottom = x * normals[3, 0] + y * normals[3, 1] + z * normals[3, 2]
        width, height = beyond_left + before_right, beyond_top + before_bottom  # of the pyramid there
        if not (width > SLACK * (abs(x) + abs(y) + abs(z)) and height > 0):
            return True  # beside or behind the eye
        left, right = min(left, beyond_left / width), max(right, beyond_left / width)
        above, below = min(above, beyond_top / height), max(below, beyond_top / height)
    last = SIDE - 1
    column, row = np.ceil(max(left, 0.0) * last - NEARLY), np.ceil(max(above, 0.0) * last - NEARLY)
    return column <= min(right, 1.0) * last + NEARLY and row <= min(below, 1.0) * last + NEARLY


@njit(cache=True, nogil=True, error_model="numpy")
def _tile(tree: bvh.Tree, eye: F64, directions: F32, normals: F64) -> F32:
    """How far (RAYS,) each ray goes until it meets a triangle, in lengths of its direction; inf where none."""
    nearest = np.full(RAYS, np.float32(np.inf))
    across, down, along = np.empty(RAYS), np.empty(RAYS), np.empty(RAYS)
    kz, kx, ky = bvh.axes(directions[0])
    alike = True
    for ray in range(RAYS):
        alike &= bvh.axes(directions[ray])[0] == kz
        along[ray] = directions[ray, kz]
        across[ray], down[ray] = directions[ray, kx] / along[ray], directions[ray, ky] / along[ray]
    stack, entries = np.empty(bvh.STACK, np.int32), np.empty(bvh.STACK)
    stack[0], entries[0] = 0, -np.inf
    waiting, far = 1, np.inf
    while waiting:
        waiting -= 1
        if entries[waiting] > far:
            continue
        node = stack[waiting]
        while tree.size[node] == 0:
            left = tree.first[node]
            to_left = _enters(tree.boxes[left], eye, normals, far)
            to_right = _enters(tree.boxes[left + 1], eye, normals, far)
            nearer, farther = (left, left + 1) if to_left <= to_right else (left + 1, left)
            if max(to_left, to_right) < np.inf:
                stack[waiting], entries[waiting] = farther, max(to_left, to_right)
                waiting += 1
            node = nearer
            if min(to_left, to_right) == np.inf:
                node = -1
                break
        if node < 0:
            continue
        for index in range(tree.first[node], tree.first[node] + tree.size[node]):
            corners = tree.corners[index]
            if not _may_show(corners, eye, normals):
                continue
            if alike:
                _meet(corners, eye, kz, kx, ky, across, down, along, nearest)
            else:
                for ray in range(RAYS):
                    longest, after, last = bvh.axes(directions[ray])
                    t = np.float32(bvh.meets(corners, eye, directions[ray], longest, after, last))
                    if 0 <= t < nearest[ray]:
                        nearest[ray] = t
        far = float(nearest.max())
    return nearest


@njit(cache=True, nogil=True, error_model="numpy")
def _meet(corners: F32, eye: F64, kz: int, kx: int, ky: int, across: F64, down: F64, along: F64, nearest: F32) -> None:
    """As `bvh.meets` for rays from one eye, whose longest axis is `kz`."""
    az, bz, cz = corners[0, kz] - eye[kz], corners[1, kz] - eye[kz], corners[2, kz] - eye[kz]
    a, b, c = corners[0, kx] - eye[kx], corners[1, kx] - eye[kx], corners[2, kx] - eye[kx]
    d, e, f = corners[0, ky] - eye[ky], corners[1, ky] - eye[ky], corners[2, ky] - eye[ky]
    for ray in range(RAYS):
        sx, sy = across[ray], down[ray]
        ax, ay, bx, by, cx, cy = a - sx * az, d - sy * az, b - sx * bz, e - sy * bz, c - sx * cz, f - sy * cz
        u, v, w = cx * by - cy * bx, ax * cy - ay * cx, bx * ay - by * ax
        t = np.float32((u * az + v * bz + w * cz) / ((u + v + w) * along[ray]))
        inside = ((u >= 0) & (v >= 0) & (w >= 0)) | ((u <= 0) & (v <= 0) & (w <= 0))
        nearest[ray] = t if inside & (t >= 0) & (t < nearest[ray]) else nearest[ray]
