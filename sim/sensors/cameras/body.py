"""A robot and the rigid bodies around it, rendered into images: triangles in a z-buffer.

Edge functions of J. Pineda, A parallel algorithm for polygon rasterization, SIGGRAPH 1988; a triangle's plane gives the
depth at each pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pipeline.geometry import Camera
from pipeline.geometry.jit import njit, prange
from pipeline.types import F32, F64, I64, Floats
from sim.robots.model import Robot
from sim.robots.surfaces import hull, seen_from, solid_of, surfaces_of
from sim.sensors.cameras.props import Lighting, Solids, Vector, light, rotated, transformed
from sim.sensors.cameras.shadows import LEVEL, draw_shadows

COLOR, ARM_COLOR = (0.94, 0.47, 0.12), (0.7, 0.72, 0.75)
"""Of a robot, and of one whose base is fixed: things of any colour stand out against its grey."""
FEW, MANY = 300, 1000
"""Triangles of a part of the robot in its own cameras' small images, and in those from outside."""
GRACE, BESIDE = np.float32(0.05), np.float32(0.01)
"""How far behind the depth of an image bodies are drawn where there are solids [m], and where that depth is known to be
of something else than the surface that they lie on. The depth of a splat's table is centimetres too near in places,
from 12 cm and at a slant by up to 5; it would poke through a plate that lies on it."""
SHADE, KEY = np.float32(0.45), np.float32(0.55)
"""Shares of a surface's colour that it has without the light, and by facing it; together 1."""
NEAR = np.float32(0.005)
"""Near plane [m]."""
TINY = np.float32(1e-5)
"""Tolerance that closes gaps between neighbouring triangles [px]."""


class Body(NamedTuple):
    """All shapes of K solids, then those of a robot with L links.

    Attributes:
        owner: (S,) of each shape: the number of a solid, or K and the number of a link.
        spheres: (S, 4) middle and radius of a sphere around each shape, in its owner's axes [m].
        corners: (T, 3, 3) of triangles, in their owner's axes [m], counter-clockwise from outside.
        planes: (T, 4) unit normals that point outwards, and their distance from the owner's origin [m].
        first: (S + 1,) where the triangles of each shape begin.
        solids: K.
        ellipsoids: (K, 4, 3) middle and half axes of the ellipsoid that a solid is to the light, in its own axes [m].
        colors: (S, 3) of each of the robot's shapes, 0..1; those of solids are what `Solids` says.
    """

    owner: I64
    spheres: F32
    corners: F32
    planes: F32
    first: I64
    solids: int
    ellipsoids: F32
    colors: F32


def body_of(robot: Robot, solids: Sequence[Sequence[F64]] = (), eye: tuple[int, F64] | None = None) -> Body:
    """What a robot looks like, and K solids, as triangles.

    Each solid is given by the corners (V, 3) of its convex pieces, in its own axes [m]. A camera of the robot is at a
    point (3,) of a link's axes [m], its `eye`; without, it is one from outside.
    """
    hulls = [(number, hull(corners)) for number, pieces in enumerate(solids) for corners in pieces]
    surfaces = seen_from(surfaces_of(robot, FEW), *eye) if eye else surfaces_of(robot, MANY)
    default = ARM_COLOR if robot.fixed_base else COLOR
    colors = [(0.0, 0.0, 0.0)] * len(hulls) + [surface.color or default for surface in surfaces]
    hulls += [(len(solids) + surface.link, surface.corners) for surface in surfaces]
    pieces = [piece for _, piece in hulls]
    middle = [(piece.min((0, 1)) + piece.max((0, 1))) / 2 for piece in pieces]
    reach = [np.linalg.norm(piece - at, axis=-1).max() for piece, at in zip(pieces, middle, strict=True)]
    corners = np.concatenate([np.zeros((0, 3, 3)), *pieces])
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    return Body(
        owner=np.array([owner for owner, _ in hulls], np.int64),
        spheres=np.column_stack([np.reshape(middle, (-1, 3)), reach]).astype(np.float32),
        corners=corners.astype(np.float32),
        planes=np.column_stack([normal, (normal * corners[:, 0]).sum(1)]).astype(np.float32),
        first=np.cumsum([0, *map(len, pieces)]).astype(np.int64),
        solids=len(solids),
        ellipsoids=np.array(
            [_ellipsoid(np.concatenate([hull(piece) for piece in pieces])) for pieces in solids], np.float32
        ).reshape(-1, 4, 3),
        colors=np.array(colors, np.float32).reshape(-1, 3),
    )


