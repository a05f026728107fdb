"""Many robots in many scenes as one `gymnasium.vector.VectorEnv`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from pipeline.geometry import matrix_from_quaternion
from sim.cameras.objects import Balls
from sim.cameras.rig import CameraRig
from sim.cameras.settings import CameraSettings
from sim.physics.catalog import find_engine
from sim.physics.state import Float, Int, RobotState
from sim.places import Places
from sim.robots.drive import Drive
from sim.robots.model import Robot
from sim.scene import SimScene
from sim.tasks.task import Moment, Task

GRAVITY = 9.81
DROP = 0.01
"""Robots start so far above the floor [m]: the mesh is uneven by millimetres."""


class SceneEnv(gymnasium.vector.VectorEnv[dict[str, Any], NDArray[np.float32], NDArray[Any]]):
    """N robots, each in one of the scenes; environments spread over the scenes evenly and draw a new one at reset.

    An episode that ended begins anew in the same step: its last observation is in `info["final_obs"]`. An action with
    NaN ends the episode of its environment; `info["invalid_action"]` says where.

    Args:
        task: What to do.
        scenes: Where.
        robot: Who.
        drive: From actions to actuators.
        num_envs: N.
        engine: Of the physics, see `sim.physics.catalog`.
        seed: Of everything random, until `reset` gives another.
        camera_settings: Clock, exposure and flaws of the cameras; ideal by default.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}  # noqa: RUF012 - gymnasium's own way

    def __init__(
        self,
        task: Task,
        scenes: Sequence[SimScene],
        robot: Robot,
        drive: Drive,
        num_envs: int,
        *,
        engine: str = "sapien",
        seed: int = 0,
        camera_settings: CameraSettings | None = None,
    ) -> None:
        camera_settings = camera_settings or CameraSettings()
        self.task, self.scenes, self.robot, self.num_envs = task, list(scenes), robot, num_envs
        self.drive = drive
        self.places = Places(scenes, robot, task.least_way)
        meshes = [scene.collision for scene in scenes]
        self.engine = find_engine(engine)(robot, meshes, num_envs, task.time_step)
        self.cameras = CameraRig(
            task.camera,
            robot.base_from_camera,
            [scene.gaussians for scene in scenes],
            num_envs,
            camera_settings,
            task.control_period,
        )
        self.single_observation_space = _observation_space(task, drive.size)
        self.single_action_space = gymnasium.spaces.Box(-1, 1, (drive.size,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._weight = robot.mass * GRAVITY
        self._rng = np.random.default_rng(seed)
        self.scene_of = np.arange(num_envs) % len(scenes)
        self._goal, self._goal_place = np.zeros(num_envs, np.int64), np.zeros((num_envs, 2), np.float32)
        self._goal_height = np.zeros(num_envs, np.float32)
        self._action = np.zeros((num_envs, drive.size), np.float32)
        self._way, self._seconds = np.zeros(num_envs, np.float32), np.zeros(num_envs, np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin all episodes anew; `seed` makes everything after repeatable."""
        if seed is not None:
            self._rng = np.random.default_rng(seed)
            self.scene_of[:] = np.arange(self.num_envs) % len(self.scenes)
        self._begin(np.arange(self.num_envs))
        return self._observe(self._moment(self._action, self._way, self._bump())), {}

    def step(
        self, actions: NDArray[np.float32]
    ) -> tuple[dict[str, Any], NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Act for one control period.

        Args:
            actions: (N, A); beyond [-1, 1] they are clipped.
        """
        given = np.asarray(actions, np.float32).reshape(self.num_envs, self.drive.size)
        invalid = np.asarray(~np.isfinite(given).all(1))
        action = np.clip(np.where(invalid[:, None], 0, given), -1, 1)
        self.engine.set_targets(self.drive.targets(action))
        self.engine.step(self.task.substeps)
        self._seconds += np.float32(self.task.control_period)
        bump = self._bump()
        moment = self._moment(action, self._way, bump)
        reward = np.zeros(self.num_envs, np.float32)
        for term in self.task.rewards.values():
            reward += np.float32(term.weight) * term.function(moment)
        ended = {name: term(moment) for name, term in self.task.terminations.items()}
        terminated = invalid.copy()
        for values in ended.values():
            terminated |= values
        truncated = ~terminated & (self._seconds >= self.task.seconds - 1e-4)
        info: dict[str, Any] = {f"ended_by_{name}": values for name, values in ended.items()}
        info["invalid_action"] = invalid
        self._action, self._way = action, moment.way
        done = np.flatnonzero(terminated | truncated)
        if len(done):
            info.update(self._final(done, self._observe(moment)))
            self._begin(done)
            moment = self._moment(self._action, self._way, bump)
        return self._observe(moment), reward, terminated, truncated, info

    def way_left(self, xy: NDArray[np.floating], envs: Int) -> Float:
        """What would be left of the way [m] to the goals of environments (M,) at places (M, 2); inf off the floor."""
        return self.places.ways(self.scene_of[envs], self._goal[envs], xy)

    def close_extras(self, **kwargs: Any) -> None:
        """Free the engine."""
        self.engine.close()

    def _begin(self, envs: Int) -> None:
        """New episodes in environments (M,)."""
        if len(self.scenes) > 1:
            self.scene_of[envs] = self._rng.integers(len(self.scenes), size=len(envs))
        scenes = self.scene_of[envs]
        position, yaw, goal, place = self.places.draw(scenes, self._rng)
        position[:, 2] += DROP
        nothing = np.zeros_like(yaw)
        quaternion = np.column_stack([np.cos(yaw / 2), nothing, nothing, np.sin(yaw / 2)])
        rest = np.tile(self.robot.default_position.astype(np.float32), (len(envs), 1))
        self.engine.reset(envs, RobotState.at_rest(position, quaternion, rest), scenes)
        self._goal[envs], self._goal_place[envs] = goal, place
        self._goal_height[envs] = [self.scenes[s].regions.floor_height for s in scenes]
        self._action[envs], self._seconds[envs] = 0, 0
        self._way[envs] = self.places.ways(scenes, goal, position[:, :2])
        self.cameras.begin(envs, self._rng)

    def _bump(self) -> Float:
        """Horizontal contact force on the bases (N,), as shares of the weight; costs SAPIEN a loop over contacts."""
        force = self.engine.contact_forces()[:, 0, :2]
        return (np.linalg.norm(force, axis=1) / self._weight).astype(np.float32)

    def _moment(self, action: Float, last_way: Float, bump: Float) -> Moment:
        state = self.engine.read()
        way = self.places.ways(self.scene_of, self._goal, state.position[:, :2])
        upright = matrix_from_quaternion(state.quaternion)[:, 2, 2]
        return Moment(
            state=state,
            action=action,
            last_action=self._action,
            goal=self._goal_place,
            way=np.where(np.isfinite(way), way, self._way),  # off the floor it is what it was
            last_way=last_way,
            bump=bump,
            tilt=np.arccos(np.clip(upright, -1, 1)).astype(np.float32),
            seconds=self._seconds.copy(),
        )

    def _observe(self, moment: Moment) -> dict[str, Any]:
        rgb, _ = self.cameras.pictures(moment.state, self.scene_of, self._balls(), self._seconds, self._rng)
        return {"rgb": rgb, **{name: term.function(moment) for name, term in self.task.observations.items()}}

    def _balls(self) -> Balls:
        radius = np.full(self.num_envs, self.task.ball_radius, np.float32)
        center = np.column_stack([self._goal_place, self._goal_height + radius])
        return Balls(center, radius, np.tile(np.array(self.task.ball_color, np.float32), (self.num_envs, 1)))

    def _final(self, done: Int, seen: dict[str, Any]) -> dict[str, Any]:
        """The last observations of episodes that ended, as gymnasium wants them."""
        final, ended = np.full(self.num_envs, None, object), np.zeros(self.num_envs, bool)
        for env in done:
            final[env] = {name: values[env] for name, values in seen.items()}
        ended[done] = True
        return {"final_obs": final, "_final_obs": ended}


def _observation_space(task: Task, action_size: int) -> gymnasium.spaces.Dict:
    spaces: dict[str, gymnasium.Space[Any]] = {
        "rgb": gymnasium.spaces.Box(0, 255, (task.camera.height, task.camera.width, 3), np.uint8)
    }
    for name, term in task.observations.items():
        size = action_size if term.size is None else term.size
        spaces[name] = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)
    return gymnasium.spaces.Dict(spaces)
