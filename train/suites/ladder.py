"""The ladder of scripted drivers: what chance, habit, sight and knowledge reach in a suite."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
from gymnasium.spaces import Dict

from pipeline.types import F32, U8
from sim.control.state import Velocities
from sim.drivers import Policy, find_driver
from sim.env import SceneEnv

SPEED = 0.5
"""Forward speed [m/s]."""
LOOK = 1.0
"""Yaw rate of who looks around [rad/s]."""
STEER = 1.5
"""Yaw rate of who sees the goal at the edge of the image [rad/s]."""
RED, GREEN, BLUE = 60, 0.7, 0.35
"""Least red of a yellow pixel, its green at least and its blue at most as a share of its red."""
PIXELS = 3
"""Fewest yellow pixels that are a goal."""


@dataclass(frozen=True)
class Driver:
    """A scripted driver.

    Attributes:
        about: What it knows and does.
        make: It for an environment and a seed; None where it can't drive.
        sees: Whether it looks at colour images.
    """

    about: str
    make: Callable[[SceneEnv, int], Policy | None]
    sees: bool = False


def _named(name: str) -> Callable[[SceneEnv, int], Policy | None]:
    def make(env: SceneEnv, seed: int) -> Policy | None:
        drive = find_driver(name, env, seed)  # pyright: ignore[reportArgumentType] - one of its names
        return lambda _: drive()

    return make


def _blind(env: SceneEnv, _: int) -> Policy | None:
    if not (velocities := env.controller.velocities):
        return None
    ahead = velocities.actions(np.full(env.num_envs, SPEED), np.zeros(env.num_envs))
    return lambda _: ahead


def _by_colour(env: SceneEnv, _: int) -> Policy | None:
    velocities, seen = env.controller.velocities, cast(Dict, env.single_observation_space).spaces
    if not velocities or "yellow ball" not in env.task.instruction or "rgb" not in seen:
        return None
    return lambda seen: towards_yellow(seen["rgb"], velocities)


def towards_yellow(images: U8, velocities: Velocities) -> F32:
    """Actions (N, A): towards the yellow in images (N, H, W, 3), or a turn to the left where there is none."""
    red, green, blue = np.moveaxis(images.astype(np.float32), -1, 0)
    yellow = (red > RED) & (green > GREEN * red) & (blue < BLUE * red)
    count, width = yellow.sum((1, 2)), images.shape[2]
    column = (yellow.sum(1) * (np.arange(width) + 0.5)).sum(1) / np.maximum(count, 1)
    seen = count >= PIXELS
    turn = np.where(seen, -STEER * (2 * column / width - 1), LOOK)
    return velocities.actions(np.where(seen, SPEED, 0.0), turn)


def _who_knows(env: SceneEnv, seed: int) -> Policy | None:
    return _named("auto")(env, seed) if env.expert else None


LADDER = {
    "still": Driver("stands still", _named("still")),
    "random": Driver("random actions", _named("random")),
    "blind": Driver("straight ahead, whatever comes", _blind),
    "colour": Driver("towards yellow pixels; turns left where it sees none", _by_colour, sees=True),
    "privileged": Driver("knows the map, the goal and where it is", _who_knows),
}
"""From who knows nothing to who knows everything; those that can't do a task are left out."""
