"""Train Stable-Baselines3's PPO on a splatyard task.

pip install 'splatyard[simulate]' stable-baselines3
python examples/07_stable_baselines3_ppo.py hall@1.0.0 --steps 150000
"""

# ruff: noqa: D102, T201, TID253

from __future__ import annotations

import argparse
from collections.abc import Sequence

import gymnasium
import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv

import sim
from pipeline.types import F32
from sim.env import SceneEnv


class Adapted(VecEnv):
    """Adapter from `gymnasium.vector.VectorEnv` to Stable-Baselines3, without privileged observations."""

    def __init__(self, env: SceneEnv) -> None:
        self.env, space = env, env.single_observation_space
        assert isinstance(space, gymnasium.spaces.Dict)
        privileged = {name for name, term in env.task.observations.items() if term.privileged}
        public = {name: part for name, part in space.items() if name not in privileged}
        super().__init__(env.num_envs, gymnasium.spaces.Dict(public), env.single_action_space)
        self._names = list(public)

    def reset(self) -> dict[str, np.ndarray]:
        observations, _ = self.env.reset(seed=self._seeds[0])
        self._reset_seeds()
        return self._public(observations)

    def step_async(self, actions: F32) -> None:
        self._actions = actions

    def step_wait(self) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, list[dict[str, object]]]:
        observations, rewards, terminated, truncated, info = self.env.step(self._actions)
        done = terminated | truncated
        infos: list[dict[str, object]] = [{} for _ in done]
        for i in np.flatnonzero(done):  # both libraries reset them in the same step
            infos[i] = {
                "terminal_observation": self._public(info["final_obs"][i]),
                "TimeLimit.truncated": bool(truncated[i]),
                "is_success": bool(info["final_success"][i]),
            }
        return self._public(observations), rewards, done, infos

    def _public(self, observations: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: observations[name] for name in self._names}

    def close(self) -> None:
        self.env.close()

    def get_attr(self, attr_name: str, indices: object = None) -> list[object]:
        return [getattr(self, attr_name, None)] * self.num_envs

    def set_attr(self, attr_name: str, value: object, indices: object = None) -> None:
        setattr(self, attr_name, value)

    def env_method(self, method_name: str, *args: object, indices: object = None, **kwargs: object) -> list[object]:
        return [getattr(self.env, method_name)(*args, **kwargs)]

    def env_is_wrapped(self, wrapper_class: type, indices: object = None) -> list[bool]:
        return [False] * self.num_envs


def success(model: PPO, env: Adapted) -> float:
    """Share of robots whose first episode succeeds, with deterministic actions."""
    env.seed(999)
    observations, ended = env.reset(), dict[int, bool]()
    while len(ended) < env.num_envs:
        actions, _ = model.predict(observations, deterministic=True)
        observations, _, done, infos = env.step(actions)
        ended = {int(i): infos[i]["is_success"] for i in np.flatnonzero(done)} | ended
    return float(np.mean(list(ended.values())))


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, and print the success rate from held-out starts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("scene", help="a bundle's folder, name@version, or name")
    parser.add_argument("--steps", type=int, default=150_000, help="total over all robots")
    parser.add_argument("--robots", type=int, default=32)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # more threads would wait for each other and compete with the simulation
    train_env, eval_env = (
        Adapted(sim.make("navigate", [options.scene], options.robots, starts=starts))
        for starts in ("train", "held_out")
    )
    size = 16 * options.robots
    model = PPO("MultiInputPolicy", train_env, n_steps=64, batch_size=size, n_epochs=4, gamma=0.98, seed=0, verbose=1)
    print(f"success before: {success(model, eval_env):.0%}")
    model.learn(options.steps)
    print(f"success after {model.num_timesteps} steps: {success(model, eval_env):.0%}")


if __name__ == "__main__":
    main()
