"""What every physics engine must do alike: one suite over all that run here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.geometry import Mesh, matrix_from_quaternion, matrix_from_rotvec, quaternion_from_matrix
from sim.control.joints import JointOffsets
from sim.controlled import find_robot
from sim.physics.catalog import ENGINES
from sim.physics.state import Dynamics, PhysicsEngine, scene_offsets
from sim.robots.catalog import ROVER
from sim.robots.model import Robot
from sim.robots.reading import load_robot
from sim.robots.state import RobotState
from tests.sim.engines import engines_here
from tests.sim.physics.fake_gpu_system import use_fake_gpu
from tests.sim.physics.isaacgym.fake_interpreter import use_fake_isaacgym

GRAVITY = 9.81

ARM = """
<mujoco>
  <compiler autolimits="true" angle="radian"/>
  <worldbody>
    <body name="base">
      <freejoint/>
      <inertial pos="0.05 -0.02 0.03" mass="5" diaginertia="0.03 0.05 0.06"/>
      <geom type="box" size="0.2 0.15 0.05" friction="0.8"/>
      <body name="upper" pos="0.1 0.05 0.05" quat="0.96 0.1 0.2 0.1">
        <joint name="shoulder" axis="0 0.6 0.8" pos="0.01 0.02 0" range="-1.2 0.9" armature="0.02" damping="0.3"/>
        <inertial pos="0 0 0.1" mass="0.6" diaginertia="0.004 0.004 0.001"/>
        <geom type="capsule" fromto="0 0 0 0 0 0.2" size="0.02"/>
        <body name="fore" pos="0 0 0.2">
          <joint name="elbow" type="slide" axis="0 0 1" range="-0.05 0.1" armature="0.5"/>
          <inertial pos="0 0 0.05" mass="0.3" diaginertia="0.001 0.001 0.0005"/>
          <geom type="cylinder" size="0.02 0.05" pos="0 0 0.05"/>
        </body>
      </body>
    </body>
  </worldbody>
  <actuator>
    <position joint="shoulder" kp="60" kv="3" forcerange="-25 25"/>
    <position joint="elbow" kp="900" kv="40" forcerange="-80 80"/>
  </actuator>
</mujoco>
"""
"""A base that carries an arm whose axes lie askew; nothing in it is symmetric."""


def floor(height: float = 0.0, slope: float = 0.0, size: float = 4.0) -> Mesh:
    """A triangulated floor around the origin that rises along x."""
    side = np.linspace(-size, size, 41)
    grid = np.stack(np.meshgrid(side, side, indexing="ij"), -1).reshape(-1, 2)
    number = np.arange(41 * 41).reshape(41, 41)
    low, right, top, corner = number[:-1, :-1], number[1:, :-1], number[:-1, 1:], number[1:, 1:]
    triangles = np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((low, right, corner), (low, corner, top))])
    return Mesh.from_arrays(np.c_[grid, height + slope * grid[:, 0]], triangles)


Make = Callable[..., PhysicsEngine]


FAKES = ["sapien-gpu-fake", pytest.param("isaacgym-fake", marks=pytest.mark.slow)]


@pytest.fixture(params=[*engines_here(), *FAKES, pytest.param("sapien-gpu", marks=pytest.mark.gpu)])
def make(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes engines of one kind and closes them; those that need more where it is, and their fakes everywhere."""
    made: list[PhysicsEngine] = []
    if request.param == "isaacgym-fake":
        use_fake_isaacgym(monkeypatch)
    if request.param == "sapien-gpu-fake":
        use_fake_gpu(monkeypatch)
    if request.param == "sapien-gpu" and not pytest.importorskip("torch").cuda.is_available():
        pytest.skip("needs a CUDA device")
    kind = ENGINES[request.param.removesuffix("-fake")].make

    def build(robot: Robot, scenes: list[Mesh], count: int) -> PhysicsEngine:
        made.append(kind(robot, scenes, count))
        return made[-1]

    yield build
    for engine in made:
        engine.close()


@pytest.fixture(scope="module")
def arm(tmp_path_factory: pytest.TempPathFactory) -> Robot:
    """The askew arm."""
    path = tmp_path_factory.mktemp("robot") / "arm.xml"
    path.write_text(ARM)
    return load_robot(path)


