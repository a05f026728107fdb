"""Captures of generated rooms with a phone's noise, each in a world of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from pipeline.capture.model import Capture, Frame
from pipeline.geometry import Camera, Pose, matrix_from_rotvec
from tests.poses.by_depth.walks import LENS, drifting, noisy_depth
from tests.synthetic import CAMERA, Room, look_at

COUNT = 22


def round_the_room(start: float, end: float, *, inward: float = 0.0) -> list[Pose]:
    """Part of a loop through the room, from and to shares of it, looking across it; world from camera."""
    poses = []
    for angle in 2 * np.pi * np.linspace(start, end, COUNT):
        radius = np.array([1.15, 0.75]) * (1 - inward)
        eye = np.array([2.0 + radius[0] * np.cos(angle), 1.35 + radius[1] * np.sin(angle), 1.3 - 0.3 * inward])
        aim = angle + 0.5 - inward
        across = np.array([2.0 - 1.5 * np.cos(aim), 1.5 - 1.2 * np.sin(aim), 0.5])
        poses.append(look_at(eye, across, roll_deg=2 * np.sin(3 * angle)))
    return poses


def own_world(seed: int) -> Pose:
    """A world that a recording begins in: any place and any yaw; up is up."""
    rng = np.random.default_rng(seed)
    return Pose(matrix_from_rotvec([0, 0, rng.uniform(-np.pi, np.pi)]), rng.uniform(-4, 4, 3))


def moved(room: Room, box: int, shift: tuple[float, float, float]) -> Room:
    """The room with one of its boxes and its paint elsewhere [m]."""
    vertices, seeds = room.mesh.vertices.copy(), np.array(room._cells.data)
    own = np.unique(room.mesh.triangles[room.surface_of_triangle == 6 + box])
    low, high = vertices[own].min(0) - 1e-3, vertices[own].max(0) + 1e-3
    for points, there in ((vertices, own), (seeds, ((seeds > low) & (seeds < high)).all(1))):
        points[there] += shift
    return replace(room, mesh=replace(room.mesh, vertices=vertices), _cells=type(room._cells)(seeds))


def write(root: Path, room: Room, poses: list[Pose], world: Pose, seed: int, camera: Camera = CAMERA) -> Capture:
    """A canonical capture: images, coarser depth, and poses that drift, in its own world."""
    rng = np.random.default_rng(seed)
    for folder in ("images", "depth"):
        (root / folder).mkdir(parents=True)
    frames = []
    for i, (pose, given) in enumerate(zip(poses, drifting(poses, rng, 0.008, 0.15), strict=True)):
        image, depth = room.render(camera, pose, samples=1)[0], noisy_depth(room, pose, rng)
        cv2.imwrite(str(root / f"images/{i:04d}.png"), image[..., ::-1])
        cv2.imwrite(str(root / f"depth/{i:04d}.png"), (1000 * depth).round().astype(np.uint16))
        frame = Frame(f"{i:04d}", f"images/{i:04d}.png", camera, "given", time=0.3 * i, world_from_camera=world @ given)
        frames.append(replace(frame, depth=f"depth/{i:04d}.png", depth_camera=LENS))
    up, sigma = np.array([0.0, 0.0, 1.0]), 0.3 + seed / 100
    capture = Capture(root, "rgbd", tuple(frames), True, up_in_world=up, up_sigma_deg=sigma, scale_sigma=0.01)
    capture.save()
    return capture
