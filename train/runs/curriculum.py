"""How often each scene is drawn in training: a group of them at a time, by equal shares or by learning progress."""

from __future__ import annotations

import numpy as np

from pipeline.types import F64
from train.environment import DoneInfo

FAST, SLOW = 0.1, 0.02
"""Weight of an episode in a scene's fast and slow moving averages of success."""
MIN_SHARE = 0.2
"""Fraction of the episodes that is drawn uniformly, so that no scene is forgotten."""
HELD = 4
"""Iterations for which episodes begin in one group of scenes."""
DIGITS = 9
"""Decimals by which what scenes are owed differs: what is beyond is rounding."""


class SceneCurriculum:
    """Frequencies of the scenes in new episodes.

    Learning progress is the difference between a fast and a slow moving average of success: scenes that are being
    learned or forgotten are drawn more often. Source: Matiisen et al., Teacher-Student Curriculum Learning, 2017,
    section 3.

    Of more scenes than `at_a_time`, episodes begin in a group of that many, so that no more of them are in memory. Each
    group has the scenes that are owed most: their shares since the beginning, less what earlier groups gave them. So
    each gets its share in the long run.
    """

    def __init__(self, count: int, *, by_progress: bool, at_a_time: int, seed: int) -> None:
        self._by_progress = by_progress and count > 1
        self._fast, self._slow = np.zeros(count), np.zeros(count)
        self._at_a_time, self._seed = at_a_time, seed
        self._owed, self._group = np.zeros(count), np.zeros(count)

    @property
    def weights(self) -> F64:
        """Frequencies (S,) that sum to 1."""
        return self._group.copy() if self._group.any() else self._shares

    @property
    def _shares(self) -> F64:
        """Frequencies (S,) of all scenes in the long run."""
        count = len(self._fast)
        progress = np.abs(self._fast - self._slow)
        if not self._by_progress or not progress.any():
            return np.full(count, 1 / count)
        return MIN_SHARE / count + (1 - MIN_SHARE) * progress / progress.sum()

    def begin(self, iteration: int) -> None:
        """Choose the scenes of an iteration; scenes that are owed the same are drawn by its number and the seed."""
        count = len(self._fast)
        if count <= self._at_a_time or (self._group.any() and iteration % HELD):
            return
        self._owed += self._shares
        drawn = np.random.default_rng((self._seed, iteration)).random(count)
        chosen = np.lexsort((drawn, -self._owed.round(DIGITS)))[: self._at_a_time]
        self._group = np.zeros(count)
        self._group[chosen] = self._owed[chosen].clip(0)
        self._group /= self._group.sum()
        self._owed -= self._group

    def learn(self, done: DoneInfo) -> None:
        """Add episodes that ended."""
        for scene, success in zip(done.scene, done.success, strict=True):
            self._fast[scene] += FAST * (success - self._fast[scene])
            self._slow[scene] += SLOW * (success - self._slow[scene])

    def state(self) -> list[list[float]]:
        """State for a checkpoint."""
        return [part.tolist() for part in (self._fast, self._slow, self._owed, self._group)]

    def restore(self, state: list[list[float]]) -> None:
        """Continue from a checkpoint; earlier versions had no groups."""
        own = (self._fast, self._slow, self._owed, self._group)
        for part, values in zip(own, [*state, *np.zeros((len(own) - len(state), len(self._fast)))], strict=True):
            part[:] = values
