"""Large places drawn from near to far, beside all of their Gaussians drawn one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.geometry import Camera, Gaussians, Mesh
from pipeline.geometry.surfels import surfels
from pipeline.raster import PackedGaussians, pack, render_batch
from pipeline.raster.merging import CLUSTER, compact_order, is_large

ROOM, HEIGHT, DOOR = 5.0, 2.5, 1.0
CAMERA = Camera(64, 48, 32.0, 32.0, 32.0, 24.0)


def rooms(across: int) -> Gaussians:
    """So many by so many rooms of 5 x 5 m, side by side, with a door in the middle of each wall, painted at random."""
    size = across * ROOM
    quads = [([0, 0, z], [size, 0, 0], [0, size, 0]) for z in (0.0, HEIGHT)]
    for line in range(across + 1):
        for room in range(across):
            for start, end in ((0.0, (ROOM - DOOR) / 2), ((ROOM + DOOR) / 2, ROOM)):
                at, long = room * ROOM + start, end - start
                quads.append(([line * ROOM, at, 0], [0, long, 0], [0, 0, HEIGHT]))
                quads.append(([at, line * ROOM, 0], [long, 0, 0], [0, 0, HEIGHT]))
    corners = np.array([[c, np.add(c, a), np.add(np.add(c, a), b), np.add(c, b)] for c, a, b in quads])
    four = 4 * np.arange(len(corners))[:, None, None] + np.array([[0, 1, 2], [0, 2, 3]])
    mesh = Mesh.from_arrays(corners.reshape(-1, 3), four.reshape(-1, 3))
    splat = surfels(mesh, round(60 * mesh.face_areas().sum()))
    return replace(splat, sh=np.random.default_rng(0).uniform(-1, 1, splat.sh.shape).astype(np.float32))


def cameras(places: np.ndarray, yaw: np.ndarray) -> np.ndarray:
    """Poses (N, 4, 4) at places (N, 2) [m], 1 m above the floor, level."""
    poses = np.tile(np.eye(4), (len(yaw), 1, 1))
    zero, one = np.zeros(len(yaw)), np.ones(len(yaw))
    right, down = np.stack([np.sin(yaw), -np.cos(yaw), zero], 1), np.stack([zero, zero, -one], 1)
    poses[:, :3, :3] = np.stack([right, down, np.stack([np.cos(yaw), np.sin(yaw), zero], 1)], 2)
    poses[:, :2, 3], poses[:, 2, 3] = places, 1.0
    return poses


@pytest.fixture(scope="module")
def place() -> PackedGaussians:
    return pack(rooms(5), coarsely=True)


def test_a_room_is_drawn_as_ever(place):
    room = rooms(1)
    assert not is_large(room.means)
    assert pack(room, coarsely=True).coarse is None
    assert place.coarse is not None


def test_clusters_are_compact(rng):
    points = rng.uniform(0, [40, 40, 3], (5000, 3)).astype(np.float32)
    order = compact_order(points)
    assert sorted(order) == list(range(5000))
    whole = points[order][: 5000 // CLUSTER * CLUSTER].reshape(-1, CLUSTER, 3)
    assert np.ptp(whole, 1).max() < 20  # 19 clusters of 40 x 40 m
    small = whole.reshape(-1, 16, 3)
    assert np.median(np.ptp(small, 1).max(1)) < 5


def test_images_are_those_of_all_gaussians(place, rng):
    poses = cameras(rng.uniform(0.5, 24.5, (24, 2)), rng.uniform(-np.pi, np.pi, 24))
    drawn, exact = render_batch(place, CAMERA, poses), render_batch(replace(place, coarse=None), CAMERA, poses)
    off = np.abs(drawn.rgb - exact.rgb).mean((1, 2, 3)) * 255
    assert off.mean() < 0.5
    assert off.max() < 2
    assert off.max() > 0, "nothing was drawn coarsely"
    assert drawn.median_depth is not None
    assert exact.median_depth is not None
    close = exact.median_depth < 4
    assert np.abs(drawn.median_depth - exact.median_depth)[close & (exact.median_depth > 0)].max() < 0.3


def test_no_image_steps_on_a_way_through_doors(place):
    """From one image to the next, 25 mm on, the images change as those of all Gaussians do."""
    ways = np.stack([np.arange(4.0, 11.0, 0.025), np.full(280, 2.5)], 1)
    poses = cameras(ways, np.full(280, 0.1))
    drawn, exact = render_batch(place, CAMERA, poses).rgb, render_batch(replace(place, coarse=None), CAMERA, poses).rgb
    steps = np.abs(np.diff(drawn - exact, axis=0)).mean((1, 2, 3)) * 255
    assert 0 < steps.max() < 1
