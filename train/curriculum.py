"""Which scenes are trained in how often: alike, or by how much is learned in each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from train.environment import Endings

QUICK, SLOW = 0.1, 0.02
"""How much an episode counts in a scene's quick and its slow mean of success."""
LEAST = 0.2
"""Share of the episodes that is spread evenly, so that no scene is forgotten."""


class SceneCurriculum:
    """Shares of scenes in the episodes that begin.

    Learning progress is how far a quick mean of success has come from a slow one, up or down: what is learned or
    forgotten just now is trained more. Source: Matiisen et al., Teacher-Student Curriculum Learning, 2017, section 3.

    Args:
        count: Of scenes, S.
        by_progress: False for all alike.
    """

    def __init__(self, count: int, *, by_progress: bool) -> None:
        self._by_progress = by_progress and count > 1
        self._quick, self._slow = np.zeros(count), np.zeros(count)

    @property
    def weights(self) -> NDArray[np.float64]:
        """Shares (S,) that add up to 1."""
        count = len(self._quick)
        progress = np.abs(self._quick - self._slow)
        if not self._by_progress or not progress.any():
            return np.full(count, 1 / count)
        return LEAST / count + (1 - LEAST) * progress / progress.sum()

    def learn(self, endings: Endings) -> None:
        """Take note of episodes that ended."""
        for scene, success in zip(endings.scene, endings.success, strict=True):
            self._quick[scene] += QUICK * (success - self._quick[scene])
            self._slow[scene] += SLOW * (success - self._slow[scene])

    def state(self) -> list[list[float]]:
        """For a checkpoint."""
        return [self._quick.tolist(), self._slow.tolist()]

    def restore(self, state: list[list[float]]) -> None:
        """Go on from a checkpoint."""
        self._quick, self._slow = (np.array(values, np.float64) for values in state)
