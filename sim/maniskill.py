"""Arms as an environment of ManiSkill's: its layout of observations in tensors, for learners that read that."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium.vector.utils import batch_space

import sim
from pipeline.errors import SimError
from pipeline.geometry import quaternion_from_matrix
from sim import libraries
from sim.env import Observations

if TYPE_CHECKING:
    from torch import Tensor

CAMERAS = {"third": "3rd_view_camera", "wrist": "hand_camera"}
"""Names of cameras there; others keep theirs."""

Layout = dict[str, Any]
"""Nested dictionaries of tensors with N rows."""


class ManiSkillEnv(gymnasium.Env[Layout, Any]):
    """N arms at once, as ManiSkill's `BaseEnv` has them: `gymnasium.make` of an arm's task is one.

    `agent` of an observation has the joints' `qpos` and `qvel` (N, J), `extra` the hand's `tcp_pose` (N, 7): x, y, z
    [m] and its quaternion (w, x, y, z), base frame; `sensor_data` an `rgb` (N, H, W, 3) uint8 for each camera, see
    `CAMERAS`. `info["success"]` (N,) says after each step whether the task is solved. An episode that ended goes on
    until `reset(options={"env_idx": ...})`. All of these, rewards and what says that episodes ended are tensors;
    actions (N, A) may be.

    Attributes:
        env: The simulation.
        agent: `agent.robot.get_qpos()` has the joints' positions (N, J).

    Args:
        task: Name of the task.
        scenes: Bundles, as for `sim.make`.
        num_envs: N.
        options: Further arguments of `sim.make`, such as robot, cameras and engine.

    Raises:
        SimError: When torch is not installed, or the robots are no arms that are driven by their hands.
    """

    def __init__(self, task: str, scenes: list[Any], num_envs: int = 1, **options: Any) -> None:
        self._torch = libraries.load("torch", "ManiSkill's layout is of tensors", "pip install torch", SimError)
        self.env = sim.make(task, scenes, num_envs, autoreset=False, **options)
        arm = self.env.controller.arm
        if not arm:
            self.env.close()
            raise SimError(
                "observations in ManiSkill's layout are those of arms at a table",
                found=f"{self.env.robot.name} in {task!r}",
                remedy="take a task such as put_cube_on_plate, with the robot panda",
            )
        self._arm, self.num_envs, self.device = arm, num_envs, self._torch.device("cpu")
        self.agent = SimpleNamespace(robot=SimpleNamespace(get_qpos=self._joints))
        self._keys = {
            camera.camera.key("rgb"): CAMERAS.get(camera.camera.name, camera.camera.name or "camera")
            for camera in self.env.cameras
            if "rgb" in camera.camera.outputs
        }
        spaces = gymnasium.spaces
        joints = spaces.Box(-np.inf, np.inf, (len(self.env.robot.joint_names),), np.float32)
        given = self.env.single_observation_space
        assert isinstance(given, spaces.Dict)
        self.single_observation_space = spaces.Dict(
            agent=spaces.Dict(qpos=joints, qvel=joints),
            extra=spaces.Dict(tcp_pose=spaces.Box(-np.inf, np.inf, (7,), np.float32)),
            sensor_data=spaces.Dict({name: spaces.Dict(rgb=given[key]) for key, name in self._keys.items()}),
        )
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.single_action_space, self.action_space = self.env.single_action_space, self.env.action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Layout, dict[str, Any]]:
        """Begin all episodes, or those of environments `options["env_idx"]`; `seed` makes what follows repeatable."""
        chosen = np.ones(self.num_envs, bool)
        if options and "env_idx" in options:
            chosen[:] = False
            chosen[np.asarray(options["env_idx"])] = True
        seen, _ = self.env.reset(seed=seed, options={"reset_mask": chosen})
        return self._laid_out(seen), self._info()

    def step(  # pyright: ignore[reportIncompatibleMethodOverride] - as ManiSkill, of many at once
        self, action: Any
    ) -> tuple[Layout, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Act for one control period."""
        seen, reward, terminated, truncated, _ = self.env.step(np.asarray(action, np.float32))
        ended = (self._torch.from_numpy(values) for values in (terminated, truncated))
        return self._laid_out(seen), self._torch.from_numpy(reward), *ended, self._info()

    @property
    def elapsed_steps(self) -> Tensor:
        """Steps (N,) since each episode began."""
        assert self.env.now, "it was reset"
        return self._torch.from_numpy(np.round(self.env.now.seconds / self.env.task.control_period).astype(np.int32))

    def get_language_instruction(self) -> list[str]:
        """What each arm is told to do."""
        return [self.env.task.instruction] * self.num_envs

    def close(self) -> None:
        """Free the engine."""
        self.env.close()

    def _info(self) -> dict[str, Any]:
        assert self.env.last_step
        return {"success": self._torch.from_numpy(self.env.task.success(self.env.last_step))}

    def _joints(self) -> Tensor:
        assert self.env.now, "it was reset"
        return self._torch.from_numpy(self.env.now.state.joint_position)

    def _laid_out(self, seen: Observations) -> Layout:
        assert self.env.now
        state = self.env.now.state
        hands = self._arm.hands(state.joint_position)
        pose = np.concatenate([hands[:, :3, 3], quaternion_from_matrix(hands[:, :3, :3])], 1).astype(np.float32)
        tensor = self._torch.from_numpy
        return {
            "agent": {"qpos": tensor(state.joint_position), "qvel": tensor(state.joint_velocity)},
            "extra": {"tcp_pose": tensor(pose)},
            "sensor_data": {name: {"rgb": tensor(seen[key])} for key, name in self._keys.items()},
        }
