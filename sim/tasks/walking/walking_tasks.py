"""Tasks for legs that follow velocity commands, as data."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from pipeline.errors import SimError
from pipeline.geometry import Camera
from sim.control import trot
from sim.control.controller import Controller
from sim.control.ground import GroundController
from sim.control.trot import TrotController
from sim.robots.model import Robot
from sim.scene.terrain import LEVELS
from sim.sensors.cameras.settings import CameraSettings
from sim.sensors.scan_grid import ScanErrors
from sim.tasks import terms
from sim.tasks.task import Curriculum, Observation, Reward, Task
from sim.tasks.walking import terms as walking
from sim.tasks.walking.commands import RISES, CommandScenario
from sim.tasks.walking.flights import FlightScenario
from sim.tasks.walking.walk import WalkScenario

_per_second = partial(Reward, per="second")
WAY = "way"
"""What robots are told that are to climb: 1 for up, -1 for down."""

LEGS = "go2"


def _on_legs(robot: Robot) -> Robot:
    if robot.wheels:
        raise SimError(
            "walking and climbing are for robots on legs",
            found=f"{robot.name}, which has wheels",
            remedy=f"without --robot they take {LEGS}",
        )
    return robot


# follow velocity commands over stairs, ramps, rubble and gaps: a gait
WALK = Task(
    name="walk",
    camera=Camera(64, 48, 32.0, 32.0, 32.0, 24.0),  # 90 degrees across
    control_period=trot.PERIOD,
    time_step=trot.TIME_STEP,
    seconds=10.0,
    scenario=WalkScenario,
    success=walking.walked,
    scenes=("terrain:0",),
    robot=LEGS,
    controller=lambda robot, _: TrotController(_on_legs(robot)),
    height_scan=trot.SCAN,
    scan_errors=ScanErrors(shift=0.04, rise=0.02, hold=1.0),
    observations={
        "velocity": Observation(terms.planar_velocity, 3, noise=0.05),
        "angular_velocity": Observation(terms.angular_velocity, 3, noise=0.1),
        "projected_gravity": Observation(terms.projected_gravity, 3, noise=0.03),
        "joint_positions": Observation(terms.joint_offsets, "joints", noise=0.01),
        "joint_velocities": Observation(terms.joint_velocities, "joints", noise=0.6),
        "action": Observation(terms.last_action, "action"),
        "command": Observation(walking.command, 3),
        "clock": Observation(walking.clock, 3),
        "height_scan": Observation(terms.heights, trot.SCAN.size, noise=0.015),
        "feet_down": Observation(walking.feet_down, "feet", privileged=True),
        "feet_heights": Observation(walking.feet_heights, "feet", privileged=True),
        "knocks": Observation(walking.knocks, 1, privileged=True),
        "vertical_velocity": Observation(walking.vertical_velocity, 1, privileged=True),
    },
    rewards={
        "tracking_lin_vel": _per_second(partial(walking.tracking_lin_vel, velocity_sigma=0.08), 1.5),
        "tracking_ang_vel": _per_second(partial(walking.tracking_ang_vel, turn_sigma=0.2), 0.7),
        "feet_in_beat": _per_second(walking.feet_in_beat, 0.4),
        "lin_vel_z": _per_second(walking.lin_vel_z, -0.7),
        "ang_vel_xy": _per_second(walking.ang_vel_xy, -0.04),
        "orientation": _per_second(walking.orientation, -1.0),
        "torques": _per_second(walking.torques, -0.49),
        "action_rate": _per_second(walking.action_rate, -0.05),
        "dof_pos": _per_second(walking.dof_pos, -0.15),
        "feet_slip": _per_second(walking.feet_slip, -0.15),
        "collision": _per_second(walking.knocked, -0.6),
        "base_height": _per_second(walking.base_height, -15.0),
        "termination": Reward(walking.fallen, -1.5),
    },
    terminations={"fall": walking.fallen},
    curriculum=Curriculum(walking.terrain_curriculum, LEVELS, again=True),
)


# over staircases, up and down; who does as told is led along their middle
FLIGHTS = Task(
    name="flights",
    instruction="get over the stairs",
    camera=WALK.camera,
    control_period=0.1,
    time_step=trot.TIME_STEP,
    seconds=40.0,
    scenario=FlightScenario,
    success=walking.over,
    scenes=("terrain:0:flights",),
    robot=LEGS,
    observations={
        "velocity": Observation(terms.planar_velocity, 3, noise=0.05),
        "projected_gravity": Observation(terms.projected_gravity, 3, noise=0.03),
        "action": Observation(terms.last_action, "action"),
        WAY: Observation(walking.way, 1),
        "command": Observation(walking.command, 3, privileged=True),
    },
    rewards={
        "progress": _per_second(walking.gets_on, 1.0),
        "over": Reward(walking.over, 5.0),
        "fall": Reward(walking.fallen, -5.0),
    },
    terminations={"fall": walking.fallen, "stuck": walking.stuck, "over": walking.over},
)


# follow velocity commands over a bundle's floor and, level by level, up its steps: what is seen becomes joint positions
CLIMB_JOINTS = replace(
    WALK,
    name="climb-joints",
    scenes=(),
    scenario=partial(CommandScenario, ahead=1.5, steps=True),
    success=walking.arrived,
    camera_settings=CameraSettings(period=(0.1, 0.1)),
    observations={
        name: replace(term, privileged=name == "height_scan" or term.privileged)
        for name, term in WALK.observations.items()
    },
    rewards={**WALK.rewards, "arrived": Reward(walking.arrived, 5.0)},
    terminations={**WALK.terminations, "arrived": walking.arrived},
    curriculum=Curriculum(walking.arriving_curriculum, len(RISES), again=True),
)


def _on_believed_ground(robot: Robot, controller: Controller) -> Controller:
    """A robot's gait, on ground as the agent believes it to be."""
    _on_legs(robot)
    if not (controller.legs and controller.velocities):
        raise SimError(
            "climbing by sight needs a gait",
            found=f"none for {robot.name}",
            remedy=f"train one, splatyard train walk --robot {robot.name}, and give its folder: --gait runs/NAME",
        )
    return GroundController(controller, robot.base_height)


FELT = ("velocity", "angular_velocity", "projected_gravity", "joint_positions", "command")
"""Observations of the gait that help to remember what was seen."""

# the same by a gait: what is seen becomes the ground that it steps on
CLIMB = replace(
    CLIMB_JOINTS,
    name="climb",
    control_period=0.1,
    controller=_on_believed_ground,
    camera_settings=CameraSettings(),
    observations={name: CLIMB_JOINTS.observations[name] for name in FELT}
    | {"ground": Observation(walking.ground, trot.SCAN.size, privileged=True)},
    rewards={
        "tracking": _per_second(partial(walking.tracking_lin_vel, velocity_sigma=0.12), 1.0),
        "ground": _per_second(walking.wrong_ground, -10.0),
        "termination": Reward(walking.fallen, -1.5),
    },
    expert=walking.ground,
)
