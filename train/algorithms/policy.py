"""The policy: image encoder, RNN and voxel head in one rsl-rl model."""

from __future__ import annotations

from typing import Any

import torch
from rsl_rl.models import MLPModel
from rsl_rl.modules import RNN, HiddenState
from tensordict import TensorDict
from torch import nn
from torch.nn import LSTM

from train.encoders.images import make_encoder
from train.encoders.parallel import in_halves
from train.encoders.voxels import SHAPE, VoxelHead


class VisionPolicy(MLPModel):
    """Image encoder next to the vectors, RNN, MLP, actions; for rsl-rl's "module:Class".

    Observation groups with two dimensions are vectors; one more may be the encoder's input. Without an encoder it is
    blind; `settings` are arguments of `MLPModel`.
    """

    def __init__(
        self,
        obs: TensorDict,
        obs_groups: dict[str, list[str]],
        obs_set: str,
        output_dim: int,
        *,
        encoder: str,
        rnn_type: str,
        rnn_hidden_dim: int,
        voxels: bool = False,
        output_scale: float = 1.0,
        **settings: Any,
    ) -> None:
        groups = obs_groups[obs_set]
        vectors = [name for name in groups if obs[name].dim() == 2]
        self._image = next((name for name in groups if name not in vectors), None)
        network = make_encoder(encoder, tuple(obs[self._image].shape[1:])) if self._image else None
        self.is_recurrent = rnn_type != "none"
        seen = sum(obs[name].shape[1] for name in vectors) + (int(network.size) if network else 0)  # type: ignore[arg-type]
        self._latent = rnn_hidden_dim if self.is_recurrent else seen
        super().__init__(obs, {**obs_groups, obs_set: vectors}, obs_set, output_dim, **settings)
        self.encoder = network
        if output_scale != 1:
            with torch.no_grad():
                last = [layer for layer in self.mlp if isinstance(layer, nn.Linear)][-1]
                for parameter in last.parameters():
                    parameter.mul_(output_scale)
        self.memory = RNN(seen, rnn_hidden_dim, 1, rnn_type) if self.is_recurrent else None
        self.voxel_head = VoxelHead(self._latent, SHAPE) if voxels else None

    def _get_latent_dim(self) -> int:
        return self._latent

    def get_latent(
        self, obs: TensorDict, masks: torch.Tensor | None = None, hidden_state: HiddenState = None
    ) -> torch.Tensor:
        """Input of the MLP: of N robots (N, L), or of all steps that padded trajectories (T, M) contain."""
        seen = super().get_latent(obs)
        if self.encoder is not None:
            images = obs[self._image]
            if masks is None:
                code = in_halves(self.encoder, images)
            else:  # padding isn't encoded
                real = masks.flatten().nonzero().squeeze(1)  # rows as wholes: a mask would copy number by number
                code = seen.new_zeros(masks.numel(), int(self.encoder.size))  # type: ignore[arg-type]
                code = code.index_copy(0, real, in_halves(self.encoder, images.flatten(0, 1).index_select(0, real)))
                code = code.view(*masks.shape, -1)
            seen = torch.cat([seen, code], -1)
        return self.memory(seen, masks, hidden_state).squeeze(0) if self.memory else seen

    def means(self, latent: torch.Tensor) -> torch.Tensor:
        """Mean actions (..., A) of latents (..., L)."""
        return self.distribution.deterministic_output(self.mlp(latent))  # type: ignore[union-attr]

    def forget(self, count: int) -> None:
        """Reset the hidden state to zeros of `count` robots."""
        if self.memory:
            rnn = self.memory.rnn
            nothing = next(rnn.parameters()).new_zeros(rnn.num_layers, count, rnn.hidden_size)
            self.reset(hidden_state=(nothing, nothing.clone()) if isinstance(rnn, LSTM) else nothing)

    def reset(self, dones: torch.Tensor | None = None, hidden_state: HiddenState = None) -> None:
        """Reset the hidden state where episodes ended; or set it."""
        if self.memory:
            self.memory.reset(dones, hidden_state)

    def get_hidden_state(self) -> HiddenState:
        """Current hidden state."""
        return self.memory.hidden_state if self.memory else None  # type: ignore[return-value]

    def detach_hidden_state(self, dones: torch.Tensor | None = None) -> None:
        """Cut the gradient through time."""
        if self.memory:
            self.memory.detach_hidden_state(dones)
