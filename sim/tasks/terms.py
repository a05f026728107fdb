"""Terms that tasks are made of; each takes a `Moment` and gives a value for each of N environments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.physics.state import Int
from sim.places import EDGE_PRICE
from sim.tasks.commands import Commanded, tracking
from sim.tasks.exploration import Explored
from sim.tasks.obstacles import ObstacleWay
from sim.tasks.patches import PatchWay
from sim.tasks.task import Bool, Float, Moment
from sim.tasks.way import Way

TIPPED = np.deg2rad(60)
LOW = 0.05
"""A fallen base is lower by this than half its height at rest [m]; that of wheels rests on the floor."""
FAR = np.float32(2)
"""Clearances beyond are all the same [m]."""
BUMP = 0.15
"""Of the robot's weight."""


def in_base(moment: Moment[Any], vectors: NDArray[np.floating]) -> Float:
    """World vectors (N, 3) in each robot's base axes."""
    return np.einsum("nij,ni->nj", moment.state.world_from_base, vectors).astype(np.float32)


def planar_velocity(moment: Moment[Any]) -> Float:
    """Forward, sideways [m/s] and turning speed [rad/s] (N, 3), as odometry tells them."""
    linear = in_base(moment, moment.state.linear_velocity)
    return np.concatenate([linear[:, :2], moment.state.angular_velocity[:, 2:]], 1)


def angular_velocity(moment: Moment[Any]) -> Float:
    """In the base's axes (N, 3) [rad/s], as a gyroscope tells it."""
    return in_base(moment, moment.state.angular_velocity)


def gravity_in_base(moment: Moment[Any]) -> Float:
    """Where down is in the base's axes (N, 3), unit."""
    return in_base(moment, np.tile([0, 0, -1.0], (len(moment.state), 1)))


def joint_offsets(moment: Moment[Any]) -> Float:
    """Joint positions less those at rest (N, J) [rad, m]."""
    return moment.state.joint_position - moment.robot.default_position.astype(np.float32)


def joint_rates(moment: Moment[Any]) -> Float:
    """Joint velocities (N, J) [rad/s, m/s]."""
    return moment.state.joint_velocity


def heights(moment: Moment[Any]) -> Float:
    """The ground round the robot against its base (N, K) [m]."""
    return moment.heights


def last_action(moment: Moment[Any]) -> Float:
    """What was just done (N, A)."""
    return moment.action


def pose_in_scene(moment: Moment[Any]) -> Float:
    """Place (x, y) [m] in the scene's world frame, and cosine and sine of the heading (N, 4)."""
    x, y, yaw = moment.state.planar.T
    return np.column_stack([x, y, np.cos(yaw), np.sin(yaw)]).astype(np.float32)


def edges(moment: Moment[Way | Explored]) -> Float:
    """To the edge of the floor that the robot has room on, from here and places near [m], `FAR` at most (N, 25)."""
    return np.minimum(moment.course.edges, FAR)


def detours(moment: Moment[Way]) -> Float:
    """By how much the way would be longer from places where the robot could go next [m], up to `FAR` (N, 8)."""
    return np.clip(moment.course.detours, -FAR, FAR)


def share_of_time(moment: Moment[Any]) -> Float:
    """How much of the episode's time is gone, 0..1 (N, 1)."""
    return moment.elapsed[:, None]


def goal_in_base(moment: Moment[Way]) -> Float:
    """The goal ahead and to the left of the robot [m], and what is left of the way [m] (N, 3)."""
    offset = np.zeros((len(moment.state), 3))
    offset[:, :2] = moment.course.goal - moment.state.position[:, :2]
    return np.concatenate([in_base(moment, offset)[:, :2], moment.course.left[:, None]], 1).astype(np.float32)


def progress(moment: Moment[Way]) -> Float:
    """By how much the way to the goal got shorter [m]."""
    return moment.course.left_before - moment.course.left


def each_step(moment: Moment[Any]) -> Float:
    """One."""
    return np.ones(len(moment.state), np.float32)


def jerk(moment: Moment[Any]) -> Float:
    """How much the action differs from the one before."""
    return np.abs(moment.action - moment.last_action).sum(1)


def bumped(moment: Moment[Any]) -> Bool:
    """The robot's body touches something: wheels and casters carry it upwards only."""
    return moment.bump > BUMP


def slant(moment: Moment[Any]) -> Float:
    """Squared sine of the tilt."""
    return np.sin(moment.tilt) ** 2