def at_rest(robot: Robot, position: list[list[float]], yaw: float = 0.4) -> RobotState:
    """Upright robots at these places."""
    quaternion = np.tile([np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)], (len(position), 1))
    return RobotState.at_rest(np.array(position), quaternion, np.tile(robot.default_position, (len(position), 1)))


def start(engine: PhysicsEngine, state: RobotState, scenes: list[int] | None = None) -> None:
    engine.reset(np.arange(len(state)), state, np.array(scenes or [0] * len(state)))


def test_what_is_put_in_is_read_out(make: Make, arm: Robot) -> None:
    """Turned, moving, bent, in two scenes: every number comes back, in the same frame."""
    engine = make(arm, [floor(), floor(-2.0)], 3)
    quaternion = quaternion_from_matrix(matrix_from_rotvec([[0.3, -0.2, 1.1], [-0.5, 0.4, 2.8], [0.1, 0.7, -1.9]]))
    rng = np.random.default_rng(0)
    state = RobotState(
        *(
            np.asarray(values, np.float32)
            for values in (
                rng.uniform(1, 2, (3, 3)),
                quaternion,
                rng.normal(size=(3, 3)),
                rng.normal(size=(3, 3)),
                rng.uniform(-0.04, 0.09, (3, 2)),
                rng.normal(size=(3, 2)),
            )
        )
    )
    start(engine, state, [1, 0, 1])
    found = engine.read()
    for name in vars(state):
        np.testing.assert_allclose(getattr(found, name), getattr(state, name), atol=2e-5, err_msg=name)
    assert engine.joint_names == ("shoulder", "elbow")
    assert engine.link_names == ("base", "upper", "fore")


def test_free_fall(make: Make, arm: Robot) -> None:
    """The mass centre of all falls with g, however the robot turns; joints held stiffly barely move."""
    engine = make(arm, [floor()], 1)
    begun = at_rest(arm, [[0.5, 0.3, 3.0]])
    start(engine, begun)
    engine.step(50)
    state = engine.read()
    assert state.linear_velocity[0, 2] == pytest.approx(-GRAVITY * 0.2, rel=1e-3)
    assert state.position[0, 2] == pytest.approx(3 - GRAVITY * 0.2**2 / 2, abs=0.01)


SLED = """
<mujoco>
  <worldbody>
    <body name="base">
      <freejoint/>
      <inertial pos="0 0 0" mass="4" diaginertia="0.02 0.05 0.06"/>
      <geom type="box" size="0.2 0.15 0.05" friction="0.6"/>
      <body name="mast" pos="0 0 0.05">
        <joint name="mast" axis="0 0 1" range="-0.1 0.1"/>
        <inertial pos="0 0 0" mass="0.01" diaginertia="0.0001 0.0001 0.0001"/>
      </body>
    </body>
  </worldbody>
  <actuator><position joint="mast" kp="1" kv="0.1"/></actuator>
</mujoco>
"""
PENDULUM = """
<mujoco>
  <worldbody>
    <body name="base">
      <freejoint/>
      <inertial pos="0 0 0" mass="400" diaginertia="30 30 30"/>
      <geom type="box" size="0.5 0.5 0.1" friction="1"/>
      <body name="rod" pos="0 0 1.2">
        <joint name="swing" axis="0 1 0"/>
        <inertial pos="0 0 -0.5" mass="0.8" diaginertia="0.022 0.02 0.004"/>
        <geom type="capsule" fromto="0 0 -0.3 0 0 -0.5" size="0.02"/>
      </body>
    </body>
  </worldbody>
  <actuator><velocity joint="swing" kv="1e-6"/></actuator>
</mujoco>
"""
"""A rod that swings freely over a base that is too heavy to move."""


def of(text: str, folder: Path) -> Robot:
    """A robot of that MJCF file."""
    path = folder / "robot.xml"
    path.write_text(text)
    return load_robot(path)


@pytest.mark.parametrize(("slope", "slides"), [(0.5, False), (0.9, True)])
def test_friction_is_a_cone(make: Make, tmp_path: Path, slope: float, slides: bool) -> None:
    """Below its friction coefficient a slope holds a sled; on a steeper one it gains g (sin a - mu cos a)."""
    angle, seconds = np.arctan(slope), 0.6
    engine = make(of(SLED, tmp_path), [floor(slope=slope)], 1)
    normal, down = np.array([-np.sin(angle), 0, np.cos(angle)]), np.array([-np.cos(angle), 0, -np.sin(angle)])
    turned = quaternion_from_matrix(matrix_from_rotvec(np.array([[0, -angle, 0]])))
    state = RobotState.at_rest((0.0505 * normal)[None], turned, np.zeros((1, 1)))
    start(engine, state)
    engine.step(round(seconds / engine.time_step))
    speed = float(engine.read().linear_velocity[0] @ down)
    expected = GRAVITY * (np.sin(angle) - 0.6 * np.cos(angle)) * seconds if slides else 0.0
    assert speed == pytest.approx(expected, rel=0.08, abs=0.02)


