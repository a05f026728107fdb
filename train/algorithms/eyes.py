"""Eyes that learn which parts of an image show the ball, on images of robots that drive about."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from tensordict import TensorDict
from torch import nn
from torch.nn import functional

from sim.finding.eyes import Modality
from sim.finding.finder import Finder
from sim.policies.finder import MEASURED, FinderBody
from train.algorithms.learner import Learner
from train.distributed import Processes
from train.encoders.groups import SHOWN, TEACHER, with_nearness
from train.environment import VECTOR, TrainEnv
from train.eyes import PATCHED, PATTERNS, SIGHT, EyesNetwork, patches, varied, worn_out
from train.preset import Preset
from train.recording.replay import REPLAY, Replay

if TYPE_CHECKING:
    from train.halves import Halves

NEAR = "near"
"""Field of the replay: colours and nearness, (4, H, W) uint8."""
MIRRORED = [0, 2, 1, 4, 3, 6, 5, 8, 7]
"""What the mirror image shows of the ball and of the details of a part, left for right."""
DETAIL_WEIGHT, SEEN_WEIGHT = 0.1, 5.0
"""Weight of a detail beside a part that shows the ball, and of one that shows an obstacle or missing floor beside one
that does not: to run into it is worse."""
TURN_AWAY, STRAY = 0.2, 0.3
"""Probability of other speeds in a step of random driving, and noise on the actions of those who are led."""
SPEEDS = ((-0.1, -1.5), (0.6, 1.5))
"""Slowest and fastest random speeds ahead [m/s] and to the left [rad/s]."""


class EyesPolicy(nn.Module):
    """Finds balls by its eyes and a map, as the driver `find`."""

    def __init__(self, env: TrainEnv | Halves, modality: Modality) -> None:
        super().__init__()
        self.modality: Modality = modality
        self.network, self.body = EyesNetwork(modality), FinderBody.of(env.env, modality)
        spaces, first = env.env.single_observation_space, 0
        self._columns = dict[str, slice]()
        for name in env.env.task.vectors:
            size = int(spaces[name].shape[0])  # type: ignore[index]
            self._columns[name] = slice(first, first + size)
            first += size
        self._finder: Finder | None = None

    def forward(self, seen: TensorDict) -> torch.Tensor:
        """Actions (N, A)."""
        finder = self._of(len(seen))
        images, vector = seen[SIGHT], seen[VECTOR].cpu().numpy()
        odds, depth = self.network.look(images)
        motion, gravity, action = (vector[:, self._columns[name]] for name in MEASURED)
        velocities = self.body.velocities
        finder.see(depth, odds, motion, gravity, velocities.of(action)[0])
        return torch.from_numpy(velocities.actions(*finder.speeds())).to(images.device)

    def _of(self, count: int) -> Finder:
        if self._finder is None:
            self._finder = self.body.finder(count)
        return self._finder

    def reset(self, dones: torch.Tensor | None = None, hidden_state: Any = None) -> None:
        """Forget all, or what robots saw whose episodes ended (N,); or believe what `get_hidden_state` returned."""
        if dones is not None:
            self._of(len(dones)).reset(dones.nonzero()[:, 0].cpu().numpy())
        elif hidden_state is None:
            self._finder = None
        else:
            self._finder = finder = self.body.finder(len(hidden_state[0]))
            names = finder.arrays()
            finder.set_arrays({name: one.cpu().numpy().copy() for name, one in zip(names, hidden_state, strict=True)})

    def get_hidden_state(self) -> Any:
        """What it believes, arrays with a row for each robot; None before it has seen anything."""
        if self._finder is None:
            return None
        return tuple(torch.from_numpy(values.copy()) for values in self._finder.arrays().values())


class EyesLearner(Learner):
    """Learns to see the ball; some robots are led to it, some drive to what the eyes take for it, some at random."""

    actor: EyesPolicy  # type: ignore[assignment]
    spread = None  # type: ignore[assignment]

    def __init__(self, preset: Preset, env: TrainEnv | Halves, device: str) -> None:
        self._made, self._updates = EyesPolicy(env, preset.policy.eyes), 0
        self._speeds = torch.zeros(env.num_envs, 2)
        super().__init__(preset, env.get_observations(), env.num_actions, device, None)

    def make_actor(self) -> EyesPolicy:  # type: ignore[override]
        """The policy."""
        return self._made

    @classmethod
    def of(
        cls, preset: Preset, env: TrainEnv | Halves, device: str = "cpu", processes: Processes | None = None
    ) -> Self:
        """Make a preset's learner.

        Raises:
            SimError: When its robots can't find balls by eyes and map.
        """
        return cls(preset, env, device)

    def optimizer(self, parameters: Any) -> torch.optim.Optimizer:
        """AdamW with the learning rate."""
        return torch.optim.AdamW(parameters, lr=self.settings.learning_rate, weight_decay=1e-3)

    @property
    def memories(self) -> Any:
        """What the robots believe, and the speeds of those who drive at random, for a checkpoint; may be set."""
        return self.actor.get_hidden_state(), self._speeds

    @memories.setter
    def memories(self, memories: Any) -> None:
        believed, self._speeds = memories
        self.actor.reset(hidden_state=believed)

    def begin(self, folder: Path, slack: int) -> None:
        """Open the replay of images.

        Raises:
            TrainError: When there is no room on the disk.
        """
        size = -(-self.settings.replay_size // len(self.seen))
        self._replay = Replay(folder / REPLAY, self._remembered(self.seen), self.actions, size, slack)
        shape = self.seen[SIGHT].shape[2:]
        self._patterns = None if self.actor.modality == "rgbd" else patches(PATTERNS, *shape)

    def _remembered(self, seen: TensorDict) -> TensorDict:
        images = seen[SIGHT]
        rows = {NEAR: with_nearness(images[:, :3].to(torch.uint8), images[:, 3:]), SHOWN: seen[SHOWN]}
        return TensorDict(rows, batch_size=seen.batch_size)

    def act(self, obs: TensorDict) -> torch.Tensor:
        """Actions (N, A)."""
        self._last, count = obs, len(obs)
        found = self.actor(obs)
        low, high = (torch.tensor(bound) for bound in SPEEDS)
        other = low + (high - low) * torch.rand(count, 2)
        self._speeds = torch.where(torch.rand(count, 1) < TURN_AWAY, other, self._speeds)
        velocities = self.actor.body.velocities
        random = torch.from_numpy(velocities.actions(*self._speeds.numpy().T)).to(found.device)
        led = obs[TEACHER] + STRAY * torch.randn_like(obs[TEACHER])
        share = (torch.arange(count, device=found.device) / count)[:, None]
        first, second = self.settings.led, self.settings.led + self.settings.finding
        self._action = torch.where(share < first, led, torch.where(share < second, found, random)).clamp(-1, 1)
        return self._action

    def process_env_step(
        self, obs: TensorDict, rewards: torch.Tensor, dones: torch.Tensor, extras: dict[str, torch.Tensor]
    ) -> None:
        """Remember what was seen."""
        alone = torch.ones_like(dones, dtype=torch.bool)  # nothing is learned from what follows
        self.replay.add(self._remembered(self._last), self._action, rewards, alone, ~alone)
        self.actor.reset(dones)

    def update(self) -> dict[str, float]:
        """Learn from images; returns the mean loss."""
        count, total = self.settings.updates_per_step * self.preset.num_steps_per_env, 0.0
        for _ in range(count):
            self.set_rate(self._updates / (self.preset.iterations * count))
            seen = self.replay.sample(self.settings.batch_size, self.device, ahead=False).seen
            loss = self._loss(*_varied(seen[NEAR], seen[SHOWN], self._patterns))
            self.step("actor", loss)
            total += loss.item()
            self._updates += 1
        return {"seen": total / count}

    def _loss(self, images: torch.Tensor, shown: torch.Tensor) -> torch.Tensor:
        """Of whitened images (B, 4, H, W) that show so much (B, 1 or 9, H / 4, W / 4)."""
        said, count = self.actor.network(images), len(images)
        loss = functional.binary_cross_entropy_with_logits(said[:, 0], shown[:, 0], reduction="sum")
        if said.shape[1] > 1:
            weight = torch.tensor(SEEN_WEIGHT, device=said.device)
            loss = loss + DETAIL_WEIGHT * functional.binary_cross_entropy_with_logits(
                said[:, 1:], shown[:, 1:], pos_weight=weight, reduction="sum"
            )
        return loss / count

    def flush(self) -> None:
        """Write the replay to the disk."""
        self.replay.flush()

    def counters(self) -> dict[str, Any]:
        """Updates and images so far."""
        return {"updates": self._updates, "written": self._replay.written if self._replay else 0}

    def resume(self, counters: dict[str, Any]) -> None:
        """Continue from these numbers.

        Raises:
            TrainError: When the replay is not there any more.
        """
        self._updates = counters["updates"]
        if self._replay:
            self._replay.resume(counters["written"])


def _varied(
    near: torch.Tensor, shown: torch.Tensor, patterns: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (B, 4, H, W) uint8 in other lights, some in the mirror, whitened; and what they show (B, 1 or 9, h, w).

    Where depths weren't measured some are painted over by patterns (K, 3, H, W); where they were, they are worn.
    """
    flip = torch.rand(len(near), device=near.device) < 0.5
    # details lie side by side in their parts: in the mirror they change places
    shown = torch.where(flip.view(-1, 1, 1, 1), shown.flip(-1)[:, MIRRORED[: shown.shape[1]]], shown)
    near = torch.where(flip.view(-1, 1, 1, 1), near.flip(-1), near)
    colors, depth = near[:, :3].float() / 255, near[:, 3].float() / 255
    if patterns is not None:
        painted = (colors * patterns[torch.randint(len(patterns), (len(near),))].to(near.device)).clamp(max=1)
        colors = torch.where(torch.rand(len(near), 1, 1, 1, device=near.device) < PATCHED, painted, colors)
    else:
        depth = worn_out(depth)
    colors = varied(colors.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    return torch.cat([colors, depth[:, None] - 0.5], 1), shown.float()
