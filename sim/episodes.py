"""The running episodes of an environment: where they are, how long, what they earned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.types import F32, F64, I64, Floats, Mask
from sim.saved import Saved
from sim.tasks.task import StepState, Task

TIME = "time"
"""What ended an episode that no termination ended."""
INVALID = "invalid action"
"""What ended an episode whose action was not finite."""


def ended_by(task: Task, info: Mapping[str, Any], row: int) -> str:
    """What ended an environment's episode, by what its step says: a termination's name, "time" or "invalid action"."""
    reasons = {name: info[f"ended_by_{name}"] for name in task.terminations} | {INVALID: info["invalid_action"]}
    return next((name for name, ended in reasons.items() if ended[row]), TIME)


def drawn_by(
    envs: I64, seeds: Sequence[int] | None, rng: np.random.Generator
) -> Iterator[tuple[I64, np.random.Generator]]:
    """By which random numbers episodes in environments (M,) begin: all by the same, or each by a seed of its own.

    With seeds (N,) an episode's beginning doesn't depend on how many others begin with it.
    """
    if seeds is None:
        yield envs, rng
        return
    for env in envs:
        yield np.array([env]), np.random.default_rng(seeds[env])


class Episodes(Saved):
    """Episodes of N environments.

    Attributes:
        action: (N, A) last actions.
        steps: (N,) steps so far.
        scene_of: (N,) scenes they are in.
        level: (N,) levels of the task's curriculum.
        sums: (N, R) what each of the task's rewards came to.
    """

    ROWS = ("action", "steps", "scene_weights", "sums", "scene_of", "level")

    def __init__(self, task: Task, num_envs: int, num_scenes: int, actions: int, level: int) -> None:
        self._task, self._reward_weights, self._first_level = task, task.weights(), level
        self.action, self.steps = np.zeros((num_envs, actions), np.float32), np.zeros(num_envs, np.int64)
        self.sums = np.zeros((num_envs, len(task.rewards)), np.float32)
        self.scene_of, self.level = np.arange(num_envs) % num_scenes, np.full(num_envs, level)
        self.scene_weights = np.ones((num_envs, num_scenes))  # a row per environment, so that they are saved

    def begin(self) -> None:
        """Spread the environments over the scenes, at the first level."""
        self.scene_of[:] = np.arange(len(self.steps)) % self.scene_weights.shape[1]
        self.level[:] = self._first_level

    def weigh_scenes(self, weights: Floats) -> None:
        """Set the relative frequency of the scenes in new episodes (S,).

        Raises:
            ValueError: When there are not as many as scenes, or one is negative, or all are 0.
        """
        weights, count = np.asarray(weights, np.float64), self.scene_weights.shape[1]
        if weights.shape != (count,) or (weights < 0).any() or not 0 < weights.sum() < np.inf:
            raise ValueError(f"{count} scenes need as many weights, not all of them 0: got {weights}")
        self.scene_weights = np.tile(weights, (len(self.steps), 1))

    def draw_scenes(self, envs: I64, rng: np.random.Generator) -> I64:
        """Scenes (M,) of new episodes in environments (M,)."""
        weights = self.scene_weights[0]
        if len(weights) > 1:
            self.scene_of[envs] = rng.choice(len(weights), len(envs), p=weights / weights.sum())
        return self.scene_of[envs]

    def reset(self, envs: I64) -> None:
        """Begin episodes in environments (M,)."""
        self.action = self.action.copy()  # callers may hold the old one as an observation
        self.action[envs], self.steps[envs], self.sums[envs] = 0, 0, 0

    @property
    def seconds(self) -> F64:
        """Time since each began (N,) [s]: a sum of periods would drift."""
        return np.asarray(self.steps * self._task.control_period, np.float64)

    def reward(self, step: StepState[Any]) -> F32:
        """Rewards (N,) of a step, which are added up by name."""
        total = np.zeros(len(self.sums), np.float32)
        for number, (weight, term) in enumerate(zip(self._reward_weights, self._task.rewards.values(), strict=True)):
            worth = weight * term.function(step)
            total += worth
            self.sums[:, number] += worth
        return total

    def outcomes(self, step: StepState[Any], ended: Mask) -> dict[str, object]:
        """Of episodes that end (N,), in gymnasium's form: success, further outcomes and sums of rewards by name."""
        rewards = {name: np.where(ended, self.sums[:, number], 0) for number, name in enumerate(self._task.rewards)}
        others = {name: term(step) & ended for name, term in self._task.outcomes.items()}
        return {
            "final_success": self._task.success(step) & ended,
            "final_outcomes": others,
            "final_rewards": rewards,
        }

    def change_levels(self, step: StepState[Any], failed: Mask, done: I64, rng: np.random.Generator) -> None:
        """Change the levels of environments (M,) whose episodes ended, by the task's curriculum."""
        if curriculum := self._task.curriculum:
            level = self.level[done] + curriculum.function(step, failed)[done]
            if curriculum.again:
                level = np.where(level < curriculum.levels, level, rng.integers(0, curriculum.levels, len(done)))
            self.level[done] = np.clip(level, 0, curriculum.levels - 1)
