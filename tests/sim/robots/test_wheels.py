"""Wheels found in files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import SimError
from pipeline.geometry import Mesh
from sim.control.wheels import DifferentialDrive
from sim.controlled import find_robot
from sim.physics.catalog import find_engine
from sim.robots.catalog import PACKAGE, ROVER
from sim.robots.state import RobotState

LINK = (
    '<link name="{name}"><inertial><mass value="{mass}"/><inertia ixx="0.01" iyy="0.01" izz="0.01" ixy="0" ixz="0" '
    'iyz="0"/></inertial><collision><origin xyz="{at}"/><geometry>{shape}</geometry></collision></link>'
)
FLOOR = Mesh.from_arrays(
    np.array([[-4, -4, 0], [4, -4, 0], [4, 4, 0], [-4, 4, 0]], float), np.array([[0, 1, 2], [0, 2, 3]])
)
BALL, HULL = '<sphere radius="{}"/>', '<box size="0.3 0.2 0.06"/>'


def link(name: str, mass: float, shape: str, at: str = "0 0 0") -> str:
    """A link of a URDF."""
    return LINK.format(name=name, mass=mass, shape=shape, at=at)


def wheel(name: str, at: str, *, axis: str = "0 1 0", kind: str = "continuous", radius: float = 0.05) -> str:
    """A wheel at the base, as fast as 10 rad/s."""
    limit = '<limit effort="3" velocity="10"/>' if kind == "continuous" else '<limit lower="-1" upper="1" effort="1"/>'
    joint = f'<joint name="{name}" type="{kind}"><parent link="base"/><child link="{name}_link"/>{limit}'
    return f'{link(f"{name}_link", 0.2, BALL.format(radius))}{joint}<origin xyz="{at}"/><axis xyz="{axis}"/></joint>'


def cart(folder: Path, *wheels: str) -> Path:
    """A URDF with a base that slides on a ball, and wheels."""
    ball = link("ball", 0.1, BALL.format(0.02), "0 0 0")
    fixed = (
        '<joint name="holds" type="fixed"><parent link="base"/><child link="ball"/><origin xyz="-0.12 0 0.02"/></joint>'
    )
    file = folder / "cart.urdf"
    file.write_text(
        f'<robot name="cart">{link("base", 4, HULL, "0 0 0.09")}{ball}{fixed}{"".join(wheels)}</robot>',
        encoding="utf-8",
    )
    return file


LEFT, RIGHT = wheel("port", "0.02 0.13 0.05"), wheel("starboard", "0.02 -0.13 0.05", axis="0 -1 0")


def test_a_urdf_with_two_wheels_drives(tmp_path: Path):
    """Each by its speed, with the sign of its axis; no faster than the file says."""
    robot, drive = find_robot(str(cart(tmp_path, LEFT, RIGHT)))
    assert isinstance(drive, DifferentialDrive)
    wheels = robot.wheels
    assert wheels is not None
    assert (wheels.left, wheels.right, wheels.forward) == (("port",), ("starboard",), {"port": 1, "starboard": -1})
    assert (wheels.radius, wheels.track) == (0.05, 0.26)
    assert [(one.joint, one.mode, one.max_force) for one in robot.actuators] == [
        ("port", "velocity", pytest.approx(1.66, abs=0.01)),
        ("starboard", "velocity", pytest.approx(1.66, abs=0.01)),
    ]
    assert drive.velocities.speed == pytest.approx((-0.15, 0.5))
    np.testing.assert_allclose(drive.command(np.array([[1.0, 0.0]], np.float32)), [[10, -10]])


@pytest.mark.parametrize("engine", ["sapien", "mujoco"])
def test_it_goes_where_it_is_sent(tmp_path: Path, engine: str):
    """A circle by dead reckoning: what it was sent to, within a few per cent, in either engine."""
    robot, drive = find_robot(str(cart(tmp_path, LEFT, RIGHT)))
    world = find_engine(engine, "cpu")(robot, [FLOOR], 1, 0.01, [])
    start = np.array([[0.0, 0.0, robot.base_height + 0.002]])
    joints = np.zeros((1, len(robot.joint_names)), np.float32)
    world.reset(np.zeros(1, np.int64), RobotState.at_rest(start, np.array([[1.0, 0, 0, 0]]), joints), np.zeros(1, int))
    forward, turn = 0.3, 0.5
    world.set_targets(drive.command(drive.velocities.actions(np.array([forward]), np.array([turn]))))
    world.step(200)
    x, y, yaw = world.read().planar[0]
    radius = forward / turn
    np.testing.assert_allclose(yaw, turn * 2, atol=0.06)
    np.testing.assert_allclose((x, y), (radius * np.sin(yaw), radius * (1 - np.cos(yaw))), atol=0.03)
    world.close()


@pytest.mark.parametrize(
    "wheels",
    [
        (LEFT,),
        (LEFT, wheel("starboard", "0.02 -0.13 0.05", axis="1 0 0")),
        (LEFT, wheel("starboard", "0.02 -0.13 0.05", kind="revolute")),
        (LEFT, wheel("starboard", "0.02 -0.13 0.02", radius=0.02)),
        tuple(
            wheel(name, f"0.02 {y} -0.02").replace('xyz="0 0 0"', 'xyz="0 0 0.09"')
            for name, y in (("port", 0.13), ("starboard", -0.13))
        ),
    ],
    ids=["one", "rolls sideways", "turns by a radian", "smaller", "all of it above its axle"],
)
def test_others_are_refused(tmp_path: Path, wheels: tuple[str, ...]):
    """The error says what wheels must be like."""
    with pytest.raises(SimError) as caught:
        find_robot(str(cart(tmp_path, *wheels)))
    assert "continuous" in caught.value.remedy or "feet" in caught.value.remedy


@pytest.mark.skipif(not PACKAGE.is_dir(), reason="needs the package example-robot-data")
def test_tiago_is_one_entry():
    """It drives on its two wheels; arm, head and torso stay at rest."""
    robot, drive = find_robot("tiago")
    assert robot.wheels is not None
    assert robot.wheels.radius == pytest.approx(0.0985, abs=1e-4)
    modes = {actuator.joint: actuator.mode for actuator in robot.actuators}
    assert [joint for joint, mode in modes.items() if mode == "velocity"] == ["wheel_right_joint", "wheel_left_joint"]
    assert robot.radius < 0.4  # the arm is folded
    targets = drive.command(np.zeros((1, 2), np.float32))[0]
    still = [n for n, mode in enumerate(modes.values()) if mode == "position"]
    np.testing.assert_allclose(targets[still], robot.default_position[robot.driven][still], atol=1e-6)


def test_an_mjcf_with_velocity_actuators_drives():
    """As the robot of the catalog that it is."""
    named, file = (find_robot(name) for name in ("rover", str(ROVER)))
    assert file[0].wheels == named[0].wheels
    action = np.array([[0.3, -0.7]], np.float32)
    np.testing.assert_array_equal(file[1].command(action), named[1].command(action))
