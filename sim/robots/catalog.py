"""Robots by name, and how each is driven."""

from __future__ import annotations

import sysconfig
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import SimError
from sim.robots.drive import DifferentialDrive, Drive, JointOffsets
from sim.robots.model import Robot, Servos, load_robot

ROVER = Path(__file__).parent / "rover.xml"
ROVER_DRIVE = DifferentialDrive(wheel_radius=0.08, track=0.32, speed=(-0.24, 0.8), turn=1.5)
PACKAGE = "cmeel.prefix/share/example-robot-data/robots"
"""Where the package example-robot-data puts its URDFs, below site-packages."""


@dataclass(frozen=True)
class Legged:
    """A robot of the package example-robot-data.

    Attributes:
        file: Its URDF.
        servos: Of its joints.
    """

    file: str
    servos: Servos


LEGGED = {
    "go2": Legged(
        "go2_description/urdf/go2.urdf",
        Servos(40.0, 1.0, 40.0, {"thigh": 0.8, "calf": -1.5}),
    ),
    "bolt": Legged("bolt_description/robots/bolt.urdf", Servos(5.0, 0.1, 2.7, {"HFE": 0.4, "KFE": -0.8})),
}


def find_robot(name: str) -> tuple[Robot, Drive]:
    """A robot by its name or by the path of a URDF or MJCF file, and how an agent drives it.

    Raises:
        SimError: When there is none of that name and no such file, or the file is not one robot.
    """
    if name == "rover":
        return load_robot(ROVER), ROVER_DRIVE
    if name in LEGGED:
        robot = load_robot(_packaged(LEGGED[name].file), name, LEGGED[name].servos)
        return robot, JointOffsets(robot)
    path = Path(name)
    if not path.is_file():
        raise SimError(
            "a robot is one of those that are known, or a URDF or MJCF file",
            found=f"{name!r}",
            remedy=f"use {', '.join(['rover', *LEGGED])}, or the path of a file",
        )
    robot = load_robot(path)
    if not robot.actuators or any(actuator.mode != "position" for actuator in robot.actuators):
        raise SimError(
            "a robot of one's own is driven by position actuators",
            found=f"{len(robot.actuators)} actuators in {path.name}",
            remedy="add <position joint= kp= kv= forcerange=> for each joint to the MJCF (a URDF can't say it)",
            file=path,
        )
    return robot, JointOffsets(robot)


def _packaged(file: str) -> Path:
    path = Path(sysconfig.get_path("purelib")) / PACKAGE / file
    if not path.is_file():
        raise SimError(
            "legged robots come from the package example-robot-data",
            found="it is not installed",
            remedy="pip install 'splatyard[robots]'",
        )
    return path
