"""Scripted drivers: to look at a task, and to see how well it can be done at all."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal, NamedTuple, Protocol

import numpy as np

from pipeline.types import F32
from sim.env import Observations, SceneEnv
from sim.episodes import TIME, ended_by
from sim.gaits import SEEN, Gait, observed, own_gait
from sim.tasks.task import Term

logger = logging.getLogger(__name__)

DriverName = Literal["auto", "random", "still"]

Driver = Callable[[], F32]
"""Returns the next actions (N, A) of all robots of an environment."""
Policy = Callable[[Observations], F32]
"""Returns them for the environment's last observations."""


def _walk(env: SceneEnv, gait: Gait) -> F32:
    """Actions (N, A) of a gait by what it sees now."""
    assert env.last_step, "it was reset"
    return gait.act(observed(env.last_step))


def _ask(env: SceneEnv, expert: Term[F32]) -> F32:
    """Actions (N, A) of one who knows."""
    assert env.now, "it was reset"
    return expert(env.now)


def find_driver(name: DriverName, env: SceneEnv, seed: int) -> Driver:
    """Make a driver.

    Args:
        name: "random"; "still", in which legs keep their pose at rest; or "auto", which follows the path or the
            command, on legs by a gait, and knows how arms do their tasks.
        env: Environment of the robots.
        seed: Seed of random actions.
    """
    controller = env.controller
    if name == "random":
        rng = np.random.default_rng(seed)
        return lambda: rng.uniform(-1, 1, (env.num_envs, controller.size)).astype(np.float32)
    if name == "auto" and env.expert:
        return partial(_ask, env, env.expert)
    sees = set(SEEN) <= env.task.observations.keys()
    if name == "auto" and sees and controller.trot and (gait := own_gait(env.robot.name)):
        return partial(_walk, env, gait)
    if name == "auto":
        logger.info("no driver knows how to drive %r in %r: it stands still", env.robot.name, env.task.name)
    still = np.zeros((env.num_envs, controller.size), np.float32)
    if controller.velocities:
        still = controller.velocities.actions(*still.T)
    return lambda: still


class EpisodeResult(NamedTuple):
    """What ended an episode, a termination's name or "time", and whether it solved the task."""

    ended_by: str
    success: bool


class Viewer(Protocol):
    """Shows a running simulation."""

    def update(self, seen: Observations, ended: Mapping[int, EpisodeResult]) -> bool | None:
        """Show the start, or a step: observations, and the episodes that ended in it by environment.

        Returns:
            True when all episodes are to begin anew.
        """
        ...

    def close(self) -> None:
        """Finish."""
        ...


def run_episodes(
    env: SceneEnv, steps: int | None, seed: int, policy: Policy, viewers: Sequence[Viewer] = ()
) -> Counter[str]:
    """Reset an environment and step until the end or Ctrl-C; returns how many episodes each condition ended."""
    counts = Counter(dict.fromkeys([*env.task.terminations, TIME], 0))
    seen, _ = env.reset(seed=seed)
    ended: dict[int, EpisodeResult] = {}
    done = 0
    try:
        while steps is None or done < steps:
            anew = [viewer.update(seen, ended) for viewer in viewers]
            if any(anew):
                (seen, _), ended = env.reset(), {}
                continue
            seen, _, terminated, truncated, info = env.step(policy(seen))
            ended = {}
            for row in np.flatnonzero(terminated | truncated).tolist():
                ended[row] = EpisodeResult(ended_by(env.task, info, row), bool(info["final_success"][row]))
            counts.update(result.ended_by for result in ended.values())
            done += 1
    except KeyboardInterrupt:
        pass
    return counts
