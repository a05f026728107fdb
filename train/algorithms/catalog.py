"""Algorithms by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from pipeline.errors import TrainError
from train.preset import LEARN_FROM_DEMOS, Preset

if TYPE_CHECKING:
    from train.algorithms.agent import Agent
    from train.distributed import Processes
    from train.environment import TrainEnv
    from train.halves import Halves


def make_agent(
    preset: Preset, env: TrainEnv | Halves, device: str = "cpu", processes: Processes | None = None
) -> Agent:
    """Make a preset's algorithm with its networks.

    Raises:
        TrainError: When the preset, the environment and the number of processes don't suit it.
    """
    from train.algorithms import ppo

    name = preset.algorithm
    if preset.learns_from_rollouts:
        return cast("Agent", ppo.make_agent(preset, env, device, processes))
    from train.algorithms.offline import Cloning, DAgger, ImplicitQ
    from train.algorithms.sac import SAC
    from train.recording.demonstrations import contract_of

    if processes:
        raise TrainError(
            "several processes train ppo, and dagger with memory", found=name, remedy="leave --num-gpus away"
        )
    if preset.learns_gait:
        raise TrainError("gaits are learned by ppo", found=f"algorithm: {name}", remedy="leave --algorithm away")
    seen = env.get_observations()
    if name == "dagger":
        return DAgger(preset, seen, env.num_actions, device, ppo.teacher_of(preset.teacher, env.env))
    contract = contract_of(env.env, preset, env.groups) if name in LEARN_FROM_DEMOS else None
    if contract is None:
        return SAC(preset, seen, env.num_actions, device, None)
    kind = {"rlpd": SAC, "bc": Cloning, "iql": ImplicitQ}[name]
    return kind(preset, seen, env.num_actions, device, contract)
