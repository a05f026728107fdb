"""A robot's shapes in its images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.geometry import Camera, Pose, matrix_from_rotvec
from sim.cameras.body import COLOR, body_of, draw_body
from sim.robots.model import Link, Robot, Shape

CAMERA = Camera(60, 40, 50.0, 48.0, 31.0, 18.5)
LINK = Pose(matrix_from_rotvec([0.5, -0.8, 0.4]), np.array([0.08, -0.1, 1.2]))
"""Camera from the link with the shape."""
PLACE = Pose(matrix_from_rotvec([-0.3, 0.2, 0.9]), np.array([0.1, 0.05, -0.08]))
"""The shape in its link."""
WEDGE = np.array([[0, 0, 0], [0.5, 0, 0], [0, 0.3, 0], [0, 0, 0.4], [0.05, 0.05, 0.05]])
SHAPES = {
    "box": Shape("box", np.array([0.3, 0.15, 0.1]), PLACE, 1.0, np.zeros((0, 3))),
    "sphere": Shape("sphere", np.array([0.25, 0, 0]), PLACE, 1.0, np.zeros((0, 3))),
    "capsule": Shape("capsule", np.array([0.12, 0.25, 0]), PLACE, 1.0, np.zeros((0, 3))),
    "cylinder": Shape("cylinder", np.array([0.15, 0.3, 0]), PLACE, 1.0, np.zeros((0, 3))),
    "mesh": Shape("mesh", np.zeros(3), PLACE, 1.0, WEDGE),
}


def robot_of(*shapes: Shape) -> Robot:
    """An empty base, and a link that carries the shapes."""
    links = [
        Link(name, parent, Pose.identity(), 1.0, Pose.identity(), np.ones(3), None, of)
        for name, parent, of in (("base", -1, ()), ("arm", 0, shapes))
    ]
    return Robot("r", Path("r.xml"), tuple(links), (), np.zeros(0), 0.0, 1.0, 1.0, Pose.identity())


def drawn(
    robot: Robot, camera_from_link: Pose = LINK, behind: float = 0.0, world: Pose | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Image and depth of a robot before a black wall (0 = nothing) of that depth."""
    rgb, depth = np.zeros((1, 40, 60, 3), np.float32), np.full((1, 40, 60), behind, np.float32)
    far = Pose(np.eye(3), np.array([0, 0, -50.0]))
    places = np.stack([far.matrix, camera_from_link.matrix])[None]
    draw_body(rgb, depth, body_of(robot), places, (world or Pose.identity()).matrix[None], CAMERA)
    return rgb[0], depth[0]


def inside(shape: Shape, points: np.ndarray) -> np.ndarray:
    """Which points (..., 3) in the shape's axes lie in it, by its formula."""
    x, y, z = np.moveaxis(points, -1, 0)
    if shape.kind == "box":
        return (np.abs(points) < shape.size).all(-1)
    if shape.kind == "mesh":  # the last vertex lies inside of the four others
        return (x > 0) & (y > 0) & (z > 0) & (x / 0.5 + y / 0.3 + z / 0.4 < 1)
    radius = shape.size[0]
    half = 0 if shape.kind == "sphere" else shape.size[1]
    if shape.kind == "cylinder":
        return (np.hypot(x, y) < radius) & (np.abs(z) < half)
    return np.sqrt(x * x + y * y + np.maximum(np.abs(z) - half, 0) ** 2) < radius


@pytest.mark.parametrize("kind", list(SHAPES))
def test_shape_is_where_rays_come_into_it(kind: str):
    """Pixels and depths, by walking along the rays in small steps; round ones are a little narrower."""
    shape = SHAPES[kind]
    rgb, depth = drawn(robot_of(shape))
    steps = np.arange(0.4, 2.4, 0.004)
    shape_from_camera = (LINK @ PLACE).inverse()
    there = inside(shape, shape_from_camera.apply(CAMERA.rays()[..., None, :] * steps[:, None]))
    hit = there.any(-1)
    assert hit.sum() > 100
    assert (hit != (depth > 0)).sum() < 0.06 * hit.sum()
    both = hit & (depth > 0)
    off = np.abs(depth[both] - steps[there.argmax(-1)][both])
    assert np.median(off) < 0.006
    assert np.quantile(off, 0.95) < (0.006 if kind in ("box", "mesh") else 0.03)
    np.testing.assert_allclose(rgb[both] / rgb[both][:, :1], np.tile(np.array(COLOR) / COLOR[0], (both.sum(), 1)), 1e-4)


