"""rsl-rl's PPO for a preset, with auxiliary losses after each update, over the same rollout."""

from __future__ import annotations

import contextlib
import io
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rsl_rl.algorithms import PPO
from rsl_rl.modules import HiddenState
from rsl_rl.storage import RolloutStorage
from rsl_rl.utils import unpad_trajectories
from tensordict import TensorDict
from torch import nn

from pipeline.errors import TrainError
from pipeline.geometry import Camera
from pipeline.types import F32, I64
from sim.cameras.settings import RobotCamera
from sim.env import SceneEnv
from sim.robots.drive import DifferentialDrive
from sim.robots.model import Robot
from sim.tasks.exploration import MAP_SIDE
from train.distributed import Processes
from train.environment import STATE, VECTOR, TrainEnv
from train.models.policy import VisionPolicy
from train.models.voxels import VOXELS, voxel_loss
from train.preset import Preset, VoxelSettings

IMAGES = ("rgb", "depth")
SIGNS = {
    "velocity": (1, -1, -1),  # forward, sideways, turning to the left
    "angular_velocity": (-1, 1, -1),  # an axial vector: what turns about the mirror's normal stays
    "projected_gravity": (1, -1, 1),
    "command": (1, -1),  # forward, turning to the left
    "odometry": (1, 1, -1),  # distance of the goal, cosine and sine of its bearing
}
"""Sign of each element of the tasks' observations in the mirror image."""
ACTION_SIGNS = (1, -1)
"""Signs of a differential drive's actions: forward speed, yaw rate."""


@dataclass(frozen=True, eq=False)
class Mirror:
    """Mirror images of observations and actions, left and right exchanged; twice is the identity.

    Attributes:
        columns: (K,) index of each mirrored element in the vector.
        signs: (K,) sign of each element.
        action_signs: (A,) sign of each element of an action.
        images: Names of the groups (..., H, W) that are flipped.
    """

    columns: torch.Tensor
    signs: torch.Tensor
    action_signs: torch.Tensor
    images: tuple[str, ...]

    def observations(self, seen: TensorDict) -> TensorDict:
        """Mirrored observations of a policy, of any batch shape."""
        groups = {VECTOR: seen[VECTOR][..., self.columns] * self.signs}
        groups |= {name: seen[name].flip(-1) for name in self.images}
        return TensorDict(groups, batch_size=seen.batch_size, device=seen.device)

    def actions(self, actions: torch.Tensor) -> torch.Tensor:
        """Mirrored actions (..., A)."""
        return actions * self.action_signs


def make_mirror(env: SceneEnv, groups: Sequence[str], device: str = "cpu") -> Mirror:
    """Make the mirror of an environment's task and robot.

    The policy has observation groups in addition to the vector.

    Raises:
        TrainError: When the robot, one of its cameras or an observation has no known mirror image.
    """
    if not isinstance(env.drive, DifferentialDrive):
        raise _no_mirror(f"{env.robot.name}, whose joints have no known mirror image")
    for name in groups:
        if name not in IMAGES:
            raise _no_mirror(f"the observation {name!r}")
    for rig in env.cameras:
        if not _centred(rig.camera, env.robot):
            raise _no_mirror(f"the camera {rig.camera.name!r}, which doesn't look along the robot's centre plane")
    columns, signs = list[I64](), list[F32]()
    for name, term in env.task.observations.items():
        if not term.privileged:
            order, sign = _of_observation(name, env)
            columns.append(sum(map(len, columns)) + order)
            signs.append(sign)
    return Mirror(
        torch.from_numpy(np.concatenate(columns)).to(device),
        torch.from_numpy(np.concatenate(signs)).to(device),
        torch.tensor(ACTION_SIGNS, dtype=torch.float32, device=device),
        tuple(groups),
    )


def _of_observation(name: str, env: SceneEnv) -> tuple[I64, F32]:
    """Order and signs (K,) of an observation's elements."""
    if name == "height_scan" and env.task.height_scan:
        return _exchanged(env.task.height_scan.points)
    if name == "map":
        side = np.arange(MAP_SIDE) - MAP_SIDE // 2
        return _exchanged(np.stack(np.meshgrid(side, side, indexing="ij"), -1).reshape(-1, 2))
    signs = SIGNS | {"action": ACTION_SIGNS}
    if name not in signs:
        raise _no_mirror(f"the observation {name!r}")
    return np.arange(len(signs[name])), np.array(signs[name], np.float32)


