"""Running a task with a simple driver, for people who look on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from sim.driver import DriverName, find_driver
from sim.env import SceneEnv

TIME = "time"
"""What ended an episode that nothing else did."""


class Ending(NamedTuple):
    """Of an episode: what ended it, a termination's name or "time"; and whether it did what its task is about."""

    by: str
    success: bool


class Watcher(Protocol):
    """Looks on."""

    def look(self, seen: dict[str, Any], ended: Mapping[int, Ending]) -> None:
        """At the start and after each step.

        Args:
            seen: The observations of all environments.
            ended: By environment, the episodes that ended in this step.
        """
        ...

    def close(self) -> None:
        """At the end."""
        ...


def run_episodes(
    env: SceneEnv, steps: int | None, seed: int, driver: DriverName, watchers: Sequence[Watcher] = ()
) -> Counter[str]:
    """Step until the end or until Ctrl-C; gives how many episodes ended by what.

    Args:
        env: Reset by this.
        steps: Control steps; None for no end.
        seed: Of the environment and of random actions.
        driver: Who acts, see `sim.driver.find_driver`.
        watchers: Who looks on.
    """
    counts = Counter(dict.fromkeys([*env.task.terminations, TIME], 0))
    acting = find_driver(driver, env, seed)
    seen, _ = env.reset(seed=seed)
    ended: dict[int, Ending] = {}
    done = 0
    try:
        while steps is None or done < steps:
            for watcher in watchers:
                watcher.look(seen, ended)
            seen, _, terminated, truncated, info = env.step(acting.act())
            ended = {int(row): _ending(env, int(row), info) for row in np.flatnonzero(terminated | truncated)}
            counts.update(one.by for one in ended.values())
            done += 1
    except KeyboardInterrupt:
        pass
    return counts


def _ending(env: SceneEnv, row: int, info: dict[str, Any]) -> Ending:
    by = next((name for name in env.task.terminations if info[f"ended_by_{name}"][row]), TIME)
    return Ending(by, bool(info["final_success"][row]))
