"""What a task is made of, and the state that its terms read."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import numpy as np

from pipeline.errors import SimError
from pipeline.geometry import Camera, Gaussians
from pipeline.types import F32, F64, I64, Mask
from sim.control.controller import Controller
from sim.control.state import EndEffectorState, LegsState
from sim.physics.bodies import BodyState, RigidBody
from sim.robots.model import Robot
from sim.robots.state import RobotState
from sim.scene.floors import Floors
from sim.sensors.cameras.settings import CameraSettings, RobotCamera
from sim.sensors.scan_grid import ScanErrors, ScanGrid
from sim.sensors.sensor import VectorSensor
from sim.tasks.parameters import Parameter, checked, parameters_of, with_parameters
from sim.tasks.scenario import Scenario, ScenarioState
from sim.tasks.settings import TaskSettings

if TYPE_CHECKING:
    from sim.scene.scene import SceneObject, SimScene

EXPERT = "expert"
"""Observation with the actions of a task's expert."""


Area = tuple[tuple[float, float], tuple[float, float]]
"""x and y in a base's axes [m], from and to."""


QUARTER_TURN, HALF_TURN = np.pi / 2, np.pi
"""[rad]."""


@dataclass(frozen=True)
class Grasp:
    """How a gripper that points down holds a thing.

    Attributes:
        place: Between the fingertips, in the thing's own frame [m].
        yaw: Of the hand in that frame; its fingers shut along its y axis [rad].
        width: How far the fingers are apart that hold it [m].
        turn: Turned by that, it is held alike [rad].
    """

    place: tuple[float, float, float]
    yaw: float
    width: float
    turn: float


@dataclass(frozen=True, eq=False)
class Item:
    """A thing of a task.

    Attributes:
        body: Its origin is what lies on the surface at `rest` [m].
        rest: Height of its origin over what it stands on [m].
        top: Height of its upper side over its origin [m].
        grasp: How it is held.
        color: 0..1, of what has no splat.
        area: Where it begins.
        yaw: How far it is turned either way at most [rad].
        splat: Loads its Gaussians, in its own frame, if it was scanned. Such things come first among a task's.
    """

    body: RigidBody
    rest: float
    top: float
    grasp: Grasp
    color: tuple[float, float, float]
    area: Area
    yaw: float = 0.0
    splat: Callable[[], Gaussians] | None = None

    @property
    def reach(self) -> float:
        """How far it reaches sideways from its origin [m]."""
        return max(float(np.linalg.norm(hull[:, :2], axis=1).max()) for hull in self.body.hulls)


@dataclass(frozen=True, eq=False)
class StepState(Generic[ScenarioState]):
    """The state of N environments after a step; terms read nothing else.

    Attributes:
        action: (N, A) action of this step, -1..1.
        last_action: (N, A) action of the step before.
        contact_force: (N,) horizontal contact force on the robot's base, as a fraction of the robot's weight.
        heights: (N, K) height scan: ground relative to the base [m]; K = 0 if the task has none.
        tilt: (N,) angle between the base's z axis and the vertical [rad].
        seconds: (N,) time since the episode began [s].
        elapsed: (N,) the same as a fraction of the task's time limit, 0..1; above 1 where episodes may last longer.
        legs: What the legs do; None for a robot on wheels.
        scenario: What the task's own scenario adds, for example the path to a goal.
        arm: Where the end effectors were sent; None for a robot without.
        bodies: Loose bodies (N, K), the task's own last; None where there are none.
    """

    robot: Robot
    state: RobotState
    action: F32
    last_action: F32
    contact_force: F32
    heights: F32
    tilt: F32
    seconds: F64
    elapsed: F32
    legs: LegsState | None
    scenario: ScenarioState
    arm: EndEffectorState | None = None
    bodies: BodyState | None = None


def about(term: Callable[..., Any]) -> str:
    """What a term says of itself: the first line of its docstring."""
    return (inspect.getdoc(term.func if isinstance(term, partial) else term) or "").partition("\n")[0]


Value = TypeVar("Value")
Term = Callable[[StepState[Any]], Value]
"""A value for each of N environments; a task pairs its terms with the scenario whose state they read."""


