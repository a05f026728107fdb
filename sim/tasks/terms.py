"""Terms that tasks are made of: functions of a `StepState` that return a value for each of N environments."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from pipeline.types import F32, Floats, Mask
from sim.scene.floors import EDGE_PRICE
from sim.tasks.driving.exploration import ExplorationState
from sim.tasks.driving.finding import FindState
from sim.tasks.driving.levels import LevelState
from sim.tasks.driving.obstacles import ObstacleState
from sim.tasks.driving.patches import PatchState
from sim.tasks.driving.paths import PathState
from sim.tasks.parameters import settable
from sim.tasks.task import StepState

TIPPED = np.deg2rad(60)
FAR = np.float32(2)
"""Largest distance that is distinguished [m]."""
SAME_LEVEL = 0.1
"""So near to the height at which it is at rest on a level [m], a base is on it."""
COLLISION_FORCE = 0.15
"""Horizontal contact force of a collision, as a fraction of the robot's weight."""


def in_base(step: StepState[object], vectors: Floats) -> F32:
    """World vectors (N, 3) in each robot's base axes."""
    return np.einsum("nij,ni->nj", step.state.world_from_base, vectors).astype(np.float32)


def planar_velocity(step: StepState[object]) -> F32:
    """Forward and lateral velocity [m/s] and yaw rate [rad/s] (N, 3), as odometry measures them."""
    linear = in_base(step, step.state.linear_velocity)
    return np.concatenate([linear[:, :2], step.state.angular_velocity[:, 2:]], 1)


def angular_velocity(step: StepState[object]) -> F32:
    """Angular velocity in the base's axes (N, 3) [rad/s], as a gyroscope measures it."""
    return in_base(step, step.state.angular_velocity)


def projected_gravity(step: StepState[object]) -> F32:
    """Direction of gravity in the base's axes (N, 3), unit."""
    return in_base(step, np.tile([0, 0, -1.0], (len(step.state), 1)))


def joint_offsets(step: StepState[object]) -> F32:
    """Joint positions relative to those at rest (N, J) [rad, m]."""
    return step.state.joint_position - step.robot.default_position.astype(np.float32)


def joint_velocities(step: StepState[object]) -> F32:
    """Joint velocities (N, J) [rad/s, m/s]."""
    return step.state.joint_velocity


def heights(step: StepState[object]) -> F32:
    """Height of the ground around the robot relative to its base (N, K) [m]."""
    return step.heights


def last_action(step: StepState[object]) -> F32:
    """The last action, -1..1 (N, A)."""
    return step.action


def pose_in_scene(step: StepState[object]) -> F32:
    """Position (x, y) [m] in the scene's world frame, cosine and sine of the heading (N, 4)."""
    x, y, yaw = step.state.planar.T
    return np.column_stack([x, y, np.cos(yaw), np.sin(yaw)]).astype(np.float32)


def edge_distances(step: StepState[PathState | ExplorationState]) -> F32:
    """Distance to the edge of the drivable floor, from here and positions nearby [m], at most `FAR` (N, 25)."""
    return np.minimum(step.scenario.edges, FAR)


def detours(step: StepState[PathState]) -> F32:
    """By how much the path gets longer from positions where the robot could go next [m], at most `FAR` (N, 8)."""
    return np.clip(step.scenario.detours, -FAR, FAR)


def elapsed(step: StepState[object]) -> F32:
    """Elapsed fraction of the episode's time limit, 0..1 (N, 1)."""
    return step.elapsed[:, None]


def goal_in_base(step: StepState[PathState]) -> F32:
    """Position of the goal ahead and to the left of the robot [m], and remaining path length [m] (N, 3)."""
    offset = np.zeros((len(step.state), 3))
    offset[:, :2] = step.scenario.goal - step.state.position[:, :2]
    return np.concatenate([in_base(step, offset)[:, :2], step.scenario.length[:, None]], 1).astype(np.float32)


def progress(step: StepState[PathState]) -> F32:
    """By how much the remaining path got shorter [m]."""
    return step.scenario.previous_length - step.scenario.length


