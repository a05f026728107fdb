"""PPO of Stable-Baselines3 on a splatyard task.

pip install 'splatyard[sim]' stable-baselines3
python examples/07_stable_baselines3_ppo.py hall@1.0.0 --steps 150000
"""

# ruff: noqa: D102, T201, TID253

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv

import sim
from pipeline.types import F32
from sim.env import SceneEnv


class Adapted(VecEnv):
    """A task's `gymnasium.vector.VectorEnv` as Stable-Baselines3's, without privileged observations."""

    def __init__(self, env: SceneEnv) -> None:
        self.env, known = env, dict[str, Any](env.single_observation_space.items())  # type: ignore[attr-defined]
        for name, term in env.task.observations.items():
            if term.privileged:
                del known[name]
        self._known = list(known)
        super().__init__(env.num_envs, gymnasium.spaces.Dict(known), env.single_action_space)

    def reset(self) -> dict[str, Any]:
        seen, _ = self.env.reset(seed=self._seeds[0])
        self._reset_seeds()
        return self._shown(seen)

    def step_async(self, actions: F32) -> None:
        self._actions = actions

    def step_wait(self) -> tuple[dict[str, Any], NDArray[Any], NDArray[Any], list[dict[str, Any]]]:
        seen, rewards, terminated, truncated, info = self.env.step(self._actions)
        done = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in done]
        for i in np.flatnonzero(done):  # they are reset in the same step, in both libraries
            infos[i] = {
                "terminal_observation": self._shown(info["final_obs"][i]),
                "TimeLimit.truncated": bool(truncated[i]),
                "is_success": bool(info["final_success"][i]),
            }
        return self._shown(seen), rewards, done, infos

    def _shown(self, seen: dict[str, Any]) -> dict[str, Any]:
        return {name: seen[name] for name in self._known}

    def close(self) -> None:
        self.env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self, attr_name, None)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        setattr(self, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        return [getattr(self.env, method_name)(*args, **kwargs)]

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        return [False] * self.num_envs


def success(model: PPO, env: Adapted) -> float:
    """Share of the robots whose first episode is a success, without exploration."""
    env.seed(999)
    seen, ended = env.reset(), dict[int, bool]()
    while len(ended) < env.num_envs:
        seen, _, done, infos = env.step(model.predict(seen, deterministic=True)[0])
        ended = {int(i): infos[i]["is_success"] for i in np.flatnonzero(done)} | ended
    return float(np.mean(list(ended.values())))


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, and say how good it is where it was not trained."""
    parser = argparse.ArgumentParser()
    parser.add_argument("scene", help="a bundle's folder, name@version, or name")
    parser.add_argument("--steps", type=int, default=150_000, help="of all robots together")
    parser.add_argument("--robots", type=int, default=32)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # more only wait for each other, and take the cores from the simulation
    known, unseen = (
        Adapted(sim.make("navigate", [options.scene], options.robots, starts=starts))
        for starts in ("train", "held_out")
    )
    size = 16 * options.robots
    model = PPO("MultiInputPolicy", known, n_steps=64, batch_size=size, n_epochs=4, gamma=0.98, seed=0, verbose=1)
    print(f"success before: {success(model, unseen):.0%}")
    model.learn(options.steps)
    print(f"success after {model.num_timesteps} steps: {success(model, unseen):.0%}")


if __name__ == "__main__":
    main()
