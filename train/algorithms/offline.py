"""Learning from what others did or would have done: behaviour cloning, DAgger, and implicit Q-learning."""

from __future__ import annotations

import copy
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict

from train.algorithms.critics import Critics, follow
from train.algorithms.learner import Learner
from train.encoders.groups import TEACHER
from train.environment import STATE
from train.preset import Preset
from train.recording.demonstrations import Contract, demonstrations_of_run
from train.recording.replay import REPLAY, Replay, Transitions

EXPECTILE = 0.8
"""Expectile of the values of actions that the value of a state is: the larger, the nearer to the best action."""
SHARPNESS = 3.0
"""By how much better actions count more, relative to the deviation of advantages."""
LARGEST_WEIGHT = 20.0
"""Largest weight of an action."""
TURN_STEPS = 8
"""Mean number of steps for which teacher or policy drive a robot before it is drawn anew who does."""


class Cloning(Learner):
    """Behaviour cloning: the policy outputs what successful demonstrations did."""

    offline = True
    only_successful = True
    looks_ahead = False

    def __init__(self, preset: Preset, seen: TensorDict, actions: int, device: str, contract: Contract | None) -> None:
        super().__init__(preset, seen, actions, device, contract)
        self._updates = 0

    def begin(self, folder: Path, slack: int) -> None:
        """Read the demonstrations.

        Raises:
            TrainError: When they are of no use.
        """
        assert self.contract, "it learns from demonstrations"
        demos = Path(self.preset.demos)
        self._replay, self.demos_identity = demonstrations_of_run(
            demos, self.contract, self.seen, folder, successful=self.only_successful
        )

    def update(self) -> dict[str, float]:
        """Learn the preset's number of times; returns mean losses by name."""
        count, sums = self.settings.updates_per_iteration, defaultdict[str, float](float)
        for _ in range(count):
            batch = self.replay.sample(self.settings.batch_size, self.device, ahead=self.looks_ahead)
            self.actor.update_normalization(batch.seen)
            self.set_rate(self._progress)
            for name, loss in self.learn(batch).items():
                sums[name] += loss.item() / count
            self._updates += 1
        return dict(sums)

    @property
    def _progress(self) -> float:
        """Share of training that is over."""
        return self._updates / (self.preset.iterations * self.settings.updates_per_iteration)

    def learn(self, batch: Transitions) -> dict[str, torch.Tensor]:
        """Learn from a batch; returns losses by name."""
        return {"actor": self.imitate(batch, torch.ones(len(batch.reward), device=self.device))}

    def imitate(self, batch: Transitions, weights: torch.Tensor) -> torch.Tensor:
        """Move the policy towards a batch's actions, which count by their weights (B,); returns the loss."""
        errors = (self.actor(self.augmented(batch.seen)) - batch.action).square().mean(1)
        loss = (weights * errors).mean()
        self.step("actor", loss)
        return loss.detach()

    def counters(self) -> dict[str, Any]:
        """Updates so far, and the demonstrations."""
        return {"updates": self._updates, "demos": self.demos_identity}

    def resume(self, counters: dict[str, Any]) -> None:
        """Continue from these numbers.

        Raises:
            TrainError: When the demonstrations are others.
        """
        self.check_demos(counters["demos"])
        self._updates = counters["updates"]


