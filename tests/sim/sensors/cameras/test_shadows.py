"""Light on solids, their shadows, and what hides them, on a made table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.geometry import Camera, Pose, matrix_from_rotvec
from pipeline.types import F32, F64
from sim.robots.model import Link, Robot
from sim.sensors.cameras.body import BESIDE, GRACE, KEY, SHADE, body_of, draw_body
from sim.sensors.cameras.props import Lighting, Props, Solids
from sim.sensors.cameras.shadows import DARK, LEVEL, draw_contacts
from sim.tasks.handling.arm_tasks import looking

BASE = Link("base", -1, Pose.identity(), 1.0, Pose.identity(), np.ones(3), None, ())
ROBOT = Robot("r", Path("r.xml"), (BASE,), (), np.zeros(0), 0.0, 1.0, 1.0, Pose.identity())
CAMERA = Camera(240, 180, 300.0, 300.0, 120.0, 90.0)
TABLE = 0.72
EYE = looking((-0.3, 0.1, TABLE + 0.4), (0.0, 0.02, TABLE))
"""World from camera."""
CUBE = np.array(np.meshgrid(*[[-0.02, 0.02]] * 3)).reshape(3, -1).T
TOWARD = np.array([0.6, -0.35, 0.8]) / np.linalg.norm([0.6, -0.35, 0.8])
TURN = matrix_from_rotvec(np.array([0, 0, 0.5]))
COLOR = np.array([0.9, 0.4, 0.2])


def plane_depth(height: float, eye: Pose = EYE) -> F32:
    """Depths (H, W) of a level plane."""
    falls = CAMERA.rays() @ eye.rotation[2]
    return ((height - eye.translation[2]) / falls).astype(np.float32)


def drawn(
    height: float, *, depth: F32 | None = None, surface: float = TABLE, toward: F64 = TOWARD, eye: Pose = EYE
) -> tuple[F32, F32]:
    """A white table, darkened and drawn on: image and depth, with a cube whose middle is so high over the table."""
    depth = (plane_depth(TABLE, eye) if depth is None else depth.copy())[None]
    rgb = np.ones((*depth.shape, 3), np.float32)
    pose = Pose(TURN, np.array([0.02, 0.01, TABLE + height])).matrix[None, None]
    light = Lighting(toward[None], np.array([surface]))
    links = Pose(np.eye(3), np.array([0, 0, -50.0])).matrix[None, None]
    solids = Solids(pose, COLOR[None, None])
    draw_body(rgb, depth, body_of(ROBOT, [(CUBE,)]), links, eye.matrix[None], CAMERA, solids, light)
    return rgb[0], depth[0]


def on_table() -> F64:
    """Points (H, W, 3) of the table, world frame."""
    return EYE.apply(CAMERA.rays() * plane_depth(TABLE)[..., None])


def in_shadow(height: float) -> np.ndarray:
    """Pixels (H, W) of the table from which the way to a point-like light leads through the cube."""
    steps = np.arange(0, 0.6, 0.001)[:, None] * TOWARD
    ways = (on_table()[..., None, :] + steps - [0.02, 0.01, TABLE + height]) @ TURN
    return (np.abs(ways) < 0.02).all(-1).any(-1)


@pytest.mark.parametrize("height", [0.02, 0.06])
def test_a_shadow_lies_where_the_light_does_not_get(height: float) -> None:
    """On the far side of the cube from the light; its edge is soft and the box's corners are rounded."""
    rgb, depth = drawn(height)
    free = depth == plane_depth(TABLE)
    expected, found = in_shadow(height) & free, (rgb[..., 0] < 1 - DARK / 3) & free
    assert expected.sum() > 100
    assert (expected & found).sum() > 0.7 * (expected | found).sum()
    off = on_table()[found].mean(0)[:2] - [0.02, 0.01]
    away = -TOWARD[:2] / np.linalg.norm(TOWARD[:2])
    assert off @ away > 0.8 * np.linalg.norm(off) > 0.8 * 0.005
    bright = free & (rgb[..., 0] == 1)
    assert bright.mean() > 0.7
    np.testing.assert_array_equal(rgb[free][:, 0], rgb[free][:, 1])


def test_what_is_lifted_has_a_fainter_and_softer_shadow() -> None:
    """And none at a metre, or far below where spare things are."""
    low, high = (drawn(height)[0][..., 0] for height in (0.03, 0.15))
    there = plane_depth(TABLE) == drawn(0.15)[1]
    assert high[there].min() > low.min() + 0.15
    assert (high[there] < 0.999).sum() > 1.5 * in_shadow(0.15).sum()
    for height in (1.2, -700.0):
        assert (drawn(height)[0] == 1).all()


def test_only_the_surface_is_darkened() -> None:
    """A box on the table, and the floor below it, which the splat shows where the shadow would be, stay as they are."""
    for height in (LEVEL + 0.01, -LEVEL - 0.01):
        rgb, depth = drawn(0.02, depth=plane_depth(TABLE + height))
        assert (rgb[depth == plane_depth(TABLE + height)] == 1).all()
    rgb, depth = drawn(0.02, depth=plane_depth(TABLE + 0.9 * LEVEL))
    found = (rgb[..., 0] < 1 - DARK / 3) & (depth == plane_depth(TABLE + 0.9 * LEVEL))
    assert (found & in_shadow(0.02)).sum() > 0.7 * found.sum()  # where it belongs on the table, whatever the depth


