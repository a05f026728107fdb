"""Loose bodies in images: as if their Gaussians were in the scene."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.geometry import Camera, Gaussians, Pose, Similarity, matrix_from_rotvec, quaternions_from_z
from pipeline.raster import render_batch
from pipeline.types import F64
from sim.chase_camera import look_at
from sim.sensors.cameras.objects import ObjectSplats
from sim.sensors.cameras.renderer import CpuRenderer, SceneRenderer

LENS = Camera(80, 60, 70.0, 71.0, 39.0, 31.0)
EYES = np.array([[1.5, -2.0, 1.2], [-1.8, -1.0, 0.8], [0.2, 2.4, 0.6]])


def sheet(normal: list[float], middle: list[float], size: float, color: list[float]) -> Gaussians:
    """A square of Gaussians, with colours that change along it and with the direction."""
    frame = Pose(matrix_from_rotvec([0, 0, 0]), np.array(middle))
    turn = quaternions_from_z(np.array([normal]))
    u = np.linspace(-size / 2, size / 2, 25)
    grid = np.stack(np.meshgrid(u, u, indexing="ij"), -1).reshape(-1, 2)
    from pipeline.geometry import matrix_from_quaternion

    places = frame.apply(np.column_stack([grid, np.zeros(len(grid))]) @ matrix_from_quaternion(turn[0]).T)
    colors = np.array(color) * (0.7 + 0.3 * np.sin(20 * places[:, :1]))
    scales = np.tile([size / 30, size / 30, 0.002], (len(places), 1))
    made = Gaussians.from_colors(places, scales, np.tile(turn, (len(places), 1)), colors, 0.97, 4)
    made.sh[:, 1:] = np.random.default_rng(0).normal(0, 0.05, made.sh[:, 1:].shape)
    return made


@pytest.fixture(scope="module")
def scene() -> Gaussians:
    """A floor."""
    return sheet([0, 0, 1], [0, 0, 0], 4.0, [0.3, 0.6, 0.3])


@pytest.fixture(scope="module")
def thing() -> Gaussians:
    """A box without a lid, in its own frame; no side is like another."""
    sides = [([1, 0, 0], [0.2, 0, 0.25]), ([0, 1, 0], [0, 0.2, 0.25]), ([-1, 0, 0], [-0.2, 0, 0.25])]
    colors = [[0.8, 0.2, 0.1], [0.1, 0.2, 0.9], [0.8, 0.8, 0.1]]
    return Gaussians.concatenate([sheet(n, m, 0.4, c) for (n, m), c in zip(sides, colors, strict=True)])


def poses() -> F64:
    return np.stack([look_at(eye, np.array([0.1, 0.0, 0.3])) for eye in EYES])


PLACES = [
    Pose(matrix_from_rotvec([0, 0, 0.7]), np.array([0.2, 0.1, 0.05])),
    Pose(matrix_from_rotvec([0.5, -0.3, 2.0]), np.array([-0.3, 0.2, 0.3])),
    Pose(matrix_from_rotvec([0, 0, -1.2]), np.array([0.4, -0.4, 0.05])),
]


def test_as_if_it_were_in_the_scene(scene: Gaussians, thing: Gaussians):
    """Another place in each image; its harmonics turn with it."""
    renderer = CpuRenderer([scene, thing])
    rgb, depth = renderer.render(LENS, poses(), np.zeros(3, np.int64))
    empty = rgb.copy()
    objects = np.stack([place.matrix for place in PLACES])[:, None]
    ObjectSplats(renderer, 1, [thing]).draw(rgb, depth, objects, poses(), LENS)
    for row, place in enumerate(PLACES):
        together = Gaussians.concatenate([scene, thing.transformed(Similarity.from_pose(place))])
        true = render_batch(together, LENS, poses()[row : row + 1])
        without = np.abs(empty[row] - true.rgb[0]).mean()
        assert without > 0.01
        assert np.abs(rgb[row] - true.rgb[0]).mean() < 0.2 * without
        assert true.median_depth is not None
        assert np.quantile(np.abs(depth[row] - true.median_depth[0]), 0.95) < 0.05


class Counting:
    """A renderer that only counts what it is asked to draw."""

    def __init__(self) -> None:
        self.images = list[list[int]]()

    def draw_over(self, rgb: object, depth: object, images: np.ndarray, *_: object) -> None:
        """Count."""
        self.images.append(images.tolist())


def test_what_cannot_be_seen_is_not_drawn(thing: Gaussians):
    """Behind the camera, beside its image, or behind a wall; all else is."""
    counting = Counting()
    renderer: SceneRenderer = counting  # type: ignore[assignment]
    drawn = ObjectSplats(renderer, 0, [thing])
    eye = look_at(np.array([3.0, 0, 0.3]), np.array([0.0, 0, 0.3]))
    cameras = np.stack([eye] * 5)
    depth = np.full((5, LENS.height, LENS.width), 6.0, np.float32)
    depth[3] = 1.5
    depth[4, 20:] = 1.5  # it is seen over the wall
    places = np.stack([np.eye(4)] * 5)
    places[1, 0, 3], places[2, 1, 3], places[4, 2, 3] = 5.0, 4.0, 0.4
    drawn.draw(np.zeros((5, LENS.height, LENS.width, 3), np.float32), depth, places[:, None], cameras, LENS)
    assert counting.images == [[0, 4]]