class DAgger(Cloning):
    """Dataset aggregation (Ross et al., A reduction of imitation learning to no-regret online learning, 2011).

    Teacher and policy drive in turns, for some steps each: where a policy that knows little has driven to, the teacher
    shows the way back. Drawn in each step anew, the policy's mistakes would cancel out.
    """

    offline = False

    def __init__(self, preset: Preset, seen: TensorDict, actions: int, device: str, contract: Contract | None) -> None:
        super().__init__(preset, seen, actions, device, contract)
        self._led = torch.ones(len(seen), 1, dtype=torch.bool, device=device)

    @property
    def memories(self) -> Any:
        """Whom the teacher drives, for a checkpoint; may be set."""
        return self._led, None

    @memories.setter
    def memories(self, memories: Any) -> None:
        led, _ = memories
        self._led = self._led if led is None else led  # runs of before have none

    def begin(self, folder: Path, slack: int) -> None:
        """Open the replay of what was seen and answered.

        Raises:
            TrainError: When there is no room on the disk.
        """
        size = -(-self.settings.replay_size // len(self.seen))
        self._replay = Replay(folder / REPLAY, self.seen.select(*self.groups), self.actions, size, slack)

    def act(self, obs: TensorDict) -> torch.Tensor:
        """Sample actions (N, A)."""
        self._last = obs
        own = self.actor(obs, stochastic_output=True)
        share = 1 - self._progress / self.settings.led if self.settings.led else 0.0
        if share <= 0:
            return own
        drawn, turns = (torch.rand(len(obs), 1, device=own.device) for _ in range(2))
        self._led = torch.where(turns < 1 / TURN_STEPS, drawn < share, self._led)
        return torch.where(self._led, obs[TEACHER], own)

    def process_env_step(
        self, obs: TensorDict, rewards: torch.Tensor, dones: torch.Tensor, extras: dict[str, torch.Tensor]
    ) -> None:
        """Remember what was seen, and the right actions then."""
        alone = torch.ones_like(dones, dtype=torch.bool)  # nothing is learned from what follows
        seen = self._last.select(*self.groups)
        self.replay.add(seen, self._last[TEACHER], rewards, alone, ~alone)

    def flush(self) -> None:
        """Write the replay to the disk."""
        self.replay.flush()

    def counters(self) -> dict[str, Any]:
        """Updates so far, and what was written."""
        return super().counters() | {"written": self._replay.written if self._replay else 0}

    def resume(self, counters: dict[str, Any]) -> None:
        """Continue from these numbers.

        Raises:
            TrainError: When the replay is not there any more.
        """
        super().resume(counters)
        if self._replay:
            self._replay.resume(counters["written"])


class ImplicitQ(Cloning):
    """Implicit Q-learning (Kostrikov et al., Offline reinforcement learning with implicit Q-learning, 2021).

    It needs no action but those of the demonstrations, whose failures count as well: the value of a state is an
    expectile of its actions' values, and the policy imitates actions by how much better than that they are. Their
    advantages are relative to their deviation here, since rewards differ by task.
    """

    only_successful = False
    looks_ahead = True

    def __init__(self, preset: Preset, seen: TensorDict, actions: int, device: str, contract: Contract | None) -> None:
        super().__init__(preset, seen, actions, device, contract)
        hidden = preset.policy.critic_hidden_dims
        self._critics = Critics(self.state_size, actions, hidden, 2).to(device)
        self._targets = copy.deepcopy(self._critics)
        self.value = Critics(self.state_size, 0, hidden, 1).to(device)
        self.networks |= {"critics": self._critics, "targets": self._targets, "value": self.value}
        self.optimizers |= {name: self.optimizer(self.networks[name].parameters()) for name in ("critics", "value")}

    def learn(self, batch: Transitions) -> dict[str, torch.Tensor]:
        """Learn from a batch; returns losses by name."""
        state, after = batch.seen[STATE], batch.next_seen[STATE]
        for network in (self._critics, self._targets, self.value):
            network.normalizer.update(state)
        with torch.no_grad():
            best = self._targets(state, batch.action).amin(0)
        value = self.value(state)[0]
        advantage = best - value.detach()
        value_loss = (torch.where(advantage > 0, EXPECTILE, 1 - EXPECTILE) * (best - value).square()).mean()
        self.step("value", value_loss)
        with torch.no_grad():
            target = batch.reward + self.settings.gamma * (1 - batch.terminal) * self.value(after)[0]
        critic_loss = (self._critics(state, batch.action) - target).square().mean(1).sum()
        self.step("critics", critic_loss)
        follow(self._targets, self._critics)
        weights = (SHARPNESS * advantage / (advantage.std() + 1e-6)).exp().clamp(max=LARGEST_WEIGHT)
        losses = {"value": value_loss.detach(), "critics": critic_loss.detach()}
        return losses | {"actor": self.imitate(batch, weights)}