def _exchanged(points: NDArray[np.floating | np.integer]) -> tuple[I64, F32]:
    """Order of mirrored points (K, 2), ahead and to the left."""
    apart = np.abs(points[:, None] * [1, -1] - points).max(2)
    if apart.min(1).max() > 1e-6:
        raise _no_mirror("a height scan that is not symmetric")
    return apart.argmin(1), np.ones(len(points), np.float32)


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


MIRROR_WEIGHT = 1.0
"""Weight of the mirror loss."""

Memories = tuple[HiddenState, HiddenState]
"""Hidden states of the policy, for the observations and for mirrored ones."""


class VisionPPO(PPO):
    """PPO with auxiliary losses, for a `VisionPolicy` whose critic is not recurrent.

    The mirror loss is the squared difference between the actions for mirrored observations and the mirrored actions
    (Mittal et al., Symmetry considerations for learning task symmetric robot policies, 2024). Mirrored copies of the
    rollout won't do: PPO's ratio needs the likelihood of the mirrored actions under the policy that collected the
    rollout, which equals that of the actions only if that policy was already symmetric.

    A recurrent policy needs a hidden state of the mirrored past for that: its RNN runs a second time during the
    rollout, on mirrored observations, and that state is stored where rsl-rl would store a critic's. `voxels` and
    `mirror` are None for no such loss.
    """

    actor: VisionPolicy  # type: ignore[assignment]

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
        """Learning rate of the optimiser; rsl-rl adapts it to the KL divergence.

        Never above the first one: while little is known policies hardly diverge, and the rate, ten times as high then,
        drove some for good into standing still.
        """
        return self._rate

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        self._rate = min(rate, self._highest_rate)

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
        """Store a step; hidden states are reset with the episodes."""
        super().process_env_step(obs, rewards, dones, extras)
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
        losses = super().update()
        return losses | self._auxiliary_update() if self._voxels or self._mirror else losses

    def _auxiliary_update(self) -> dict[str, float]:
        """Minimise the auxiliary losses over the rollout, which `PPO.update` rewinds but does not clear."""
        passes = self._voxels.epochs if self._voxels else 1
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
        if self._mirror:
            target = self._mirror.actions(actor.means(latent)).detach()
            mirrored = actor(self._mirror.observations(seen), masks=masks, hidden_state=batch.hidden_states[1])
            metrics["mirror"] = nn.functional.mse_loss(mirrored, target)
            loss = loss + MIRROR_WEIGHT * metrics["mirror"]
        return loss, metrics


def make_agent(preset: Preset, env: TrainEnv, device: str = "cpu", processes: Processes | None = None) -> VisionPPO:
    """Make networks, optimiser and storage.

    Raises:
        TrainError: When the preset asks for mirror images of something that has none.
    """
    configuration = rsl_rl_configuration(preset, list(map(str, env.get_observations().keys())))
    configuration["multi_gpu"] = processes
    if preset.ppo.use_mirror_loss:
        _, *images = configuration["obs_groups"]["actor"]
        configuration["algorithm"]["mirror"] = make_mirror(env.env, images, device)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its networks
        return VisionPPO.construct_algorithm(env.get_observations(), env, configuration, device)  # type: ignore[return-value]


def rsl_rl_configuration(preset: Preset, groups: list[str]) -> dict[str, Any]:
    """Configuration of rsl-rl's runner."""
    policy, ppo = preset.policy, preset.ppo
    images = [group for group in groups if group not in (VECTOR, STATE, VOXELS)]
    return {
        "num_steps_per_env": preset.num_steps_per_env,
        "obs_groups": {"actor": [VECTOR, *images], "critic": [STATE]},
        "actor": {
            "class_name": "train.models.policy:VisionPolicy",
            "encoder": policy.encoder,
            "rnn_type": policy.rnn_type,
            "rnn_hidden_dim": policy.rnn_hidden_dim,
            "voxels": policy.voxels is not None,
            "hidden_dims": list(policy.actor_hidden_dims),
            "activation": "elu",
            "distribution_cfg": {
                "class_name": "GaussianDistribution",
                "init_std": policy.init_std,
                "std_type": "log",
                "std_range": (0.1, 1.5),
            },
        },
        "critic": {
            "class_name": "MLPModel",
            "hidden_dims": list(policy.critic_hidden_dims),
            "activation": "elu",
            "obs_normalization": True,
        },
        "algorithm": {
            "class_name": "train.ppo:VisionPPO",
            "voxels": policy.voxels,
            **ppo.model_dump(exclude={"gae_lambda", "use_mirror_loss"}),
            "lam": ppo.gae_lambda,
            "value_loss_coef": 1.0,
            "use_clipped_value_loss": True,
            "schedule": "adaptive",
        },
    }
