"""What algorithms on replayed steps have in common: of robots alone, or half of them from demonstrations."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict

from train.algorithms.critics import Critics, follow
from train.algorithms.learner import Learner
from train.environment import STATE
from train.preset import Preset
from train.recording.demonstrations import Contract, demonstrations_of_run
from train.recording.replay import OBSERVED, REPLAY, REWARD, Replay, Transitions

CRITICS = 2
"""Number of critics; the lowest one counts."""
ACTOR_EVERY = 2
"""Updates of the critics per update of the policy, as in TD3: images cost most there."""


class OffPolicy(Learner):
    """Critics and a policy that learn from steps in a replay, as subclasses say.

    The critics see what only a simulator knows (Pinto et al., Asymmetric actor critic, 2017), so only the policy reads
    images; it sees them shifted at random when it learns. With demonstrations half of each batch is theirs (Ball et
    al., Efficient online reinforcement learning with offline data, 2023).
    """

    def __init__(self, preset: Preset, seen: TensorDict, actions: int, device: str, contract: Contract | None) -> None:
        super().__init__(preset, seen, actions, device, contract)
        self.critics = Critics(self.state_size, actions, preset.policy.critic_hidden_dims, CRITICS).to(device)
        self.targets = copy.deepcopy(self.critics)
        self.networks |= {"critics": self.critics, "targets": self.targets}
        self.optimizers["critics"] = self.optimizer(self.critics.parameters())
        self._demos: Replay | None = None
        self._updates, self._owed = 0, 0.0
        self._sums, self._counts = defaultdict[str, float](float), defaultdict[str, int](int)

    def future(self, batch: Transitions) -> torch.Tensor:
        """What the steps after a batch's are worth (B,), without gradient."""
        raise NotImplementedError

    def improve(self, batch: Transitions) -> None:
        """Move the policy towards what the critics prefer, by a batch."""
        raise NotImplementedError

    def begin(self, folder: Path, slack: int) -> None:
        """Open the replay, and read the demonstrations.

        Raises:
            TrainError: When there is no room on the disk, or the demonstrations are of no use.
        """
        envs = self.preset.num_envs
        size = -(-self.settings.replay_size // envs)
        self._replay = Replay(folder / REPLAY, self.seen[:1].expand(envs), self.actions, size, slack)
        if self.contract:
            demos = Path(self.preset.demos)
            self._demos, self.demos_identity = demonstrations_of_run(demos, self.contract, self.seen, folder)

    def act(self, obs: TensorDict) -> torch.Tensor:
        """Sample actions (N, A); uniformly at first."""
        self._last = obs
        self._action = self.actor(obs, stochastic_output=True)
        if self.replay.written * len(obs) < self.settings.random_steps:
            self._action = torch.rand_like(self._action) * 2 - 1
        return self._action

    def process_env_step(
        self, obs: TensorDict, rewards: torch.Tensor, dones: torch.Tensor, extras: dict[str, torch.Tensor]
    ) -> None:
        """Remember a step of all robots, and learn as many times as it is due.

        Raises:
            TrainError: When a number is not finite.
        """
        time_out = extras["time_outs"].bool() & dones.bool()
        self.replay.add(self._last, self._action, rewards, dones.bool() & ~time_out, time_out)
        with torch.inference_mode(False):
            self._study(self._last.clone())

    def take(self, chunk: Mapping[str, np.ndarray]) -> None:
        """Remember consecutive steps (T, N) that were made elsewhere, see `Replay.add_chunk`, and learn as is due."""
        self.replay.add_chunk(chunk)
        seen = {str(name): torch.tensor(chunk[f"{OBSERVED}{name}"]) for name in self.seen.keys()}  # noqa: SIM118 - no dict
        newest = TensorDict({name: of[-1] for name, of in seen.items()}, batch_size=[self.preset.num_envs])
        with torch.no_grad():
            self.actor(newest.to(self.device), stochastic_output=True)  # its deviation is in the curve
        vectors = {name: of[:-1].flatten(0, 1) for name, of in seen.items() if of.dim() == 3}
        steps = TensorDict(vectors, batch_size=[chunk[REWARD].size]).to(self.device)
        self._study(steps)

    def _study(self, steps: TensorDict) -> None:
        """Learn as many times as steps (B,), which the replay has, are worth."""
        self.critics.normalizer.update(steps[STATE])
        self.actor.update_normalization(steps)
        envs = self.preset.num_envs
        if self.replay.written * envs < max(self.settings.random_steps, 2 * envs):
            return
        self._owed += self.settings.updates_per_step * len(steps)
        while self._owed >= 1:
            self._owed -= 1
            self._learn(self._batch())

    def update(self) -> dict[str, float]:
        """Mean losses by name since the last time; the learning rate goes on."""
        self.set_rate(self.progress)
        means = {name: total / self._counts[name] for name, total in self._sums.items()}
        self._sums.clear()
        self._counts.clear()
        return means

    def flush(self) -> None:
        """Write the replay to the disk."""
        self.replay.flush()

    def counters(self) -> dict[str, Any]:
        """What was written and learned so far."""
        written = self._replay.written if self._replay else 0
        numbers = {"written": written, "updates": self._updates, "owed": self._owed}
        return numbers | {"demos": self.demos_identity}

    def resume(self, counters: dict[str, Any]) -> None:
        """Continue from these numbers.

        Raises:
            TrainError: When the replay is not there any more, or the demonstrations are others.
        """
        self.check_demos(counters["demos"])
        self._updates, self._owed = counters["updates"], counters["owed"]
        if self._replay:
            self._replay.resume(counters["written"])

    def _batch(self) -> Transitions:
        count = self.settings.batch_size
        if not self._demos:
            return self.replay.sample(count, self.device)
        own = self.replay.sample(count - count // 2, self.device)
        return Transitions.joined(own, self._demos.sample(count // 2, self.device))

    def _learn(self, batch: Transitions) -> None:
        """One update of the critics, at times one of the policy."""
        with torch.no_grad():
            target = batch.reward + self.settings.gamma * (1 - batch.terminal) * self.future(batch)
        values = self.critics(batch.seen[STATE], batch.action)
        self.minimise("critics", (values - target).square().mean(1).sum())
        follow(self.targets, self.critics)
        self._updates += 1
        if self._updates % ACTOR_EVERY == 0:
            self.improve(batch)
        self._note("value", float(values.detach().mean()))

    def minimise(self, name: str, loss: torch.Tensor) -> None:
        """Move a network down the gradient of its loss, and note that for the curve."""
        self.step(name, loss)
        self._note(name, loss.item())

    def _note(self, name: str, number: float) -> None:
        self._sums[name] += number
        self._counts[name] += 1
