"""Many robots in many scenes as one `gymnasium.vector.VectorEnv`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from pipeline.errors import SimError
from pipeline.geometry import Gaussians
from pipeline.types import F32, F64, I64, Floats, Mask
from sim.config import EnvConfig
from sim.control.controller import Controller
from sim.episodes import Episodes, drawn_by
from sim.randomisation import Randomisation
from sim.rigs import make_ground, make_rigs
from sim.robots.model import Robot
from sim.scene.floors import Floors
from sim.scene.scene import SimScene
from sim.senses import Senses
from sim.sensors.cameras.props import Props
from sim.sensors.cameras.renderer import check_device
from sim.sensors.sensor import Moment, Readings, Sensors
from sim.snapshots import Snapshots, identity
from sim.tasks.driving.experts import who_knows
from sim.tasks.task import StepState, Task
from sim.world import LooseBodies, World

Observations = Readings
TRUTH, FINAL_TRUTH = "truth", "final_truth"
"""In `info`: what is true (N, K) where observations have noise, by their names; and at the end of episodes."""


class SceneEnv(gymnasium.vector.VectorEnv[Observations, F32, np.ndarray]):
    """N robots, each in one of the scenes; environments draw a new scene at reset, according to `scene_weights`.

    An episode that ended is reset in the same step: its last observation is in `info["final_obs"]`, whether it solved
    the task in `info["final_success"]` (N,), further outcomes in `info["final_outcomes"]`, (N,) by name, and what each
    of its rewards came to in `info["final_rewards"]`, (N,) by name; false and 0 where no episode ended. Without
    `EnvConfig.autoreset` that is left to `reset`. `info["scene"]` (N,) is the scene of this step's episodes. An action
    with NaN ends the episode of its environment; `info["invalid_action"]` says where. `last_step` is the state after
    the last step, before episodes that ended were reset; `now` is the state that the last observations show, after
    that. `watchers` are called after each step of the controller's loop. `expert` says the right actions (N, A), if
    anybody knows. `solid_hulls` are the corners (V, 3) of the convex pieces of each body of the props' solids, in its
    own axes [m].

    Raises:
        SimError: When there is no such device or engine here, or a scene doesn't suit the task.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}  # noqa: RUF012 - gymnasium's own way

    def __init__(
        self,
        task: Task,
        scenes: Sequence[SimScene],
        robot: Robot,
        controller: Controller,
        num_envs: int,
        config: EnvConfig | None = None,
    ) -> None:
        config = config or EnvConfig()
        check_device(config.device)
        task, scenes = task.in_scenes(scenes, robot)
        self.scenes, self.robot, self.num_envs = scenes, robot, num_envs
        self.controller, self.config = controller, config
        if not config.autoreset:
            self.metadata = {**self.metadata, "autoreset_mode": AutoresetMode.DISABLED}
        self.scenario = task.scenario(Floors(scenes, robot, config.starts), num_envs, task.control_period)
        self.expert = task.expert or who_knows(self.scenario, controller)
        if config.expert:
            if self.expert is None:
                raise SimError("a task's expert is asked", found=f"{task.name} has none", remedy="take another task")
            task = task.with_expert(self.expert)
        self.task = task
        settings = config.camera_settings or task.camera_settings
        self.scenario.vary(config.randomisation or Randomisation(), light=settings.varies_light)
        self._loose = LooseBodies(scenes, self.scenario.bodies, task.items)
        self.watchers: list[Callable[[], None]] = []
        self._world = World(task, scenes, robot, controller, num_envs, self._loose, config)
        self.engine, self.randomiser = self._world.engine, self._world.randomiser
        self.solid_hulls = self._loose.solid_hulls
        mounted = task.cameras_of(robot) if config.cameras is None else config.cameras
        self.cameras = make_rigs(
            mounted, scenes, robot, self._loose, num_envs, settings, task.control_period, config.device
        )
        vectors = task.sensors(task.sizes(robot, controller), noisy=config.observation_noise)
        self._sensors = Sensors(self.cameras, vectors)
        self.single_observation_space = gymnasium.spaces.Dict(self._sensors.spaces())
        self.single_action_space = gymnasium.spaces.Box(-1, 1, (controller.size,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        controller.start(num_envs)
        super().reset(seed=config.seed)
        self.episodes = Episodes(task, num_envs, len(scenes), controller.size, config.level)
        about = identity(task, robot, self.engine, scenes, config.starts, num_envs)
        ground = make_ground(task, scenes, robot, controller, self._world, num_envs, config)
        self.senses = Senses(task, scenes, robot, controller, self.scenario, self._world, self.episodes, ground)
        parts = {"scenario": self.scenario, "controller": controller, "randomiser": self.randomiser}
        parts |= {f"cameras.{number}": rig for number, rig in enumerate(self.cameras)}
        self.snapshots = Snapshots(about, self.engine, self.episodes, parts | {"ground": ground})
        self.last_step: StepState[Any] | None = None
        self.now: StepState[Any] | None = None

    @property
    def longest(self) -> int:
        """Steps until the time limit of an episode."""
        return self.task.steps_in(self.config.seconds or self.task.seconds)

    @property
    def object_splats(self) -> list[Gaussians]:
        """Gaussians of the bodies of `Props.objects`, each in its own frame."""
        return self._loose.splats

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Begin all episodes, or those of the environments that are true in `options["reset_mask"]` (N,).

        `seed` makes everything after it repeatable; by `options["seeds"]` (N,) each begins whatever the others do.
        """
        super().reset(seed=seed)
        if seed is not None:
            self.episodes.begin()
        asked = options or {}
        envs = np.flatnonzero(asked.get("reset_mask", np.ones(self.num_envs, bool)))
        for some, rng in drawn_by(envs, asked.get("seeds"), self.np_random):
            self._reset_envs(some, rng)
        if self.config.stagger:
            self.episodes.steps[envs] = self.np_random.integers(self.longest, size=len(envs))
        self.now = self.last_step = self.senses.begin(envs, self.np_random)
        observations, true = self._observe(self.now)
        return observations, {TRUTH: true}

    def step(self, actions: F32) -> tuple[Observations, F32, Mask, Mask, dict[str, Any]]:
        """Act for one control period."""
        raw = np.asarray(actions, np.float32).reshape(self.num_envs, self.controller.size)
        invalid = np.asarray(~np.isfinite(raw).all(1))
        action = np.clip(np.where(invalid[:, None], 0, raw), -1, 1)
        self._act(action)
        self.episodes.steps += 1
        state = self.engine.read()
        self.senses.update(state, self.np_random)
        step = self.last_step = self.senses.now(action, state)
        reward = self.episodes.reward(step)
        ended = {name: term(step) for name, term in self.task.terminations.items()}
        terminated = invalid.copy()
        for values in ended.values():
            terminated |= values
        truncated = ~terminated & (self.episodes.steps >= self.longest)
        info: dict[str, object] = {f"ended_by_{name}": values for name, values in ended.items()}
        info["invalid_action"], info["scene"] = invalid, self.scene_of.copy()
        if self.task.curriculum:
            info["level"] = self.level.copy()
        self.episodes.action = action
        done = np.flatnonzero(terminated | truncated)
        if len(done) and self.config.autoreset:
            info.update(self._final(done, step))
            self.episodes.change_levels(step, terminated, done, self.np_random)
            self._reset_envs(done, self.np_random)
            step = self.senses.begin(done, self.np_random, step.contact_force)
        self.now = step
        observations, info[TRUTH] = self._observe(step)
        return observations, reward, terminated, truncated, info

    def _act(self, action: F32) -> None:
        """Move for one control period."""
        assert self.now, "it was reset"
        sensed = self.senses.by_controller(self.now)
        self.controller.begin(action, sensed)
        for loop in range(self._world.loops):
            if loop:
                sensed = self.senses.later(loop, self.now, self.np_random)
            self.randomiser.step(self.controller.targets(action, sensed), self.np_random)
            for watch in self.watchers:
                watch()

    @property
    def scene_of(self) -> I64:
        """Scenes (N,) of the running episodes."""
        return self.episodes.scene_of

    @property
    def level(self) -> I64:
        """Levels (N,) of the task's curriculum."""
        return self.episodes.level

    @property
    def scene_weights(self) -> F64:
        """Relative frequency of the scenes in new episodes (S,); uniform at first."""
        return self.episodes.scene_weights[0].copy()

    @scene_weights.setter
    def scene_weights(self, weights: Floats) -> None:
        self.episodes.weigh_scenes(weights)

    def save(self) -> bytes:
        """All that the future depends on: after `restore`, the same actions give the same future bit for bit."""
        world = self.engine.save()  # first: it may change what the engine does next
        if self.now:
            self._look_again()
        return self.snapshots.written(world, self.np_random)

    def restore(self, state: bytes) -> None:
        """Go back to what `save` returned; of this environment, or of one made with the same arguments.

        Raises:
            SimError: When it is no such state.
        """
        self.snapshots.restore(state, self.np_random)
        self._look_again()

    def _look_again(self) -> None:
        """See what the engine has now, which it may have rounded."""
        self.now = self.senses.now(self.episodes.action)

    def close_extras(self, **kwargs: object) -> None:
        """Free the engine."""
        self.engine.close()

    def _reset_envs(self, envs: I64, rng: np.random.Generator) -> None:
        """Begin new episodes in environments (M,)."""
        scenes = self.episodes.draw_scenes(envs, rng)
        poses = self.scenario.reset(envs, scenes, self.level[envs], rng)
        joints = self._world.reset(envs, scenes, poses, rng)
        self.controller.reset(envs, joints, rng)
        self.episodes.reset(envs)
        self._sensors.reset(envs, rng)

    def _observe(self, step: StepState[Any]) -> tuple[Observations, Observations]:
        now = Moment(step.state, self.scene_of, self.props(), self.episodes.seconds, step)
        return self._sensors.read(now, self.np_random)

    def props(self) -> Props:
        """What cameras see beside splats and robots."""
        return self._world.shown(self.scenario.props())

    def _final(self, done: I64, step: StepState[object]) -> dict[str, object]:
        """Last observations of episodes that ended, in gymnasium's form, and their outcomes."""
        observations, true = self._observe(step)
        ended = np.isin(np.arange(self.num_envs), done)
        final = np.full(self.num_envs, None, object)
        for env in done:
            final[env] = {name: values[env] for name, values in observations.items()}
        return {"final_obs": final, "_final_obs": ended, FINAL_TRUTH: true, **self.episodes.outcomes(step, ended)}