def ellipsoids_of(robot: Robot) -> tuple[I64, F32]:
    """Links (K,) of a robot's collision shapes, and middle and half axes (K, 4, 3) of each in its link's axes [m]."""
    solid = [(number, solid_of(shape)) for number, link in enumerate(robot.links) for shape in link.shapes]
    ellipsoids = np.array([_ellipsoid(corners) for _, corners in solid], np.float32).reshape(-1, 4, 3)
    return np.array([number for number, _ in solid], np.int64), ellipsoids


def draw_body(
    rgb: F32,
    depth: F32,
    body: Body,
    camera_from_links: Floats,
    world_from_cameras: Floats,
    lens: Camera,
    solids: Solids | None = None,
    lighting: Lighting | None = None,
) -> None:
    """Draw the solids and the robot into each image where they are nearer than its depth; changes both in place.

    Only front faces are drawn: a shape around the camera is invisible. Images (B, H, W, 3) are 0..1, depths (B, H, W)
    along the camera's z [m], 0 = unknown; `camera_from_links` is (B, L, 4, 4), `world_from_cameras` (B, 4, 4); the B
    rows of `solids` and `lighting` are those of the images. Where there are solids, they and the robot are drawn up to
    `GRACE` behind what was there, `BESIDE` where that is off the surface. With a light, its direction shades them
    (Lambert), and solids darken the surface.

    Raises:
        ValueError: When there are not as many solids as the body has shapes of.
    """
    solids = solids or Solids.none(len(depth))
    if solids.pose.shape[1] != body.solids:
        raise ValueError(f"the shapes are of {body.solids} solids, the poses of {solids.pose.shape[1]}")
    if not len(body.owner):
        return
    poses = camera_from_links
    colors = np.tile(body.colors, (len(depth), 1, 1))
    if lighting:
        draw_shadows(rgb, depth, solids, body.ellipsoids, lighting, world_from_cameras, lens)
    if body.solids:
        poses = np.concatenate([np.linalg.inv(world_from_cameras)[:, None] @ solids.pose, poses], 1)
        own = body.owner < body.solids
        colors[:, own] = solids.color[:, body.owner[own]]
    _draw(
        rgb,
        depth,
        body,
        np.ascontiguousarray(poses[:, :, :3], np.float32),
        np.ascontiguousarray(world_from_cameras[:, 2, :3], np.float32),
        np.array([lens.fx, lens.fy, lens.cx, lens.cy], np.float32),
        colors,
        *_light_of(lighting, world_from_cameras),
    )


def _light_of(lighting: Lighting | None, world_from_cameras: Floats) -> tuple[F32, F32]:
    """Ways to the light (B, 3) in the cameras' axes, and heights (B,) of the cameras over the surface [m]; or none."""
    if lighting is None:
        return np.zeros((0, 3), np.float32), np.zeros(0, np.float32)
    toward = np.einsum("bji,bj->bi", world_from_cameras[:, :3, :3], lighting.toward)
    return toward.astype(np.float32), (world_from_cameras[:, 2, 3] - lighting.surface).astype(np.float32)


