"""Loose bodies in every engine that has them: they rest, slide, topple, stack, are pushed, and come back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import trimesh

from pipeline.errors import SimError
from pipeline.geometry import Mesh, Pose, matrix_from_quaternion, matrix_from_rotvec, quaternion_from_matrix
from pipeline.types import F64
from sim.controlled import find_robot
from sim.physics.bodies import ABSENT, BodyState, RigidBody
from sim.physics.boxes import BoxMesh
from sim.physics.catalog import ENGINES
from sim.physics.state import PhysicsEngine
from sim.robots.state import RobotState
from sim.scene.terrain import make_terrain
from tests.sim.physics.test_conformance import floor

pytest.importorskip("mujoco")
GRAVITY = 9.81
ROVER, _ = find_robot("rover")
GO2, _ = find_robot("go2")
FAR = 3.0
"""Where the robot stands [m]."""


def block(size: tuple[float, float, float], mass: float = 2.0, friction: float = 0.5) -> RigidBody:
    """A block whose origin is the middle of its foot."""
    corners = np.stack(np.meshgrid([-0.5, 0.5], [-0.5, 0.5], [0, 1], indexing="ij"), -1).reshape(-1, 3)
    return RigidBody("block", (corners * size,), mass, friction)


BRICK = block((0.3, 0.2, 0.16))
PLANK = block((0.12, 0.1, 0.5), 1.0)


def flat_boxes() -> BoxMesh:
    """Ground of boxes that is level at 0."""
    return make_terrain(0, ("flat",), 0).mesh()


Make = Callable[..., PhysicsEngine]


@pytest.fixture(params=["sapien", "mujoco", "mujoco-worlds"])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Makes engines with bodies in one scene, the robots standing aside."""
    made: list[PhysicsEngine] = []
    worlds = request.param == "mujoco-worlds"

    def build(bodies: list[RigidBody], count: int = 1, ground: Mesh | None = None) -> PhysicsEngine:
        if worlds and ground is not None:
            pytest.skip("its ground is made of boxes")
        robot = GO2 if worlds else ROVER
        scene = flat_boxes() if worlds else ground or floor()
        engine = ENGINES[request.param].make(robot, [scene], count, bodies=[bodies])
        made.append(engine)
        rest = np.tile(robot.default_position, (count, 1))
        place = np.tile([FAR, FAR, robot.base_height + 0.01], (count, 1))
        engine.reset(
            np.arange(count), RobotState.at_rest(place, np.tile([1, 0, 0, 0], (count, 1)), rest), np.zeros(count, int)
        )
        return engine

    yield build
    for engine in made:
        engine.close()


def put(engine: PhysicsEngine, positions: list[list[float]], rotvecs: list[list[float]] | None = None) -> BodyState:
    """Put all robots' bodies to the same places, at rest."""
    quaternions = [quaternion_from_matrix(matrix_from_rotvec(v)) for v in rotvecs or [[0.0, 0, 0]] * len(positions)]
    count = engine.num_robots
    state = BodyState.at_rest(np.tile(positions, (count, 1, 1)), np.tile(quaternions, (count, 1, 1)))
    engine.place_bodies(np.arange(count), state)
    return state


def run(engine: PhysicsEngine, seconds: float) -> BodyState:
    engine.step(round(seconds / engine.time_step))
    return engine.read_bodies()


def test_inertia_is_that_of_the_body():
    """Of a block that stands on its origin, and of two pieces that are turned."""
    frame, moments = PLANK.inertia
    np.testing.assert_allclose(frame.translation, [0, 0, 0.25], atol=1e-9)
    a, b, c = 0.12, 0.1, 0.5
    np.testing.assert_allclose(
        np.sort(moments), np.sort([b * b + c * c, a * a + c * c, a * a + b * b]) / np.array(12), rtol=1e-6
    )
    turned = Pose(matrix_from_rotvec([0.3, -0.5, 0.8]), np.array([0.4, -0.2, 0.1]))
    halves = [turned.apply(corners) for corners in (BRICK.hulls[0], BRICK.hulls[0] + [0.3, 0, 0])]
    both = RigidBody("both", tuple(halves), 4.0, 0.5)
    frame, moments = both.inertia
    whole = trimesh.Trimesh(
        trimesh.creation.box((0.6, 0.2, 0.16)).vertices, trimesh.creation.box((0.6, 0.2, 0.16)).faces
    )
    whole.density = 4.0 / whole.volume
    np.testing.assert_allclose(np.sort(moments), np.sort(np.diag(whole.moment_inertia)), rtol=1e-6)
    np.testing.assert_allclose(frame.translation, turned.apply([0.15, 0, 0.08]), atol=1e-9)


