"""Balls, posts and paint in images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.geometry import Camera, Pose, matrix_from_rotvec
from sim.sensors.cameras.props import AMBIENT, FLOOR_BAND, OPACITY, Balls, Patches, Posts, Props, Solids, draw_props

CAMERA = Camera(60, 40, 50.0, 48.0, 31.0, 18.5)
POSE = Pose(matrix_from_rotvec([0.3, -2.0, 0.4]), np.array([1.0, -2.0, 0.5]))
CENTER, RADIUS = np.array([0.12, -0.2, 2.0]), 0.4  # in camera axes
AHEAD = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
"""World from a camera that looks along x."""
COLOR = np.array([1.0, 0.2, 0.1])


def drawn(
    behind: float,
    balls: Balls | None = None,
    posts: Posts | None = None,
    patches: Patches | None = None,
    pose: Pose = POSE,
) -> tuple[np.ndarray, np.ndarray]:
    """Image and depth of props before a black wall (0 = nothing) of that depth."""
    rgb, depth = np.zeros((1, 40, 60, 3), np.float32), np.full((1, 40, 60), behind, np.float32)
    props = Props(balls or Balls.none(1), posts or Posts.none(1), patches or Patches.none(1))
    draw_props(rgb, depth, props, pose.matrix[None], CAMERA)
    return rgb[0], depth[0]


def ball(center: np.ndarray = CENTER, radius: float = RADIUS) -> Balls:
    """A red one, placed in camera axes."""
    return Balls(POSE.apply(center)[None, None], np.array([[radius]]), COLOR[None, None])


def post(foot: list[float], radius: float, height: float) -> Posts:
    """A red one."""
    return Posts(np.array([[foot]]), np.array([[radius]]), np.array([[height]]), COLOR[None, None])


def test_depth_is_that_of_the_sphere():
    """Every pixel's point lies on it, and all rays that meet it are drawn."""
    rgb, depth = drawn(0.0, ball())
    shown = depth > 0
    points = CAMERA.rays()[shown] * depth[shown, None]
    np.testing.assert_allclose(np.linalg.norm(points - CENTER, axis=1), RADIUS, atol=1e-4)
    rays = CAMERA.rays() / np.linalg.norm(CAMERA.rays(), axis=-1, keepdims=True)
    off_axis = np.linalg.norm(np.cross(rays, CENTER), axis=-1)
    np.testing.assert_array_equal(shown, off_axis < RADIUS)
    assert (rgb[~shown] == 0).all()
    np.testing.assert_allclose(rgb[shown][:, 1] / rgb[shown][:, 0], 0.2, rtol=1e-5)


def test_light_comes_from_above_in_the_world_and_from_the_camera():
    """Brightness goes up with both cosines, and is never below what is everywhere."""
    rgb, depth = drawn(0.0, ball())
    shown = depth > 0
    rays = CAMERA.rays()[shown]
    normal = (rays * depth[shown, None] - CENTER) / RADIUS
    up = np.maximum(POSE.rotate(normal)[:, 2], 0)
    facing = -(normal * rays).sum(1) / np.linalg.norm(rays, axis=1)
    weights, *_ = np.linalg.lstsq(np.c_[np.ones(len(up)), up, facing], rgb[shown][:, 0], rcond=None)
    np.testing.assert_allclose(weights, [AMBIENT, 0.3, 0.25], atol=2e-3)


def test_what_is_nearer_hides_it():
    """A wall before it, and one that it sticks out of."""
    assert (drawn(1.5, ball())[1] == 1.5).all()
    rgb, depth = drawn(1.75, ball())
    assert 0 < (rgb[..., 0] > 0).sum() < (drawn(0.0, ball())[1] > 0).sum()
    assert (depth <= 1.75).all()


def test_none_and_behind():
    """No radius, behind the camera; around the camera nothing of its front side shows."""
    for nothing in (ball(radius=0.0), ball(-CENTER), ball(np.zeros(3))):
        assert not drawn(0.0, nothing)[1].any()


@pytest.mark.parametrize(
    ("up", "foot", "radius"),
    [(0.4, [2.0, 0.1, -0.1], 0.3), (2.0, [2.0, 0.1, -0.1], 0.3), (0.4, [0.9, -0.8, -0.8], 1.0)],
    ids=["below its top", "above its top", "half beside it"],
)
def test_post_is_an_upright_cylinder(up: float, foot: list[float], radius: float):
    """A pixel is drawn where its ray, walked in small steps, comes into the cylinder, and its depth is there."""
    pose = Pose(matrix_from_rotvec([0.1, 0.6, 0.2] if up > 1 else [0.2, -0.1, 0.1]) @ AHEAD, np.array([0.3, -0.2, up]))
    height = 1.1
    rgb, depth = drawn(0.0, posts=post(foot, radius, height), pose=pose)
    steps = np.arange(0.05, 4, 0.002)
    points = pose.apply(CAMERA.rays()[..., None, :] * steps[:, None]) - foot
    inside = (np.hypot(points[..., 0], points[..., 1]) < radius) & (points[..., 2] > 0) & (points[..., 2] < height)
    hit = inside.any(-1)
    assert 100 < hit.sum() < 1500
    differ = hit != (depth > 0)
    assert differ.sum() <= 3  # rays that graze it between two steps
    both = hit & ~differ
    np.testing.assert_allclose(depth[both], steps[inside.argmax(-1)][both], atol=3e-3)
    top = both & (np.abs(pose.apply(CAMERA.rays() * depth[..., None])[..., 2] - foot[2] - height) < 1e-3)
    above = up > foot[2] + height
    assert (top.sum() > 20) == above
    if above and (both & ~top).any():
        assert rgb[top][:, 0].min() > rgb[both & ~top][:, 0].max()