def test_a_free_pendulum_keeps_its_energy(make: Make, tmp_path: Path) -> None:
    """And swings with the period of its equation of motion, by an integration of its own."""
    engine = make(of(PENDULUM, tmp_path), [floor()], 1)
    start(engine, RobotState.at_rest(np.array([[0, 0, 0.1]]), np.array([[1.0, 0, 0, 0]]), np.array([[1.0]])))
    mass, length, moment = 0.8, 0.5, 0.02 + 0.8 * 0.5**2
    angles, rates = [], []
    for _ in range(round(2.0 / engine.time_step)):
        engine.step(1)
        state = engine.read()
        angles.append(float(state.joint_position[0, 0]))
        rates.append(float(state.joint_velocity[0, 0]))
    energy = moment * np.array(rates) ** 2 / 2 - mass * GRAVITY * length * np.cos(angles)
    swing = mass * GRAVITY * length * (1 - np.cos(1.0))
    assert np.abs(energy + mass * GRAVITY * length * np.cos(1.0)).max() < 0.05 * swing
    angle, rate, step, crossings = 1.0, 0.0, 1e-4, list[float]()
    for number in range(20_000):
        rate -= step * mass * GRAVITY * length * np.sin(angle) / moment
        before, angle = angle, angle + step * rate
        if before * angle < 0:
            crossings.append(number * step)
    found = np.flatnonzero(np.diff(np.sign(angles))) * engine.time_step
    np.testing.assert_allclose(found[: len(crossings)], crossings[: len(found)], atol=0.02)


def test_velocity_is_that_of_the_origin(make: Make, arm: Robot) -> None:
    """A base that turns about its origin leaves it where it is for a moment; its mass centre is what moves."""
    engine = make(arm, [floor()], 1)
    base = at_rest(arm, [[0, 0, 3.0]])
    spin, still = np.array([[0.0, 0, 2.0]], np.float32), np.zeros((1, 3), np.float32)
    start(engine, RobotState(base.position, base.quaternion, still, spin, base.joint_position, base.joint_velocity))
    engine.step(25)
    # w^2 c t^2 / 2 = 1 mm for a mass centre c = 5 cm off; 11 mm if the velocity were the mass centre's
    assert np.linalg.norm(engine.read().position[0, :2]) < 0.004


def test_targets_are_reached(make: Make, arm: Robot) -> None:
    """In the robot's own joint order, and in the direction of the axis."""
    engine = make(arm, [floor()], 1)
    start(engine, at_rest(arm, [[0, 0, arm.base_height + 0.002]]))
    engine.set_targets(np.array([[0.5, 0.06]], np.float32))
    engine.step(500)
    np.testing.assert_allclose(engine.read().joint_position[0], [0.5, 0.06], atol=0.04)


def test_weight_rests_on_the_floor(make: Make, rover: Robot) -> None:
    """The contacts carry the weight, upwards; the wheels carry most."""
    engine = make(rover, [floor(0.3)], 2)
    start(engine, at_rest(rover, [[0.4, 0.2, 0.31], [-1, 0.5, 0.31]]))
    engine.step(300)
    force = engine.contact_forces()
    np.testing.assert_allclose(force.sum(1)[:, 2], rover.mass * GRAVITY, rtol=0.1)
    assert (force[:, 1:, 2].sum(1) > 0.6 * rover.mass * GRAVITY).all()
    assert engine.read().position[:, 2] == pytest.approx(0.3, abs=0.006)


def test_contact_forces_are_normal(make: Make, rover: Robot) -> None:
    """On a slope that friction holds it on, they are at right angles to it: no engine counts friction."""
    slope = 0.12
    engine = make(rover, [floor(slope=slope)], 1)
    start(engine, at_rest(rover, [[0, 0, 0.02]]))
    engine.step(200)
    force = engine.contact_forces().sum(1)[0]
    assert force[0] / force[2] == pytest.approx(-slope, rel=0.25)
    assert abs(force[1] / force[2]) < 0.03


