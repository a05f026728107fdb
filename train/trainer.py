"""The loop of training: roll out, learn, take note, keep."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from rsl_rl.modules import HiddenState

from sim.scene import SimScene
from train.agent import make_agent
from train.checkpoint import check_finite, fit
from train.curriculum import SceneCurriculum
from train.distributed import Processes, own_seed
from train.preset import Preset
from train.recent import Recent
from train.simulation import make_env

Figures = dict[str, float]
"""Of an iteration, by name."""


class Trainer:
    """A policy in training.

    Args:
        preset: What is trained, and how.
        scenes: Where.
        seed: Of networks, actions and episodes.
        device: Of networks and pictures.
        processes: This one's place among several; None when it is alone.

    Raises:
        SimError: When the scenes aren't fit for the task or the robot.

    Attributes:
        iteration: How many are done.
        env: The simulation.
        agent: Networks and optimiser.
    """

    def __init__(
        self,
        preset: Preset,
        scenes: Sequence[SimScene],
        *,
        seed: int = 0,
        device: str = "cpu",
        processes: Processes | None = None,
    ) -> None:
        torch.manual_seed(seed)
        self.preset, self.iteration, self._processes = preset, 0, processes
        self.env = make_env(preset, scenes, seed=own_seed(seed, processes), device=device)
        self.agent = make_agent(preset, self.env, device, processes)
        self.agent.train_mode()
        self._curriculum = SceneCurriculum(len(scenes), by_progress=preset.scene_sampling == "progress")
        self._recent = Recent()
        if processes:
            self.agent.broadcast_parameters()
            torch.manual_seed(own_seed(seed, processes))

    @property
    def steps(self) -> int:
        """Of all environments together, so far."""
        world = self._processes["world_size"] if self._processes else 1
        return self.iteration * self.preset.steps * self.env.num_envs * world

    def iterate(self) -> Figures:
        """One iteration: `preset.steps` steps of each environment, and what is learned from them.

        Raises:
            TrainError: When something isn't finite any more; networks are spoilt then.
        """
        env, agent, clock = self.env, self.agent, _Clock()
        self.env.env.scene_weights = self._curriculum.weights
        with torch.inference_mode():
            seen = env.get_observations()
            for _ in range(self.preset.steps):
                with clock("network"):
                    actions = agent.act(seen)
                with clock("simulation"):
                    seen, rewards, dones, extras = env.step(actions)
                with clock("network"):
                    agent.process_env_step(seen, rewards, dones, extras)
                self._recent.add(env.endings)
                self._curriculum.learn(env.endings)
            with clock("network"):
                agent.compute_returns(seen)
        with clock("network"):
            losses = agent.update()
        self.iteration += 1
        figures: Figures = {"iteration": self.iteration, "steps": self.steps}
        figures |= self._recent.figures()
        figures |= {f"loss/{name}": float(value) for name, value in losses.items()}
        figures |= {"rate": agent.learning_rate, "std": float(agent.get_policy().output_std.detach().mean())}
        check_finite(figures, agent)
        return figures | clock.seconds

    def state(self) -> dict[str, Any]:
        """All that goes on depends on, for a checkpoint."""
        return {
            "iteration": self.iteration,
            "agent": self.agent.save(),
            "memories": self.agent.memories,
            "random": _random_state(self.agent.device),
            "environment": self.env.state(),
            "curriculum": self._curriculum.state(),
            "recent": self._recent.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint as if there had been no break.

        Raises:
            TrainError: When it is of another network.
            SimError: When it was made with other scenes or another robot.
        """
        fit(state, self.agent)
        own, mirrored = (_moved(memory, self.agent.device) for memory in state["memories"])
        self.agent.memories = own, mirrored
        self.iteration = state["iteration"]
        self.env.restore(state["environment"])
        self._curriculum.restore(state["curriculum"])
        self._recent.restore(state["recent"])
        _set_random_state(state["random"], self.agent.device)


def _moved(memory: HiddenState, device: str) -> HiddenState:
    if isinstance(memory, tuple):
        return memory[0].to(device), memory[1].to(device)
    return None if memory is None else memory.to(device)


def _random_state(device: str) -> list[torch.Tensor]:
    """Of what draws numbers on the CPU and, where there is one, on the device."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.startswith("cuda") else [])]


def _set_random_state(state: list[torch.Tensor], device: str) -> None:
    torch.set_rng_state(state[0])
    if device.startswith("cuda"):
        torch.cuda.set_rng_state(state[1], device)


class _Clock:
    """Wall-clock seconds by name."""

    def __init__(self) -> None:
        self._begun, self._spent = time.perf_counter(), dict[str, float]()

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        self._spent[name] = self._spent.get(name, 0) + time.perf_counter() - begun

    @property
    def seconds(self) -> Figures:
        """Of each name, and of all since this was made."""
        total = time.perf_counter() - self._begun
        return {f"seconds/{name}": spent for name, spent in self._spent.items()} | {"seconds/all": total}