def test_what_is_put_in_is_read_out(make: Make):
    """Turned and moving, for each robot its own."""
    engine = make([BRICK, PLANK], 3)
    rng = np.random.default_rng(0)
    quaternion = rng.normal(size=(3, 2, 4))
    quaternion /= np.linalg.norm(quaternion, axis=2, keepdims=True) * np.sign(quaternion[..., :1])
    position, linear, angular = (rng.normal(size=(3, 2, 3)) + np.array([0, 0, 5]) for _ in range(3))
    given = BodyState(*(np.asarray(value, np.float32) for value in (position, quaternion, linear, angular)))
    engine.place_bodies(np.array([2, 0, 1]), given[np.array([2, 0, 1])])
    found = engine.read_bodies()
    for name in ("position", "quaternion", "linear_velocity", "angular_velocity"):
        np.testing.assert_allclose(getattr(found, name), getattr(given, name), atol=2e-5, err_msg=name)


def test_it_falls_as_everything_does(make: Make):
    """Without a robot's help; its origin, not the middle of its mass, goes round that."""
    engine = make([PLANK])
    state = put(engine, [[0.0, 0, 3.0]])
    engine.place_bodies(np.array([0]), replace(state, angular_velocity=np.array([[[0, 3.0, 0]]], np.float32)))
    before = engine.read_bodies()
    after = run(engine, 0.4)
    middle = [s.position[0, 0] + matrix_from_quaternion(s.quaternion[0, 0]) @ [0, 0, 0.25] for s in (before, after)]
    np.testing.assert_allclose(middle[1][2], middle[0][2] - GRAVITY * 0.4**2 / 2, atol=0.03)


def test_it_rests(make: Make):
    """Where it was put, with no more than a millimetre between."""
    engine = make([BRICK, PLANK], 2)
    given = put(engine, [[0.0, 0.2, 0.001], [0.8, -0.3, 0.001]], [[0, 0, 0.5], [0, 0, -0.3]])
    after = run(engine, 2.0)
    np.testing.assert_allclose(after.position, given.position, atol=0.004)
    np.testing.assert_allclose(np.abs((after.quaternion * given.quaternion).sum(2)), 1, atol=1e-4)
    assert np.abs(after.linear_velocity).max() < 0.01


@pytest.mark.parametrize("friction", [0.3, 0.7])
def test_it_slides_as_far_as_friction_lets_it(make: Make, friction: float):
    """From 1.5 m/s: v^2 / (2 mu g)."""
    engine = make([block((0.3, 0.3, 0.1), 3.0, friction)])
    state = put(engine, [[0.0, 0.0, 0.0005]])
    engine.place_bodies(np.array([0]), replace(state, linear_velocity=np.array([[[1.5, 0, 0]]], np.float32)))
    after = run(engine, 2.0)
    assert after.position[0, 0, 0] == pytest.approx(1.5**2 / (2 * friction * GRAVITY), rel=0.12)


@pytest.mark.parametrize(("friction", "slides"), [(0.38, True), (0.42, False)])
def test_it_slides_from_the_angle_of_friction(make: Make, friction: float, slides: bool):
    """On a slope of tan = 0.4."""
    slope = floor(slope=0.4)
    engine = make([block((0.4, 0.4, 0.1), 3.0, friction)], ground=slope)
    put(engine, [[0.0, 0.0, 0.001]], [[0, -np.arctan(0.4), 0]])
    moved = np.abs(run(engine, 2.0).position[0, 0, 0])
    assert (moved > 0.1) == slides, moved


def test_it_topples_over_its_edge(make: Make):
    """A plank tipped by 8 degrees comes back, by 16 it falls: its foot is 12 cm wide, its middle at 25 cm."""
    for degrees, stands in ((8, True), (16, False)):
        engine = make([block((0.12, 0.3, 0.5), 1.0, 0.9)])
        angle = np.deg2rad(degrees)
        edge = 0.06 * np.array([1 - np.cos(angle), 0, np.sin(angle)])
        put(engine, [[edge[0], 0.0, edge[2] + 0.001]], [[0, angle, 0]])
        after = run(engine, 3.0)
        upright = matrix_from_quaternion(after.quaternion[0, 0])[2, 2]
        assert (upright > 0.99) == stands, degrees


