"""The training loop: roll out, learn, log."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from rsl_rl.modules import HiddenState

from pipeline.errors import TrainError
from sim.scene.scene import SimScene
from train.algorithms.agent import make_agent
from train.distributed import Processes, own_seed
from train.environment import DoneInfo, TrainEnv
from train.halves import make_training_env
from train.preset import Preset
from train.runs.checkpoint import Checkpoint, check_finite, fit
from train.runs.curriculum import SceneCurriculum
from train.runs.results import WINDOW

EpisodeRow = tuple[bool, str, float, int, dict[str, bool], dict[str, float]]
"""Success, what ended the episode, its reward, its length, further outcomes, and what each reward came to."""


class EpisodeStats:
    """Statistics of the last episodes."""

    def __init__(self, episodes: Iterable[EpisodeRow] = ()) -> None:
        self.episodes = deque(episodes, maxlen=WINDOW)

    def add(self, done: DoneInfo) -> None:
        """Add episodes that ended."""
        rows = range(len(done.ended_by))
        others = [{name: bool(values[row]) for name, values in done.outcomes.items()} for row in rows]
        rewards = [{name: float(values[row]) for name, values in done.rewards.items()} for row in rows]
        columns = done.success.tolist(), done.ended_by, done.reward.tolist(), done.steps.tolist(), others, rewards
        self.episodes.extend(zip(*columns, strict=True))

    def metrics(self) -> dict[str, float]:
        """Means by name, and the number of episodes; empty before the first episode ended."""
        if not self.episodes:
            return {}
        success, ended_by, reward, steps, outcomes, rewards = zip(*self.episodes, strict=True)
        means = {"success": np.mean(success), "reward": np.mean(reward), "length": np.mean(steps)}
        means |= {f"ended/{name}": count / len(ended_by) for name, count in sorted(Counter(ended_by).items())}
        means |= {f"outcome/{name}": np.mean([row[name] for row in outcomes]) for name in outcomes[0]}
        means |= {f"reward/{name}": np.mean([row[name] for row in rewards]) for name in rewards[0]}
        return {"episodes": len(ended_by)} | {name: float(value) for name, value in means.items()}


Metrics = dict[str, float]
"""Metrics of an iteration, by name."""


class Trainer:
    """A policy in training.

    An algorithm that learns from more than its last steps keeps that in the folder. It makes a simulation of
    `preset.num_envs` robots, unless one is given.

    Raises:
        SimError: When the scenes don't suit the task or the robot.
        TrainError: When demonstrations are of no use, or there is no room on the disk.
    """

    def __init__(
        self,
        preset: Preset,
        scenes: Sequence[SimScene],
        *,
        seed: int = 0,
        folder: Path,
        device: str = "cpu",
        processes: Processes | None = None,
        env: TrainEnv | None = None,
    ) -> None:
        torch.manual_seed(seed)
        self.preset, self.iteration, self.steps = preset, 0, 0
        self._world = processes["world_size"] if processes else 1
        self.env = env or make_training_env(preset, scenes, seed, device, processes)
        self.agent = make_agent(preset, self.env, device, processes)
        self.agent.train_mode()
        try:
            # actors, with which a run may be resumed, need one row more for each chunk
            self.agent.begin(folder, preset.save_interval * (preset.num_steps_per_env + 1))
        except BaseException:
            self.env.close()
            raise
        self._curriculum = SceneCurriculum(
            len(scenes),
            by_progress=preset.scene_sampling == "learning_progress",
            at_a_time=preset.scenes_at_a_time,
            seed=own_seed(seed, processes),
        )
        self._stats = EpisodeStats()
        if processes:
            self.agent.broadcast_parameters()
            torch.manual_seed(own_seed(seed, processes))

    @property
    def steps_of_iteration(self) -> int:
        """Steps of all environments of all processes in an iteration."""
        return 0 if self.agent.offline else self.preset.num_steps_per_env * self.preset.num_envs * self._world

    def iterate(self) -> Metrics:
        """Do one iteration: `preset.num_steps_per_env` steps of each environment, if it learns by any, and an update.

        Raises:
            TrainError: When something isn't finite any more; the networks are unusable then.
        """
        agent, clock = self.agent, Clock()
        self._curriculum.begin(self.iteration)
        if not agent.offline:
            self._roll_out(clock)
        agent.progress = self.iteration / self.preset.iterations
        with clock("network"):
            losses = agent.update()
        self.iteration += 1
        self.steps += self.steps_of_iteration
        metrics: Metrics = {"iteration": self.iteration, "steps": self.steps}
        metrics |= self._stats.metrics()
        metrics |= {f"loss/{name}": float(value) for name, value in losses.items()}
        metrics["learning_rate"] = agent.learning_rate
        if not agent.offline and agent.spread is not None:
            metrics["std"] = agent.spread
        if self.env.env.task.curriculum:
            metrics["level"] = float(self.env.env.level.mean())
        check_finite(metrics, agent, self.preset)
        return metrics | clock.seconds

    def _roll_out(self, clock: Clock) -> None:
        """Let all robots act, and the agent take what that led to."""
        env, agent = self.env, self.agent
        env.scene_weights = self._curriculum.weights
        with torch.inference_mode():
            seen = env.get_observations()
            for _ in range(self.preset.num_steps_per_env):
                with clock("network"):
                    actions = agent.act(seen)
                with clock("simulation"):
                    seen, rewards, dones, extras = env.step(actions)
                with clock("network"):
                    agent.process_env_step(seen, rewards, dones, extras)
                self._stats.add(env.done_info)
                self._curriculum.learn(env.done_info)
            with clock("network"):
                agent.compute_returns(seen)

    def state(self) -> Checkpoint:
        """All that training depends on, for a checkpoint; what the folder has in addition is on the disk."""
        self.agent.flush()
        return {
            "iteration": self.iteration,
            "steps": self.steps,
            "agent": self.agent.save(),
            "memories": self.agent.memories,
            "random": [
                torch.get_rng_state(),
                *([torch.cuda.get_rng_state(self.agent.device)] if self.agent.device.startswith("cuda") else []),
            ],
            "environment": self.env.state(),
            "curriculum": self._curriculum.state(),
            "episode_stats": list(self._stats.episodes),
        }

    def restore(self, state: Checkpoint) -> None:
        """Continue from a checkpoint as if there had been no break.

        Raises:
            TrainError: When it is of another network, or of an earlier version.
            SimError: When it was made with other scenes or another robot.
        """
        if not isinstance(state["environment"], list):
            raise TrainError(
                "a run is resumed by a version that simulates in halves, as the one that began it",
                found="a checkpoint of an earlier version",
                remedy="evaluate it, or train again under another --name",
            )
        fit(state, self.agent)
        own, mirrored = (_moved(memory, self.agent.device) for memory in state["memories"])
        self.agent.memories = own, mirrored
        self.iteration = state["iteration"]
        self.steps = state.get("steps", self.iteration * self.steps_of_iteration)
        if state["environment"]:  # actors and processes that come later have none: new episodes begin
            self.env.restore(state["environment"])
        self._curriculum.restore(state["curriculum"])
        self._stats = EpisodeStats(state["episode_stats"])
        torch.set_rng_state(state["random"][0])
        if self.agent.device.startswith("cuda"):
            torch.cuda.set_rng_state(state["random"][1], self.agent.device)


def _moved(memory: HiddenState, device: str) -> HiddenState:
    if isinstance(memory, tuple):
        return tuple(part.to(device) for part in memory)  # type: ignore[return-value] - as many as there were
    return None if memory is None else memory.to(device)


class Clock:
    """Wall-clock seconds by name."""

    def __init__(self) -> None:
        self._begun, self._spent = time.perf_counter(), dict[str, float]()

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Count the time in the context under that name."""
        begun = time.perf_counter()
        yield
        self._spent[name] = self._spent.get(name, 0) + time.perf_counter() - begun

    @property
    def seconds(self) -> Metrics:
        """Seconds of each name, and of all since this was made."""
        total = time.perf_counter() - self._begun
        return {f"seconds/{name}": spent for name, spent in self._spent.items()} | {"seconds/all": total}
