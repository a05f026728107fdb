"""Running a task with a simple driver, for people who look on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

from sim.driver import DriverName, find_driver
from sim.env import SceneEnv


class Watcher(Protocol):
    """Looks on."""

    def look(self, seen: dict[str, Any]) -> None:
        """After each step, with the observations of all environments."""
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
    ended = Counter[str]()
    acting = find_driver(driver, env, seed)
    seen, _ = env.reset(seed=seed)
    done = 0
    try:
        while steps is None or done < steps:
            for watcher in watchers:
                watcher.look(seen)
            seen, _, _, truncated, info = env.step(acting.act())
            for name in env.task.terminations:
                ended[name] += int(info[f"ended_by_{name}"].sum())
            ended["time"] += int(truncated.sum())
            done += 1
    except KeyboardInterrupt:
        pass
    return ended
