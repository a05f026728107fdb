"""Terms that tasks are made of; each takes a `Moment` and gives a value for each of N environments."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import matrix_from_quaternion
from sim.tasks.task import Bool, Float, Moment

TIPPED = np.deg2rad(60)
BUMP = 0.15
"""Of the robot's weight."""


def in_base(moment: Moment, vectors: NDArray[np.floating]) -> Float:
    """World vectors (N, 3) in each robot's base axes."""
    turns = matrix_from_quaternion(moment.state.quaternion)
    return np.einsum("nij,ni->nj", turns, vectors).astype(np.float32)


def planar_velocity(moment: Moment) -> Float:
    """Forward, sideways [m/s] and turning speed [rad/s] (N, 3), as odometry tells them."""
    linear = in_base(moment, moment.state.linear_velocity)
    return np.concatenate([linear[:, :2], moment.state.angular_velocity[:, 2:]], 1)


def last_action(moment: Moment) -> Float:
    """What was just done (N, A)."""
    return moment.action


def goal_in_base(moment: Moment) -> Float:
    """The goal ahead and to the left of the robot [m], and what is left of the way [m] (N, 3)."""
    offset = np.zeros((len(moment.state), 3))
    offset[:, :2] = moment.goal - moment.state.position[:, :2]
    return np.concatenate([in_base(moment, offset)[:, :2], moment.way[:, None]], 1).astype(np.float32)


def progress(moment: Moment) -> Float:
    """By how much the way to the goal got shorter [m]."""
    return moment.last_way - moment.way


def each_step(moment: Moment) -> Float:
    """One."""
    return np.ones(len(moment.state), np.float32)


def jerk(moment: Moment) -> Float:
    """How much the action differs from the one before."""
    return np.abs(moment.action - moment.last_action).sum(1)


def bumped(moment: Moment) -> Bool:
    """The robot's body touches something: wheels and casters carry it upwards only."""
    return moment.bump > BUMP


def tipped(moment: Moment) -> Bool:
    """The robot lies on its side."""
    return moment.tilt > TIPPED


def reached(radius: float):  # noqa: ANN201 - a term
    """A term that says who is nearer to the goal than that [m]."""

    def at_goal(moment: Moment) -> Bool:
        return moment.way < radius

    return at_goal