@dataclass(frozen=True)
class Observation:
    """A vector that an agent observes.

    Attributes:
        function: Returns (N, size).
        size: Number of its elements, or "action", "joints" or "feet" for as many as an action or the robot has.
        privileged: Whether only a critic may observe it, since a real robot couldn't.
        noise: Standard deviation of the noise in training, in its own units.
    """

    function: Term[F32]
    size: int | Literal["action", "joints", "feet"]
    privileged: bool = False
    noise: float = 0.0


@dataclass(frozen=True)
class Reward:
    """A term of the reward.

    Attributes:
        weight: What a value of 1 is worth.
        per: An "event" is worth that when it happens, and so is a change that a step has made; what lasts is worth it
            by the "second", however long the steps are, or by the "step", as contracts of others have it.
    """

    function: Term[F32 | Mask]
    weight: float
    per: Literal["event", "second", "step"] = "event"


@dataclass(frozen=True)
class Curriculum:
    """Each environment has a difficulty level, 0 at first, that changes when its episodes end.

    Attributes:
        function: Maps the last state and a mask of failures (N,) to level changes (N,): 1, -1 or 0.
        again: Whether those who do the hardest level are sent to a random one, so that none is forgotten (Rudin et
            al., Learning to walk in minutes, 2021, section 3.1).
    """

    function: Callable[[StepState[Any], Mask], I64]
    levels: int
    again: bool = False


