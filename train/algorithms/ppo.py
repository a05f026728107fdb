"""rsl-rl's PPO for a preset, with auxiliary losses after each update, over the same rollout."""

from __future__ import annotations

import contextlib
import io
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from rsl_rl.algorithms import PPO
from rsl_rl.modules import HiddenState
from rsl_rl.storage import RolloutStorage
from rsl_rl.utils import unpad_trajectories
from tensordict import TensorDict
from torch import distributed, nn

from train.algorithms.agent import Memories
from train.algorithms.learner import gaussian
from train.algorithms.mirror import Mirror, make_mirror
from train.algorithms.policy import VisionPolicy
from train.distributed import Processes
from train.encoders.groups import TEACHER, VOXELS
from train.encoders.voxels import voxel_loss
from train.environment import FINAL, STATE, VECTOR, TrainEnv, seen_groups
from train.preset import Preset
from train.settings.parts import VoxelSettings
from train.settings.schedule import Schedule, scheduled

if TYPE_CHECKING:
    from train.halves import Halves

KL_SAMPLES = 1024
"""Steps of a rollout by which the KL divergence of an update is measured."""
MIRROR_WEIGHT = 1.0
"""Weight of the mirror loss."""


class MirroredHalf:
    """What rsl-rl calls a symmetry: half of each mini-batch is replaced by its mirror image.

    PPO's ratio takes the likelihood of an action for that of the mirrored one, which is exact for a symmetric policy;
    learning by such batches keeps it nearly so (Abdolhosseini et al., On learning symmetric locomotion, 2019).
    """

    use_mirror_loss = False

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror

    def augment_batch(self, batch: RolloutStorage.Batch, size: int) -> None:
        """Mirror the first half of a batch."""
        half, seen = size // 2, batch.observations
        assert seen is not None
        assert batch.actions is not None
        assert batch.old_distribution_params is not None
        mirrored = self._mirror.observations(seen[:half])
        batch.observations = torch.cat([mirrored, seen[half:].select(*mirrored.keys())])  # type: ignore[arg-type]
        batch.actions = torch.cat([self._mirror.actions(batch.actions[:half]), batch.actions[half:]])
        mean, *others = batch.old_distribution_params
        mean = torch.cat([self._mirror.actions(mean[:half]), mean[half:]])
        batch.old_distribution_params = (mean, *others)

    def compute_loss(self, actor: VisionPolicy, batch: RolloutStorage.Batch, size: int) -> torch.Tensor:
        """None."""
        return torch.zeros(())