def test_rover_drives_and_turns(make: Make, rover: Robot) -> None:
    """Wheel speed times radius forwards; opposite wheels turn it to the left."""
    engine = make(rover, [floor()], 2)
    start(engine, at_rest(rover, [[0, 0, 0.005], [2, 0, 0.005]]))
    engine.set_targets(np.array([[5.0, 5.0], [-4.0, 4.0]], np.float32))
    engine.step(250)
    state = engine.read()
    forward = matrix_from_quaternion(state.quaternion)[0, :, 0]
    assert state.linear_velocity[0] @ forward == pytest.approx(0.4, abs=0.02)
    assert forward[:2] == pytest.approx([np.cos(0.4), np.sin(0.4)], abs=0.02)
    assert state.angular_velocity[1, 2] == pytest.approx(4 * 0.08 / 0.16, abs=0.1)
    assert np.linalg.norm(state.position[1, :2] - [2, 0]) < 0.1


@pytest.mark.parametrize("name", ["go2", "bolt", "g1"])
def test_legged_robots_stand_or_fall(make: Make, name: str) -> None:
    """From a URDF with meshes and fixed feet: the quadruped stands on its feet, the biped falls, as it must."""
    robot, _ = find_robot(name)
    drive = JointOffsets(robot)
    engine = make(robot, [floor()], 2)
    start(engine, at_rest(robot, [[0, 0, robot.base_height + 0.01], [1, 1, robot.base_height + 0.01]]))
    engine.set_targets(drive.command(np.zeros((2, drive.size), np.float32)))
    engine.step(400)
    state, force = engine.read(), engine.contact_forces()
    upright = matrix_from_quaternion(state.quaternion)[:, 2, 2]
    feet = [n for n, link in enumerate(robot.links) if link.joint and not any(k.parent == n for k in robot.links)]
    if name == "go2":
        assert (upright > 0.99).all()
        assert state.position[:, 2] == pytest.approx(0.31, abs=0.02)
        np.testing.assert_allclose(force[:, feet, 2].sum(1), robot.mass * GRAVITY, rtol=0.15)
    else:
        assert (upright < 0.5).all()


def test_robots_do_not_meet(make: Make, rover: Robot) -> None:
    """Two at one place stand as if alone, in one scene or in two of other heights."""
    engine = make(rover, [floor(), floor(-1.0)], 3)
    start(engine, at_rest(rover, [[0, 0, 0.01], [0, 0, 0.01], [0, 0, -0.99]]), [0, 0, 1])
    engine.step(200)
    state = engine.read()
    assert state.position[:, 2] == pytest.approx([0, 0, -1], abs=0.006)
    assert np.abs(state.position[:, :2]).max() < 0.01


def test_push_and_dynamics_change_one_robot(make: Make, rover: Robot) -> None:
    """A push is a change of velocity; ice instead of grip; weak motors don't hold the speed uphill."""
    engine = make(rover, [floor(slope=0.15)], 4)
    start(engine, at_rest(rover, [[-1, y, -0.14] for y in (0.0, 0.5, 1.0, 1.5)], yaw=0.0))
    factors = np.ones((3, 2), np.float32)
    factors[0, 0], factors[2, 1] = 0.02, 0.1
    engine.set_dynamics(np.array([1, 2]), Dynamics(*factors))
    engine.set_targets(np.full((4, 2), 4.0, np.float32))
    engine.step(50)  # until they are on the ground
    begun = engine.read().position[:, 0]
    engine.step(250)
    rise = engine.read().position[:, 0] - begun
    assert rise[0] == pytest.approx(0.3, abs=0.02)
    assert rise[3] == pytest.approx(rise[0], abs=0.01)
    assert rise[1] < 0.1
    assert rise[2] < 0.8 * rise[0]
    before = engine.read().linear_velocity
    engine.push(np.array([3]), np.array([[0.0, 0.6, 0.2]], np.float32))
    change = engine.read().linear_velocity - before
    np.testing.assert_allclose(change, [[0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0.6, 0.2]], atol=1e-5)


