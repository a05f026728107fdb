"""The episodes that ended last, and what they tell of how training goes."""

from __future__ import annotations

from collections import Counter, deque

import numpy as np

from train.environment import Endings

KEPT = 200
"""Episodes."""


class Recent:
    """A window over episodes."""

    def __init__(self) -> None:
        self._episodes: deque[tuple[bool, str, float, int]] = deque(maxlen=KEPT)

    def add(self, endings: Endings) -> None:
        """Take note of episodes that ended."""
        rows = zip(endings.success.tolist(), endings.by, endings.reward.tolist(), endings.steps.tolist(), strict=True)
        self._episodes.extend(rows)

    def figures(self) -> dict[str, float]:
        """Means by name; none before the first episode ended."""
        if not self._episodes:
            return {}
        success, by, reward, steps = zip(*self._episodes, strict=True)
        shares = {f"ended/{name}": count / len(by) for name, count in sorted(Counter(by).items())}
        means = {"success": np.mean(success), "reward": np.mean(reward), "length": np.mean(steps)}
        return {name: float(value) for name, value in means.items()} | shares

    def state(self) -> list[tuple[bool, str, float, int]]:
        """For a checkpoint."""
        return list(self._episodes)

    def restore(self, state: list[tuple[bool, str, float, int]]) -> None:
        """Go on from a checkpoint."""
        self._episodes.clear()
        self._episodes.extend((bool(success), by, reward, steps) for success, by, reward, steps in state)
