"""A room that is scanned twice, as exact meshes of what the views saw: a door, a drawer and a box moved."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipeline.changes.register import Scan
from pipeline.geometry import Camera, Mesh, Pose, Similarity, matrix_from_rotvec
from pipeline.geometry.rays import RayCaster
from pipeline.objects.views import Views
from pipeline.types import F64
from tests.synthetic import look_at

EDGE = 0.04
"""Longest edge of the triangles' legs [m]."""
WIDTH, DEPTH, HEIGHT = 3.6, 2.8, 2.3
HINGE, OPEN = np.array([1.0, DEPTH, 0.0]), np.deg2rad(-40)
PULLED = np.array([-0.24, 0.0, 0.0])
BOX_BEFORE = Pose(matrix_from_rotvec([0, 0, 0.3]), np.array([2.4, 2.1, 0.0]))
BOX_AFTER = Pose(matrix_from_rotvec([0, 0, 1.1]), np.array([1.7, 0.6, 0.0]))
FIRST_FROM_ROOM = Pose(matrix_from_rotvec([0, 0, 0.23]), np.array([-1.1, -1.9, 0.03]))
"""Neither frame lies along the walls."""
SECOND_FROM_ROOM = Pose(matrix_from_rotvec([0.004, -0.003, 0.23 + np.deg2rad(37)]), np.array([0.6, -1.4, -0.02]))
CAMERA = Camera(320, 240, 200.0, 200.0, 160.0, 120.0)


def true_motion(thing: str) -> Pose:
    """What a thing did between the scans, in the first's frame."""
    turn = matrix_from_rotvec([0, 0, OPEN])
    motion = {
        "door": Pose(turn, HINGE - turn @ HINGE),
        "drawer": Pose(np.eye(3), PULLED),
        "box": BOX_AFTER @ BOX_BEFORE.inverse(),
    }[thing]
    return FIRST_FROM_ROOM @ motion @ FIRST_FROM_ROOM.inverse()


def sheet(corner: tuple[float, ...] | F64, along: tuple[float, ...] | F64, across: tuple[float, ...] | F64) -> Mesh:
    """A parallelogram, seen from where `along` x `across` points to."""
    c, a, b = (np.asarray(value, np.float64) for value in (corner, along, across))
    counts = [max(int(np.ceil(np.linalg.norm(edge) / EDGE)), 1) for edge in (a, b)]
    u, v = np.meshgrid(*(np.linspace(0, 1, count + 1) for count in counts), indexing="ij")
    number = np.arange(u.size).reshape(u.shape)
    p, q, r, s = (part.ravel() for part in (number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]))
    places = c + u.reshape(-1, 1) * a + v.reshape(-1, 1) * b
    mesh = Mesh.from_arrays(places, np.concatenate([np.stack([p, q, r], 1), np.stack([p, r, s], 1)]))
    colors = 0.5 + 0.3 * np.sin(places @ np.array([[9.0, 3, 5], [7, 8, 4], [2, 5, 11]]))  # of the thing, not its place
    return replace(mesh, colors=np.round(255 * colors).astype(np.uint8))


def crate(size: tuple[float, float, float], world_from_crate: Pose) -> Mesh:
    """A box that stands on the origin of its frame, which is in the middle of its foot."""
    x, y, z = size
    sides = [sheet((-x / 2, -y / 2, z), (x, 0, 0), (0, y, 0)), sheet((-x / 2, -y / 2, 0), (0, y, 0), (x, 0, 0))]
    corners = np.array([[-x / 2, -y / 2, 0], [x / 2, -y / 2, 0], [x / 2, y / 2, 0], [-x / 2, y / 2, 0]])
    sides += [sheet(corners[k], corners[(k + 1) % 4] - corners[k], (0, 0, z)) for k in range(4)]
    return joined(sides).transformed(Similarity.from_pose(world_from_crate))


def joined(meshes: list[Mesh]) -> Mesh:
    """All in one."""
    result = meshes[0]
    for mesh in meshes[1:]:
        result = result.joined(mesh)
    return result


