"""Robots with what controls them: their own controller by what they have, or the one that a task asks for."""

from __future__ import annotations

from sim.control.controller import Controller
from sim.control.joints import JointOffsets
from sim.control.wheels import DifferentialDrive
from sim.gaits import Gait, GaitController, gait_file, own_gait
from sim.robots.catalog import load
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


def robot_for(task: Task, name: str, gait: str = "") -> tuple[Robot, Controller]:
    """Load a robot with the controller that a task asks for, or else with its own (`find_robot`)."""
    robot, controller = find_robot(name, gait)
    return robot, task.controller(robot, controller) if task.controller else controller
