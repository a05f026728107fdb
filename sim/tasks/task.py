"""What a task is made of, and the moment that its terms look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Camera
from sim.cameras.settings import CameraSettings
from sim.cameras.things import Things
from sim.height_scan import ScanGrid
from sim.physics.state import Int, RobotState
from sim.places import Split
from sim.robots.model import Robot
from sim.scene import SimScene

Float = NDArray[np.float32]
Bool = NDArray[np.bool_]
Now = TypeVar("Now", covariant=True)
"""What a course shows its task's terms."""


@dataclass(frozen=True, eq=False)
class Moment(Generic[Now]):
    """All that N environments are after a step; terms look at nothing else.

    Attributes:
        robot: Every one of them.
        state: Of the robots.
        action: (N, A) just done, -1..1.
        last_action: (N, A) the one before.
        bump: (N,) horizontal force that something puts upon the robot's base, as a share of the robot's weight.
        heights: (N, K) ground against the base [m], where the task has a height scan; else K = 0.
        tilt: (N,) angle between the base's z and the vertical [rad].
        seconds: (N,) since the episode began.
        elapsed: (N,) the same as a share of an episode's time, 0..1.
        course: What the task's own course adds, for instance the way to a goal.
    """

    robot: Robot
    state: RobotState
    action: Float
    last_action: Float
    bump: Float
    heights: Float
    tilt: Float
    seconds: Float
    elapsed: Float
    course: Now


@dataclass(frozen=True, eq=False)
class Starts:
    """Where M episodes begin.

    Attributes:
        position: (M, 3) of the robots' bases at rest on the floor [m], world frame of each robot's scene.
        yaw: (M,) headings [rad].
    """

    position: NDArray[np.floating]
    yaw: NDArray[np.floating]


class Course(Protocol[Now]):
    """What the episodes of N environments are about: where they begin, where they lead, what stands there."""

    def begin(self, envs: Int, scenes: Int, levels: Int, rng: np.random.Generator) -> Starts:
        """New episodes in environments (M,), in scenes (M,), of levels (M,) of difficulty."""
        ...

    def update(self, state: RobotState, rng: np.random.Generator) -> None:
        """After each step, with the state of all N robots."""
        ...

    def now(self) -> Now:
        """What terms look at; arrays of N that nothing changes later."""
        ...

    def things(self) -> Things:
        """What cameras see besides the scene."""
        ...


class MakeCourse(Protocol):
    """Lays a task's course through scenes."""

    def __call__(
        self, scenes: Sequence[SimScene], robot: Robot, num_envs: int, period: float, *, starts: Split
    ) -> Course[Any]:
        """For so many environments, with a step every `period` [s]; episodes begin at places of that kind only."""
        ...


@dataclass(frozen=True)
class Observation:
    """A vector that an agent gets.

    Attributes:
        function: Gives (N, size).
        size: Numbers in it, or as many as an action has or as the robot has joints.
        privileged: Only for a critic: a robot couldn't know it.
    """

    function: Callable[[Moment[Any]], Float]
    size: int | Literal["action", "joints"]
    privileged: bool = False


@dataclass(frozen=True)
class Reward:
    """A term of the reward.

    Attributes:
        function: Gives (N,).
        weight: What it is multiplied with.
    """

    function: Callable[[Moment[Any]], Float | Bool]
    weight: float


@dataclass(frozen=True)
class Curriculum:
    """Each environment has a level of difficulty, 0 at first, that changes when its episodes end.

    Attributes:
        function: Of the last moment and of who failed (N,): 1 for a level up, -1 for one down, 0 (N,).
        levels: How many there are.
    """

    function: Callable[[Moment[Any], Bool], Int]
    levels: int


@dataclass(frozen=True)
class Task:
    """A task as data.

    Attributes:
        name: For people.
        camera: Pinhole of the robot's camera.
        control_period: Between two actions [s].
        time_step: Of the physics; divides the control period [s].
        seconds: An episode is cut off after.
        course: What episodes are about.
        success: Whether an episode that ends did what it is about: (N,) bool.
        observations: Vectors by name; what cameras see comes beside them.
        rewards: Terms by name.
        terminations: By name, what ends an episode: (N,) bool.
        outcomes: By name, what else is to be counted of an episode when it ends: (N,) bool.
        curriculum: How episodes get harder; None for all alike.
        height_scan: Where the ground's height is read; None for nowhere.
        camera_settings: How cameras behave unless others are asked for; ideally by default.
    """

    name: str
    camera: Camera
    control_period: float
    time_step: float
    seconds: float
    course: MakeCourse
    success: Callable[[Moment[Any]], Bool]
    observations: Mapping[str, Observation] = field(default_factory=dict)
    rewards: Mapping[str, Reward] = field(default_factory=dict)
    terminations: Mapping[str, Callable[[Moment[Any]], Bool]] = field(default_factory=dict)
    outcomes: Mapping[str, Callable[[Moment[Any]], Bool]] = field(default_factory=dict)
    curriculum: Curriculum | None = None
    height_scan: ScanGrid | None = None
    camera_settings: CameraSettings = field(default_factory=CameraSettings)

    @property
    def substeps(self) -> int:
        """Steps of the physics between two actions."""
        return round(self.control_period / self.time_step)
