"""Success in places that a run never trains in: measured while it trains, and what follows from it.

Each measurement makes a simulation of its own, so that the one in training and its random numbers stay as they are, and
a run that is resumed measures the same. All have the same episodes: what differs between two is the policy.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import closing

import torch

from sim.scene.scene import SimScene
from train.algorithms.agent import Agent
from train.environment import make_env
from train.preset import Preset
from train.runs.evaluation import MAX_ENVS, SEED, evaluate
from train.runs.results import Interval
from train.runs.run import Run
from train.runs.scores import (
    EPISODES,
    PREFIX,
    VALIDATION,
    Score,
    best_iteration,
    best_of,
    gap,
    own_success,
    scores,
    waited,
)
from train.runs.trainer import Trainer

logger = logging.getLogger(__name__)


class UnseenTests:
    """Measures a run's policy in places that it never trains in, if there are any.

    Attributes:
        no_better: Whether as many measurements as the preset's `patience` were no better than before.
        best: Iteration with the best success in validation; None before any.
    """

    def __init__(self, run: Run, places: Mapping[str, Sequence[SimScene]]) -> None:
        self._run, self._places, self._warned = run, places, False
        self.no_better, self.best = False, None if not places else best_iteration(run)

    def row(self, trainer: Trainer, row: Mapping[str, float], *, last: bool) -> dict[str, float]:
        """What the row of an iteration has in addition: nothing, if it isn't one to measure after."""
        preset, iteration = self._run.preset, int(row["iteration"])
        if not self._places or not (last or iteration % (preset.evaluate_every or preset.save_interval) == 0):
            return {}
        begun, found = time.monotonic(), dict[str, Interval]()
        for kind, scenes in self._places.items():
            found[kind] = measured(trainer.agent, preset, scenes, kind)
        self._learn(row, found)
        shares = {PREFIX + kind: success.value for kind, success in found.items()}
        counts = {PREFIX + kind + EPISODES: float(success.count) for kind, success in found.items()}
        return {**shares, **counts, "seconds/unseen": time.monotonic() - begun}

    def _learn(self, row: Mapping[str, float], found: Mapping[str, Interval]) -> None:
        """See whether it is the best, whether it goes on getting better, and whether own success is much above it."""
        if VALIDATION not in found:
            return
        known = [*scores(self._run.curve.read()), Score(int(row["iteration"]), found[VALIDATION])]
        best = best_of(known)
        self.best = best and best.iteration
        self.no_better = 0 < self._run.preset.patience <= waited(known)
        words = gap(own_success([row]), found[VALIDATION])
        if words and not self._warned:
            logger.warning("%s", words)
        self._warned |= bool(words)


def measured(agent: Agent, preset: Preset, scenes: Sequence[SimScene], kind: str) -> Interval:
    """Success of a policy's mean in `unseen_episodes` episodes, spread over all scenes; starts are anywhere."""
    episodes = preset.unseen_episodes
    devices = [agent.device] if agent.device.startswith("cuda") else []
    with torch.random.fork_rng(devices):
        env = make_env(preset, scenes, num_envs=min(episodes, MAX_ENVS), seed=SEED, starts="all", device=agent.device)
        with closing(env):
            return evaluate(agent.get_policy(), env, episodes, about=f"episodes for {kind}").success()
