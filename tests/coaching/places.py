"""A room with a pillar, filmed by cameras of one's choice: what they see is its mesh, the rest is not there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.coaching.filmed import Filmed
from pipeline.geometry import Camera, Mesh, Pose
from pipeline.geometry.rays import RayCaster
from tests.synthetic import box_faces, look_at

SIZE = np.array([6.0, 4.0, 2.5])
LENS = Camera(160, 120, 120.0, 120.0, 80.0, 60.0)
EDGE = 0.1
"""Of the room's triangles [m]."""


def whole_room() -> Mesh:
    """Walls, floor, ceiling and a pillar, in small triangles."""
    low, high = np.array([2.8, 1.6, 0.0]), np.array([3.4, 2.4, 2.5])
    vertices, triangles = zip(box_faces(np.zeros(3), SIZE, inward=True), box_faces(low, high), strict=True)
    corners = np.concatenate([np.asarray(v)[np.asarray(t)] for v, t in zip(vertices, triangles, strict=True)])
    while np.linalg.norm(corners - np.roll(corners, 1, 1), axis=2).max() > 2 * EDGE:
        a, b, c = np.moveaxis(corners, 1, 0)
        ab, bc, ca = (a + b) / 2, (b + c) / 2, (c + a) / 2
        corners = np.concatenate([np.stack(one, 1) for one in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))])
    return Mesh.from_arrays(corners.reshape(-1, 3), np.arange(3 * len(corners)).reshape(-1, 3))


def looks(*pairs: tuple[Sequence[float], Sequence[float]]) -> tuple[tuple[Camera, Pose], ...]:
    """Cameras from eyes to targets [m]."""
    return tuple((LENS, look_at(np.array(eye), np.array(target))) for eye, target in pairs)


def around(x: float, y: float, z: float = 1.4) -> tuple[tuple[Camera, Pose], ...]:
    """Cameras at a place that look all round, level and up and down."""
    turns = [(np.cos(turn), np.sin(turn), tilt) for turn in np.arange(8) * np.pi / 4 for tilt in (-0.8, 0.0, 0.8)]
    return looks(*(((x, y, z), (x + a, y + b, z + c)) for a, b, c in turns))


def filmed_by(cameras: tuple[tuple[Camera, Pose], ...], room: Mesh | None = None) -> Filmed:
    """The triangles that cameras see, over the whole floor."""
    room = room or whole_room()
    caster, seen = RayCaster(room), np.zeros(len(room.triangles), bool)
    for camera, pose in cameras:
        rays = pose.rotate(camera.rays()).reshape(-1, 3)
        hits = caster.cast(np.broadcast_to(pose.translation, rays.shape), rays)
        seen[hits.triangle[hits.hit]] = True
    x, y = np.meshgrid(np.arange(0.3, SIZE[0] - 0.25, 0.1), np.arange(0.3, SIZE[1] - 0.25, 0.1))
    floor = np.column_stack([x.ravel(), y.ravel(), 0 * x.ravel()]).astype(np.float32)
    floor = floor[(np.abs(floor[:, 0] - 3.1) > 0.6) | (np.abs(floor[:, 1] - 2.0) > 0.7)]
    return Filmed("room", room.with_faces(seen), cameras, floor, 0.1)
