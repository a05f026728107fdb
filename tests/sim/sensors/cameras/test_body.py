"""A robot's shapes in its images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.geometry import Camera, Pose, matrix_from_rotvec
from sim.robots.model import Link, Robot, Shape
from sim.sensors.cameras.body import ARM_COLOR, COLOR, GRACE, body_of, draw_body
from sim.sensors.cameras.props import Solids

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


RED, GREEN = np.array([0.9, 0.1, 0.05]), np.array([0.1, 0.8, 0.2])
WORLD = Pose(matrix_from_rotvec([0.3, -2.0, 0.4]), np.array([1.0, -2.0, 0.5]))
"""World from camera."""
BOX = np.array(np.meshgrid([-0.3, 0.3], [-0.15, 0.15], [-0.1, 0.1])).reshape(3, -1).T


def with_solids(
    hulls: list[tuple[np.ndarray, ...]],
    cameras_from_solids: list[list[Pose]],
    colors: list[list[np.ndarray]],
    behind: float = 0.0,
    robot: Robot | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Images and depths of solids, and of a robot as in `drawn`, before black walls."""
    count = len(colors)
    rgb, depth = np.zeros((count, 40, 60, 3), np.float32), np.full((count, 40, 60), behind, np.float32)
    robot = robot or robot_of()
    links = np.tile(np.stack([Pose(np.eye(3), np.array([0, 0, -50.0])).matrix, LINK.matrix]), (count, 1, 1, 1))
    poses = np.array([[(WORLD @ pose).matrix for pose in row] for row in cameras_from_solids])
    cameras = np.tile(WORLD.matrix, (count, 1, 1))
    draw_body(rgb, depth, body_of(robot, hulls), links, cameras, CAMERA, Solids(poses, np.array(colors)))
    return rgb, depth


def hue(rgb: np.ndarray) -> np.ndarray:
    """Colours (P, 3) whatever their brightness."""
    return rgb / rgb.max(1, keepdims=True)


def test_each_image_has_its_solids_at_its_own_poses_and_in_its_own_colours():
    """Where rays come into them: a box, and a body of two pieces; the two change places and colours."""
    far = Pose(matrix_from_rotvec([0.2, 0.9, -0.3]), np.array([-0.2, 0.2, 1.6]))
    near = LINK @ PLACE
    hulls = [(BOX,), (WEDGE, WEDGE - [0.4, 0.3, 0.5])]
    rgb, depth = with_solids(hulls, [[near, far], [far, near]], [[RED, GREEN], [GREEN, RED]])
    steps = np.arange(0.4, 3.0, 0.004)
    for image, (box, wedges) in enumerate([(near, far), (far, near)]):
        points = CAMERA.rays()[..., None, :] * steps[:, None]
        in_wedges, shift = wedges.inverse().apply(points), np.array([0.4, 0.3, 0.5])
        where = [
            inside(SHAPES["box"], box.inverse().apply(points)),
            inside(SHAPES["mesh"], in_wedges) | inside(SHAPES["mesh"], in_wedges + shift),
        ]
        steps_to = np.stack([np.where(one.any(-1), steps[one.argmax(-1)], np.inf) for one in where])
        expected, hit = steps_to.min(0), depth[image] > 0
        assert (np.isfinite(expected) != hit).sum() < 0.06 * hit.sum()
        both = hit & np.isfinite(expected)
        assert np.quantile(np.abs(depth[image][both] - expected[both]), 0.95) < 0.006
        for number, color in enumerate([(RED, GREEN), (GREEN, RED)][image]):
            own = both & (steps_to[number] < steps_to[1 - number] - 0.01)
            assert own.sum() > 60
            np.testing.assert_allclose(hue(rgb[image][own]), np.tile(color / color.max(), (own.sum(), 1)), rtol=1e-4)


def test_what_lies_on_an_uneven_ground_is_seen_whole():
    """A wall that is too near by less than the grace hides nothing; the depths are the solid's, others as before."""
    at = LINK @ PLACE
    whole = with_solids([(BOX,)], [[at]], [[RED]])[1][0]
    shown = whole > 0
    middle = float(np.median(whole[shown]))
    rgb, depth = with_solids([(BOX,)], [[at]], [[RED]], behind=middle)
    expected = shown & (whole < np.float32(middle) + GRACE)
    assert 50 < expected.sum() < shown.sum() - 50
    assert (whole[expected] > middle).sum() > 20
    np.testing.assert_array_equal(rgb[0, ..., 0] > 0, expected)
    np.testing.assert_array_equal(depth[0], np.where(expected, whole, np.float32(middle)))


def test_the_nearer_of_solids_and_robot_is_seen_however_near():
    """One centimetre between them, less than the grace, before a wall within it; whatever their order."""
    slab = np.array(np.meshgrid([-0.3, 0.3], [-0.2, 0.2], [0, 0.002])).reshape(3, -1).T
    ahead = [Pose(np.eye(3), np.array([x, 0, 1.2 + z])) for x, z in ((0.0, 0.0), (0.1, 0.01))]
    own = Shape("mesh", np.zeros(3), LINK.inverse() @ Pose(np.eye(3), np.array([0.2, 0, 1.195])), 1.0, slab)
    images = [
        with_solids([(slab,), (slab,)], [[ahead[i] for i in order]], [[(RED, GREEN)[i] for i in order]], 1.19, robot)
        for order in ((0, 1), (1, 0))
        for robot in (robot_of(), robot_of(own))
    ]
    np.testing.assert_array_equal(images[0][0], images[2][0])
    np.testing.assert_array_equal(images[1][0], images[3][0])
    (alone, depths), (beside, _) = images[:2]
    row = alone[0, 20]
    edge = int(31 + 0.3 * 50 / 1.2)
    np.testing.assert_allclose(hue(row[22 : edge - 1]), np.tile(RED / RED.max(), (edge - 23, 1)), rtol=1e-4)
    np.testing.assert_allclose(hue(row[edge + 1 : edge + 4]), np.tile(GREEN / GREEN.max(), (3, 1)), rtol=1e-4)
    np.testing.assert_allclose(depths[0, 20, [25, edge + 2]], [1.2, 1.21], atol=1e-5)
    orange = np.array(COLOR) / COLOR[0]
    np.testing.assert_allclose(hue(beside[0, 20, 30 : edge + 6]), np.tile(orange, (edge - 24, 1)), rtol=1e-4)


def test_poses_of_other_solids_than_the_shapes_are_refused():
    """The kernel would read beyond its arrays."""
    with pytest.raises(ValueError, match="1 solids, the poses of 2"):
        with_solids([(BOX,)], [[LINK, LINK]], [[RED, GREEN]])


def test_arms_are_grey(rover: Robot):
    """Whatever an arm holds is of another colour; what drives stays orange."""
    for robot, color in ((rover, COLOR), (replace(rover, fixed_base=True), ARM_COLOR)):
        colors = body_of(robot).colors
        np.testing.assert_allclose(colors, np.tile(color, (len(colors), 1)), atol=1e-6)
