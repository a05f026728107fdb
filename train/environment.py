"""A simulation as rsl-rl's `VecEnv`: observation groups, rewards and dones as tensors."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NotRequired, Protocol, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from rsl_rl.env import VecEnv
from tensordict import TensorDict

import sim
from pipeline.errors import TrainError
from pipeline.types import F32, F64, I64, Mask
from sim.env import FINAL_TRUTH, TRUTH, Observations, SceneEnv
from sim.episodes import ended_by
from sim.randomisation import Randomisation
from sim.scene.floors import Split
from sim.scene.scene import SimScene
from sim.sensors.cameras.settings import Output, RobotCamera
from sim.tasks.catalog import find_task
from sim.tasks.task import EXPERT, Task
from train.encoders.groups import SHOWN, TEACHER, VOXELS, ObservationGroup, groups_of
from train.encoders.voxels import Voxels
from train.preset import Preset
from train.teaching import seen_by, taught_by

VECTOR, STATE = "vector", "state"
"""Observation groups: the actor's vectors as they were read, and all vectors as they are, for the critic."""
FINAL = "final_state"
"""What critics see at the end of the episodes that ran out of time in a step, before new ones began: (M, S) in
`extras`."""


@dataclass(frozen=True, eq=False)
class DoneInfo:
    """Episodes (M,) that ended in a step.

    Attributes:
        ended_by: What ended each: a termination's name, "time" or, for an action with NaN, "invalid action".
        reward: Sum of the rewards of each.
        steps: Length of each.
        outcomes: Further outcomes of the task, by name (M,).
        rewards: What each of the task's rewards came to, by name (M,).
    """

    env: I64
    scene: I64
    success: Mask
    ended_by: list[str]
    reward: F32
    steps: I64
    outcomes: dict[str, Mask]
    rewards: dict[str, F32]

    @staticmethod
    def joined(parts: Sequence[DoneInfo], sizes: Sequence[int]) -> DoneInfo:
        """Those of simulations of that many environments each, numbered one after the other."""
        first = np.cumsum([0, *sizes])
        return DoneInfo(
            np.concatenate([part.env + start for part, start in zip(parts, first[:-1], strict=True)]),
            np.concatenate([part.scene for part in parts]),
            np.concatenate([part.success for part in parts]),
            [reason for part in parts for reason in part.ended_by],
            np.concatenate([part.reward for part in parts]),
            np.concatenate([part.steps for part in parts]),
            _joined([part.outcomes for part in parts]),
            _joined([part.rewards for part in parts]),
        )


