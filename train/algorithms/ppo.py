"""rsl-rl's PPO for a preset, with auxiliary losses after each update, over the same rollout."""

from __future__ import annotations

import contextlib
import io
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from gymnasium.spaces import Dict
from rsl_rl.algorithms import PPO
from rsl_rl.modules import HiddenState
from rsl_rl.storage import RolloutStorage
from rsl_rl.utils import unpad_trajectories
from tensordict import TensorDict
from torch import distributed, nn

from pipeline.errors import TrainError
from pipeline.geometry import Camera
from pipeline.types import F32, I64
from sim.control.mirror import exchanged
from sim.env import SceneEnv
from sim.robots.model import Robot
from sim.sensors.cameras.settings import RobotCamera
from sim.tasks.driving.exploration import MAP_SIDE
from train.algorithms.agent import Memories
from train.algorithms.learner import gaussian
from train.algorithms.policy import VisionPolicy
from train.distributed import Processes
from train.encoders.catalog import IMAGES
from train.encoders.voxels import VOXELS, voxel_loss
from train.environment import FINAL, STATE, VECTOR, TrainEnv
from train.preset import Preset, VoxelSettings

if TYPE_CHECKING:
    from train.halves import Halves

SIGNS = {
    "velocity": (1, -1, -1),  # forward, sideways, turning to the left
    "angular_velocity": (-1, 1, -1),  # an axial vector: what turns about the mirror's normal stays
    "projected_gravity": (1, -1, 1),
    "odometry": (1, 1, -1),  # distance of the goal, cosine and sine of its bearing
}
"""Sign of each element of the tasks' observations in the mirror image."""


@dataclass(frozen=True, eq=False)
class Mirror:
    """Mirror images of observations and actions, left and right exchanged; twice is the identity.

    Attributes:
        columns: (K,) index of each mirrored element in the vector.
        signs: (K,) sign of each element.
        action_columns: (A,) index of each mirrored element in an action.
        action_signs: (A,) sign of each element of an action.
        images: Names of the groups (..., H, W) that are flipped.
        state_columns: (S,) as `columns`, for the critic's observations; None if those have no known mirror image.
        state_signs: (S,) as `signs`.
    """

    columns: torch.Tensor
    signs: torch.Tensor
    action_columns: torch.Tensor
    action_signs: torch.Tensor
    images: tuple[str, ...]
    state_columns: torch.Tensor | None = None
    state_signs: torch.Tensor | None = None

    def observations(self, seen: TensorDict) -> TensorDict:
        """Mirrored observations of a policy, of any batch shape; and of its critic, if those have a mirror image."""
        groups = {VECTOR: seen[VECTOR][..., self.columns] * self.signs}
        groups |= {name: seen[name].flip(-1) for name in self.images}
        if self.state_columns is not None:
            groups[STATE] = seen[STATE][..., self.state_columns] * self.state_signs
        return TensorDict(groups, batch_size=seen.batch_size, device=seen.device)

    def actions(self, actions: torch.Tensor) -> torch.Tensor:
        """Mirrored actions (..., A)."""
        return actions[..., self.action_columns] * self.action_signs


def make_mirror(env: SceneEnv, groups: Sequence[str], device: str = "cpu", *, critic: bool = False) -> Mirror:
    """Make the mirror of an environment's task and robot, for the policy's observations or the critic's as well.

    The policy has observation groups in addition to the vector.

    Raises:
        TrainError: When the robot, one of its cameras or an observation has no known mirror image.
    """
    for name in groups:
        if name not in IMAGES:
            raise _no_mirror(f"the observation {name!r}")
    for rig in env.cameras:
        if not _centred(rig.camera, env.robot):
            raise _no_mirror(f"the camera {rig.camera.name!r}, which doesn't look along the robot's centre plane")
    terms = env.task.observations
    actions = _of_observation("action", env)
    vector = _joined([_of_observation(name, env) for name, term in terms.items() if not term.privileged])
    state = _joined([_of_observation(name, env) for name in terms]) if critic else (None, None)
    tensors = [None if one is None else torch.from_numpy(one).to(device) for one in (*vector, *actions, *state)]
    return Mirror(*tensors[:4], tuple(groups), *tensors[4:])  # type: ignore[arg-type]


def _joined(parts: Sequence[tuple[I64, F32]]) -> tuple[I64, F32]:
    """Order and signs of observations one after the other."""
    first = np.cumsum([0, *(len(order) for order, _ in parts)])
    orders = [order + start for (order, _), start in zip(parts, first[:-1], strict=True)]
    return np.concatenate(orders), np.concatenate([signs for _, signs in parts])


def _of_observation(name: str, env: SceneEnv) -> tuple[I64, F32]:
    """Order and signs (K,) of an observation's elements."""
    found = env.controller.mirrored(name)
    if name == "height_scan" and env.task.height_scan:
        found = exchanged(env.task.height_scan.points)
        if found is None:
            raise _no_mirror("a height scan that is not symmetric")
    elif name == "map":
        side = np.arange(MAP_SIDE) - MAP_SIDE // 2
        found = exchanged(np.stack(np.meshgrid(side, side, indexing="ij"), -1).reshape(-1, 2))
    elif found is None and name in SIGNS:
        found = np.arange(len(SIGNS[name])), np.array(SIGNS[name], np.float32)
    if found is None and name == "action":
        raise _no_mirror(f"{env.robot.name}, whose joints have no known mirror image")
    if found is None:
        raise _no_mirror(f"the observation {name!r}")
    return found


