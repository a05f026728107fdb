"""Tasks on the floor of a scene, for wheels, and for legs that are told where to go; as data."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from pipeline.geometry import Camera
from sim.robots.model import Robot
from sim.scene.floors import NEARBY, NEXT_POSITIONS
from sim.sensors.cameras.settings import RobotCamera
from sim.tasks import terms
from sim.tasks.driving.exploration import MAP_SIDE, ExplorationScenario
from sim.tasks.driving.finding import FindScenario
from sim.tasks.driving.goals import GoalScenario
from sim.tasks.driving.levels import LevelScenario
from sim.tasks.driving.obstacles import ObstacleScenario
from sim.tasks.driving.patches import PatchScenario
from sim.tasks.task import Observation, Reward, Task

MIN_PATH = 0.8  # [m]
LANDING = 0.25  # [m], above the floor that robots start on
AT_GOAL_UPSTAIRS = partial(terms.reached_on_level, radius=0.4)
AT_GOAL, AT_HIDDEN_GOAL = partial(terms.reached, radius=0.4), partial(terms.reached, radius=0.3)
ALL_SEEN = partial(terms.explored, share=0.9)
YELLOW = (0.95, 0.8, 0.1)

GOAL = "goal"
"""Where robots are to go: ahead of them and to the left [m], and how far it is on the way [m]."""

CRITIC = {
    "pose": Observation(terms.pose_in_scene, 4, privileged=True),
    "edges": Observation(terms.edge_distances, len(NEARBY), privileged=True),
    "time": Observation(terms.elapsed, 1, privileged=True),
}
"""Privileged observations for a critic, useful in every scene."""

# to a scene's landmark, a yellow ball, by sight, without touching anything
NAVIGATE = Task(
    name="navigate",
    instruction="drive to the yellow ball without touching anything",
    camera=Camera(64, 48, 32.0, 32.0, 32.0, 24.0),  # 90 degrees across
    control_period=0.2,
    time_step=0.02,
    seconds=16.0,
    scenario=partial(GoalScenario, min_length=MIN_PATH, ball_color=YELLOW, goals=1),
    success=AT_GOAL,
    observations={
        "velocity": Observation(terms.planar_velocity, 3),
        "action": Observation(terms.last_action, "action"),
        GOAL: Observation(terms.goal_in_base, 3, privileged=True),
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


def _wide_with_depth(_: Robot) -> tuple[RobotCamera, ...]:
    """A camera that sees 120 degrees across, and how far away what it sees is."""
    return (RobotCamera(WIDE, outputs=("rgb", "depth"), depth_of="mesh"),)


WIDE = Camera(96, 48, 27.7, 27.7, 48.0, 24.0)

# to a yellow ball that lies anywhere, in a place that need not be known: only looking tells where
FIND = replace(
    NAVIGATE,
    name="find",
    camera=WIDE,
    cameras=_wide_with_depth,
    seconds=30.0,
    scenario=partial(FindScenario, min_length=MIN_PATH),
    observations={
        **NAVIGATE.observations,
        "odometry": Observation(terms.motion, 3),
        "projected_gravity": Observation(terms.projected_gravity, 3),
    },
    outcomes={"in_sight": terms.began_in_sight},
)


# as `navigate`, with the ball on the landing above the scene's stairs; for legs
STAIRS = replace(
    NAVIGATE,
    name="stairs",
    instruction="go up the stairs to the yellow ball",
    robot="go2",
    scenario=partial(GoalScenario, min_length=MIN_PATH, ball_color=YELLOW, upstairs=LANDING),
)


# the same anywhere on another level, up or down; by the stairs of a place that is known
LEVELS = replace(
    STAIRS,
    name="levels",
    instruction="go to the yellow ball on the other level",
    control_period=0.1,
    seconds=60.0,
    scenario=partial(LevelScenario, min_length=MIN_PATH, ball_color=YELLOW),
    success=AT_GOAL_UPSTAIRS,
    rewards={
        **{name: NAVIGATE.rewards[name] for name in ("progress", "time", "action_rate")},
        "goal": Reward(AT_GOAL_UPSTAIRS, 5.0),
    },
    terminations={"goal": AT_GOAL_UPSTAIRS, "tipped": terms.tipped},
)


# to a goal that only odometry knows, around the yellow patch on the straight path
AVOID = replace(
    NAVIGATE,
    name="avoid",
    instruction="drive to the goal around the yellow patch",
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
    instruction="drive to the pink ball between the red posts and around the yellow patches",
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
    instruction="look at the whole floor without touching anything",
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