def _joined(parts: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Arrays by name, one after the other; a part without rows has no names."""
    names = {name: None for part in parts for name in part}
    return {name: np.concatenate([part[name] for part in parts if name in part]) for name in names}


class EnvironmentState(TypedDict):
    """A simulation, its observations and its running episodes, for a checkpoint."""

    simulation: torch.Tensor
    observations: dict[str, torch.Tensor]
    reward: torch.Tensor
    steps: torch.Tensor
    groups: NotRequired[dict[str, dict[str, torch.Tensor]]]


def seen_groups(observations: TensorDict) -> list[str]:
    """Names of the groups that a policy sees beside the vectors."""
    return [str(name) for name in observations.keys() if name not in (VECTOR, STATE, VOXELS, TEACHER, SHOWN)]  # noqa: SIM118 - no dict


class Actor(Protocol):
    """Acts for all robots, as rsl-rl's models do by their mean."""

    def __call__(self, seen: TensorDict, /) -> torch.Tensor:
        """Actions (N, A) for observations."""
        ...

    def reset(self, dones: torch.Tensor | None = None, /) -> None:
        """Reset the hidden state where episodes ended (N,); everywhere by default."""
        ...


class TrainEnv(VecEnv):
    """A `SceneEnv` for rsl-rl.

    Its observation groups are vectors and `groups`.

    Attributes:
        done_info: Episodes that ended in the last step.
        seen: Last observations of the simulation, before they were grouped.
        groups: Observation groups in addition to the vectors.
        frozen: The network that makes the group "features" of colour images, if one does.
    """

    def __init__(self, env: SceneEnv, groups: Sequence[ObservationGroup], device: str = "cpu", seed: int = 0) -> None:
        self.env, self.groups, self.device = env, list(groups), device
        self.num_envs, self.num_actions = env.num_envs, env.controller.size
        self.max_episode_length = env.longest
        self.cfg = {}
        self.frozen = next((group.frozen for group in groups if group.frozen), None)
        self.vectors = env.task.vectors
        self.episode_length_buf = torch.zeros(self.num_envs, dtype=torch.long)
        self._reward = np.zeros(self.num_envs, np.float32)
        self._observations = self.reset(seed)

    def reset(self, seed: int | None = None, seeds: Sequence[int] | None = None) -> TensorDict:
        """Begin all episodes; the same seed gives the same ones, and so does a seed of each (N,)."""
        observations, info = self.env.reset(seed=seed, options=None if seeds is None else {"seeds": seeds})
        self._reward[:] = 0
        self.episode_length_buf[:] = 0
        self._observations = self._grouped(observations, info[TRUTH])
        return self._observations

    def get_observations(self) -> TensorDict:
        """Current observations."""
        return self._observations

    def step(self, actions: torch.Tensor) -> tuple[TensorDict, torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        """Act; actions (N, A)."""
        scene = self.env.scene_of.copy()
        observations, reward, terminated, truncated, info = self.env.step(actions.cpu().numpy())
        self._reward += reward
        self.episode_length_buf += 1
        done = terminated | truncated
        rows = np.flatnonzero(done)
        self.done_info = DoneInfo(
            rows,
            scene[rows],
            np.asarray(info.get("final_success", done))[rows],
            [ended_by(self.env.task, info, row) for row in rows.tolist()],
            self._reward[rows].copy(),
            self.episode_length_buf.numpy()[rows].copy(),
            {name: np.asarray(values)[rows] for name, values in info.get("final_outcomes", {}).items()},
            {name: np.asarray(values)[rows] for name, values in info.get("final_rewards", {}).items()},
        )
        self._reward[done] = 0
        self.episode_length_buf[torch.from_numpy(done)] = 0
        self._observations = self._grouped(observations, info[TRUTH])
        out_of_time = torch.from_numpy(truncated.astype(np.float32)).to(self.device)
        extras = {"time_outs": out_of_time, FINAL: self._final(np.flatnonzero(truncated), info).to(self.device)}
        dones = torch.from_numpy(done.astype(np.int64)).to(self.device)
        return self._observations, torch.from_numpy(reward).to(self.device), dones, extras

    @property
    def scene_weights(self) -> F64:
        """Relative frequency of the scenes in new episodes (S,)."""
        return self.env.scene_weights

    @scene_weights.setter
    def scene_weights(self, weights: F64) -> None:
        self.env.scene_weights = weights

    def close(self) -> None:
        """Free the simulation."""
        self.env.close()

    def state(self) -> list[EnvironmentState]:
        """State for a checkpoint, in a list: `Halves` have several."""
        simulation = torch.frombuffer(bytearray(self.env.save()), dtype=torch.uint8)
        observations = {str(name): torch.as_tensor(group).clone() for name, group in self._observations.items()}
        reward = torch.from_numpy(self._reward.copy())
        steps = self.episode_length_buf.clone()
        groups = {group.name: group.state() for group in self.groups}
        return [
            {
                "simulation": simulation,
                "observations": observations,
                "reward": reward,
                "steps": steps,
                "groups": groups,
            }
        ]

    def restore(self, states: Sequence[EnvironmentState]) -> None:
        """Continue from a checkpoint.

        Raises:
            SimError: When it is the state of another simulation.
        """
        (state,) = states
        self.env.restore(state["simulation"].cpu().numpy().tobytes())
        self._observations = TensorDict(state["observations"], batch_size=[self.num_envs]).clone().to(self.device)
        self._reward = state["reward"].cpu().numpy().copy()
        self.episode_length_buf = state["steps"].cpu().clone()
        remembered = state.get("groups", {})  # runs of before have none
        for group in self.groups:
            if remembered.get(group.name):
                group.restore(remembered[group.name])

    def _final(self, rows: I64, info: Mapping[str, Any]) -> torch.Tensor:
        """All vectors (M, S) at the end of the episodes of environments (M,)."""
        if not len(rows):
            return self._observations[STATE].new_zeros(0, self._observations[STATE].shape[1])
        truth = info[FINAL_TRUTH]
        ends: list[Observations] = [
            {**info["final_obs"][row], **{name: values[row] for name, values in truth.items()}} for row in rows
        ]
        return torch.tensor(
            np.stack([np.concatenate([end[name] for name in self.env.task.observations]) for end in ends])
        )

    def _grouped(self, seen: Observations, truth: Observations) -> TensorDict:
        self.seen, true = seen, {**seen, **truth}
        groups = {
            # copied into torch's own memory, which is aligned: products differ in the last bits by alignment
            VECTOR: torch.tensor(np.concatenate([seen[name] for name in self.vectors], 1)),
            STATE: torch.tensor(np.concatenate([true[name] for name in self.env.task.observations], 1)),
        }
        groups |= {group.name: group.read(self.env, seen) for group in self.groups}
        return TensorDict(groups, batch_size=[self.num_envs]).to(self.device)


def make_env(
    preset: Preset,
    scenes: Sequence[SimScene],
    *,
    num_envs: int | None = None,
    seed: int = 0,
    starts: Split = "train",
    device: str = "cpu",
    taught: bool = False,
    **config: Any,
) -> TrainEnv:
    """Make a preset's simulation, for training or, with starts "held_out", for evaluation.

    With `taught` its cameras are those of its teacher, too, as in training. Cameras are randomised in training only.
    Evaluation of a task with a curriculum is at its hardest level. The number of robots is the preset's by default.
    `config` are fields of `EnvConfig` in place of the preset's.

    Raises:
        SimError: When there is no such task or robot, or the scenes have no room for them.
        TrainError: When there is no such encoder.
    """
    settings = simulation_settings(preset, scenes, num_envs or preset.num_envs, seed, starts, device, taught=taught)
    env = sim.make(**settings | config)
    groups = training_groups(preset, env, device) if starts == "train" else groups_of(preset.policy, env, device)
    return TrainEnv(env, groups, device, seed)


def training_groups(preset: Preset, env: SceneEnv, device: str = "cpu") -> list[ObservationGroup]:
    """The observation groups of a simulation for training: what the policy sees, and what its losses aim at.

    Raises:
        TrainError: When there is no such encoder or teacher.
    """
    groups = groups_of(preset.policy, env, device)
    if preset.policy.voxels:
        groups.append(Voxels(env))
    if preset.teacher:
        groups.append(taught_by(preset.teacher, env))
    if preset.kind.aim:
        groups.append(pkgutil.resolve_name(preset.kind.aim)(env, preset.policy))
    return groups


def cameras_of(task: Task, robot: str, gait: str, outputs: Sequence[Output]) -> list[RobotCamera]:
    """A task's cameras of a robot, with these outputs."""
    from sim.controlled import robot_for

    cameras = task.cameras_of(robot_for(task, robot, gait)[0]) if task.cameras else [RobotCamera(task.camera)]
    return [replace(camera, outputs=tuple(outputs)) for camera in cameras]


def _cameras(preset: Preset, task: Task, outputs: Sequence[Output]) -> list[RobotCamera]:
    """Cameras that a preset's policy sees by."""
    if not outputs:
        return []
    cameras = cameras_of(task, preset.robot, preset.gait, outputs)
    names = [camera.name for camera in cameras]
    if unknown := set(preset.cameras) - set(names):
        raise TrainError(
            "a policy sees by cameras of its task",
            found=f"{', '.join(sorted(unknown))} for {task.name!r}",
            remedy=f"cameras: some of {', '.join(filter(None, names)) or 'none: it has one without a name'}",
        )
    return [camera for camera in cameras if not preset.cameras or camera.name in preset.cameras]


def simulation_settings(
    preset: Preset,
    scenes: Sequence[SimScene],
    num_envs: int,
    seed: int,
    starts: Split = "train",
    device: str = "cpu",
    *,
    taught: bool = False,
) -> dict[str, Any]:
    """Arguments of `sim.make` for a preset's simulation, see `make_env`.

    Raises:
        SimError: When there is no such task.
        TrainError: When there is no such encoder.
    """
    task = find_task(preset.task, preset.task_settings)
    training = starts == "train"
    teachers = seen_by(preset.teacher) if training or taught else ()
    outputs: dict[Output, None] = dict.fromkeys([*preset.policy.outputs, *teachers])
    return {
        "task": preset.task,
        "task_settings": preset.task_settings,
        "scenes": list(scenes),
        "num_envs": num_envs,
        "robot": preset.robot,
        "gait": preset.gait,
        "ground": preset.ground,
        "engine": preset.engine,
        "device": device,
        "seed": seed,
        "cameras": _cameras(preset, task, [*outputs]),
        "expert": preset.teacher == EXPERT,
        "camera_settings": replace(task.camera_settings, **preset.camera.model_dump()) if training else None,
        "starts": starts,
        "randomisation": Randomisation(**preset.dynamics.model_dump()) if training else None,
        "reduced_collision": training,
        "observation_noise": training,
        "stagger": training and task.curriculum is not None,
        "level": 0 if training or not task.curriculum else task.curriculum.levels - 1,
    }