@pytest.mark.parametrize("name", ["sapien", "mujoco"])
def test_walls_do_not_push_what_stands_close(name: str):
    """2 mm from both walls of a corner that is turned about the vertical."""
    turned = Pose(matrix_from_rotvec([0, 0, 0.35]), np.array([0.3, -0.2, 0.1]))
    x = np.linspace(0, 1.2, 9)
    corners = np.array([[[a, b, 0], [0, a, b], [b, 0, a]] for a in x for b in x]).reshape(9, 9, 3, 3)
    faces = [
        corners[i, j]
        for i, j in ((slice(-1), slice(-1)), (slice(1, None), slice(-1)), (slice(1, None), slice(1, None)))
    ]
    first = np.stack(faces, 3).reshape(-1, 3, 3)
    second = np.stack([faces[0], faces[2], corners[:-1, 1:]], 3).reshape(-1, 3, 3)
    soup = trimesh.Trimesh(
        turned.apply(np.concatenate([first, second]).reshape(-1, 3)), np.arange(6 * 3 * 64).reshape(-1, 3)
    )
    soup.merge_vertices()
    body = block((0.3, 0.2, 0.16))
    body = replace(body, hulls=(body.hulls[0] + [0.152, 0.102, 0],))
    engine = ENGINES[name].make(
        ROVER, [Mesh.from_arrays(np.asarray(soup.vertices), np.asarray(soup.faces))], 1, bodies=[[body]]
    )
    place = turned.apply(np.array([0.0, 0.0, 0.0005]))
    given = BodyState.at_rest(place[None, None], quaternion_from_matrix(turned.rotation)[None, None])
    aside = RobotState.at_rest(np.array([[FAR, FAR, 0.5]]), np.array([[1.0, 0, 0, 0]]), ROVER.default_position[None])
    engine.reset(np.arange(1), aside, np.zeros(1, int))
    engine.place_bodies(np.arange(1), given)
    after = run(engine, 1.5)
    assert np.linalg.norm(after.position[0, 0] - place) < 0.002, after.position[0, 0] - place
    engine.close()


def test_what_overlaps_the_ground_is_not_thrown_out():
    """5 cm deep in a slope: it comes out, and stays."""
    engine = ENGINES["sapien"].make(ROVER, [floor(slope=0.2)], 1, bodies=[[block((0.3, 0.2, 0.16))]])
    aside = RobotState.at_rest(np.array([[FAR, FAR, 1.5]]), np.array([[1.0, 0, 0, 0]]), ROVER.default_position[None])
    engine.reset(np.arange(1), aside, np.zeros(1, int))
    put(engine, [[0.0, 0.0, -0.05]], [[0.1, -0.2, 0.3]])
    highest = max(run(engine, 0.05).position[0, 0, 2] for _ in range(20))
    assert 0 < highest < 0.1
    assert np.linalg.norm(engine.read_bodies().linear_velocity) < 0.05
    engine.close()


def test_they_stack(make: Make):
    """Three bricks stay on each other, and have not sunk in."""
    engine = make([BRICK, BRICK, BRICK])
    put(engine, [[0.0, 0.0, 0.001], [0.03, 0.01, 0.163], [-0.02, 0.0, 0.325]], [[0, 0, 0], [0, 0, 0.4], [0, 0, -0.3]])
    after = run(engine, 3.0)
    np.testing.assert_allclose(after.position[0, :, 2], [0, 0.16, 0.32], atol=0.006)
    np.testing.assert_allclose(after.position[0, :, 0], [0, 0.03, -0.02], atol=0.01)


def test_robots_do_not_share_their_bodies(make: Make):
    """Two robots in one place: the brick of one falls through that of the other, not through the floor."""
    engine = make([BRICK], 2)
    position = np.array([[[0.0, 0, 0.001]], [[0.0, 0, 0.4]]])
    engine.place_bodies(np.arange(2), BodyState.at_rest(position, np.tile([1.0, 0, 0, 0], (2, 1, 1))))
    np.testing.assert_allclose(run(engine, 1.5).position[:, 0, 2], 0, atol=0.004)