def test_strength_changes_targets_that_are_held(make: Make, tmp_path: Path) -> None:
    """Bit for bit the same, whether the targets were set before the motors got weaker or after; wheels have drag."""
    path = tmp_path / "dragging.xml"
    path.write_text(ROVER.read_text().replace("armature=", 'damping="2" armature='))
    rover, states = load_robot(path), []
    one, weak = np.ones(1, np.float32), np.full(1, 0.3, np.float32)
    for before in (True, False):
        engine = make(rover, [floor(slope=0.1)], 1)
        start(engine, at_rest(rover, [[0, 0, 0.01]], yaw=0.0))
        if before:
            engine.set_targets(np.array([[5.0, 4.0]], np.float32))
        engine.set_dynamics(np.array([0]), Dynamics(one, one, weak))
        if not before:
            engine.set_targets(np.array([[5.0, 4.0]], np.float32))
        engine.step(100)
        states.append(engine.read())
    np.testing.assert_array_equal(states[0].joint_velocity, states[1].joint_velocity)


def test_drag_slows_wheels(make: Make, tmp_path: Path) -> None:
    """In the air a wheel turns as fast as motor and drag agree upon; with a weaker motor, slower."""
    path = tmp_path / "dragging.xml"
    path.write_text(ROVER.read_text().replace("armature=", 'damping="2" armature='))
    rover = load_robot(path)
    engine, motor = make(rover, [floor()], 2), rover.actuators[0].damping
    start(engine, at_rest(rover, [[0, 0, 8.0], [1, 1, 8.0]]))
    one, weak = np.ones(1, np.float32), np.full(1, 0.3, np.float32)
    engine.set_targets(np.full((2, 2), 2, np.float32))  # below what the largest force would limit
    engine.set_dynamics(np.array([1]), Dynamics(one, one, weak))
    engine.step(200)
    speeds = engine.read().joint_velocity[:, rover.driven].mean(1)
    assert speeds == pytest.approx([2 * motor / (motor + 2), 2 * 0.3 * motor / (0.3 * motor + 2)], rel=0.05)


def test_a_reset_leaves_others_alone(make: Make, rover: Robot) -> None:
    """One begins anew; the other drives on as it did."""
    states = []
    for again in (False, True):
        engine = make(rover, [floor(), floor(-1.0)], 2)
        start(engine, at_rest(rover, [[0, 0, 0.01], [1, 1, 0.01]]))
        engine.set_targets(np.full((2, 2), 5, np.float32))
        engine.step(60)
        if again:
            engine.reset(np.array([1]), at_rest(rover, [[-0.5, 0.7, -0.9]]), np.array([1]))
        states.append(engine.read())
    for name in vars(states[0]):
        np.testing.assert_allclose(getattr(states[1], name)[0], getattr(states[0], name)[0], atol=1e-5, err_msg=name)
    np.testing.assert_allclose(states[1].position[1], [-0.5, 0.7, -0.9], atol=1e-5)
    assert states[0].position[0, 0] > 0.02


def test_a_push_lasts(make: Make, arm: Robot) -> None:
    """In the air the robot flies on with it."""
    engine = make(arm, [floor()], 2)
    start(engine, at_rest(arm, [[0, 0, 3.0], [1, 1, 3.0]]))
    engine.step(1)
    before = engine.read().position
    engine.push(np.array([1]), np.array([[0.3, -0.6, 0.2]], np.float32))
    engine.step(2)
    gone = engine.read().position - before
    np.testing.assert_allclose((gone[1] - gone[0]) / 0.008, [0.3, -0.6, 0.2], atol=0.01)


def test_joints_stay_where_they_are_put(make: Make, arm: Robot) -> None:
    """Until somebody says otherwise: a reset aims the motors at the new position."""
    engine = make(arm, [floor()], 1)
    engine.set_targets(np.array([[-0.5, 0.0]], np.float32))
    begun = at_rest(arm, [[0, 0, 3.0]])
    bent = np.array([[0.4, 0.07]], np.float32)
    start(engine, replace(begun, joint_position=bent))
    engine.step(50)
    np.testing.assert_allclose(engine.read().joint_position, bent, atol=0.02)


def test_heavier_base_weighs_more(make: Make, rover: Robot) -> None:
    """Twice the base's mass."""
    engine = make(rover, [floor()], 1)
    start(engine, at_rest(rover, [[0, 0, 0.005]]))
    two = np.full(1, 2, np.float32)
    engine.set_dynamics(np.array([0]), Dynamics(two / 2, two, two / 2))
    engine.step(300)
    expected = (rover.mass + rover.links[0].mass) * GRAVITY
    assert engine.contact_forces()[0].sum(0)[2] == pytest.approx(expected, rel=0.1)