def _ellipsoid(corners: F64) -> F64:
    """Middle and half axes (4, 3) for the triangles (T, 3, 3) around a solid's convex pieces [m].

    Half axes are twice the deviation of its volume: those of a disc are its radius, and a square's ellipse has its area
    within 5 %.
    """
    ends = corners.sum(1)
    volumes = np.linalg.det(corners) / 6  # of the tetrahedra between the triangles and the origin
    middle = volumes @ ends / 4 / volumes.sum()
    squares = np.einsum("t,tvi,tvj->ij", volumes, corners, corners) + np.einsum("t,ti,tj->ij", volumes, ends, ends)
    spread = squares / 20 / volumes.sum() - np.outer(middle, middle)
    return np.vstack([middle, 2 * np.linalg.cholesky(spread).T])


@njit(parallel=True, cache=True, nogil=True, error_model="numpy")
def _draw(
    rgb: F32,
    depth: F32,
    body: Body,
    poses: F32,
    vertical: F32,
    intrinsics: F32,
    colors: F32,
    toward: F32,
    over: F32,
) -> None:
    count, height, width = depth.shape
    fx, fy, cx, cy = intrinsics
    for b in prange(count):
        lit = toward[b : b + 1]
        if body.solids == 0:
            _draw_shapes(rgb[b], depth[b], body, poses[b], vertical[b], intrinsics, colors[b], lit)
            continue
        before = depth[b].copy()
        for row in range(height):
            falls = vertical[b, 1] * (row + np.float32(0.5) - cy) / fy + vertical[b, 2]
            for column in range(width):
                far = before[row, column]
                if far > 0:
                    grace = GRACE
                    if len(lit):
                        rises = far * (vertical[b, 0] * (column + np.float32(0.5) - cx) / fx + falls)
                        grace = GRACE if abs(over[b] + rises) < LEVEL else BESIDE
                    depth[b, row, column] += grace
        forgiving = depth[b].copy()
        _draw_shapes(rgb[b], depth[b], body, poses[b], vertical[b], intrinsics, colors[b], lit)
        for row in range(height):
            for column in range(width):
                if depth[b, row, column] == forgiving[row, column]:  # nothing was drawn
                    depth[b, row, column] = before[row, column]


@njit(cache=True, nogil=True, error_model="numpy")
def _draw_shapes(
    rgb: F32, depth: F32, body: Body, poses: F32, vertical: F32, intrinsics: F32, colors: F32, toward: F32
) -> None:
    """Of one image; `toward` (1, 3) is the way to the light, (0, 3) where there is none."""
    owner, spheres, corners, planes, first, _, _, _ = body
    height, width = depth.shape
    fx, fy, cx, cy = intrinsics
    sides = (cx / fx, (width - cx) / fx, cy / fy, (height - cy) / fy)
    triangle, polygon = np.empty((3, 3), np.float32), np.empty((4, 3), np.float32)
    for s in range(len(owner)):
        pose = poses[owner[s]]
        middle = transformed(pose, spheres[s])
        if _outside(middle, spheres[s, 3], sides):
            continue
        eye = _camera_position(pose)
        away = np.sqrt(middle[0] * middle[0] + middle[1] * middle[1] + middle[2] * middle[2])
        for t in range(first[s], first[s + 1]):
            distance = planes[t, 0] * eye[0] + planes[t, 1] * eye[1] + planes[t, 2] * eye[2] - planes[t, 3]
            if distance <= 0:  # it faces away
                continue
            for corner in range(3):
                x, y, z = transformed(pose, corners[t, corner])
                triangle[corner, 0], triangle[corner, 1], triangle[corner, 2] = x, y, z
            number = _cut(triangle, polygon, intrinsics)
            if number >= 3:
                normal = rotated(pose, planes[t])
                if len(toward):
                    facing = toward[0, 0] * normal[0] + toward[0, 1] * normal[1] + toward[0, 2] * normal[2]
                    bright = SHADE + KEY * max(np.float32(0), facing)
                else:
                    up = vertical[0] * normal[0] + vertical[1] * normal[1] + vertical[2] * normal[2]
                    bright = light(up, distance / away)  # the same for all triangles of a side
                _fill(rgb, depth, polygon, number, normal, distance, intrinsics, colors[s], bright)


