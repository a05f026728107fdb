"""PPO of rsl-rl for a preset: its configuration, and the algorithm made of it."""

from __future__ import annotations

import contextlib
import io
from typing import Any

from train.distributed import Processes
from train.environment import STATE, VECTOR, TrainEnv
from train.mirror import make_mirror
from train.ppo import SightPPO
from train.preset import Preset
from train.voxels import VOXELS


def make_agent(preset: Preset, env: TrainEnv, device: str = "cpu", processes: Processes | None = None) -> SightPPO:
    """Fresh networks, optimiser and storage.

    Args:
        preset: What they are like.
        env: Gives the shapes of observations.
        device: Where they live.
        processes: Of distributed training, as rsl-rl wants it; None for one process.

    Raises:
        TrainError: When the preset wants mirror images of something that has none.
    """
    configuration = rsl_rl_configuration(preset, list(map(str, env.get_observations().keys())))
    configuration["multi_gpu"] = processes
    if preset.ppo.mirror:
        _, *sights = configuration["obs_groups"]["actor"]
        configuration["algorithm"]["mirror"] = make_mirror(env.env, sights, device)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its networks
        return SightPPO.construct_algorithm(env.get_observations(), env, configuration, device)  # type: ignore[return-value]


def rsl_rl_configuration(preset: Preset, groups: list[str]) -> dict[str, Any]:
    """What rsl-rl's runner would be given."""
    policy, ppo = preset.policy, preset.ppo
    sight = [group for group in groups if group not in (VECTOR, STATE, VOXELS)]
    return {
        "num_steps_per_env": preset.steps,
        "obs_groups": {"actor": [VECTOR, *sight], "critic": [STATE]},
        "actor": {
            "class_name": "train.models.policy:SightPolicy",
            "encoder": policy.encoder,
            "memory": policy.memory,
            "memory_size": policy.memory_size,
            "voxels": policy.voxels is not None,
            "hidden_dims": list(policy.hidden),
            "activation": "elu",
            "distribution_cfg": {
                "class_name": "GaussianDistribution",
                "init_std": policy.first_std,
                "std_type": "log",
                "std_range": (0.1, 1.5),
            },
        },
        "critic": {
            "class_name": "MLPModel",
            "hidden_dims": list(policy.critic),
            "activation": "elu",
            "obs_normalization": True,
        },
        "algorithm": {
            "class_name": "train.ppo:SightPPO",
            "voxels": policy.voxels,
            "num_learning_epochs": ppo.epochs,
            "num_mini_batches": ppo.batches,
            "clip_param": ppo.clip,
            "gamma": ppo.discount,
            "lam": ppo.trace,
            "value_loss_coef": 1.0,
            "entropy_coef": ppo.entropy,
            "learning_rate": ppo.rate,
            "max_grad_norm": ppo.gradient,
            "use_clipped_value_loss": True,
            "schedule": "adaptive",
            "desired_kl": ppo.divergence,
        },
    }
