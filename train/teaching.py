"""Teachers: the right actions as an observation group, which policies learn from and never see."""

from __future__ import annotations

from pathlib import Path

import torch
from gymnasium.spaces import Dict
from tensordict import TensorDict

from pipeline.errors import TrainError
from sim.env import Observations, SceneEnv
from sim.finding.eyes import BUILDS, Eyes, eyes_named
from sim.policies.finder import finder_with
from sim.sensors.cameras.settings import Output
from train.encoders.groups import TEACHER, ObservationGroup, set_tensors_of, tensors_of


class Answers(ObservationGroup):
    """What a privileged observation says."""

    name = TEACHER

    def __init__(self, observation: str) -> None:
        self._observation = observation

    def read(self, env: SceneEnv, seen: Observations) -> torch.Tensor:
        """Actions (N, A)."""
        return torch.tensor(seen[self._observation])


class FinderAnswers(ObservationGroup):
    """What the driver `find` would do where the policy is: of what the robot has seen in this episode."""

    name = TEACHER

    def __init__(self, eyes: Path, env: SceneEnv) -> None:
        self._driver = finder_with(eyes, env)

    def read(self, env: SceneEnv, seen: Observations) -> torch.Tensor:
        """Actions (N, A)."""
        return torch.from_numpy(self._driver(seen))

    def state(self) -> dict[str, torch.Tensor]:
        """What it believes."""
        return tensors_of(self._driver.finder)

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Continue from what it believed."""
        set_tensors_of(self._driver.finder, state)


class Teacher:
    """Acts as the teacher answers, beside a policy that learns from it; its answers are among what is seen."""

    def __call__(self, seen: TensorDict) -> torch.Tensor:
        """Actions (N, A)."""
        return seen[TEACHER]

    def reset(self, dones: torch.Tensor | None = None) -> None:
        """Nothing: the answers know when episodes begin."""


def seen_by(teacher: str) -> tuple[Output, ...]:
    """What a teacher sees of a robot's cameras: nothing where its answers are an observation.

    Raises:
        SimError: When its eyes are damaged.
    """
    eyes = eyes_named(teacher)
    return BUILDS[Eyes(eyes).card.modality].sees if eyes else ()


def taught_by(teacher: str, env: SceneEnv) -> ObservationGroup:
    """The answers of a teacher: an observation of the task, or the driver `find` by its eyes or those of a file.

    Raises:
        TrainError: When it is neither.
        SimError: When the driver doesn't fit the robots.
    """
    if eyes := eyes_named(teacher):
        return FinderAnswers(eyes, env)
    spaces = env.single_observation_space
    assert isinstance(spaces, Dict)
    shape = spaces[teacher].shape if teacher in env.task.observations else None
    if shape != (env.controller.size,):
        raise TrainError(
            "a teacher is an observation that says the right action, find, or the file of its eyes",
            found=f"{teacher!r} in {env.task.name!r}, whose actions have {env.controller.size} elements",
            remedy="train another task, or without --set teacher",
        )
    return Answers(teacher)