class VisionPPO(PPO):
    """PPO with auxiliary losses, for a `VisionPolicy` whose critic is not recurrent.

    The mirror loss is the squared difference between the actions for mirrored observations and the mirrored actions
    (Mittal et al., Symmetry considerations for learning task symmetric robot policies, 2024). Mirrored copies of the
    rollout won't do: PPO's ratio needs the likelihood of the mirrored actions under the policy that collected the
    rollout, which equals that of the actions only if that policy was already symmetric.

    A recurrent policy needs a hidden state of the mirrored past for that: its RNN runs a second time during the
    rollout, on mirrored observations, and that state is stored where rsl-rl would store a critic's. `voxels` and
    `mirror` are None for no such loss.

    If it is `taught`, there is no PPO at all: the policy learns to output what its teacher answers, where its own
    actions lead it (Ross et al., A reduction of imitation learning to no-regret online learning, 2011).
    """

    actor: VisionPolicy  # type: ignore[assignment]
    offline = False
    progress = 0.0

    def __init__(
        self,
        *settings: Any,
        voxels: VoxelSettings | None = None,
        mirror: Mirror | None = None,
        mirrored_half: Mirror | None = None,
        taught: bool = False,
        schedule: Schedule | Literal["adaptive"] = "adaptive",
        **named: Any,
    ) -> None:
        self._highest_rate = float("inf")
        # rsl-rl adapts the rate after each mini-batch, and would count the policy's asymmetry as divergence
        own = schedule == "adaptive" and mirrored_half is None
        super().__init__(*settings, schedule="adaptive" if own else "fixed", **named)
        if mirrored_half:
            self.symmetry = MirroredHalf(mirrored_half)  # type: ignore[assignment]
        self._highest_rate = self.learning_rate
        self._voxels, self._mirror, self._taught = voxels, mirror, taught
        self._schedule: Schedule | Literal["adaptive"] = schedule
        self._mirrored: HiddenState = None

    @classmethod
    def of(
        cls, preset: Preset, env: TrainEnv | Halves, device: str = "cpu", processes: Processes | None = None
    ) -> VisionPPO:
        """Make networks, optimiser and storage of a preset.

        Raises:
            TrainError: When it asks for mirror images of something that has none.
        """
        configuration = rsl_rl_configuration(preset, seen_groups(env.get_observations()))
        configuration["multi_gpu"] = processes
        _, *images = configuration["obs_groups"]["actor"]
        if preset.ppo.use_mirror_loss:
            configuration["algorithm"]["mirror"] = make_mirror(env.env, images, device)
        if preset.ppo.use_mirror_batches:
            configuration["algorithm"]["mirrored_half"] = make_mirror(env.env, images, device, critic=True)
        with contextlib.redirect_stdout(io.StringIO()):  # it prints its networks
            return cls.construct_algorithm(env.get_observations(), env, configuration, device)  # type: ignore[return-value]

    @property
    def learning_rate(self) -> float:  # type: ignore[override]
        """Learning rate of the optimiser; rsl-rl adapts it to the KL divergence.

        Never above the first one: while little is known policies hardly diverge, and the rate, ten times as high then,
        drove some for good into standing still.
        """
        return self._rate

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        self._rate = min(rate, self._highest_rate)

    @property
    def spread(self) -> float | None:
        """Mean standard deviation of the last actions."""
        return float(self.actor.output_std.detach().mean())

    def begin_with(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Give the policy the weights of another one like it, before training."""
        self.actor.load_state_dict(dict(weights))

    def begin(self, folder: Path, slack: int) -> None:
        """Do nothing: all it learns from is in its storage."""

    def flush(self) -> None:
        """Do nothing: checkpoints are between two rollouts."""

    def act(self, obs: TensorDict) -> torch.Tensor:
        """Sample actions (N, A)."""
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
        """Store a step; hidden states are reset with the episodes.

        What an episode that ran out of time would have got is the value of its last state (Pardo et al., Time limits in
        reinforcement learning, 2018); rsl-rl would take that of the state before, and so isn't told of time limits.
        """
        final, ended = extras[FINAL], extras["time_outs"].bool()
        if len(final):
            values = self.critic(TensorDict({STATE: final}, batch_size=[len(final)])).detach()
            rewards = rewards.index_add(0, ended.nonzero()[:, 0], self.gamma * values[:, 0])
        super().process_env_step(obs, rewards, dones, {})
        if self._mirror:
            with self._as_mirrored():
                self.actor.reset(dones)

    @property
    def memories(self) -> Memories:
        """Hidden states, for a checkpoint; may be set."""
        return self.actor.get_hidden_state(), self._mirrored

    @memories.setter
    def memories(self, memories: Memories) -> None:
        own, self._mirrored = memories
        self.actor.reset(hidden_state=own)

    @contextmanager
    def _as_mirrored(self) -> Iterator[None]:
        """Give the actor the hidden state of the mirrored past."""
        own = self.actor.get_hidden_state()
        self.actor.reset(hidden_state=self._mirrored)
        yield
        self._mirrored = self.actor.get_hidden_state()
        self.actor.reset(hidden_state=own)

    def update(self) -> dict[str, float]:
        """Learn from the rollout; returns mean losses by name, and "voxel_iou" of predicted and occupied voxels."""
        if self._schedule != "adaptive":
            self._set_rate(scheduled(self._schedule, self._highest_rate, self.progress))
        if self._taught:
            losses = self._auxiliary_update()
            self.storage.clear()
            return losses
        losses = super().update()
        if losses.pop("symmetry", None) is not None and self._schedule == "adaptive":
            losses["kl"] = self._adapt_rate()
        return losses | self._auxiliary_update() if self._voxels or self._mirror else losses

    def _adapt_rate(self) -> float:
        """Adapt the learning rate to the KL divergence of the whole update, all processes' mean, which is returned."""
        storage = self.storage
        rows = torch.randperm(storage.num_envs * storage.num_transitions_per_env)[:KL_SAMPLES]
        with torch.no_grad():
            self.actor(storage.observations.flatten(0, 1)[rows], stochastic_output=True)
            assert storage.distribution_params
            before = tuple(part.flatten(0, 1)[rows] for part in storage.distribution_params)
            divergence = self.actor.get_kl_divergence(before, self.actor.output_distribution_params).mean()
        if self.is_multi_gpu:  # with rates of their own, networks would differ for good
            distributed.all_reduce(divergence)
            divergence /= self.gpu_world_size
        kl = divergence.item()
        if kl > 2 * self.desired_kl:
            self._set_rate(max(1e-5, self.learning_rate / 1.3))
        elif 0 < kl < self.desired_kl / 2:
            self._set_rate(self.learning_rate * 1.1)
        return kl

    def _set_rate(self, rate: float) -> None:
        self.learning_rate = rate
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate

    def _auxiliary_update(self) -> dict[str, float]:
        """Minimise the auxiliary losses over the rollout, which `PPO.update` rewinds but does not clear."""
        passes = self.num_learning_epochs if self._taught else self._voxels.epochs if self._voxels else 1
        storage = self.storage
        batches = storage.recurrent_mini_batch_generator if self.actor.is_recurrent else storage.mini_batch_generator
        sums, count = defaultdict[str, float](float), self.num_mini_batches * passes
        for batch in batches(self.num_mini_batches, passes):
            loss, metrics = self._loss(batch)
            self.optimizer.zero_grad()
            loss.backward()
            if self.is_multi_gpu:
                self.reduce_parameters()
            nn.utils.clip_grad_norm_(self.actor.parameters(), self.max_grad_norm)
            self.optimizer.step()
            for name, metric in metrics.items():
                sums[name] += metric.item() / count
        return dict(sums)

    def _loss(self, batch: RolloutStorage.Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The auxiliary loss, and metrics to log."""
        actor, seen, masks = self.actor, batch.observations, batch.masks
        assert seen is not None
        latent = actor.get_latent(seen, masks, batch.hidden_states[0])
        loss, metrics = latent.new_zeros(()), dict[str, torch.Tensor]()
        if self._voxels and actor.voxel_head:
            truth = seen[VOXELS] if masks is None else unpad_trajectories(seen[VOXELS], masks).flatten(0, 1)
            occupied, heights = actor.voxel_head(latent.flatten(0, -2))
            metrics["voxels"], metrics["voxel_iou"] = voxel_loss(occupied, heights, truth)
            loss = loss + self._voxels.weight * metrics["voxels"]
        if self._taught:
            truth = seen[TEACHER] if masks is None else unpad_trajectories(seen[TEACHER], masks)
            metrics["teacher"] = nn.functional.mse_loss(actor.means(latent), truth)
            loss = loss + metrics["teacher"]
        if self._mirror:
            target = self._mirror.actions(actor.means(latent)).detach()
            mirrored = actor(self._mirror.observations(seen), masks=masks, hidden_state=batch.hidden_states[1])
            metrics["mirror"] = nn.functional.mse_loss(mirrored, target)
            loss = loss + MIRROR_WEIGHT * metrics["mirror"]
        return loss, metrics


def rsl_rl_configuration(preset: Preset, images: list[str]) -> dict[str, Any]:
    """Configuration of rsl-rl's runner, for a policy that sees these groups beside the vectors."""
    policy, ppo = preset.policy, preset.ppo
    return {
        "num_steps_per_env": preset.num_steps_per_env,
        "obs_groups": {"actor": [VECTOR, *images], "critic": [STATE]},
        "actor": {
            "class_name": "train.algorithms.policy:VisionPolicy",
            "encoder": policy.encoder,
            "rnn_type": policy.rnn_type,
            "rnn_hidden_dim": policy.rnn_hidden_dim,
            "voxels": policy.voxels is not None,
            "hidden_dims": list(policy.actor_hidden_dims),
            "activation": "elu",
            "output_scale": policy.output_scale,
            "obs_normalization": policy.obs_normalization,
            "distribution_cfg": gaussian(policy),
        },
        "critic": {
            "class_name": "MLPModel",
            "hidden_dims": list(policy.critic_hidden_dims),
            "activation": "elu",
            "obs_normalization": True,
        },
        "algorithm": {
            "class_name": "train.algorithms.ppo:VisionPPO",
            "voxels": policy.voxels,
            "taught": bool(preset.teacher),
            **ppo.model_dump(exclude={"gae_lambda", "use_mirror_loss", "use_mirror_batches"}),
            "lam": ppo.gae_lambda,
            "value_loss_coef": 1.0,
            "use_clipped_value_loss": True,
        },
    }
