"""Robots with what controls them: their own controller by what they have, or the one that a task asks for."""

from __future__ import annotations

from pipeline.errors import SimError
from sim.control.controller import Controller
from sim.control.joints import JointOffsets
from sim.control.wheels import DifferentialDrive
from sim.gaits import Gait, GaitController, own_gait
from sim.robots.catalog import load
from sim.robots.gait_files import gait_file
from sim.robots.model import Robot
from sim.tasks.task import Task


def find_robot(name: str, gait: str = "") -> tuple[Robot, Controller]:
    """Load a robot by its name or by the path of a URDF or MJCF file, with its controller.

    A gait, by its name or its file, controls legs; those that come with splatyard are for the robots of their names.
    Without one, wheels are driven by their difference, and all else by joint positions.

    Raises:
        SimError: When there is no such name or file, the file doesn't contain exactly one robot, or the gait is of
            another one.
    """
    robot = load(name)
    found = Gait(gait_file(gait)) if gait else own_gait(name)
    if found:
        return robot, GaitController(robot, found)
    return robot, DifferentialDrive(robot) if robot.wheels else JointOffsets(robot)


def robot_for(task: Task, name: str = "", gait: str = "") -> tuple[Robot, Controller]:
    """Load a robot, the task's own if none is named, with the task's controller or else its own.

    Raises:
        SimError: As `find_robot`, or when the task is for other robots.
    """
    robot, controller = find_robot(name or task.robot, gait)
    if robot.fixed_base and not load(task.robot).fixed_base:
        raise SimError(
            f"{task.name} is for robots that move",
            found=f"{robot.name}, an arm whose base is fixed",
            remedy=f"without --robot it takes {task.robot}",
        )
    return robot, task.controller(robot, controller) if task.controller else controller
