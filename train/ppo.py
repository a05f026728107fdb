"""rsl-rl's PPO with a second lesson after each update, over the same rollout.

What the policy remembers shall tell what is round the robot (as in Escontrela et al., GaussGym, 2025),
and a mirrored scene shall give mirrored actions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from rsl_rl.algorithms import PPO
from rsl_rl.modules import HiddenState
from rsl_rl.storage import RolloutStorage
from rsl_rl.utils import unpad_trajectories
from tensordict import TensorDict
from torch import nn

from train.mirror import Mirror
from train.models.policy import SightPolicy
from train.models.voxel_head import voxel_loss
from train.preset import VoxelSettings
from train.voxels import VOXELS

MIRROR_WEIGHT = 1.0
"""Of the mirror loss."""

Memories = tuple[HiddenState, HiddenState]
"""What the policy remembers, and what it would, had it seen everything mirrored."""


class SightPPO(PPO):
    """PPO for a `SightPolicy`; its critic has no memory.

    For mirrored scenes it has a loss, the squared difference between what the policy does in them and the mirror image
    of what it does (Mittal et al., Symmetry considerations for learning task symmetric robot policies, 2024), and not
    mirrored copies of the rollout: PPO's ratio needs the likelihood of the mirrored actions under the policy that
    collected the rollout, which is that of the actions themselves only if that policy was symmetric already.

    A policy with a memory needs to remember the mirrored past for that. So its memory runs a second time during the
    rollout, on mirrored observations, and is stored where rsl-rl would store a critic's.

    Args:
        settings: As `PPO` has them.
        voxels: How to learn what is round the robot; None for not at all.
        mirror: Of the task and the robot; None to learn nothing from it.
    """

    actor: SightPolicy  # type: ignore[assignment]

    def __init__(
        self, *settings: Any, voxels: VoxelSettings | None = None, mirror: Mirror | None = None, **named: Any
    ) -> None:
        self._highest_rate = float("inf")
        super().__init__(*settings, **named)
        self._highest_rate = self.learning_rate
        self._voxels, self._mirror = voxels, mirror
        self._mirrored: HiddenState = None

    @property
    def learning_rate(self) -> float:  # type: ignore[override]
        """Of the optimiser; rsl-rl adapts it to the divergence.

        Never above the first one: while little is known policies hardly diverge, and the rate, ten times as high then,
        drove some for good into standing still.
        """
        return self._rate

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        self._rate = min(rate, self._highest_rate)

    def act(self, obs: TensorDict) -> torch.Tensor:
        """Actions (N, A), drawn at random."""
        if self.actor.is_recurrent and self.actor.get_hidden_state() is None:
            # rsl-rl stores no None: the storage would keep what was remembered in an earlier rollout's first step
            self.actor.forget(len(obs))
            self._mirrored = self.actor.get_hidden_state() if self._mirror else None
        actions = super().act(obs)
        if self._mirror and self.actor.is_recurrent:
            self.transition.hidden_states = (self.transition.hidden_states[0], self._mirrored)
            with self._as_mirrored():
                self.actor.get_latent(self._mirror.observations(obs))
        return actions

    def process_env_step(
        self, obs: TensorDict, rewards: torch.Tensor, dones: torch.Tensor, extras: dict[str, torch.Tensor]
    ) -> None:
        """Store a step; memories end with the episodes."""
        super().process_env_step(obs, rewards, dones, extras)
        if self._mirror:
            with self._as_mirrored():
                self.actor.reset(dones)

    @property
    def memories(self) -> Memories:
        """For a checkpoint; may be set."""
        return self.actor.get_hidden_state(), self._mirrored

    @memories.setter
    def memories(self, memories: Memories) -> None:
        own, self._mirrored = memories
        self.actor.reset(hidden_state=own)

    @contextmanager
    def _as_mirrored(self) -> Iterator[None]:
        """While it lasts, the actor remembers the mirrored past."""
        own = self.actor.get_hidden_state()
        self.actor.reset(hidden_state=self._mirrored)
        yield
        self._mirrored = self.actor.get_hidden_state()
        self.actor.reset(hidden_state=own)

    def update(self) -> dict[str, float]:
        """Learn from the rollout; mean losses by name, and "voxel_iou" of the voxels taken for occupied and those."""
        losses = super().update()
        return losses | self._lesson() if self._voxels or self._mirror else losses

    def _lesson(self) -> dict[str, float]:
        """Passes over the rollout, which `PPO.update` rewinds but leaves; it takes a rewound one for empty."""
        passes = self._voxels.epochs if self._voxels else 1
        storage = self.storage
        batches = storage.recurrent_mini_batch_generator if self.actor.is_recurrent else storage.mini_batch_generator
        sums, count = defaultdict[str, float](float), self.num_mini_batches * passes
        for batch in batches(self.num_mini_batches, passes):
            loss, figures = self._loss(batch)
            self.optimizer.zero_grad()
            loss.backward()
            if self.is_multi_gpu:
                self.reduce_parameters()
            nn.utils.clip_grad_norm_(self.actor.parameters(), self.max_grad_norm)
            self.optimizer.step()
            for name, figure in figures.items():
                sums[name] += figure.item() / count
        return dict(sums)

    def _loss(self, batch: RolloutStorage.Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """What is learned from, and figures to show."""
        actor, seen, masks = self.actor, batch.observations, batch.masks
        assert seen is not None
        latent = actor.get_latent(seen, masks, batch.hidden_states[0])
        loss, figures = latent.new_zeros(()), dict[str, torch.Tensor]()
        if self._voxels and actor.voxel_head:
            truth = seen[VOXELS] if masks is None else unpad_trajectories(seen[VOXELS], masks).flatten(0, 1)
            occupied, heights = actor.voxel_head(latent.flatten(0, -2))
            figures["voxels"], figures["voxel_iou"] = voxel_loss(occupied, heights, truth)
            loss = loss + self._voxels.weight * figures["voxels"]
        if self._mirror:
            wanted = self._mirror.actions(actor.means(latent)).detach()
            mirrored = actor(self._mirror.observations(seen), masks=masks, hidden_state=batch.hidden_states[1])
            figures["mirror"] = nn.functional.mse_loss(mirrored, wanted)
            loss = loss + MIRROR_WEIGHT * figures["mirror"]
        return loss, figures
