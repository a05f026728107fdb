"""Arms in ManiSkill's layout of observations, for learners of vision-language-action policies that read that."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector.utils import batch_space

from pipeline.errors import SimError
from pipeline.geometry import quaternion_from_matrix
from pipeline.types import F32, Mask
from sim.env import Observations, SceneEnv
from sim.physics.state import RobotState
from sim.robots.hand_drive import HandDrive

CAMERAS = {"third": "3rd_view_camera", "wrist": "hand_camera"}
"""Names of cameras there; others keep theirs."""

Layout = dict[str, Any]
"""Nested dictionaries of arrays with N rows."""


class ManiSkillEnv(gymnasium.vector.VectorEnv[Layout, F32, np.ndarray]):
    """N arms whose observations are laid out as ManiSkill's, in NumPy arrays.

    `agent` has the joints' `qpos` and `qvel` (N, J), `extra` the hand's `tcp_pose` (N, 7): x, y, z [m] and its
    quaternion (w, x, y, z), base frame; `sensor_data` an `rgb` (N, H, W, 3) uint8 for each camera, see `CAMERAS`.
    `info["success"]` (N,) says after each step whether the task is solved. As in `SceneEnv`, an episode that ended is
    reset in the same step; its last observation, laid out alike, is in `info["final_obs"]`.

    Raises:
        SimError: When the robots are no arms that are driven by their hands.
    """

    metadata = SceneEnv.metadata

    def __init__(self, env: SceneEnv) -> None:
        if not isinstance(env.drive, HandDrive):
            raise SimError(
                "observations in ManiSkill's layout are those of arms at a table",
                found=f"{env.robot.name} in {env.task.name!r}",
                remedy="take a task such as put_cube_on_plate, with the robot panda",
            )
        self.env, self.num_envs, self._arm = env, env.num_envs, env.drive.arm
        self._keys = {
            camera.camera.key("rgb"): CAMERAS.get(camera.camera.name, camera.camera.name or "camera")
            for camera in env.cameras
            if "rgb" in camera.camera.outputs
        }
        joints = gymnasium.spaces.Box(-np.inf, np.inf, (len(env.robot.joint_names),), np.float32)
        pose = gymnasium.spaces.Box(-np.inf, np.inf, (7,), np.float32)
        given = env.single_observation_space
        assert isinstance(given, gymnasium.spaces.Dict)
        images: dict[str, gymnasium.Space] = {
            name: gymnasium.spaces.Dict(rgb=given[key]) for key, name in self._keys.items()
        }
        self.single_observation_space = gymnasium.spaces.Dict(
            agent=gymnasium.spaces.Dict(qpos=joints, qvel=joints),
            extra=gymnasium.spaces.Dict(tcp_pose=pose),
            sensor_data=gymnasium.spaces.Dict(images),
        )
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.single_action_space, self.action_space = env.single_action_space, env.action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, object] | None = None
    ) -> tuple[Layout, dict[str, Any]]:
        """Begin all episodes; `seed` makes everything after it repeatable."""
        seen, info = self.env.reset(seed=seed, options=options)
        assert self.env.now
        return self._laid_out(seen, self.env.now.state), {**info, "success": np.zeros(self.num_envs, bool)}

    def step(self, actions: F32) -> tuple[Layout, F32, Mask, Mask, dict[str, Any]]:
        """Act for one control period."""
        seen, reward, terminated, truncated, info = self.env.step(actions)
        last, now = self.env.last_step, self.env.now
        assert last
        assert now
        info["success"] = self.env.task.success(last)
        if "final_obs" in info:
            info["final_obs"] = self._final(info["final_obs"], last.state)
        return self._laid_out(seen, now.state), reward, terminated, truncated, info

    @property
    def elapsed_steps(self) -> np.ndarray:
        """Steps (N,) since each episode began."""
        assert self.env.now, "it was reset"
        return np.round(self.env.now.seconds / self.env.task.control_period).astype(np.int64)

    def get_language_instruction(self) -> list[str]:
        """What each arm is told to do."""
        return [self.env.task.instruction] * self.num_envs

    def close_extras(self, **kwargs: object) -> None:
        """Free the engine."""
        self.env.close()

    def _laid_out(self, seen: Observations, state: RobotState) -> Layout:
        hands = self._arm.hands(state.joint_position)
        pose = np.concatenate([hands[:, :3, 3], quaternion_from_matrix(hands[:, :3, :3])], 1)
        return {
            "agent": {"qpos": state.joint_position, "qvel": state.joint_velocity},
            "extra": {"tcp_pose": pose.astype(np.float32)},
            "sensor_data": {name: {"rgb": seen[key]} for key, name in self._keys.items()},
        }

    def _final(self, final: np.ndarray, state: RobotState) -> np.ndarray:
        """The last observations of episodes that ended; None where none did."""
        laid_out = np.full(self.num_envs, None, object)
        for row in np.flatnonzero([one is not None for one in final]):
            seen = {key: final[row][key][None] for key in self._keys}
            laid_out[row] = _first(self._laid_out(seen, state[row : row + 1]))
        return laid_out


def _first(layout: Layout) -> Layout:
    """The first row of each array."""
    return {name: _first(part) if isinstance(part, dict) else part[0] for name, part in layout.items()}
