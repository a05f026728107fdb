"""Tasks for an arm on wheels, as data."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from pipeline.errors import SimError
from pipeline.geometry import Camera
from sim.control.controller import Controller
from sim.control.end_effector import ACTIONS, JointStepController, MobileArmController
from sim.robots.model import Robot
from sim.sensors.cameras.settings import RobotCamera
from sim.tasks import terms
from sim.tasks.handling import fetch, table_terms
from sim.tasks.handling.arm_tasks import CUBE, DONE, LENS, looking, wrist_camera
from sim.tasks.task import Observation, Reward, Task

_per_second = partial(Reward, per="second")


def _on_wheels(robot: Robot, controller: Controller) -> Controller:
    if not controller.velocities or robot.gripper is None:
        raise SimError("fetching needs an arm on wheels", found=f"{robot.name} is none", remedy="take --robot fetcher")
    return controller


def _arm_on_wheels(robot: Robot, controller: Controller) -> Controller:
    return MobileArmController(robot, ACTIONS["position_yaw_10_hz"], _on_wheels(robot, controller), 0.1)


def mast_and_wrist(robot: Robot) -> tuple[RobotCamera, ...]:
    """A camera on a mast beside the arm, as wide as V-SERL's, and the one at the wrist."""
    focal = 64 / np.tan(np.deg2rad(65 / 2))
    lens = Camera(128, 128, focal, focal, 64.0, 64.0)
    mast = RobotCamera(lens, "mast", None, looking((0.1, 0.13, 0.56), (0.8, -0.05, 0.0)))
    return mast, wrist_camera(robot, 128)


FETCHED = partial(fetch.brought_home, within=0.15)
FLOOR_CUBE = replace(CUBE, area=((0.0, 0.0), (0.0, 0.0)))
# by wheels to a cube on the floor, and back with it to where the robot began
FETCH = Task(
    name="fetch",
    camera=LENS,
    control_period=0.1,
    time_step=0.025,
    seconds=45.0,
    scenario=partial(fetch.FetchScenario, items=(FLOOR_CUBE,)),
    success=FETCHED,
    robot="fetcher",
    observations={
        "hand": Observation(table_terms.proprioception, 10),
        "velocity": Observation(terms.planar_velocity, 3),
        "action": Observation(terms.last_action, "action"),
        "things": Observation(fetch.things, 23, privileged=True),
        "ways": Observation(fetch.ways, 6, privileged=True),
        "time": Observation(terms.elapsed, 1, privileged=True),
    },
    rewards={
        "progress": Reward(fetch.progress, 0.5),
        "reach": _per_second(table_terms.reach, 0.2),
        "carry": _per_second(partial(table_terms.carry, goal=table_terms.at_mark(0)), 0.2),
        "done": Reward(FETCHED, DONE),
        "crash": Reward(terms.collided, -1.0),
    },
    terminations={"done": FETCHED, "crash": terms.collided, "tipped": terms.tipped, "dropped": fetch.dropped},
    outcomes={"carried_home": partial(fetch.carried_home, within=0.15), "held": fetch.holds},
    controller=_arm_on_wheels,
    items=(FLOOR_CUBE,),
    cameras=mast_and_wrist,
    expert=fetch.expert,
    instruction="fetch the red cube",
)

VSERL_STEPS = (0.05, 0.03, 0.03, 0.03, 0.03, 0.05, 0.005)
VSERL_SUCCESS = partial(fetch.is_raised, height=0.1)


def _joint_steps(robot: Robot, controller: Controller) -> Controller:
    _on_wheels(robot, controller)
    return JointStepController(robot, VSERL_STEPS, 0.03)


# V-SERL's contract: a base that stands, 80 steps of 30 ms that move seven joints, and one image from its mast
LIFT_VSERL = replace(
    FETCH,
    name="lift_vserl",
    control_period=0.03,
    time_step=0.015,
    seconds=2.4,
    scenario=partial(fetch.FetchScenario, items=(FLOOR_CUBE,), disc=(0.32, 0.0, 0.1)),
    success=VSERL_SUCCESS,
    observations={
        "joints": Observation(fetch.joints, 7),
        "things": Observation(fetch.things, 23, privileged=True),
    },
    rewards={
        "reach": Reward(table_terms.reach, 1.0, per="step"),
        "grasp": Reward(partial(fetch.grasp, height=0.1), 1.0, per="step"),
        "done": Reward(VSERL_SUCCESS, 10.0),
        "dropped": Reward(fetch.dropped, -5.0),
    },
    terminations={"done": VSERL_SUCCESS, "dropped": fetch.dropped},
    outcomes={},
    controller=_joint_steps,
    cameras=lambda robot: mast_and_wrist(robot)[:1],
    expert=None,
    instruction="lift the red cube",
)
