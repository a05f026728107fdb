"""A walk through the room with a crate that moves by itself and a hand that the camera carries, with exact truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial import cKDTree

from pipeline.geometry import Mesh, Pose, matrix_from_rotvec
from pipeline.poses.scene import View
from tests.synthetic import CAMERA, Room, box_faces, walk

COUNT = 16


@dataclass(frozen=True, eq=False)
class Walk:
    """What a camera sees on its way.

    Attributes:
        poses: World from camera.
        empty: Images of the room alone.
        images: With the crate.
        depths: With the crate [m].
        crate: Which pixels show it.
    """

    poses: list[Pose]
    empty: list[np.ndarray]
    images: list[np.ndarray]
    depths: list[np.ndarray]
    crate: list[np.ndarray]


def crate() -> Room:
    """A textured crate of 0.5 x 0.4 x 0.8 m that stands in the origin of its own frame."""
    rng = np.random.default_rng(5)
    inner, outer = np.array([[-0.25, -0.2, 0.0], [0.25, 0.2, 0.8]]), np.full((2, 3), 20.0) * [[-1], [1]]
    (corners, sides), (far_corners, far_sides) = box_faces(*inner), box_faces(*outer, inward=True)  # no ray is lost
    mesh = Mesh.from_arrays(np.concatenate([corners, far_corners]), np.concatenate([sides, far_sides + 8]))
    seeds = cKDTree(rng.uniform(inner[0], inner[1], (1500, 3)))
    return Room(mesh, np.zeros(24, int), seeds, rng.uniform(10, 245, (1500, 3)))


def crossing() -> list[Pose]:
    """The crate slides through the room, 7 cm an image, and turns a little: room from crate."""
    return [Pose(matrix_from_rotvec([0, 0, 0.02 * i]), np.array([1.6, 0.6 + 0.07 * i, 0])) for i in range(COUNT)]


def slow_walk() -> list[Pose]:
    """5 degrees and a tenth of a metre from image to image: world from camera."""
    return walk(72)[:COUNT]


def film(room: Room, poses: Sequence[Pose], places: Sequence[Pose]) -> Walk:
    """The walk with the crate at a place for each image; nearer things hide it as it hides others."""
    moved = crate()
    empty, images, depths, masks = [], [], [], []
    for pose, place in zip(poses, places, strict=True):
        image, depth = room.render(CAMERA, pose)
        own_image, own_depth = moved.render(CAMERA, place.inverse() @ pose)
        seen = own_depth < depth
        empty.append(image)
        images.append(np.where(seen[..., None], own_image, image))
        depths.append(np.where(seen, own_depth, depth))
        masks.append(seen)
    return Walk(list(poses), empty, images, depths, masks)


def with_hand(images: Sequence[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
    """Noisy images with a textured hand in the lower right corner, and which pixels show it."""
    rng = np.random.default_rng(6)
    hand = np.zeros((240, 320), np.uint8)
    cv2.ellipse(hand, (300, 215), (75, 45), 30, 0, 360, 1, cv2.FILLED)
    skin = cv2.resize(rng.integers(60, 220, (24, 32, 3), np.uint8), (320, 240), interpolation=cv2.INTER_CUBIC)
    shown = [np.where(hand[..., None] > 0, skin, image) for image in images]
    return [np.clip(p + rng.normal(0, 2, p.shape), 0, 255).astype(np.uint8) for p in shown], hand > 0


def write_views(folder: Path, walk: Walk, images: Sequence[np.ndarray]) -> tuple[list[View], np.ndarray]:
    """A poses folder's images with depth images beside them; the views and points of the room (N, 3)."""
    for part in ("images", "depth"):
        (folder / part).mkdir(parents=True)
    views, points = [], []
    for i, (pose, image) in enumerate(zip(walk.poses, images, strict=True)):
        cv2.imwrite(str(folder / f"images/{i:04d}.png"), image[..., ::-1])
        cv2.imwrite(str(folder / f"depth/{i:04d}.png"), (walk.depths[i] * 1000).round().astype(np.uint16))
        depth = f"depth/{i:04d}.png"
        views.append(View(f"{i}", f"images/{i:04d}.png", CAMERA, pose, held_out=i % 8 == 3, sensor_depth=depth))
        points.append(pose.apply((CAMERA.rays() * walk.depths[i][..., None])[5::40, 7::40].reshape(-1, 3)))
    return views, np.concatenate(points)
