"""What rsl-rl lacks: pictures, memory and head in one model."""

from __future__ import annotations

from typing import Any

import torch
from rsl_rl.models import MLPModel
from rsl_rl.modules import RNN, HiddenState
from tensordict import TensorDict
from torch.nn import LSTM

from train.models.encoders import make_encoder
from train.models.voxel_head import VoxelHead
from train.voxels import SHAPE


class SightPolicy(MLPModel):
    """Encoder of what is seen, beside the vectors; memory; layers; actions. For rsl-rl's "module:Class".

    Groups of observations with one number per column are vectors; one more may be what the encoder takes.

    Args:
        obs: An example of observations.
        obs_groups: By set of observations, its groups.
        obs_set: Which of them this model gets.
        output_dim: A.
        encoder: Name, see `make_encoder`; none for a blind policy.
        memory: none, gru or lstm.
        memory_size: Numbers that it remembers.
        voxels: Whether it learns to tell what is round the robot.
        settings: As `MLPModel` has them.
    """

    def __init__(
        self,
        obs: TensorDict,
        obs_groups: dict[str, list[str]],
        obs_set: str,
        output_dim: int,
        *,
        encoder: str,
        memory: str,
        memory_size: int,
        voxels: bool = False,
        **settings: Any,
    ) -> None:
        groups = obs_groups[obs_set]
        vectors = [name for name in groups if obs[name].dim() == 2]
        self._sight = next((name for name in groups if name not in vectors), None)
        network = make_encoder(encoder, tuple(obs[self._sight].shape[1:])) if self._sight else None
        self.is_recurrent = memory != "none"
        seen = sum(obs[name].shape[1] for name in vectors) + (int(network.size) if network else 0)  # type: ignore[arg-type]
        self._latent = memory_size if self.is_recurrent else seen
        super().__init__(obs, {**obs_groups, obs_set: vectors}, obs_set, output_dim, **settings)
        self.encoder = network
        self.memory = RNN(seen, memory_size, 1, memory) if self.is_recurrent else None
        self.voxel_head = VoxelHead(self._latent, SHAPE) if voxels else None

    def _get_latent_dim(self) -> int:
        return self._latent

    def get_latent(
        self, obs: TensorDict, masks: torch.Tensor | None = None, hidden_state: HiddenState = None
    ) -> torch.Tensor:
        """What the layers get: of N robots (N, L), or of all steps that padded trajectories (T, M) really have."""
        seen = super().get_latent(obs)
        if self.encoder is not None:
            pictures = obs[self._sight]
            if masks is None:
                code = self.encoder(pictures)
            else:  # what pads trajectories isn't worth a look
                real = masks.flatten().nonzero().squeeze(1)  # rows as wholes: a mask would copy number by number
                code = seen.new_zeros(masks.numel(), int(self.encoder.size))  # type: ignore[arg-type]
                code = code.index_copy(0, real, self.encoder(pictures.flatten(0, 1).index_select(0, real)))
                code = code.view(*masks.shape, -1)
            seen = torch.cat([seen, code], -1)
        return self.memory(seen, masks, hidden_state).squeeze(0) if self.memory else seen

    def means(self, latent: torch.Tensor) -> torch.Tensor:
        """Actions (..., A) without chance, of what the layers get (..., L)."""
        return self.distribution.deterministic_output(self.mlp(latent))  # type: ignore[union-attr]

    def forget(self, count: int) -> None:
        """Begin `count` memories."""
        if self.memory:
            rnn = self.memory.rnn
            nothing = next(rnn.parameters()).new_zeros(rnn.num_layers, count, rnn.hidden_size)
            self.reset(hidden_state=(nothing, nothing.clone()) if isinstance(rnn, LSTM) else nothing)

    def reset(self, dones: torch.Tensor | None = None, hidden_state: HiddenState = None) -> None:
        """Forget, where episodes ended; or remember `hidden_state`."""
        if self.memory:
            self.memory.reset(dones, hidden_state)

    def get_hidden_state(self) -> HiddenState:
        """What is remembered now."""
        return self.memory.hidden_state if self.memory else None  # type: ignore[return-value]

    def detach_hidden_state(self, dones: torch.Tensor | None = None) -> None:
        """Cut the gradient through time."""
        if self.memory:
            self.memory.detach_hidden_state(dones)
