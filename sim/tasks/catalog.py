"""All tasks, as data, by name."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from pipeline.errors import SimError
from pipeline.geometry import Camera
from pipeline.parameters import require_known
from sim.control import trot
from sim.control.controller import Controller
from sim.control.end_effector import ACTIONS, JointStepController, MobileArmController
from sim.control.ground import GroundController
from sim.control.trot import TrotController
from sim.robots.model import Robot
from sim.scene.floors import NEARBY, NEXT_POSITIONS
from sim.scene.terrain import LEVELS
from sim.sensors.cameras.settings import CameraSettings, RobotCamera
from sim.tasks import terms
from sim.tasks.driving.exploration import MAP_SIDE, ExplorationScenario
from sim.tasks.driving.goals import GoalScenario
from sim.tasks.driving.obstacles import ObstacleScenario
from sim.tasks.driving.patches import PatchScenario
from sim.tasks.handling import fetch, table_terms
from sim.tasks.handling.arm_tasks import ARM_TASKS, CUBE, DONE, LENS, looking, wrist_camera
from sim.tasks.settings import TaskSettings
from sim.tasks.task import Curriculum, Observation, Reward, Task
from sim.tasks.walking import terms as walking
from sim.tasks.walking.commands import RISES, CommandScenario
from sim.tasks.walking.walk import WalkScenario

MIN_PATH = 0.8  # [m]
LANDING = 0.25  # [m], above the floor that robots start on
AT_GOAL, AT_HIDDEN_GOAL = partial(terms.reached, radius=0.4), partial(terms.reached, radius=0.3)
ALL_SEEN = partial(terms.explored, share=0.9)
YELLOW = (0.95, 0.8, 0.1)

CRITIC = {
    "pose": Observation(terms.pose_in_scene, 4, privileged=True),
    "edges": Observation(terms.edge_distances, len(NEARBY), privileged=True),
    "time": Observation(terms.elapsed, 1, privileged=True),
}
"""Privileged observations for a critic, useful in every scene."""

# to a scene's landmark, a yellow ball, by sight, without touching anything
NAVIGATE = Task(
    name="navigate",
    camera=Camera(64, 48, 32.0, 32.0, 32.0, 24.0),  # 90 degrees across
    control_period=0.2,
    time_step=0.02,
    seconds=16.0,
    scenario=partial(GoalScenario, min_length=MIN_PATH, ball_color=YELLOW, goals=1),
    success=AT_GOAL,
    observations={
        "velocity": Observation(terms.planar_velocity, 3),
        "action": Observation(terms.last_action, "action"),
        "goal": Observation(terms.goal_in_base, 3, privileged=True),
        "detours": Observation(terms.detours, len(NEXT_POSITIONS), privileged=True),
        **CRITIC,
    },
    rewards={
        "progress": Reward(terms.progress, 2.0),
        "time": Reward(terms.always, -0.1, per="second"),
        "action_rate": Reward(terms.action_rate, -0.01),
        "goal": Reward(AT_GOAL, 5.0),
        "crash": Reward(terms.collided, -5.0),
    },
    terminations={
        "goal": AT_GOAL,
        "crash": terms.collided,
        "tipped": terms.tipped,
    },
)


# as `navigate`, but the ball lies at another of the scene's goals in each episode
SEARCH = replace(NAVIGATE, name="search", scenario=partial(GoalScenario, min_length=MIN_PATH, ball_color=YELLOW))


# as `navigate`, with the ball on the landing above the scene's stairs; for legs
STAIRS = replace(
    NAVIGATE,
    name="stairs",
    scenario=partial(GoalScenario, min_length=MIN_PATH, ball_color=YELLOW, upstairs=LANDING),
)


# to a goal that only odometry knows, around the yellow patch on the straight path
AVOID = replace(
    NAVIGATE,
    name="avoid",
    scenario=partial(PatchScenario, min_length=1.2, max_length=5.0, crossing=0.7),
    success=AT_HIDDEN_GOAL,
    observations={
        **NAVIGATE.observations,
        "odometry": Observation(terms.goal_by_odometry, 3),
        "patch": Observation(terms.nearest_patch, 2, privileged=True),
    },
    rewards={
        **{name: NAVIGATE.rewards[name] for name in ("progress", "time", "action_rate")},
        "contact": Reward(terms.collided, -0.5, per="second"),
        "goal": Reward(AT_HIDDEN_GOAL, 5.0),
        "entering": Reward(terms.entering_patch, -4.0),
        "inside": Reward(terms.inside_patch, -1.25, per="second"),
    },
    terminations={"goal": AT_HIDDEN_GOAL, "tipped": terms.tipped},
    outcomes={"entered": terms.entered_patch},
)


# to the pink ball between red posts, and around yellow patches on the floor
WEAVE = replace(
    NAVIGATE,
    name="weave",
    seconds=24.0,
    scenario=partial(ObstacleScenario, min_length=1.2, ball_color=(0.85, 0.1, 0.6), posts=5, patches=3),
    observations={**NAVIGATE.observations, "clearance": Observation(terms.clearance, 1, privileged=True)},
    rewards={
        **NAVIGATE.rewards,
        "crash": Reward(terms.crashed, -5.0),
        "floor": Reward(terms.floor_cost, -1.0, per="second"),
    },
    terminations={"goal": AT_GOAL, "crash": terms.crashed, "tipped": terms.tipped},
)


# see as much of the floor as there is, without touching anything
EXPLORE = replace(
    NAVIGATE,
    name="explore",
    seconds=60.0,
    scenario=partial(ExplorationScenario, sight=1.5, half_angle=np.deg2rad(45)),
    success=ALL_SEEN,
    observations={
        "velocity": Observation(terms.planar_velocity, 3),
        "action": Observation(terms.last_action, "action"),
        "map": Observation(terms.map_around, MAP_SIDE**2),
        "explored": Observation(terms.explored_share, 1, privileged=True),
        **CRITIC,
    },
    rewards={
        "new": Reward(terms.new_floor, 1.0),
        "time": Reward(terms.always, -0.1, per="second"),
        "action_rate": Reward(terms.action_rate, -0.01),
        "explored": Reward(ALL_SEEN, 5.0),
        "crash": Reward(terms.collided, -5.0),
    },
    terminations={"explored": ALL_SEEN, "crash": terms.collided, "tipped": terms.tipped},
)


_per_second = partial(Reward, per="second")

# follow velocity commands over stairs, ramps, rubble and gaps: a gait
WALK = Task(
    name="walk",
    camera=Camera(64, 48, 32.0, 32.0, 32.0, 24.0),  # 90 degrees across
    control_period=trot.PERIOD,
    time_step=trot.TIME_STEP,
    seconds=10.0,
    scenario=WalkScenario,
    success=walking.walked,
    scene="terrain:0",
    controller=lambda robot, _: TrotController(robot),
    height_scan=trot.SCAN,
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
        "tracking_lin_vel": _per_second(partial(walking.tracking_lin_vel, velocity_sigma=0.12), 1.5),
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
    curriculum=Curriculum(walking.terrain_curriculum, LEVELS),
)


# follow velocity commands over a bundle's floor and, level by level, up its steps: what is seen becomes joint positions
CLIMB_JOINTS = replace(
    WALK,
    name="climb-joints",
    scene="",
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


_ALL = (NAVIGATE, SEARCH, STAIRS, AVOID, CLIMB, CLIMB_JOINTS, EXPLORE, WEAVE, WALK, *ARM_TASKS, FETCH, LIFT_VSERL)
TASKS = {task.name: task for task in _ALL}


def find_task(name: str, settings: TaskSettings | None = None) -> Task:
    """Find a task by its name, with what a user has set.

    Raises:
        SimError: When there is none, or it lacks what is set.
    """
    require_known(name, TASKS, "task", SimError, rule="a task has a known name")
    return TASKS[name].changed(settings or TaskSettings())