@dataclass(frozen=True)
class Task:
    """A task as data.

    Attributes:
        control_period: Time between two actions [s].
        time_step: Time step of the physics [s]; divides the control period.
        seconds: Time limit of an episode [s].
        scenario: Makes the scenario from floors, number of environments and control period.
        success: Whether an episode that ends solved the task: (N,) bool.
        terminations: Conditions that end an episode, by name: (N,) bool.
        outcomes: What else is counted when an episode ends, by name: (N,) bool.
        curriculum: How the difficulty changes; None for a fixed one.
        height_scan: Where the ground's height is measured; None for nowhere.
        scan_errors: Errors of that in training, as a map has them; None for none.
        camera_settings: Camera behaviour unless other settings are given; ideal by default.
        scenes: References of the scenes that it is for; none if it is for any that is given.
        robot: Name of the robot that does it unless another one is asked for.
        controller: Makes the controller of a robot from that and its usual one, if the task has its own action space.
        items: Things that are in every scene, beside the robot.
        picks: Makes the task for the object of the scenes that a robot is to pick up, if it is about one.
        cameras: A robot's cameras; by default one at the mount in its file, with the lens `camera`.
        expert: Actions (N, A) of one who knows where everything is, if anybody does.
        instruction: What one would tell somebody to do, for policies that are told.
    """

    name: str
    camera: Camera
    control_period: float
    time_step: float
    seconds: float
    scenario: Callable[[Floors, int, float], Scenario[object]]
    success: Term[Mask]
    observations: Mapping[str, Observation] = field(default_factory=dict)
    rewards: Mapping[str, Reward] = field(default_factory=dict)
    terminations: Mapping[str, Term[Mask]] = field(default_factory=dict)
    outcomes: Mapping[str, Term[Mask]] = field(default_factory=dict)
    curriculum: Curriculum | None = None
    height_scan: ScanGrid | None = None
    scan_errors: ScanErrors | None = None
    camera_settings: CameraSettings = field(default_factory=CameraSettings)
    scenes: tuple[str, ...] = ()
    robot: str = "rover"
    controller: Callable[[Robot, Controller], Controller] | None = None
    items: tuple[Item, ...] = ()
    picks: Callable[[Task, Robot, SceneObject], Task] | None = None
    cameras: Callable[[Robot], tuple[RobotCamera, ...]] | None = None
    expert: Term[F32] | None = None
    instruction: str = ""

    @property
    def goal(self) -> str:
        """When it is solved."""
        return about(self.success)

    @property
    def text(self) -> str:
        """What a policy is told to do: the instruction, or the name."""
        return self.instruction or self.name

    @property
    def vectors(self) -> list[str]:
        """Names of the vectors that an agent observes, without those that only a critic may."""
        return [name for name, term in self.observations.items() if not term.privileged]

    def cameras_of(self, robot: Robot) -> tuple[RobotCamera, ...]:
        """The cameras of a robot."""
        return self.cameras(robot) if self.cameras else (RobotCamera(self.camera),)

    def changed(self, settings: TaskSettings) -> Task:
        """The same with what a user has set.

        Raises:
            SimError: When a reward or a parameter is set that it doesn't have, or a parameter out of its bounds.
        """
        if unknown := settings.rewards.keys() - self.rewards.keys():
            raise SimError(
                f"the rewards of {self.name} have the names in `splatyard policy tasks {self.name}`",
                found=", ".join(sorted(unknown)),
                remedy=f"one of {', '.join(self.rewards)}",
            )
        weights = {name: replace(self.rewards[name], weight=one.weight) for name, one in settings.rewards.items()}
        task = replace(self, seconds=settings.seconds or self.seconds, rewards={**self.rewards, **weights})
        if not settings.parameters:
            return task
        return task.with_parameters(checked(settings.parameters, self.parameters, self.name))

    @property
    def parameters(self) -> dict[str, Parameter]:
        """The numbers of its terms and its scenario that users may set, by name."""
        rewards = (term.function for term in self.rewards.values())
        ends = (*self.terminations.values(), *self.outcomes.values())
        return parameters_of([self.scenario, self.success, *rewards, *ends])

    def with_parameters(self, values: Mapping[str, float]) -> Task:
        """The same with some of its parameters changed."""
        return replace(
            self,
            scenario=with_parameters(self.scenario, values),
            success=with_parameters(self.success, values),
            rewards={
                name: replace(term, function=with_parameters(term.function, values))
                for name, term in self.rewards.items()
            },
            terminations={name: with_parameters(term, values) for name, term in self.terminations.items()},
            outcomes={name: with_parameters(term, values) for name, term in self.outcomes.items()},
        )

    def with_expert(self, expert: Term[F32]) -> Task:
        """The same with an expert's actions as an observation, `EXPERT`."""
        return replace(self, observations={**self.observations, EXPERT: Observation(expert, "action", privileged=True)})

    def in_scenes(self, scenes: Sequence[SimScene], robot: Robot) -> tuple[Task, list[SimScene]]:
        """The task as it is in scenes, and those without the loose object that is the task's own.

        Raises:
            SimError: When it is about one object, and they don't have just one, the same; or the robot can't hold it.
        """
        if self.picks is None:
            return self, list(scenes)
        objects = [one for scene in scenes for one in scene.objects]
        names = ", ".join(dict.fromkeys(one.body.name for one in objects))
        alike = objects and all(_same(one.body, objects[0].body) for one in objects)
        if not alike or any(len(scene.objects) != 1 for scene in scenes) or objects[0].body.joint:
            raise SimError(
                f"{self.name} is about one loose object, the same in every scene",
                found=names or "none",
                remedy="--objects NAME (objects=[NAME]): one that was cut out of the bundle, see "
                "`splatyard bundle objects BUNDLE`, or a bundle that is an object by itself, such as mug@1.0.0",
            )
        return self.picks(self, robot, objects[0]), [replace(scene, objects=()) for scene in scenes]

    def sizes(self, robot: Robot, controller: Controller) -> dict[str, int]:
        """Number of elements of each observation that is a vector."""
        feet = len(controller.legs.feet) if controller.legs else 0
        own = {"action": controller.size, "joints": len(robot.joint_names), "feet": feet}
        terms = self.observations.items()
        return {name: own[term.size] if isinstance(term.size, str) else term.size for name, term in terms}

    def sensors(self, sizes: Mapping[str, int], *, noisy: bool) -> list[VectorSensor]:
        """What measures the observations that are vectors of these sizes; as noisy as the task says, or not at all."""
        terms = self.observations.items()
        return [VectorSensor(name, term.function, sizes[name], term.noise if noisy else 0.0) for name, term in terms]

    def weights(self) -> F32:
        """What a value of 1 of each reward is worth in a step (R,)."""
        seconds = {"event": 1.0, "step": 1.0, "second": self.control_period}
        return np.array([term.weight * seconds[term.per] for term in self.rewards.values()], np.float32)

    def steps_in(self, seconds: float) -> int:
        """Number of actions in that time [s], at least one."""
        return max(1, round(seconds / self.control_period))

    @property
    def substeps(self) -> int:
        """Physics steps between two actions."""
        return round(self.control_period / self.time_step)


def _same(one: RigidBody, other: RigidBody) -> bool:
    return len(one.hulls) == len(other.hulls) and all(map(np.array_equal, one.hulls, other.hulls))