def test_a_state_comes_back(make: Make):
    """Saved in the middle of a fall: the same future, bit for bit."""
    engine = make([BRICK, PLANK], 2)
    put(engine, [[0.0, 0.0, 0.3], [0.1, 0.05, 0.6]], [[0.3, 0.2, 0], [0, 0.4, 0.1]])
    run(engine, 0.2)
    saved = engine.save()
    first = run(engine, 0.8)
    engine.restore(saved)
    second = run(engine, 0.8)
    np.testing.assert_array_equal(first.position, second.position)
    np.testing.assert_array_equal(first.quaternion, second.quaternion)


@pytest.mark.parametrize("name", ["sapien", "mujoco"])
def test_a_rover_pushes_it(name: str):
    """Ahead, while it feels it."""
    engine = ENGINES[name].make(ROVER, [floor()], 2, bodies=[[block((0.3, 0.4, 0.3), 2.0, 0.4)]])
    place = np.tile([0.0, 0.0, ROVER.base_height + 0.01], (2, 1))
    state = RobotState.at_rest(place, np.tile([1, 0, 0, 0], (2, 1)), np.tile(ROVER.default_position, (2, 1)))
    engine.reset(np.arange(2), state, np.zeros(2, int))
    put(engine, [[0.7, 0.0, 0.001]])
    engine.set_targets(np.full((2, len(ROVER.actuators)), 4.0, np.float32))
    felt = 0.0
    for _ in range(30):
        engine.step(round(0.1 / engine.time_step))
        felt = max(felt, -float(engine.contact_forces()[0, :, 0].min()))
    moved = engine.read_bodies().position[:, 0, 0] - 0.7
    assert (moved > 0.2).all(), moved
    assert felt > 3, "less than the friction of the block"
    engine.close()


@pytest.mark.parametrize("name", ["sapien", "mujoco"])
def test_each_scene_has_its_own(name: str):
    """What stands in the other scene is absent, and comes when the robot goes there."""
    engine = ENGINES[name].make(ROVER, [floor(), floor(-1.0)], 2, bodies=[[BRICK], [PLANK]])
    assert engine.scene_of_body.tolist() == [0, 1]
    for scenes in ([0, 1], [1, 0]):
        place = np.array([[FAR, FAR, ROVER.base_height + 0.01 - scene] for scene in scenes])
        rest = np.tile(ROVER.default_position, (2, 1))
        engine.reset(np.arange(2), RobotState.at_rest(place, np.tile([1, 0, 0, 0], (2, 1)), rest), np.array(scenes))
        put(engine, [[0.0, 0, 0.05], [0.4, 0, -0.95]])
        after = run(engine, 1.0)
        for row, scene in enumerate(scenes):
            np.testing.assert_allclose(after.position[row, scene], [[0, 0, 0], [0.4, 0, -1.0]][scene], atol=0.005)
            np.testing.assert_allclose(after.position[row, 1 - scene], ABSENT)
    engine.close()


def hulls_of_a_table() -> tuple[F64, ...]:
    """A top and two legs."""
    corners = np.stack(np.meshgrid(*[[-0.5, 0.5]] * 3, indexing="ij"), -1).reshape(-1, 3)
    parts = (((0.6, 0.4, 0.05), (0, 0, 0.425)), ((0.05, 0.4, 0.4), (0.25, 0, 0.2)), ((0.05, 0.4, 0.4), (-0.25, 0, 0.2)))
    return tuple(corners * size + middle for size, middle in parts)


def test_between_the_pieces_is_room(make: Make):
    """A brick stands under the table, and one on it."""
    engine = make([RigidBody("table", hulls_of_a_table(), 5.0, 0.6), BRICK, BRICK])
    given = put(engine, [[0.0, 0, 0.001], [0.0, 0, 0.002], [0.0, 0, 0.453]])
    after = run(engine, 2.0)
    np.testing.assert_allclose(after.position, given.position, atol=0.008)


def test_engines_without_bodies_say_so():
    """Nobody is told that they are there."""
    with pytest.raises(SimError, match="no loose bodies"):
        PhysicsEngine(ROVER, [floor()], 1, bodies=[[BRICK]])
    with pytest.raises(SimError, match="up to 30 robots"):
        ENGINES["mujoco"].make(ROVER, [floor()], 31, bodies=[[BRICK]])