def always(step: StepState[object]) -> F32:
    """1 as long as the episode lasts."""
    return np.ones(len(step.state), np.float32)


def entering_patch(step: StepState[PatchState]) -> Mask:
    """Whether the robot's centre is over a patch for the first time in the episode."""
    return step.scenario.entering


def inside_patch(step: StepState[PatchState]) -> Mask:
    """Whether the robot's centre is over a patch."""
    return step.scenario.inside


def entered_patch(step: StepState[PatchState]) -> Mask:
    """Whether the robot's centre was over a patch in the episode."""
    return step.scenario.entered


def motion(step: StepState[FindState]) -> F32:
    """Odometry: motion ahead and to the left [m], and turn to the left [rad], since the last step."""
    return step.scenario.motion


def began_in_sight(step: StepState[FindState]) -> Mask:
    """Whether nothing stood between the robot and the ball when the episode began, wherever it looked."""
    return step.scenario.in_sight


def floor_cost(step: StepState[ObstacleState]) -> F32:
    """Cost of the floor under the robot's centre [1/s]."""
    return step.scenario.cost


def new_floor(step: StepState[ExplorationState]) -> F32:
    """Floor that was seen for the first time in this step [m^2]."""
    return step.scenario.new


def action_rate(step: StepState[object]) -> F32:
    """Change of the action since the last step, summed over its elements."""
    return np.abs(step.action - step.last_action).sum(1)


def collided(step: StepState[object]) -> Mask:
    """Whether the robot's body touches something: wheels and casters push it up only."""
    return step.contact_force > COLLISION_FORCE


def tipped(step: StepState[object]) -> Mask:
    """Whether the robot lies on its side."""
    return step.tilt > TIPPED


def reached(
    step: StepState[PathState], *, radius: Annotated[float, settable(0.05, 5, "how near the goal is reached [m]")]
) -> Mask:
    """Whether the goal is within a radius [m], and not behind a wall."""
    distance = np.linalg.norm(step.scenario.goal - step.state.position[:, :2], axis=1)
    return (distance < radius) & (step.scenario.length < EDGE_PRICE * radius)


def reached_on_level(
    step: StepState[LevelState], *, radius: Annotated[float, settable(0.05, 5, "how near the goal is reached [m]")]
) -> Mask:
    """Whether the goal is within a radius [m], and the robot stands as high."""
    return reached(step, radius=radius) & (np.abs(step.scenario.above) < SAME_LEVEL)


def at_post(step: StepState[ObstacleState]) -> Mask:
    """Whether the robot's radius touches a post."""
    return step.scenario.clearance < 0


def clearance(step: StepState[ObstacleState]) -> F32:
    """Gap between the robot and the nearest post [m], at most `FAR` (N, 1)."""
    return np.minimum(step.scenario.clearance, FAR)[:, None]


def crashed(step: StepState[ObstacleState]) -> Mask:
    """Whether the robot's body touches something, or its radius a post."""
    return collided(step) | at_post(step)


def goal_by_odometry(step: StepState[PatchState]) -> F32:
    """The goal according to odometry: distance [m], cosine and sine of the bearing (N, 3)."""
    return step.scenario.believed


def nearest_patch(step: StepState[PatchState]) -> F32:
    """Nearest point of a patch, ahead and to the left of the robot [m], each at most `FAR` (N, 2)."""
    offset = np.zeros((len(step.state), 3))
    offset[:, :2] = step.scenario.to_patch
    return np.clip(in_base(step, offset)[:, :2], -FAR, FAR)


def explored_share(step: StepState[ExplorationState]) -> F32:
    """Fraction of the floor that was seen (N, 1)."""
    return step.scenario.share[:, None]


def map_around(step: StepState[ExplorationState]) -> F32:
    """Local map of what the robot has seen of the floor (N, K)."""
    return step.scenario.around


def explored(
    step: StepState[ExplorationState], *, share: Annotated[float, settable(0.01, 1, "fraction of the floor to see")]
) -> Mask:
    """Whether that fraction of the floor was seen."""
    return step.scenario.share >= share