def test_saved_state_has_one_future(make: Make, rover: Robot) -> None:
    """Bit for bit: going on, and going back and on again, targets and dynamics included."""
    rng = np.random.default_rng(1)
    bumpy = floor()
    bumpy = Mesh.from_arrays(bumpy.vertices + np.c_[np.zeros((1681, 2)), rng.normal(0, 0.004, 1681)], bumpy.triangles)
    engine = make(rover, [bumpy, floor(1.0)], 3)
    start(engine, at_rest(rover, [[0, 0, 0.03], [1, 0, 0.03], [0, 1, 1.01]]), [0, 0, 1])
    engine.set_targets(rng.uniform(-5, 8, (3, 2)).astype(np.float32))
    engine.step(60)
    saved = engine.save()
    engine.step(100)
    first = engine.read()
    engine.set_targets(np.zeros((3, 2), np.float32))
    weak = np.full(3, 0.3, np.float32)
    engine.set_dynamics(np.arange(3), Dynamics(weak, weak, weak))
    start(engine, at_rest(rover, [[2, 0, 0.03], [1, 2, 0.03], [0, 1, 0.03]]), [0, 0, 0])
    engine.step(10)
    engine.restore(saved)
    engine.step(100)
    second = engine.read()
    for name in vars(first):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)


def test_saved_state_has_one_future_whatever_came_between(make: Make) -> None:
    """Legs that step and slip on uneven ground, pushed: after other ways, and in an engine that was just made."""
    robot, _ = find_robot("go2")
    drive, rng = JointOffsets(robot), np.random.default_rng(4)
    bumpy = floor()
    bumpy = Mesh.from_arrays(bumpy.vertices + np.c_[np.zeros((1681, 2)), rng.normal(0, 0.02, 1681)], bumpy.triangles)
    engine, other = make(robot, [bumpy], 4), make(robot, [bumpy], 4)

    def walk(of: PhysicsEngine, seed: int) -> RobotState:
        rng = np.random.default_rng(seed)
        for _ in range(15):
            of.set_targets(drive.command(rng.uniform(-1, 1, (4, drive.size)).astype(np.float32)))
            of.push(rng.integers(4, size=1), rng.uniform(-0.5, 0.5, (1, 3)).astype(np.float32))
            of.step(5)
        return of.read()

    places = [[x, 0.3 * x, robot.base_height + 0.03] for x in (-1.5, -0.5, 0.5, 1.5)]
    start(engine, at_rest(robot, places))
    walk(engine, 0)
    for seed in range(1, 5):
        saved = engine.save()
        first = walk(engine, seed)
        walk(engine, seed + 10)
        for again in (engine, other):
            again.restore(saved)
            np.testing.assert_array_equal(walk(again, seed).joint_velocity, first.joint_velocity)


def test_same_start_same_way(make: Make, rover: Robot) -> None:
    """Two engines of a kind agree bit for bit."""
    states = []
    for _ in range(2):
        engine = make(rover, [floor(slope=0.05)], 2)
        start(engine, at_rest(rover, [[0, 0, 0.01], [1, 0, 0.06]]))
        engine.set_targets(np.array([[5.0, 3.0], [-2.0, 6.0]], np.float32))
        engine.step(150)
        states.append(engine.read())
    np.testing.assert_array_equal(states[0].position, states[1].position)
    np.testing.assert_array_equal(states[0].quaternion, states[1].quaternion)


def test_scenes_lie_apart() -> None:
    """No two overlap, whatever their sizes."""
    meshes = [floor(size=size) for size in (1.0, 6.0, 3.0, 2.0, 5.0)]
    offsets = scene_offsets(meshes)
    for i in range(5):
        for j in range(i):
            reach = (meshes[i].vertices.max(0) + meshes[j].vertices.max(0))[:2]
            assert (np.abs(offsets[i] - offsets[j])[:2] > reach).any()
    assert (offsets[0] == 0).all()


def test_robot_file_is_named(tmp_path: Path) -> None:
    """Both engines read the robot's own file again, or its parts: a mesh robot keeps its hull."""
    path = tmp_path / "ball.xml"
    path.write_text('<mujoco><worldbody><body name="b"><freejoint/><geom size="0.1"/></body></worldbody></mujoco>')
    robot = load_robot(path)
    assert robot.joint_names == ()
    assert robot.base_height == pytest.approx(0.1)
