"""What a task is made of, and the moment that its terms look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Camera
from sim.physics.state import RobotState

Float = NDArray[np.float32]
Bool = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Moment:
    """All that N environments are after a step; terms look at nothing else.

    Attributes:
        state: Of the robots.
        action: (N, A) just done, -1..1.
        last_action: (N, A) the one before.
        goal: (N, 2) where to go [m], in the world frame of each robot's scene.
        way: (N,) what is left of the way to the goal [m].
        last_way: (N,) what was left one step ago [m].
        bump: (N,) horizontal force that something puts upon the robot's base, as a share of the robot's weight.
        tilt: (N,) angle between the base's z and the vertical [rad].
        seconds: (N,) since the episode began.
    """

    state: RobotState
    action: Float
    last_action: Float
    goal: Float
    way: Float
    last_way: Float
    bump: Float
    tilt: Float
    seconds: Float


@dataclass(frozen=True)
class Observation:
    """A vector that an agent gets.

    Attributes:
        function: Gives (N, size).
        size: Numbers in it; None for as many as an action has.
        privileged: Only for a critic: a robot couldn't know it.
    """

    function: Callable[[Moment], Float]
    size: int | None
    privileged: bool = False


@dataclass(frozen=True)
class Reward:
    """A term of the reward.

    Attributes:
        function: Gives (N,).
        weight: What it is multiplied with.
    """

    function: Callable[[Moment], Float | Bool]
    weight: float


@dataclass(frozen=True)
class Task:
    """A task as data.

    Attributes:
        name: For people.
        camera: Pinhole of the robot's camera.
        control_period: Between two actions [s].
        time_step: Of the physics; divides the control period [s].
        seconds: An episode is cut off after.
        goal_radius: A robot this near to its goal is there [m].
        least_way: Between start and goal [m].
        ball_radius: Of the ball that stands at the goal; 0 for none [m].
        ball_color: Its colour, 0..1.
        observations: Vectors by name; a picture "rgb" is always there.
        rewards: Terms by name.
        terminations: By name, what ends an episode: (N,) bool.
    """

    name: str
    camera: Camera
    control_period: float
    time_step: float
    seconds: float
    goal_radius: float
    least_way: float
    ball_radius: float
    ball_color: tuple[float, float, float]
    observations: Mapping[str, Observation] = field(default_factory=dict)
    rewards: Mapping[str, Reward] = field(default_factory=dict)
    terminations: Mapping[str, Callable[[Moment], Bool]] = field(default_factory=dict)

    @property
    def substeps(self) -> int:
        """Steps of the physics between two actions."""
        return round(self.control_period / self.time_step)