def test_faces_are_as_bright_as_they_face_the_light() -> None:
    """Lambert, by hand: what of the light's way is along the normal of each face that is seen, wherever the camera."""
    for eye in (EYE, looking((0.3, -0.35, TABLE + 0.4), (0.02, 0.01, TABLE))):
        rgb, depth = drawn(0.1, eye=eye)
        points = (eye.apply(CAMERA.rays() * depth[..., None]) - [0.02, 0.01, TABLE + 0.1]) @ TURN
        seen = 0
        for axis in range(3):
            for side in (-1, 1):
                beside = np.abs(np.delete(points, axis, -1)) < 0.0195
                face = (np.abs(points[..., axis] - side * 0.02) < 1e-4) & beside.all(-1)
                if face.sum() > 20:
                    cosine = float(side * TURN[:, axis] @ TOWARD)
                    bright = 0.45 + 0.55 * max(0.0, cosine)
                    np.testing.assert_allclose(rgb[face], np.tile(COLOR * bright, (face.sum(), 1)), atol=1e-5)
                    seen += 1
        assert seen == 3
    assert pytest.approx(1) == SHADE + KEY


def test_real_things_hide_what_is_a_centimetre_behind_them() -> None:
    """A wall that stands on the table; the table itself, as much too near, hides nothing."""
    whole = drawn(0.1)[1]
    cube = whole < plane_depth(TABLE) - 1e-4
    for before, hides in ((0.5 * BESIDE, False), (2 * BESIDE, True), (0.9 * GRACE, True), (1.5 * GRACE, True)):
        wall = np.where(cube, whole - before, plane_depth(TABLE)).astype(np.float32)
        assert (drawn(0.1, depth=wall)[0][cube] == 1).all() == hides
    lies = drawn(0.02)[1]
    cube = lies < plane_depth(TABLE) - 1e-4
    near = lies - np.float32(0.03)
    heights = EYE.apply(CAMERA.rays() * near[..., None])[..., 2] - TABLE
    rgb = drawn(0.02, depth=np.where(cube, near, plane_depth(TABLE)).astype(np.float32))[0]
    assert ((heights < LEVEL) & cube).sum() > 30
    np.testing.assert_array_equal((rgb[cube] == 1).all(1), heights[cube] >= LEVEL)


def test_props_of_some_robots_have_their_light() -> None:
    """Rows are chosen with the others; without a light there is none."""
    light = Lighting(np.arange(9.0).reshape(3, 3), np.arange(3.0))
    none = Props.none(3)
    chosen = Props(none.balls, none.posts, none.patches, lighting=light)[np.array([2, 0])].lighting
    assert chosen
    assert chosen.surface.tolist() == [2, 0]
    assert chosen.toward[:, 0].tolist() == [6, 0]
    assert none[np.array([1])].lighting is None


def open_sky(point: F64, world_from_shapes: list[Pose], half_axes: list[F64], rng: np.random.Generator) -> float:
    """Share of the light of an even sky on a level surface that no ellipsoid hides, by 40 000 rays from a point."""
    angle, radius = rng.uniform(0, 2 * np.pi, 40_000), np.sqrt(rng.uniform(0, 1, 40_000))  # as many as their cosine
    rays = np.stack([radius * np.cos(angle), radius * np.sin(angle), np.sqrt(1 - radius**2)], 1)
    free = np.ones(len(rays), bool)
    for pose, half in zip(world_from_shapes, half_axes, strict=True):
        start, way = pose.inverse().apply(point) / half, rays @ pose.rotation / half
        a, b, c = (way**2).sum(1), way @ start, start @ start - 1
        free &= (b * b - a * c < 0) | (b > 0)
    return float(free.mean())


def test_what_is_close_is_as_dark_as_the_sky_that_it_hides():
    """A foot, a leg that leans and a body over the floor, in two images: within 6 % of the light, by rays."""
    turn = matrix_from_rotvec(np.array([0.5, 0.4, 0.3]))
    half = [np.array([0.02, 0.02, 0.02]), np.array([0.03, 0.04, 0.12]), np.array([0.14, 0.08, 0.03])]
    moved = [np.array([0, 0, TABLE]), np.array([0.03, -0.04, TABLE + 0.02])]
    places = [
        [
            Pose(np.eye(3), at + np.array([0.03, 0.0, 0.02])),
            Pose(turn, at + np.array([-0.04, 0.05, 0.13])),
            Pose(turn, at + np.array([0.05, -0.06, 0.2])),
        ]
        for at in moved
    ]
    ellipsoids = np.array([[[0, 0, 0], *np.diag(one)] for one in half], np.float32)
    depth = np.stack([plane_depth(TABLE)] * 2)
    rgb = np.ones((*depth.shape, 3), np.float32)
    poses = np.array([[place.matrix for place in row] for row in places])
    draw_contacts(rgb, depth, ellipsoids, poses, np.stack([EYE.matrix] * 2), CAMERA)
    rng, on = np.random.default_rng(5), on_table()
    for image, row in zip(rgb, places, strict=True):
        for y, x in ((90, 120), (100, 100), (80, 150), (120, 130), (60, 90), (20, 40)):
            assert image[y, x, 0] == pytest.approx(open_sky(on[y, x], row, half, rng), abs=0.06)
        assert image.min() < 0.6
