"""Robots by name or file: one of the catalog is a file and an entry in `ROBOTS`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np

from pipeline.errors import SimError, install
from pipeline.geometry import Pose, matrix_from_rotvec
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
from sim.robots.model import Gripper, Mount, Robot, Servos
from sim.robots.reading import load_robot
from sim.robots.stance import own_servos
from sim.robots.wheels import find_wheels, on_wheels, wheel_servos

ROVER = Path(__file__).parent / "rover.xml"
ARM6 = Path(__file__).parent / "arm6.xml"
_ROBOTS = "cmeel.prefix/share/example-robot-data/robots"
PACKAGE = next((at for folder in sys.path if (at := Path(folder, _ROBOTS)).is_dir()), Path(_ROBOTS))
"""Where the package example-robot-data puts its URDFs, if it is installed."""


@dataclass(frozen=True)
class RobotEntry:
    """A robot of the catalog.

    Attributes:
        servos: Actuators of its joints, if the file has none; those of wheels are found.
        rest: Positions at rest of joints that a robot on wheels carries [rad, m]; 0 where none is given.
        sdk_joints: Its joints in the order of its maker's SDK, if that is another one.
        camera_pitch: How far its camera is turned down from where the file has it, or from straight ahead [rad].
        gripper: Fingers of an arm, whose base is fixed.
        mount: An arm with a gripper that it carries.
    """

    file: Path
    servos: Servos | None = None
    rest: Mapping[str, float] = field(default_factory=dict)
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
    "rover": RobotEntry(ROVER),
    "fetcher": RobotEntry(
        ROVER,
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
    "tiago": RobotEntry(
        PACKAGE / "tiago_description/robots/tiago_no_hand.urdf",
        rest={  # the arm folded before the chest, as its maker's own program leaves it
            "arm_1_joint": 0.2,
            "arm_2_joint": -1.34,
            "arm_3_joint": -0.2,
            "arm_4_joint": 1.94,
            "arm_5_joint": -1.57,
            "arm_6_joint": 1.37,
        },
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


def load(name: str) -> Robot:
    """Load a robot by its name or by the path of a URDF or MJCF file.

    A file with wheels (`find_wheels`) drives; else one with a gripper (`find_gripper`) is an arm, whose base is fixed.

    Raises:
        SimError: When there is no such name or file, or the file doesn't contain exactly one robot.
    """
    if name in ROBOTS:
        return _of_catalog(name)
    path = Path(name)
    if not path.is_file():
        raise SimError(
            "a robot is a known name, or a URDF or MJCF file",
            found=f"{name!r}",
            remedy=f"use {', '.join(ROBOTS)}, or the path of a file",
        )
    robot = _equipped(load_robot(path), RobotEntry(path))
    modes = {actuator.mode for actuator in robot.actuators}
    if modes != {"position"} and not robot.wheels:
        raise SimError(
            "a robot from a file is driven by position actuators, or on wheels",
            found=", ".join(f"{actuator.mode} at {actuator.joint}" for actuator in robot.actuators) or "none",
            remedy=f"add <position joint= kp= kv= forcerange=> for each joint to the MJCF; {ON_WHEELS}",
            file=path,
        )
    return robot


@cache
def _of_catalog(name: str) -> Robot:
    """A known robot; what is found out about it once holds for all environments."""
    entry = ROBOTS[name]
    if not entry.file.is_file():
        raise SimError(
            "legged robots and arms come from the package example-robot-data",
            found="it is not installed",
            remedy=install("simulate"),
        )
    robot = _equipped(load_robot(entry.file, name, entry.servos, entry.mount), entry)
    turn = Pose(matrix_from_rotvec(np.array([-entry.camera_pitch, 0, 0])), np.zeros(3))  # y is down
    return replace(robot, base_from_camera=robot.base_from_camera @ turn)


def _equipped(robot: Robot, entry: RobotEntry) -> Robot:
    """A robot with what its links say that it is: wheels, an arm or legs; and with servos, if it has none."""
    bare = not robot.actuators
    if wheels := find_wheels(robot):
        robot = load_robot(robot.file, robot.name, wheel_servos(robot, wheels, entry.rest)) if bare else robot
        robot = on_wheels(robot, wheels, slides=bare)
        carried = find_gripper(robot) if entry.mount else None
        return with_gripper(robot, carried) if carried else robot
    if entry.servos:
        return as_arm(robot, entry.gripper) if entry.gripper else robot
    gripper = find_gripper(robot)
    if bare and robot.file.suffix == ".urdf":
        robot = load_robot(robot.file, robot.name, arm_servos(robot, gripper) if gripper else own_servos(robot))
        return over_its_table(as_arm(robot, gripper), rests=False) if gripper else robot
    return over_its_table(as_arm(robot, gripper), rests=True) if gripper else robot
