"""What an actor does: acts by the policy that it is sent, in a simulation of its own, and sends what came of it."""

from __future__ import annotations

import os
import pickle
import pkgutil
import secrets
from dataclasses import dataclass
from pathlib import Path

import numba
import torch

from pipeline.errors import MachineError
from sim.ranges import seed_of
from train.actors.chunk import Chunk, Order, Weights
from train.environment import DoneInfo, make_env
from train.preset import Preset
from train.recording.replay import ACTION, OBSERVED, REWARD, TERMINAL, TIME_OUT


@dataclass(frozen=True, eq=False)
class Beginning:
    """What an actor begins with.

    Attributes:
        scenes: The scenes, opened by the learner, as `pickle` writes them; their files are at the same paths here.
        folder: Working folder of the learner, which paths begin in.
        seed: Seed of the run.
    """

    preset: Preset
    scenes: bytes
    folder: str
    seed: int


class Rollouts:
    """An actor. Each process draws a seed of its own, so that none does again what another one did before it.

    Args:
        beginning: What it simulates.
        index: Number of the actor.

    Raises:
        SimError: When the scenes don't suit the task or the robot.
        MachineError: When the learner's working folder isn't here.
    """

    def __init__(self, beginning: Beginning, index: int) -> None:
        preset = beginning.preset
        numba.set_num_threads(min(max(1, int(preset.actors.cpus)), numba.get_num_threads()))
        torch.set_num_threads(1)
        if not Path(beginning.folder).is_dir():
            raise MachineError(
                "machines of actors have the learner's folders at the same paths",
                found=f"no {beginning.folder!r} on {os.uname().nodename}",
                remedy="mount it there",
            )
        os.chdir(beginning.folder)
        self._incarnation, self._number = secrets.randbits(62), 0
        torch_seed, env_seed = (seed_of(beginning.seed, index, self._incarnation, part) for part in range(2))
        torch.manual_seed(torch_seed)
        self._env = make_env(preset, pickle.loads(beginning.scenes), seed=env_seed)
        self._steps = preset.num_steps_per_env
        seen, learner = self._env.get_observations(), pkgutil.resolve_name(preset.learning.learner)
        self._policy = learner(preset, seen, self._env.num_actions, "cpu", None).get_policy()
        self._policy.eval()

    def roll_out(self, weights: Weights, order: Order) -> Chunk:
        """Act for a chunk of steps."""
        env = self._env
        env.scene_weights = order.scene_weights
        # a copy: what is shared can't be written to
        self._policy.load_state_dict({name: torch.tensor(of) for name, of in weights["arrays"].items()})
        rows: dict[str, list[torch.Tensor]] = {}
        done: list[DoneInfo] = []
        with torch.inference_mode():
            seen = env.get_observations()
            for _ in range(self._steps):
                action = self._policy(seen, stochastic_output=True)
                if order.random:
                    action = torch.rand_like(action) * 2 - 1
                after, reward, ended, extras = env.step(action)
                time_out = extras["time_outs"].bool() & ended.bool()
                row = {f"{OBSERVED}{name}": seen[name] for name in seen.keys()}  # noqa: SIM118 - no dict
                row |= {ACTION: action, REWARD: reward, TERMINAL: ended.bool() & ~time_out, TIME_OUT: time_out}
                for name, value in row.items():
                    rows.setdefault(name, []).append(value)
                done.append(env.done_info)
                seen = after
            for name in seen.keys():  # noqa: SIM118 - no dict
                rows[f"{OBSERVED}{name}"].append(seen[name])
        fields = {name: torch.stack(values).numpy() for name, values in rows.items()}
        self._number += 1
        joined = DoneInfo.joined(done, [0] * len(done))
        return Chunk(self._incarnation, self._number - 1, weights["version"], fields, joined)
