"""Robots by name, and how each is driven: a robot is a file and an entry in `ROBOTS`."""

from __future__ import annotations

import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import SimError
from sim.robots.drive import DifferentialDrive, Drive, JointOffsets
from sim.robots.model import Robot, Servos, load_robot

ROVER = Path(__file__).parent / "rover.xml"
ROVER_DRIVE = DifferentialDrive(wheel_radius=0.08, track_width=0.32, speed=(-0.24, 0.8), yaw_rate=1.5)
PACKAGE = Path(sysconfig.get_path("purelib")) / "cmeel.prefix/share/example-robot-data/robots"
"""Where the package example-robot-data puts its URDFs."""


@dataclass(frozen=True)
class RobotEntry:
    """A robot of the catalog.

    Attributes:
        servos: Actuators of its joints, if the file has none.
    """

    file: Path
    drive: Callable[[Robot], Drive] = JointOffsets
    servos: Servos | None = None


ROBOTS = {
    "rover": RobotEntry(ROVER, lambda _: ROVER_DRIVE),
    "go2": RobotEntry(
        PACKAGE / "go2_description/urdf/go2.urdf",
        servos=Servos(40.0, 1.0, 40.0, {"thigh": 0.8, "calf": -1.5}),
    ),
    "bolt": RobotEntry(
        PACKAGE / "bolt_description/robots/bolt.urdf", servos=Servos(5.0, 0.1, 2.7, {"HFE": 0.4, "KFE": -0.8})
    ),
}


def find_robot(name: str) -> tuple[Robot, Drive]:
    """Load a robot by its name or by the path of a URDF or MJCF file, with its drive.

    Raises:
        SimError: When there is no such name or file, or the file doesn't contain exactly one robot.
    """
    if name in ROBOTS:
        entry = ROBOTS[name]
        if not entry.file.is_file():
            raise SimError(
                "legged robots come from the package example-robot-data",
                found="it is not installed",
                remedy="pip install 'splatyard[robots]'",
            )
        robot = load_robot(entry.file, name, entry.servos)
        return robot, entry.drive(robot)
    path = Path(name)
    if not path.is_file():
        raise SimError(
            "a robot is a known name, or a URDF or MJCF file",
            found=f"{name!r}",
            remedy=f"use {', '.join(ROBOTS)}, or the path of a file",
        )
    robot = load_robot(path)
    if not robot.actuators or any(actuator.mode != "position" for actuator in robot.actuators):
        raise SimError(
            "a robot from a file is driven by position actuators",
            found=f"{len(robot.actuators)} actuators in {path.name}",
            remedy="add <position joint= kp= kv= forcerange=> for each joint to the MJCF (a URDF can't have any)",
            file=path,
        )
    return robot, JointOffsets(robot)