def _centred(camera: RobotCamera, robot: Robot) -> bool:
    """Whether the camera's view of the mirrored scene is its flipped image."""
    if camera.link is not None or not isinstance(camera.lens, Camera):
        return False
    base_from_camera = (camera.link_from_camera or robot.base_from_camera).matrix
    mirrored = np.diag([1, -1, 1, 1]) @ base_from_camera @ np.diag([-1, 1, 1, 1])
    return np.allclose(mirrored, base_from_camera, atol=1e-6) and abs(2 * camera.lens.cx - camera.lens.width) < 0.01


def _no_mirror(found: str) -> TrainError:
    return TrainError(
        "the mirror loss needs a mirror image of all observations and actions",
        found=found,
        remedy="train without ppo.use_mirror_loss",
    )


KL_SAMPLES = 1024
"""Steps of a rollout by which the KL divergence of an update is measured."""
LAST_RATE = 0.03
"""Learning rate at the end of learning from a teacher, as a fraction of the first one."""
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

    With a `teacher`, the elements of the critic's observations that are the right action, there is no PPO at all: the
    policy learns to output them, where its own actions lead it (Ross et al., A reduction of imitation learning to
    no-regret online learning, 2011); after each update the learning rate is multiplied by `rate_decay`.
    """

    actor: VisionPolicy  # type: ignore[assignment]
    offline = False

    def __init__(
        self,
        *settings: Any,
        voxels: VoxelSettings | None = None,
        mirror: Mirror | None = None,
        mirrored_half: Mirror | None = None,
        teacher: slice | None = None,
        rate_decay: float = 1.0,
        **named: Any,
    ) -> None:
        self._highest_rate = float("inf")
        super().__init__(*settings, **named)
        if mirrored_half:
            self.symmetry = MirroredHalf(mirrored_half)  # type: ignore[assignment]
        self._highest_rate = self.learning_rate
        self._voxels, self._mirror, self._teacher, self._rate_decay = voxels, mirror, teacher, rate_decay
        self._mirrored: HiddenState = None

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
        if self._teacher:
            losses = self._auxiliary_update()
            self.storage.clear()
            self._set_rate(self.learning_rate * self._rate_decay)
            return losses
        losses = super().update()
        if losses.pop("symmetry", None) is not None:
            losses["kl"] = self._adapt_rate()
        return losses | self._auxiliary_update() if self._voxels or self._mirror else losses

    def _adapt_rate(self) -> float:
        """Adapt the learning rate to the KL divergence of the whole update, all processes' mean, which is returned.

        rsl-rl adapts it after each mini-batch, and would count the policy's asymmetry as divergence.
        """
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
        passes = self.num_learning_epochs if self._teacher else self._voxels.epochs if self._voxels else 1
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
        if self._teacher:
            truth = seen[STATE] if masks is None else unpad_trajectories(seen[STATE], masks)
            metrics["teacher"] = nn.functional.mse_loss(actor.means(latent), truth[..., self._teacher])
            loss = loss + metrics["teacher"]
        if self._mirror:
            target = self._mirror.actions(actor.means(latent)).detach()
            mirrored = actor(self._mirror.observations(seen), masks=masks, hidden_state=batch.hidden_states[1])
            metrics["mirror"] = nn.functional.mse_loss(mirrored, target)
            loss = loss + MIRROR_WEIGHT * metrics["mirror"]
        return loss, metrics


def make_agent(
    preset: Preset, env: TrainEnv | Halves, device: str = "cpu", processes: Processes | None = None
) -> VisionPPO:
    """Make networks, optimiser and storage.

    Raises:
        TrainError: When the preset asks for mirror images of something that has none, or for a teacher that is none.
    """
    configuration = rsl_rl_configuration(preset, list(map(str, env.get_observations().keys())))
    configuration["multi_gpu"] = processes
    if preset.ppo.use_mirror_loss:
        _, *images = configuration["obs_groups"]["actor"]
        configuration["algorithm"]["mirror"] = make_mirror(env.env, images, device)
    if preset.ppo.use_mirror_batches:
        _, *images = configuration["obs_groups"]["actor"]
        configuration["algorithm"]["mirrored_half"] = make_mirror(env.env, images, device, critic=True)
    if preset.teacher:
        configuration["algorithm"]["teacher"] = teacher_of(preset.teacher, env.env)
        configuration["algorithm"]["rate_decay"] = LAST_RATE ** (1 / preset.iterations)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its networks
        return VisionPPO.construct_algorithm(env.get_observations(), env, configuration, device)  # type: ignore[return-value]


def teacher_of(name: str, env: SceneEnv) -> slice:
    """Elements of the critic's observations that are the right action.

    Raises:
        TrainError: When there are none.
    """
    spaces, first = cast(Dict, env.single_observation_space), 0
    for other in env.task.observations:
        size = math.prod(spaces[other].shape or ())
        if other == name and size == env.controller.size:
            return slice(first, first + size)
        first += size
    raise TrainError(
        "a teacher is an observation that says the right action",
        found=f"{name!r} in {env.task.name!r}, whose actions have {env.controller.size} elements",
        remedy="train another task, or without --set teacher",
    )


def rsl_rl_configuration(preset: Preset, groups: list[str]) -> dict[str, Any]:
    """Configuration of rsl-rl's runner."""
    policy, ppo = preset.policy, preset.ppo
    images = [group for group in groups if group not in (VECTOR, STATE, VOXELS)]
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
            **ppo.model_dump(exclude={"gae_lambda", "use_mirror_loss", "use_mirror_batches"}),
            "lam": ppo.gae_lambda,
            "value_loss_coef": 1.0,
            "use_clipped_value_loss": True,
            "schedule": "fixed" if ppo.use_mirror_batches else "adaptive",
        },
    }
