"""Robots by name, and how each is driven: a robot is a file and an entry in `ROBOTS`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from pipeline.errors import SimError
from pipeline.geometry import Pose, matrix_from_rotvec
from sim.control.controller import Controller
from sim.control.joints import JointOffsets
from sim.control.state import Velocities
from sim.control.wheels import CarryingDrive, DifferentialDrive
from sim.gaits import Gait, GaitController, gait_file, own_gait
from sim.robots.arm import Arm
from sim.robots.gripper import (
    ARM_ROTOR,
    ARM_SERVO,
    FINGER_ROTOR,
    FINGER_SERVO,
    arm_servos,
    as_arm,
    find_gripper,
    with_gripper,
)
from sim.robots.legs import ON_WHEELS
from sim.robots.model import Gripper, Mount, Robot, Servos, load_robot
from sim.robots.stance import own_servos
from sim.tasks.task import Task

ROVER = Path(__file__).parent / "rover.xml"
ARM6 = Path(__file__).parent / "arm6.xml"
ROVER_DRIVE = DifferentialDrive(wheel_radius=0.08, track_width=0.32, velocities=Velocities((-0.24, 0.8), 1.5))
_ROBOTS = "cmeel.prefix/share/example-robot-data/robots"
PACKAGE = next((at for folder in sys.path if (at := Path(folder, _ROBOTS)).is_dir()), Path(_ROBOTS))
"""Where the package example-robot-data puts its URDFs, if it is installed."""


@dataclass(frozen=True)
class RobotEntry:
    """A robot of the catalog.

    Attributes:
        servos: Actuators of its joints, if the file has none.
        sdk_joints: Its joints in the order of its maker's SDK, if that is another one.
        camera_pitch: How far its camera is turned down from where the file has it, or from straight ahead [rad].
        gripper: Fingers of an arm, whose base is fixed.
        mount: An arm with a gripper that it carries.
    """

    file: Path
    controller: Callable[[Robot], Controller] = JointOffsets
    servos: Servos | None = None
    sdk_joints: tuple[str, ...] = ()
    camera_pitch: float = 0.0
    gripper: Gripper | None = None
    mount: Mount | None = None


G1_GAINS = {
    "knee": (150.0, 4.0, 139.0),
    "ankle": (40.0, 2.0, 50.0),
    "hip": (100.0, 2.0, 88.0),
    "waist": (200.0, 5.0, 50.0),
    "wrist": (20.0, 1.0, 5.0),
    "": (40.0, 2.0, 25.0),
}
"""Stiffness, damping and largest torque of G1's joints: legs as in Unitree's own examples (unitree_rl_gym)."""

PANDA_HAND = Gripper(
    joints=("panda_finger_joint1", "panda_finger_joint2"),
    opened=(0.04, 0.04),
    closed=(0.0, 0.0),
    widths=(0.0, 0.08),
    link="panda_link7",  # 0.107 to the flange, where the hand is turned, and 0.1034 to between the tips
    link_from_hand=Pose(matrix_from_rotvec(np.array([0, 0, -np.pi / 4])), np.array([0, 0, 0.2104])),
)
PANDA_REST = {"finger": 0.04, "joint2": 0.2594, "joint4": -2.2891, "joint6": 2.5147, "joint7": 0.7854}
"""The hand is over the table before the arm, and looks down."""

ROBOTS = {
    "rover": RobotEntry(ROVER, lambda _: ROVER_DRIVE),
    "fetcher": RobotEntry(
        ROVER,
        lambda robot: CarryingDrive(robot, ROVER_DRIVE),
        mount=Mount(ARM6, "base", Pose(np.eye(3), np.array([-0.05, 0.0, 0.21]))),  # on the hull, behind its middle
    ),
    "go2": RobotEntry(
        PACKAGE / "go2_description/urdf/go2.urdf",
        servos=Servos({"": (40.0, 1.0, 40.0)}, {"thigh": 0.8, "calf": -1.5}),
        sdk_joints=tuple(
            f"{leg}_{part}_joint" for leg in ("FR", "FL", "RR", "RL") for part in ("hip", "thigh", "calf")
        ),
        camera_pitch=float(np.deg2rad(30)),  # level, it sees no ground nearer than half a metre before its head
    ),
    "bolt": RobotEntry(
        PACKAGE / "bolt_description/robots/bolt.urdf", servos=Servos({"": (5.0, 0.1, 2.7)}, {"HFE": 0.4, "KFE": -0.8})
    ),
    "g1": RobotEntry(
        PACKAGE / "g1_description/urdf/g1_29dof_rev_1_0.urdf",
        servos=Servos(
            G1_GAINS,
            {
                "hip_pitch": -0.2,
                "knee": 0.42,
                "ankle_pitch": -0.23,
                "elbow": 0.6,
                "left_shoulder_roll": 0.2,
                "right_shoulder_roll": -0.2,
            },
        ),
    ),
    "panda": RobotEntry(
        PACKAGE / "panda_description/urdf/panda.urdf",
        servos=Servos({"finger": FINGER_SERVO, "": ARM_SERVO}, PANDA_REST, {"finger": FINGER_ROTOR, "": ARM_ROTOR}),
        gripper=PANDA_HAND,
    ),
}


def sdk_joints(robot: Robot) -> tuple[str, ...]:
    """Joints of a robot of the catalog in the order of its maker's SDK; () if that is the file's, or unknown."""
    return ROBOTS[robot.name].sdk_joints if robot.name in ROBOTS else ()


def find_robot(name: str, gait: str = "") -> tuple[Robot, Controller]:
    """Load a robot by its name or by the path of a URDF or MJCF file, with its controller.

    A gait, by its name or its file, controls legs; those that come with splatyard are for the robots of their
    names. A file with a gripper (`find_gripper`) is an arm, whose base is fixed.

    Raises:
        SimError: When there is no such name or file, the file doesn't contain exactly one robot, or the gait is of
            another one.
    """
    robot, controller = _find_robot(name)
    found = Gait(gait_file(gait)) if gait else own_gait(name)
    return robot, GaitController(robot, found) if found else controller


def robot_for(task: Task, name: str, gait: str = "") -> tuple[Robot, Controller]:
    """Load a robot with the controller that a task asks for, or else with its own (`find_robot`)."""
    robot, controller = find_robot(name, gait)
    return robot, task.controller(robot, controller) if task.controller else controller


def over_its_table(robot: Robot, *, rests: bool) -> Robot:
    """An arm, that side of its hand ahead which gets farther over its table; it may have a pose at rest in its file.

    Two fingers are alike from both sides, but a wrist may not turn half round. Without a pose at rest, the hand is over
    the table and points down, if it gets there.
    """
    gripper = robot.gripper
    assert gripper
    turned = Pose(np.diag([-1.0, -1.0, 1.0]), np.zeros(3))
    sides = [gripper, replace(gripper, link_from_hand=gripper.link_from_hand @ turned)]
    arms = [Arm(replace(robot, gripper=side)) for side in sides]
    found = [arm.over_table() for arm in arms]
    best = max((0, 1), key=lambda side: found[side][:2])
    rest = robot.default_position.copy()
    rest[arms[best].columns] = found[best][2]
    return replace(robot, gripper=sides[best], default_position=robot.default_position if rests else rest)


def _find_robot(name: str) -> tuple[Robot, Controller]:
    if name in ROBOTS:
        robot = _of_catalog(name)
        return robot, ROBOTS[name].controller(robot)
    path = Path(name)
    if not path.is_file():
        raise SimError(
            "a robot is a known name, or a URDF or MJCF file",
            found=f"{name!r}",
            remedy=f"use {', '.join(ROBOTS)}, or the path of a file",
        )
    robot = load_robot(path)
    gripper = find_gripper(robot)
    if not robot.actuators and path.suffix == ".urdf":
        robot = load_robot(path, servos=arm_servos(robot, gripper) if gripper else own_servos(robot))
        robot = over_its_table(as_arm(robot, gripper), rests=False) if gripper else robot
    elif gripper:
        robot = over_its_table(as_arm(robot, gripper), rests=True)
    if not robot.actuators or any(actuator.mode != "position" for actuator in robot.actuators):
        raise SimError(
            "a robot from a file is driven by position actuators",
            found=", ".join(f"{actuator.mode} at {actuator.joint}" for actuator in robot.actuators) or "none",
            remedy=f"add <position joint= kp= kv= forcerange=> for each joint to the MJCF; or, on wheels, {ON_WHEELS}",
            file=path,
        )
    return robot, JointOffsets(robot)


@cache
def _of_catalog(name: str) -> Robot:
    """A known robot; what is found out about it once holds for all environments."""
    entry = ROBOTS[name]
    if not entry.file.is_file():
        raise SimError(
            "legged robots and arms come from the package example-robot-data",
            found="it is not installed",
            remedy="pip install 'splatyard[robots]'",
        )
    robot = load_robot(entry.file, name, entry.servos, entry.mount)
    robot = as_arm(robot, entry.gripper) if entry.gripper else robot
    carried = find_gripper(robot) if entry.mount else None
    robot = with_gripper(robot, carried) if carried else robot
    turn = Pose(matrix_from_rotvec(np.array([-entry.camera_pitch, 0, 0])), np.zeros(3))  # y is down
    return replace(robot, base_from_camera=robot.base_from_camera @ turn)
