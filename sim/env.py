"""Many robots in many scenes as one `gymnasium.vector.VectorEnv`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from sim.cameras.mount import RobotCamera
from sim.cameras.rig import CameraRig
from sim.cameras.settings import CameraSettings
from sim.devices import CPU, check_device, make_renderer
from sim.height_scan import HeightScanner
from sim.physics.catalog import find_engine
from sim.physics.state import Float, Int, RobotState
from sim.places import Split
from sim.randomisation import Randomisation, Randomiser
from sim.robots.drive import Drive
from sim.robots.model import Robot
from sim.scene import SimScene
from sim.snapshot import pack, unpack
from sim.tasks.task import Bool, Moment, Task

GRAVITY = 9.81
DROP = 0.01
"""Robots start so far above the floor [m]: the mesh is uneven by millimetres."""


class SceneEnv(gymnasium.vector.VectorEnv[dict[str, Any], NDArray[np.float32], NDArray[Any]]):
    """N robots, each in one of the scenes; environments draw a new one at reset, as often as `scene_weights` say.

    An episode that ended begins anew in the same step: its last observation is in `info["final_obs"]`, whether it did
    what its task is about in `info["final_success"]` (N,), and what else is to be counted in `info["final_outcomes"]`,
    (N,) by name; false where no episode ended. `info["scene"]` (N,) is where this step's episodes ran. An action with
    NaN ends the episode of its environment; `info["invalid_action"]` says where.

    Args:
        task: What to do.
        scenes: Where.
        robot: Who.
        drive: From actions to actuators.
        num_envs: N.
        engine: Of the physics, see `sim.physics.catalog`.
        device: That draws the pictures, and that the physics runs on where the engine is one for GPUs.
        seed: Of everything random, until `reset` gives another.
        cameras: Of each robot; one of the task's lens by default, () for robots that are blind.
        camera_settings: Clock, exposure and flaws of the cameras; the task's by default.
        randomisation: Of friction, mass, motors, latency and pushes; none by default.
        starts: Where episodes begin: anywhere, or only at places to train at, or at those held out from these.
        first_level: Of a task's curriculum, where all begin.

    Raises:
        SimError: When there is no such device or engine here, or a scene can't be what the task needs.
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
        device: str = CPU,
        seed: int = 0,
        cameras: Sequence[RobotCamera] | None = None,
        camera_settings: CameraSettings | None = None,
        randomisation: Randomisation | None = None,
        starts: Split = "all",
        first_level: int = 0,
    ) -> None:
        check_device(device)
        self.task, self.scenes, self.robot, self.num_envs = task, list(scenes), robot, num_envs
        self.drive = drive
        self.course = task.course(self.scenes, robot, num_envs, task.control_period, starts=starts)
        self._starts, self._first_level = starts, first_level
        meshes = [scene.collision for scene in scenes]
        self.engine = find_engine(engine, device)(robot, meshes, num_envs, task.time_step)
        floors = [scene.regions for scene in scenes]
        self._randomiser = Randomiser(randomisation or Randomisation(), self.engine, robot, floors, task.substeps)
        renderer = make_renderer([scene.gaussians for scene in scenes], device)
        self.cameras = tuple(
            CameraRig(camera, robot, renderer, num_envs, camera_settings or task.camera_settings, task.control_period)
            for camera in ((RobotCamera(task.camera),) if cameras is None else cameras)
        )
        if len({key for rig in self.cameras for key in rig.spaces()}) < sum(len(rig.spaces()) for rig in self.cameras):
            raise ValueError("a robot's cameras need different names")
        self._scanner = HeightScanner(meshes, task.height_scan) if task.height_scan else None
        self._no_heights = np.zeros((num_envs, 0), np.float32)
        self.single_observation_space = self._observation_space()
        self.single_action_space = gymnasium.spaces.Box(-1, 1, (drive.size,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._weight = robot.mass * GRAVITY
        super().reset(seed=seed)
        self.scene_of = np.arange(num_envs) % len(scenes)
        self.level = np.full(num_envs, first_level)
        self._scene_weights = np.ones((num_envs, len(scenes)))  # a row for each, so that `save` keeps them
        self._action, self._seconds = np.zeros((num_envs, drive.size), np.float32), np.zeros(num_envs, np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin all episodes anew; `seed` makes everything after repeatable."""
        super().reset(seed=seed)
        if seed is not None:
            self.scene_of[:] = np.arange(self.num_envs) % len(self.scenes)
            self.level[:] = self._first_level
        self._begin(np.arange(self.num_envs))
        return self._observe(self._moment(self.engine.read(), self._action, self._bump())), {}

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
        self._randomiser.step(self.drive.targets(action), self.np_random)
        self._seconds += np.float32(self.task.control_period)
        bump = self._bump()
        state = self.engine.read()
        self._randomiser.moved(self.scene_of, state.position)
        self.course.update(state, self.np_random)
        moment = self._moment(state, action, bump)
        reward = np.zeros(self.num_envs, np.float32)
        for term in self.task.rewards.values():
            reward += np.float32(term.weight) * term.function(moment)
        ended = {name: term(moment) for name, term in self.task.terminations.items()}
        terminated = invalid.copy()
        for values in ended.values():
            terminated |= values
        truncated = ~terminated & (self._seconds >= self.task.seconds - 1e-4)
        info: dict[str, Any] = {f"ended_by_{name}": values for name, values in ended.items()}
        info["invalid_action"], info["scene"] = invalid, self.scene_of.copy()
        if self.task.curriculum:
            info["level"] = self.level.copy()
        self._action = action
        done = np.flatnonzero(terminated | truncated)
        if len(done):
            info.update(self._final(done, moment))
            self._learned(done, moment, terminated)
            self._begin(done)
            moment = self._moment(self.engine.read(), self._action, bump)
        return self._observe(moment), reward, terminated, truncated, info

    @property
    def scene_weights(self) -> NDArray[np.float64]:
        """How often episodes begin in each of the scenes, against each other (S,); all alike at first."""
        return self._scene_weights[0].copy()

    @scene_weights.setter
    def scene_weights(self, weights: NDArray[np.floating]) -> None:
        weights = np.asarray(weights, np.float64)
        if weights.shape != (len(self.scenes),) or (weights < 0).any() or not 0 < weights.sum() < np.inf:
            raise ValueError(f"each of {len(self.scenes)} scenes has a weight, not all of them 0: got {weights}")
        self._scene_weights = np.tile(weights, (self.num_envs, 1))

    def save(self) -> bytes:
        """All that the future depends on: for the same actions, `restore` of it gives the same future bit for bit."""
        return pack(self, self.num_envs, self.engine, self.np_random, self._about())

    def restore(self, state: bytes) -> None:
        """Go back to what `save` gave; of this environment, or of one made with the same arguments.

        Raises:
            SimError: When it is no such state.
        """
        unpack(state, self, self.num_envs, self.engine, self.np_random, self._about())

    def _about(self) -> dict[str, Any]:
        scenes = [scene.lock.sha256 for scene in self.scenes]
        names = {"task": self.task.name, "robot": self.robot.name, "engine": type(self.engine).__name__}
        names["starts"] = self._starts
        return {**names, "environments": self.num_envs, "scenes": scenes}

    def close_extras(self, **kwargs: Any) -> None:
        """Free the engine."""
        self.engine.close()

    def _learned(self, done: Int, moment: Moment[Any], failed: Bool) -> None:
        """The next levels of environments (M,) whose episodes ended; `moment` and `failed` are of all N."""
        if self.task.curriculum:
            change = self.task.curriculum.function(moment, failed)[done]
            self.level[done] = np.clip(self.level[done] + change, 0, self.task.curriculum.levels - 1)

    def _begin(self, envs: Int) -> None:
        """New episodes in environments (M,)."""
        rng = self.np_random
        if len(self.scenes) > 1:
            weights = self._scene_weights[0]
            self.scene_of[envs] = rng.choice(len(weights), len(envs), p=weights / weights.sum())
        scenes = self.scene_of[envs]
        starts = self.course.begin(envs, scenes, self.level[envs], rng)
        half, nothing = starts.yaw / 2, np.zeros(len(envs))
        quaternion = np.column_stack([np.cos(half), nothing, nothing, np.sin(half)])
        rest = np.tile(self.robot.default_position.astype(np.float32), (len(envs), 1))
        state = RobotState.at_rest(starts.position + np.array([0, 0, DROP]), quaternion, rest)
        self.engine.reset(envs, state, scenes)
        self._randomiser.begin(envs, scenes, state.position, rng)
        self._action = self._action.copy()  # people hold the old one as an observation
        self._action[envs], self._seconds[envs] = 0, 0
        for rig in self.cameras:
            rig.begin(envs, rng)

    def _bump(self) -> Float:
        """Horizontal contact force on the bases (N,), as shares of the weight; costs SAPIEN a loop over contacts."""
        force = self.engine.contact_forces()[:, 0, :2]
        return (np.linalg.norm(force, axis=1) / self._weight).astype(np.float32)

    def _moment(self, state: RobotState, action: Float, bump: Float) -> Moment[Any]:
        upright = state.world_from_base[:, 2, 2]
        return Moment(
            robot=self.robot,
            state=state,
            action=action,
            last_action=self._action,
            bump=bump,
            heights=self._scanner.read(state.position, state.quaternion, self.scene_of)
            if self._scanner
            else self._no_heights,
            tilt=np.arccos(np.clip(upright, -1, 1)).astype(np.float32),
            seconds=self._seconds.copy(),
            elapsed=self._seconds / np.float32(self.task.seconds),
            course=self.course.now(),
        )

    def _observe(self, moment: Moment[Any]) -> dict[str, Any]:
        things, seen = self.course.things(), dict[str, Any]()
        for rig in self.cameras:
            seen |= rig.observe(moment.state, self.scene_of, things, self._seconds, self.np_random)
        return seen | {name: term.function(moment) for name, term in self.task.observations.items()}

    def _observation_space(self) -> gymnasium.spaces.Dict:
        sizes = {"action": self.drive.size, "joints": len(self.robot.joint_names)}
        spaces: dict[str, gymnasium.Space[Any]] = {}
        for rig in self.cameras:
            spaces |= rig.spaces()
        for name, term in self.task.observations.items():
            size = sizes[term.size] if isinstance(term.size, str) else term.size
            spaces[name] = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        return gymnasium.spaces.Dict(spaces)

    def _final(self, done: Int, moment: Moment[Any]) -> dict[str, Any]:
        """The last observations of episodes that ended, as gymnasium wants them, and their outcomes."""
        seen = self._observe(moment)
        final, ended = np.full(self.num_envs, None, object), np.zeros(self.num_envs, bool)
        for env in done:
            final[env] = {name: values[env] for name, values in seen.items()}
        ended[done] = True
        success = self.task.success(moment) & ended
        outcomes = {name: term(moment) & ended for name, term in self.task.outcomes.items()}
        return {"final_obs": final, "_final_obs": ended, "final_success": success, "final_outcomes": outcomes}
