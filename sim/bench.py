"""Speed of a simulation, and where its time goes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sim.env import SceneEnv

WARM_UP = 3
"""Steps before the measurement: the first ones compile kernels."""


@dataclass(frozen=True)
class Speed:
    """Speed of a simulation with random actions.

    Rates are of all environments together, by the wall clock; physics, cameras and rest are CPU-milliseconds per
    environment step.
    """

    envs: int
    steps_per_second: float
    images_per_second: float
    physics: float
    cameras: float
    rest: float


class _Clock:
    """Sums the CPU time of a function."""

    def __init__(self, function: Callable[..., object]) -> None:
        self._function, self.seconds = function, 0.0

    def __call__(self, *arguments: object) -> object:
        start = time.process_time()
        result = self._function(*arguments)
        self.seconds += time.process_time() - start
        return result


def measure(env: SceneEnv, steps: int, seed: int = 0) -> Speed:
    """Reset an environment and measure control steps with random actions; the engine and cameras are timed inside."""
    rng = np.random.default_rng(seed)
    shape = (env.num_envs, env.controller.size)
    env.reset(seed=seed)
    for _ in range(WARM_UP):
        env.step(rng.uniform(-1, 1, shape).astype(np.float32))
    physics, cameras = _Clock(env.engine.step), [_Clock(rig.shoot) for rig in env.cameras]
    env.engine.step = physics  # type: ignore[method-assign]
    for rig, clock in zip(env.cameras, cameras, strict=True):
        rig.shoot = clock  # type: ignore[method-assign]
    shown = sum(rig.images_taken for rig in env.cameras)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(steps):
        env.step(rng.uniform(-1, 1, shape).astype(np.float32))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    del env.engine.step
    for rig in env.cameras:
        del rig.shoot
    rendering, shown = sum(clock.seconds for clock in cameras), sum(rig.images_taken for rig in env.cameras) - shown
    each = 1e3 / (steps * env.num_envs)
    return Speed(
        envs=env.num_envs,
        steps_per_second=steps * env.num_envs / wall,
        images_per_second=shown / wall,
        physics=physics.seconds * each,
        cameras=rendering * each,
        rest=(cpu - physics.seconds - rendering) * each,
    )