@njit(cache=True, nogil=True)
def _camera_position(pose: F32) -> Vector:
    """Position of the camera in the link's axes."""
    x, y, z = pose[0, 3], pose[1, 3], pose[2, 3]
    return (
        -(pose[0, 0] * x + pose[1, 0] * y + pose[2, 0] * z),
        -(pose[0, 1] * x + pose[1, 1] * y + pose[2, 1] * z),
        -(pose[0, 2] * x + pose[1, 2] * y + pose[2, 2] * z),
    )


@njit(cache=True, nogil=True, error_model="numpy")
def _outside(middle: Vector, reach: np.float32, sides: tuple[np.float32, np.float32, np.float32, np.float32]) -> bool:
    """Whether a sphere lies outside of what a camera sees; `sides` are the slopes of the left, right, top, bottom."""
    x, y, z = middle
    left, right, top, bottom = sides
    return bool(
        z + reach < NEAR
        or -x - left * z > reach * np.sqrt(1 + left * left)
        or x - right * z > reach * np.sqrt(1 + right * right)
        or -y - top * z > reach * np.sqrt(1 + top * top)
        or y - bottom * z > reach * np.sqrt(1 + bottom * bottom)
    )


@njit(cache=True, nogil=True, error_model="numpy")
def _cut(triangle: F32, polygon: F32, intrinsics: F32) -> int:
    """Write the pixels of what lies before the camera's near plane; gives the number of corners, at most 4.

    I. Sutherland, G. Hodgman, Reentrant polygon clipping, CACM 1974.
    """
    fx, fy, cx, cy = intrinsics
    number = 0
    for corner in range(3):
        other = (corner + 1) % 3
        x, y, z = triangle[corner]
        if z >= NEAR:
            polygon[number, 0], polygon[number, 1] = x / z * fx + cx, y / z * fy + cy
            number += 1
        if (z >= NEAR) != (triangle[other, 2] >= NEAR):
            share = (NEAR - z) / (triangle[other, 2] - z)
            polygon[number, 0] = (x + share * (triangle[other, 0] - x)) / NEAR * fx + cx
            polygon[number, 1] = (y + share * (triangle[other, 1] - y)) / NEAR * fy + cy
            number += 1
    return number


@njit(cache=True, nogil=True, error_model="numpy")
def _fill(
    rgb: F32,
    depth: F32,
    polygon: F32,
    number: int,
    normal: Vector,
    distance: np.float32,
    intrinsics: F32,
    color: F32,
    bright: np.float32,
) -> None:
    """The pixels of a polygon (4, 2) of `number` corners, where the plane with that normal is the nearest."""
    height, width = depth.shape
    fx, fy, cx, cy = intrinsics
    left, right, top, bottom = polygon[0, 0], polygon[0, 0], polygon[0, 1], polygon[0, 1]
    for corner in range(1, number):
        left, right = min(left, polygon[corner, 0]), max(right, polygon[corner, 0])
        top, bottom = min(top, polygon[corner, 1]), max(bottom, polygon[corner, 1])
    half = np.float32(0.5)
    first_column, last_column = int(max(left - half, np.float32(0))), int(min(right + half, np.float32(width)))
    first_row, last_row = int(max(top - half, np.float32(0))), int(min(bottom + half, np.float32(height)))
    for row in range(first_row, last_row):
        y = row + half
        for column in range(first_column, last_column):
            x = column + half
            inside = True
            for corner in range(number):  # the edge functions; from the front the corners go against the clock
                other = (corner + 1) % number
                ex, ey = polygon[other, 0] - polygon[corner, 0], polygon[other, 1] - polygon[corner, 1]
                side = ex * (y - polygon[corner, 1]) - ey * (x - polygon[corner, 0])
                inside &= side <= TINY * (abs(ex) + abs(ey))
            if not inside:
                continue
            near = -distance / (normal[0] * (x - cx) / fx + normal[1] * (y - cy) / fy + normal[2])
            behind = depth[row, column]
            if near < NEAR or 0 < behind < near:
                continue
            depth[row, column] = near
            for channel in range(3):
                rgb[row, column, channel] = color[channel] * bright
