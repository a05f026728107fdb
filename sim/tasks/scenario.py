"""What the episodes of a task are about: where they begin, where they lead, and what is there besides the scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from pipeline.errors import SimError
from pipeline.geometry import Pose
from pipeline.types import F32, I64, Floats
from sim.physics.bodies import BodyState, RigidBody
from sim.randomisation import Randomisation
from sim.robots.state import RobotState
from sim.saved import Saved
from sim.sensors.cameras.props import Props

ScenarioState = TypeVar("ScenarioState", covariant=True)
"""What a scenario shows the terms of its task."""


@dataclass(frozen=True, eq=False)
class ResetPoses:
    """Where M episodes begin.

    Attributes:
        position: (M, 3) positions of the robots' bases at rest on the floor [m], world frame of each robot's scene.
        yaw: (M,) headings [rad].
        joints: (M, J) joint positions; None for those at rest.
        bodies: (M, K) of the scenario's bodies, then of the task's things; None without any.
    """

    position: Floats
    yaw: Floats
    joints: F32 | None = None
    bodies: BodyState | None = None


class Scenario(Saved, Generic[ScenarioState]):
    """What the episodes of N environments are about.

    Attributes:
        bodies: Loose bodies that it adds to those of the task.
        commands: Whether its state has velocities (N, 3) that robots are to follow, `command`: ahead and to the left
            [m/s], and the yaw rate [rad/s].
        has_paths: Whether it knows how long the way is, `path_length`, on a floor with edges, `to_edge`.
    """

    bodies: tuple[RigidBody, ...] = ()
    commands = False
    has_paths = False

    def vary(self, settings: Randomisation, *, light: bool) -> None:
        """From the next episodes on, let what it puts there differ, and where light comes from if that varies.

        Raises:
            SimError: When it has nothing of what is to vary.
        """
        if settings.base_height or settings.distractors:
            raise SimError(
                "base_height and distractors are of arms at tables",
                found="they are to vary in a task without tables",
                remedy="leave them 0, or take a task such as put_cube_on_plate",
            )

    def reset(self, envs: I64, scenes: I64, levels: I64, rng: np.random.Generator) -> ResetPoses:
        """Begin new episodes in environments (M,), in scenes (M,), of difficulty levels (M,)."""
        raise NotImplementedError

    def update(self, state: RobotState, rng: np.random.Generator) -> None:
        """Take over the state of all N robots after a step."""

    def state(self) -> ScenarioState:
        """State that terms read; its arrays of N rows are never changed later."""
        raise NotImplementedError

    def props(self) -> Props:
        """Objects that cameras see in addition to the scene."""
        raise NotImplementedError

    def kinds(self) -> Sequence[str]:
        """What kinds of episodes run now, N names; evaluations show kinds apart. None where all are alike."""
        return ()

    def path_length(self, xy: Floats, envs: I64) -> F32:
        """Path length [m] from positions (M, 2) in environments (M,); inf off the floor. Only with `has_paths`."""
        raise NotImplementedError

    def to_edge(self, xy: Floats, envs: I64) -> F32:
        """Distance [m] from positions (M, 2) in environments (M,) to the floor's edge. Only with `has_paths`."""
        raise NotImplementedError

    def front(self) -> Pose | None:
        """Base before which things happen, world frame of the first scene; None where they happen anywhere."""
        return None