def tipped(moment: Moment[Any]) -> Bool:
    """The robot lies on its side."""
    return moment.tilt > TIPPED


def reached(radius: float) -> Callable[[Moment[Way]], Bool]:
    """A term that says who is nearer to the goal than that [m], and not behind a wall."""

    def at_goal(moment: Moment[Way]) -> Bool:
        away = np.linalg.norm(moment.course.goal - moment.state.position[:, :2], axis=1)
        return (away < radius) & (moment.course.left < EDGE_PRICE * radius)

    return at_goal


def at_post(moment: Moment[ObstacleWay]) -> Bool:
    """The circle round the robot touches a post."""
    return moment.course.clearance < 0


def clearance(moment: Moment[ObstacleWay]) -> Float:
    """Between the robot and the nearest post [m], `FAR` at most (N, 1)."""
    return np.minimum(moment.course.clearance, FAR)[:, None]


def floor_cost(moment: Moment[ObstacleWay]) -> Float:
    """What the floor under the robot cost in this step."""
    return moment.course.cost


def either(*terms: Callable[[Moment[Any]], Bool]) -> Callable[[Moment[Any]], Bool]:
    """A term that says where any of these does."""

    def any_of_them(moment: Moment[Any]) -> Bool:
        return np.any([term(moment) for term in terms], axis=0)

    return any_of_them


def goal_by_odometry(moment: Moment[PatchWay]) -> Float:
    """Where odometry has the goal: distance [m], cosine and sine of the bearing (N, 3)."""
    return moment.course.believed


def nearest_patch(moment: Moment[PatchWay]) -> Float:
    """The nearest place on a patch, ahead and to the left of the robot [m], each `FAR` at most (N, 2)."""
    offset = np.zeros((len(moment.state), 3))
    offset[:, :2] = moment.course.to_patch
    return np.clip(in_base(moment, offset)[:, :2], -FAR, FAR)


def inside_patch(moment: Moment[PatchWay]) -> Bool:
    """The robot's middle is over a patch."""
    return moment.course.inside


def entering_patch(moment: Moment[PatchWay]) -> Bool:
    """The same, for the first time in the episode."""
    return moment.course.entering


def entered_patch(moment: Moment[PatchWay]) -> Bool:
    """The same, now or before in the episode."""
    return moment.course.entered


def newly_seen(moment: Moment[Explored]) -> Float:
    """Floor that was seen first in this step [m^2]."""
    return moment.course.new


def explored_share(moment: Moment[Explored]) -> Float:
    """Of the floor (N, 1)."""
    return moment.course.share[:, None]


def map_around(moment: Moment[Explored]) -> Float:
    """What the robot knows of the floor round it (N, K)."""
    return moment.course.around


def explored(share: float) -> Callable[[Moment[Explored]], Bool]:
    """A term that says who has seen that share of the floor."""

    def seen_enough(moment: Moment[Explored]) -> Bool:
        return moment.course.share >= share

    return seen_enough


def command(moment: Moment[Commanded]) -> Float:
    """Forward [m/s] and turning speed [rad/s] that the robot should have (N, 2)."""
    return moment.course.command


def tracks_speed(moment: Moment[Commanded]) -> Float:
    """How well the robot follows the command ahead, 0..1."""
    return tracking(moment.course.command, moment.course.velocity)[:, 0]


def tracks_turn(moment: Moment[Commanded]) -> Float:
    """How well the robot follows the command to turn, 0..1."""
    return tracking(moment.course.command, moment.course.velocity)[:, 1]


def off_height(moment: Moment[Commanded]) -> Float:
    """By how much the base is higher or lower over the floor than at rest [m]."""
    return np.abs(moment.course.height - np.float32(moment.robot.base_height))


def fallen(moment: Moment[Commanded]) -> Bool:
    """The robot lies on its side, or its base is hardly over the floor; that of wheeled robots may be on it."""
    return tipped(moment) | (moment.course.height < np.float32(moment.robot.base_height / 2 - LOW))


def arrived(moment: Moment[Commanded]) -> Bool:
    """The robot has been at the end of the way ahead of its start, and hasn't fallen."""
    return moment.course.arrived & ~fallen(moment)


def by_tracking(up: float, down: float) -> Callable[[Moment[Commanded], Bool], Int]:
    """A curriculum: up for those who followed their commands that well to the end, down for the bad and the fallen."""

    def change(moment: Moment[Commanded], failed: Bool) -> Int:
        tracked = moment.course.tracked
        return np.where(failed | (tracked < down), -1, np.where(tracked >= up, 1, 0))

    return change
