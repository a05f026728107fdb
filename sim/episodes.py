"""Running a task with a simple driver, for people who look on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from sim.driver import WayFollower
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
    env: SceneEnv, steps: int | None, seed: int, driver: str, watchers: Sequence[Watcher] = ()
) -> Counter[str]:
    """Step until the end or until Ctrl-C; gives how many episodes ended by what.

    Args:
        env: Reset by this.
        steps: Control steps; None for no end.
        seed: Of the environment and of random actions.
        driver: "way" knows the way, "random" does anything.
        watchers: Who looks on.
    """
    rng, ended = np.random.default_rng(seed), Counter[str]()
    follower = WayFollower(env) if driver == "way" else None
    seen, _ = env.reset(seed=seed)
    done = 0
    try:
        while steps is None or done < steps:
            for watcher in watchers:
                watcher.look(seen)
            random = rng.uniform(-1, 1, (env.num_envs, env.drive.size)).astype(np.float32)
            seen, _, _, truncated, info = env.step(follower.act() if follower else random)
            for name in env.task.terminations:
                ended[name] += int(info[f"ended_by_{name}"].sum())
            ended["time"] += int(truncated.sum())
            done += 1
    except KeyboardInterrupt:
        pass
    return ended
