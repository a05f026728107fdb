"""The synthetic room with nine photos, and a splat of opaque discs on what they see."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from pipeline.coverage.prediction import TrainingPhotos, load_photos
from pipeline.geometry import Gaussians, PointCloud
from pipeline.splat.initialization import discs_on
from tests.synthetic import CAMERA, Room, depth_maps, posed_scene, walk


def evidence_of(room: Room, folder: Path) -> TrainingPhotos:
    """Of nine photos, two of them held out, with the exact mesh."""
    return load_photos(posed_scene(folder, room, walk(9)).training, folder, room.mesh, disc_splat(room))


@cache
def disc_splat(room: Room) -> Gaussians:
    """Discs on the surfaces that eighteen views see, coloured as the place."""
    camera, poses = CAMERA.resized(160, 120), walk(18)
    maps = depth_maps(room, poses, camera)
    points = np.concatenate([m.points().reshape(-1, 3) for m in maps])
    normals = np.concatenate([m.world_from_camera.rotate(m.normals).reshape(-1, 3) for m in maps])
    colors = np.concatenate([room.render(camera, pose)[0].reshape(-1, 3) for pose in poses])
    count = len(points)
    cloud = PointCloud(
        points.astype(np.float32),
        normals.astype(np.float32),
        colors,
        np.zeros(count, np.float32),
        np.ones(count, np.int32),
        np.zeros(count, bool),
    )
    return discs_on(cloud, 30_000, 1, np.random.default_rng(0), opacity=0.95, flatness=0.1)
