"""A simulation for training in two halves that step at the same time, the second one in another process."""

from __future__ import annotations

from collections.abc import Sequence

import numba
import torch
from rsl_rl.env import VecEnv
from tensordict import TensorDict

from pipeline.types import F64
from sim.env import SceneEnv
from sim.finding.eyes import eyes_named
from sim.physics.catalog import runs_here
from sim.ranges import seed_of
from sim.remote import RemoteEnv
from sim.scene.scene import SimScene
from train.distributed import Processes, own_seed
from train.encoders.groups import ObservationGroup
from train.environment import (
    DoneInfo,
    EnvironmentState,
    TrainEnv,
    make_env,
    simulation_settings,
    training_groups,
)
from train.preset import Preset
from train.settings.parts import find_encoder


class RemoteTrainEnv(TrainEnv):
    """A `TrainEnv` of a simulation in another process; its groups read only observations."""

    env: RemoteEnv  # type: ignore[assignment]

    def __init__(self, env: RemoteEnv, groups: Sequence[ObservationGroup], seed: int) -> None:
        super().__init__(env, groups, seed=seed)  # type: ignore[arg-type]


class Halves(VecEnv):
    """Environments for rsl-rl: those of one `TrainEnv`, then those of another one, whose simulation is remote.

    There are two on any machine, so that results don't depend on its cores.

    Attributes:
        done_info: Episodes that ended in the last step.
    """

    def __init__(self, near: TrainEnv, far: RemoteTrainEnv, threads: int) -> None:
        self._near, self._far, self._threads = near, far, threads
        self._sizes = near.num_envs, far.num_envs
        self.num_envs, self.num_actions, self.device = sum(self._sizes), near.num_actions, near.device
        self.max_episode_length, self.cfg = near.max_episode_length, near.cfg

    @property
    def env(self) -> SceneEnv:
        """The first simulation; task, robot and cameras are those of both."""
        return self._near.env

    @property
    def groups(self) -> list[ObservationGroup]:
        """Observation groups of the first simulation in addition to the vectors."""
        return self._near.groups

    @property
    def episode_length_buf(self) -> torch.Tensor:  # type: ignore[override]
        """Steps of the current episodes so far (N,)."""
        return torch.cat([self._near.episode_length_buf, self._far.episode_length_buf])

    def get_observations(self) -> TensorDict:
        """Current observations."""
        return _joined(self._near.get_observations(), self._far.get_observations())

    def step(self, actions: torch.Tensor) -> tuple[TensorDict, torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        """Act; actions (N, A).

        Raises:
            SimError: When the other process fails.
        """
        mine, others = actions.split(self._sizes)
        self._far.env.begin_step(others.numpy())
        threads = numba.get_num_threads()
        numba.set_num_threads(min(self._threads, threads))
        try:
            seen, reward, done, extras = self._near.step(mine)
            seen_far, reward_far, done_far, extras_far = self._far.step(others)
        finally:
            numba.set_num_threads(threads)
        self.done_info = DoneInfo.joined([self._near.done_info, self._far.done_info], self._sizes)
        extras = {name: torch.cat([mine, extras_far[name]]) for name, mine in extras.items()}
        seen = _joined(seen, seen_far)
        return seen, torch.cat([reward, reward_far]), torch.cat([done, done_far]), extras

    def state(self) -> list[EnvironmentState]:
        """State for a checkpoint."""
        return [*self._near.state(), *self._far.state()]

    def restore(self, states: Sequence[EnvironmentState]) -> None:
        """Continue from a checkpoint.

        Raises:
            SimError: When it is the state of another simulation.
        """
        near, far = states
        self._near.restore([near])
        self._far.restore([far])

    @property
    def scene_weights(self) -> F64:
        """Relative frequency of the scenes in new episodes (S,)."""
        return self._near.scene_weights

    @scene_weights.setter
    def scene_weights(self, weights: F64) -> None:
        self._near.scene_weights = self._far.scene_weights = weights

    def close(self) -> None:
        """Free the simulations."""
        self._near.close()
        self._far.close()


def make_training_env(
    preset: Preset, scenes: Sequence[SimScene], seed: int, device: str = "cpu", processes: Processes | None = None
) -> TrainEnv | Halves:
    """Make a preset's simulation for training.

    It is in halves on a CPU, unless several processes train, or what the policy sees or learns from is computed of more
    than the simulation's observations.

    Raises:
        SimError: When the scenes don't suit the task or the robot.
        TrainError: When there is no such encoder.
    """
    policy = preset.policy
    whole = processes or device != "cpu" or preset.num_envs < 2 or policy.voxels or eyes_named(preset.teacher)
    if whole or not runs_here(preset.engine) or not find_encoder(policy).observed:
        return make_env(preset, scenes, seed=own_seed(seed, processes), device=device)
    second, threads = preset.num_envs // 2, max(1, numba.get_num_threads() // 2)
    seeds = [seed_of(seed, half) for half in range(2)]
    remote = RemoteEnv(simulation_settings(preset, scenes, second, seeds[1]), threads)
    try:
        near = make_env(preset, scenes, num_envs=preset.num_envs - second, seed=seeds[0])
        groups = training_groups(preset, near.env)
        return Halves(near, RemoteTrainEnv(remote, groups, seed=seeds[1]), threads)
    except BaseException:
        remote.close()
        raise


def _joined(near: TensorDict, far: TensorDict) -> TensorDict:
    """Observations of both halves."""
    groups = {str(name): torch.cat([near[name], far[name]]) for name in near.keys()}  # noqa: SIM118 - no dict
    return TensorDict(groups, batch_size=[len(near) + len(far)])
