"""All tasks, as data, by name."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from pipeline.errors import SimError
from pipeline.geometry import Camera
from pipeline.parameters import require_known
from sim.cameras.settings import CameraSettings
from sim.floors import NEARBY, NEXT_POSITIONS
from sim.height_scan import ScanGrid
from sim.tasks import terms
from sim.tasks.commands import RISES, CommandScenario
from sim.tasks.exploration import MAP_SIDE, ExplorationScenario
from sim.tasks.goals import GoalScenario
from sim.tasks.obstacles import ObstacleScenario
from sim.tasks.patches import PatchScenario
from sim.tasks.task import Curriculum, Observation, Reward, Task

GOAL_RADIUS, AVOID_RADIUS, MIN_PATH = 0.4, 0.3, 0.8  # [m]
EXPLORED = 0.9
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
    success=terms.reached(GOAL_RADIUS),
    observations={
        "velocity": Observation(terms.planar_velocity, 3),
        "action": Observation(terms.last_action, "action"),
        "goal": Observation(terms.goal_in_base, 3, privileged=True),
        "detours": Observation(terms.detours, len(NEXT_POSITIONS), privileged=True),
        **CRITIC,
    },
    rewards={
        "progress": Reward(terms.progress, 2.0),
        "time": Reward(terms.per_step, -0.02),
        "action_rate": Reward(terms.action_rate, -0.01),
        "goal": Reward(terms.reached(GOAL_RADIUS), 5.0),
        "crash": Reward(terms.collided, -5.0),
    },
    terminations={
        "goal": terms.reached(GOAL_RADIUS),
        "crash": terms.collided,
        "tipped": terms.tipped,
    },
)


# as `navigate`, but the ball lies at another of the scene's goals in each episode
SEARCH = replace(NAVIGATE, name="search", scenario=partial(GoalScenario, min_length=MIN_PATH, ball_color=YELLOW))


# to a goal that only odometry knows, around the yellow patch on the straight path
AVOID = replace(
    NAVIGATE,
    name="avoid",
    scenario=partial(PatchScenario, min_length=1.2, max_length=5.0, crossing=0.7),
    success=terms.reached(AVOID_RADIUS),
    observations={
        **NAVIGATE.observations,
        "odometry": Observation(terms.goal_by_odometry, 3),
        "patch": Observation(terms.nearest_patch, 2, privileged=True),
    },
    rewards={
        **{name: NAVIGATE.rewards[name] for name in ("progress", "time", "action_rate")},
        "contact": Reward(terms.collided, -0.1),
        "goal": Reward(terms.reached(AVOID_RADIUS), 5.0),
        "entering": Reward(lambda step: step.scenario.entering, -4.0),
        "inside": Reward(lambda step: step.scenario.inside, -0.25),
    },
    terminations={"goal": terms.reached(AVOID_RADIUS), "tipped": terms.tipped},
    outcomes={"entered": lambda step: step.scenario.entered},
)


CRASH = terms.either(terms.collided, terms.at_post)

# to the pink ball between red posts, and around yellow patches on the floor
WEAVE = replace(
    NAVIGATE,
    name="weave",
    seconds=24.0,
    scenario=partial(ObstacleScenario, min_length=1.2, ball_color=(0.85, 0.1, 0.6), posts=5, patches=3),
    observations={**NAVIGATE.observations, "clearance": Observation(terms.clearance, 1, privileged=True)},
    rewards={
        **NAVIGATE.rewards,
        "crash": Reward(CRASH, -5.0),
        "floor": Reward(lambda step: step.scenario.cost, -1.0),
    },
    terminations={"goal": terms.reached(GOAL_RADIUS), "crash": CRASH, "tipped": terms.tipped},
)


# see as much of the floor as there is, without touching anything
EXPLORE = replace(
    NAVIGATE,
    name="explore",
    seconds=60.0,
    scenario=partial(ExplorationScenario, reach=1.5, half_angle=np.deg2rad(45)),
    success=terms.explored(EXPLORED),
    observations={
        "velocity": Observation(terms.planar_velocity, 3),
        "action": Observation(terms.last_action, "action"),
        "map": Observation(terms.map_around, MAP_SIDE**2),
        "explored": Observation(terms.explored_share, 1, privileged=True),
        **CRITIC,
    },
    rewards={
        "new": Reward(lambda step: step.scenario.new, 1.0),
        "time": Reward(terms.per_step, -0.02),
        "action_rate": Reward(terms.action_rate, -0.01),
        "explored": Reward(terms.explored(EXPLORED), 5.0),
        "crash": Reward(terms.collided, -5.0),
    },
    terminations={"explored": terms.explored(EXPLORED), "crash": terms.collided, "tipped": terms.tipped},
)


SCAN = ScanGrid()

# follow a velocity command over the floor and, level by level, up its steps
CLIMB = Task(
    name="climb",
    camera=Camera(64, 48, 32.0, 32.0, 32.0, 24.0),  # 90 degrees across
    control_period=0.02,
    time_step=0.004,
    seconds=10.0,
    scenario=partial(CommandScenario, ahead=1.5, steps=True),
    success=terms.arrived,
    height_scan=SCAN,
    camera_settings=CameraSettings(period=(0.1, 0.1)),
    observations={
        "velocity": Observation(terms.planar_velocity, 3),
        "angular_velocity": Observation(terms.angular_velocity, 3),
        "projected_gravity": Observation(terms.projected_gravity, 3),
        "joint_positions": Observation(terms.joint_offsets, "joints"),
        "joint_velocities": Observation(terms.joint_velocities, "joints"),
        "command": Observation(terms.command, 2),
        "action": Observation(terms.last_action, "action"),
        "height_scan": Observation(terms.heights, SCAN.size, privileged=True),
    },
    rewards={
        "forward": Reward(terms.track_speed, 0.02),
        "turn": Reward(terms.track_yaw_rate, 0.01),
        "upright": Reward(terms.flat_orientation, -0.02),
        "height": Reward(terms.base_height_error, -0.2),
        "action_rate": Reward(terms.action_rate, -0.0005),
        "fall": Reward(terms.fallen, -2.0),
    },
    terminations={"fall": terms.fallen},
    curriculum=Curriculum(terms.tracking_curriculum(0.6, 0.3), len(RISES)),
)


TASKS = {task.name: task for task in (NAVIGATE, SEARCH, AVOID, CLIMB, EXPLORE, WEAVE)}


def find_task(name: str) -> Task:
    """Find a task by its name.

    Raises:
        SimError: When there is none.
    """
    require_known(name, TASKS, "task", SimError, rule="a task has a known name")
    return TASKS[name]