def test_shape_between_walls():
    """A wall before it hides it; one through it hides its far part; drawn in any order the nearest shape wins."""
    assert (drawn(robot_of(SHAPES["box"]), behind=0.5)[1] == 0.5).all()
    whole, cut = (drawn(robot_of(SHAPES["box"]), behind=behind)[1] for behind in (0.0, 1.2))
    np.testing.assert_array_equal(cut, np.where(whole > 0, np.minimum(whole, 1.2), np.float32(1.2)))
    assert 0 < (cut < 1.2).sum() < (whole > 0).sum()
    near = Shape("sphere", np.array([0.1, 0, 0]), LINK.inverse(), 1.0, np.zeros((0, 3)))  # around the camera: not seen
    two = (SHAPES["capsule"], SHAPES["box"], near)
    np.testing.assert_array_equal(drawn(robot_of(*two))[1], drawn(robot_of(*two[::-1]))[1])


def test_camera_inside_sees_nothing_of_the_shape():
    """Whatever it is, and wherever in it the camera sits."""
    for shape in SHAPES.values():
        middle = np.array([0.06, 0.05, 0.04])
        at = Pose(LINK.rotation, -(LINK.rotation @ PLACE.apply(middle)))
        assert not drawn(robot_of(shape), at)[1].any()


def test_what_reaches_behind_the_camera_is_cut_off_there():
    """A long floor below the camera: its depth is that of its plane, down to the lower edge of the image."""
    floor = Shape("box", np.array([5.0, 0.5, 5.0]), Pose.identity(), 1.0, np.zeros((0, 3)))
    at = Pose(matrix_from_rotvec([0.15, 0, 0]) @ matrix_from_rotvec([0, 0.2, 0]), np.array([0.3, 0.8, 0.4]))
    _, depth = drawn(robot_of(floor), at)
    top = at.apply(np.array([0, -0.5, 0]))
    normal = at.rotate(np.array([0, -1.0, 0]))
    expected = (top @ normal) / (CAMERA.rays() @ normal)
    low = np.zeros_like(depth, bool)
    low[25:] = True
    assert (depth[low] > 0).all()
    np.testing.assert_allclose(depth[low], expected[low], rtol=1e-4)


def test_side_that_looks_up_in_the_world_is_the_brightest():
    """A box seen from above askew, with the world's vertical turned away from the camera's."""
    world = Pose(np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]) @ matrix_from_rotvec([-0.6, 0.1, 0]), np.zeros(3))
    box = Shape("box", np.array([0.25, 0.25, 0.25]), Pose.identity(), 1.0, np.zeros((0, 3)))
    upright = Pose(world.rotation.T @ matrix_from_rotvec([0, 0, 0.5]), np.array([0, 0, 1.5]))
    rgb, depth = drawn(robot_of(box), upright, world=world)
    shown = depth > 0
    height = (world.apply(CAMERA.rays() * depth[..., None]) - world.apply([0, 0, 1.5]))[..., 2]
    top, sides = shown & (height > 0.249), shown & (height < 0.24)
    assert (top.sum() > 20, sides.sum() > 20) == (True, True)
    assert np.median(rgb[top][:, 0]) > rgb[sides][:, 0].max() + 0.1


def test_no_pixel_is_missed_between_triangles():
    """A finely cut sphere before the camera: its disc has no hole."""
    ball = Shape("sphere", np.array([0.3, 0, 0]), Pose.identity(), 1.0, np.zeros((0, 3)))
    for turn in np.random.default_rng(2).normal(0, 1, (20, 3)):
        _, depth = drawn(robot_of(ball), Pose(matrix_from_rotvec(turn), np.array([0.05, -0.02, 1.1])))
        off_axis = np.linalg.norm(np.cross(CAMERA.rays(), [0.05, -0.02, 1.1]), axis=-1)
        assert (depth[off_axis / np.linalg.norm(CAMERA.rays(), axis=-1) < 0.28] > 0).all()


@pytest.mark.parametrize("middle", [[-0.85, 0.02, 1.0], [0.78, 0.0, 1.0], [0.0, -0.58, 1.0], [0.05, 0.63, 1.0]])
def test_shape_whose_middle_is_outside_of_the_image(middle: list[float]):
    """At each border what reaches into the image is there."""
    ball = Shape("sphere", np.array([0.3, 0, 0]), Pose.identity(), 1.0, np.zeros((0, 3)))
    _, depth = drawn(robot_of(ball), Pose(np.eye(3), np.array(middle)))
    off_axis = np.linalg.norm(np.cross(CAMERA.rays(), middle), axis=-1) / np.linalg.norm(CAMERA.rays(), axis=-1)
    assert (off_axis < 0.29).sum() > 20
    assert (depth[off_axis < 0.28] > 0).all()
    assert not depth[off_axis > 0.3].any()
