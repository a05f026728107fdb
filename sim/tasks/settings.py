"""What users may set of a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from pipeline.parameters import Settings


class RewardSettings(Settings):
    """A term of a task's reward."""

    weight: Annotated[float, Field(ge=-1e6, le=1e6)]
    """What a value of 1 is worth, each time it happens or by the second, as `splatyard policy tasks NAME` has it."""


class TaskSettings(Settings):
    """Changes of a task; what is not named stays as it is."""

    seconds: Annotated[float, Field(gt=0, le=86_400)] | None = None
    """Time limit of an episode [s]."""
    rewards: Mapping[str, RewardSettings] = Field(default_factory=dict)
    """Terms of the reward by name, as task.rewards.progress.weight=1."""
    parameters: Mapping[str, float] = Field(default_factory=dict)
    """Numbers of the task's terms and scenario by name, as task.parameters.radius=0.3."""