def test_post_is_hidden_by_a_wall_and_by_a_nearer_post():
    """Where they stand one behind the other the nearer colour shows, whatever their order."""
    pose = Pose(AHEAD, np.array([0.0, 0.0, 0.5]))
    near, far = post([2.0, 0.0, 0.0], 0.2, 1.0), post([3.0, 0.15, 0.0], 0.2, 1.0)
    assert (drawn(1.5, posts=near, pose=pose)[1] == 1.5).all()
    both = []
    for first, second in ((near, far), (far, near)):
        colors = np.array([[[1.0, 0, 0], [0, 1.0, 0]]]) if first is near else np.array([[[0, 1.0, 0], [1.0, 0, 0]]])
        pair = Posts(np.concatenate([first.foot, second.foot], 1), np.full((1, 2), 0.2), np.full((1, 2), 1.0), colors)
        both.append(drawn(0.0, posts=pair, pose=pose))
    np.testing.assert_array_equal(both[0][0], both[1][0])
    red, green = both[0][0][..., 0] > 0, both[0][0][..., 1] > 0
    assert not (red & green).any()
    np.testing.assert_array_equal(red, drawn(0.0, posts=near, pose=pose)[1] > 0)
    assert 0 < green.sum() < red.sum()


def test_inside_of_a_post_nothing_of_it_is_seen():
    """Nor of one behind the camera, or without a radius."""
    pose = Pose(AHEAD, np.array([0.0, 0.0, 0.5]))
    for foot, radius in (([0.0, 0.05, 0.0], 0.3), ([-2.0, 0.0, 0.0], 0.3), ([2.0, 0.0, 0.0], 0.0)):
        assert not drawn(0.0, posts=post(foot, radius, 1.0), pose=pose)[1].any()


def test_paint_covers_the_floor_within_its_circle_only():
    """The depth is that of a floor with a step of 8 cm: what is on the step is not painted."""
    pose = Pose(matrix_from_rotvec([0, 0.9, 0.3]) @ AHEAD, np.array([0.2, 0.1, 1.3]))
    directions = CAMERA.rays() @ pose.rotation.T
    depth = np.where(directions[..., 2] < -0.05, -pose.translation[2] / directions[..., 2], 0)
    raised = pose.translation[0] + depth * directions[..., 0] > 1.4
    depth = np.where(raised, depth * (1.3 - 0.08) / 1.3, depth).astype(np.float32)
    gray = np.float32(0.4)
    rgb, before = np.full((1, 40, 60, 3), gray), depth.copy()
    center, radius = np.array([1.3, 0.45, 0.02]), 0.5
    patches = Patches(center[None, None], np.array([[radius]]), COLOR[None, None])
    draw_props(rgb, depth[None], Props(Balls.none(1), Posts.none(1), patches), pose.matrix[None], CAMERA)
    np.testing.assert_array_equal(depth, before)
    point = pose.translation + directions * depth[..., None].astype(np.float64) - center
    away = np.hypot(point[..., 0], point[..., 1])
    expected = (depth > 0) & (away < radius) & (np.abs(point[..., 2]) < FLOOR_BAND)
    sure = np.abs(away - radius) > 1e-4
    painted = rgb[0, ..., 0] != gray
    np.testing.assert_array_equal(painted[sure], expected[sure])
    assert (expected & sure).sum() > 100
    assert ((away < radius) & raised).sum() > 50
    np.testing.assert_allclose(rgb[0][painted], np.tile(gray + OPACITY * (COLOR - gray), (painted.sum(), 1)), rtol=1e-5)


def test_things_are_each_robots_own():
    """Two images: one with a ball, one with none; chosen in the other order they change places."""
    one = ball()
    balls = Balls(np.repeat(one.center, 2, 0), np.array([[RADIUS], [0.0]]), np.repeat(one.color, 2, 0))
    props = Props(balls, Posts.none(2), Patches.none(2))
    for rows, expected in (([0, 1], [True, False]), ([1, 0], [False, True])):
        rgb, depth = np.zeros((2, 40, 60, 3), np.float32), np.zeros((2, 40, 60), np.float32)
        draw_props(rgb, depth, props[np.array(rows)], np.tile(POSE.matrix, (2, 1, 1)), CAMERA)
        assert depth.any((1, 2)).tolist() == expected


def test_solids_are_chosen_with_the_rest():
    """By numbers or a mask; a task without any has none for any choice."""
    poses = np.arange(3 * 2 * 16, dtype=float).reshape(3, 2, 4, 4)
    colors = np.arange(18, dtype=float).reshape(3, 2, 3) / 18
    nothing = Props.none(3)
    props = replace(nothing, solids=Solids(poses, colors))
    for robots in (np.array([2, 0]), np.array([False, True, True]), slice(1, 2)):
        np.testing.assert_array_equal(props[robots].solids.pose, poses[robots])
        np.testing.assert_array_equal(props[robots].solids.color, colors[robots])
        assert nothing[robots].solids.pose.shape[1] == 0
    assert (Solids.none(3).pose.shape, Solids.none(3).color.shape) == ((3, 0, 4, 4), (3, 0, 3))