def room(*, later: bool, moved: tuple[str, ...] = ("door", "drawer", "box")) -> Mesh:
    """The room before or after things moved, in its own frame."""
    w, d, h, top, left, right, back = WIDTH, DEPTH, HEIGHT, 1.9, 1.0, 1.8, DEPTH + 0.8
    parts = [
        sheet((0, 0, 0), (w, 0, 0), (0, d, 0)), sheet((0, 0, h), (0, d, 0), (w, 0, 0)),
        sheet((w, 0, 0), (-w, 0, 0), (0, 0, h)), sheet((0, 0, 0), (0, d, 0), (0, 0, h)),
        sheet((w, d, 0), (0, -d, 0), (0, 0, h)), sheet((0, d, 0), (left, 0, 0), (0, 0, h)),
        sheet((right, d, 0), (w - right, 0, 0), (0, 0, h)),
        sheet((left, d, top), (right - left, 0, 0), (0, 0, h - top)),
        sheet((left, d, 0), (right - left, 0, 0), (0, back - d, 0)), sheet((left, d, 0), (0, back - d, 0), (0, 0, top)),
        sheet((left, back, 0), (right - left, 0, 0), (0, 0, top)),
        sheet((right, back, 0), (0, d - back, 0), (0, 0, top)),
    ]  # fmt: skip
    angle = OPEN if later and "door" in moved else 0.0
    turn = matrix_from_rotvec([0, 0, angle])
    parts.append(crate((0.78, 0.04, 1.87), Pose(turn, HINGE + turn @ [0.4, 0.02, 0.01])))
    x, y, v, z, t = 3.1, 0.8, 1.5, 0.4, 0.7  # a cabinet with a gap for its drawer
    parts += [
        sheet((x, v, 0), (0, y - v, 0), (0, 0, z)), sheet((x, v, t), (0, y - v, 0), (0, 0, 0.1)),
        sheet((x, v, z), (0, -0.05, 0), (0, 0, t - z)), sheet((x, y + 0.05, z), (0, -0.05, 0), (0, 0, t - z)),
        sheet((x, y, 0.8), (w - x, 0, 0), (0, v - y, 0)), sheet((x, y, 0), (w - x, 0, 0), (0, 0, 0.8)),
        sheet((w, v, 0), (x - w, 0, 0), (0, 0, 0.8)), sheet((x, y + 0.05, z), (w - x, 0, 0), (0, v - y - 0.1, 0)),
        sheet((w, v - 0.05, z), (x - w, 0, 0), (0, 0, t - z)), sheet((x, y + 0.05, z), (0, 0, t - z), (w - x, 0, 0)),
    ]  # fmt: skip
    pulled = Pose(np.eye(3), PULLED[:] if later and "drawer" in moved else np.zeros(3))
    middle, wide = (y + v) / 2, v - y - 0.11
    drawer = [crate((0.02, wide, t - z - 0.01), Pose(np.eye(3), np.array([x + 0.01, middle, z + 0.005])))]
    drawer.append(crate((0.36, wide, 0.02), Pose(np.eye(3), np.array([x + 0.2, middle, z + 0.01]))))
    drawer += [
        crate((0.36, 0.02, 0.2), Pose(np.eye(3), np.array([x + 0.2, middle + s * (wide / 2 - 0.01), z + 0.03])))
        for s in (-1, 1)
    ]
    parts += [part.transformed(Similarity.from_pose(pulled)) for part in drawer]
    parts.append(crate((0.45, 0.3, 0.35), BOX_AFTER if later and "box" in moved else BOX_BEFORE))
    parts.append(crate((0.35, 0.8, 1.5), Pose(np.eye(3), np.array([0.2, 1.5, 0.0]))))  # a shelf, which stays
    parts.append(crate((0.9, 0.3, 0.7), Pose(np.eye(3), np.array([2.3, 0.17, 0.0]))))
    return joined(parts)


def cameras() -> list[Pose]:
    """World-from-camera in the room's frame: a walk round it, looking in and out."""
    result = []
    for number, angle in enumerate(np.linspace(0, 2 * np.pi, 16, endpoint=False)):
        eye = np.array([1.8 + 0.95 * np.cos(angle), 1.35 + 0.75 * np.sin(angle), 1.45 - 0.2 * (number % 2)])
        for turn in (0.6, 2.9, 4.6):
            ahead = np.array([np.cos(angle + turn), np.sin(angle + turn), -0.45])
            result.append(look_at(eye, eye + ahead))
    return result


def scan(mesh: Mesh, frame_from_room: Pose) -> Scan:
    """What the cameras saw of a mesh of the room, in a frame of its own."""
    caster, middle, normals = RayCaster(mesh), mesh.corners().mean(1).astype(np.float64), mesh.face_normals()
    seen = np.zeros(len(mesh.triangles), bool)
    for pose in cameras():
        local = pose.inverse().apply(middle)
        pixels = CAMERA.project(np.where(local[:, 2:] > 0.05, local, [0, 0, 1.0]))
        asked = (local[:, 2] > 0.05) & (pixels > 0).all(1) & (pixels < [CAMERA.width, CAMERA.height]).all(1) & ~seen
        asked &= np.einsum("nc,nc->n", normals, pose.translation - middle) > 0
        rays = middle[asked] - pose.translation
        free = caster.cast(np.broadcast_to(pose.translation, rays.shape), rays).distance > 0.999
        seen[np.flatnonzero(asked)[free]] = True
    own = mesh.with_faces(seen).transformed(Similarity.from_pose(frame_from_room))
    views = Views(own, [(CAMERA, frame_from_room @ pose) for pose in cameras()])
    return Scan(own, views, float(frame_from_room.translation[2]))
