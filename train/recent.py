"""The episodes that ended last, and what they tell of how training goes."""

from __future__ import annotations

from collections import Counter, deque

import numpy as np

from train.environment import Endings
from train.statistics import WINDOW

Episode = tuple[bool, str, float, int, dict[str, bool]]
"""Whether the task was done, what ended it, its reward, its steps, and what else the task tells of it."""


class Recent:
    """A window over episodes."""

    def __init__(self) -> None:
        self._episodes: deque[Episode] = deque(maxlen=WINDOW)

    def add(self, endings: Endings) -> None:
        """Take note of episodes that ended."""
        others = [
            {name: bool(values[row]) for name, values in endings.outcomes.items()} for row in range(len(endings.by))
        ]
        columns = endings.success.tolist(), endings.by, endings.reward.tolist(), endings.steps.tolist(), others
        self._episodes.extend(zip(*columns, strict=True))

    def figures(self) -> dict[str, float]:
        """Means by name, and of how many episodes they are; none before the first episode ended."""
        if not self._episodes:
            return {}
        success, by, reward, steps, others = zip(*self._episodes, strict=True)
        means = {"success": np.mean(success), "reward": np.mean(reward), "length": np.mean(steps)}
        means |= {f"ended/{name}": count / len(by) for name, count in sorted(Counter(by).items())}
        means |= {f"outcome/{name}": np.mean([one[name] for one in others]) for name in others[0]}
        return {"episodes": len(by)} | {name: float(value) for name, value in means.items()}

    def state(self) -> list[Episode]:
        """For a checkpoint."""
        return list(self._episodes)

    def restore(self, state: list[Episode]) -> None:
        """Go on from a checkpoint."""
        self._episodes.clear()
        self._episodes.extend(
            (bool(success), by, reward, steps, others) for success, by, reward, steps, others in state
        )
