"""Many robots in many scenes as one `gymnasium.vector.VectorEnv`."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from pipeline.constants import GRAVITY
from pipeline.errors import SimError
from pipeline.geometry import Gaussians
from pipeline.types import F32, F64, I64, Floats, Mask
from sim.control.controller import Controller
from sim.control.state import Sensed
from sim.physics.bodies import BodyState
from sim.physics.catalog import find_engine
from sim.physics.state import packed
from sim.randomisation import Randomisation, Randomiser
from sim.robots.legs import reduced
from sim.robots.model import Robot
from sim.robots.self_contacts import with_self_contacts
from sim.robots.state import RobotState
from sim.saved import Saved, arrays_of, set_arrays_of
from sim.scene.floors import Floors, Split
from sim.scene.scene import SimScene
from sim.sensors.cameras.objects import ObjectSplats
from sim.sensors.cameras.props import Props
from sim.sensors.cameras.renderer import CPU, check_device, make_renderer
from sim.sensors.cameras.rig import CameraRig
from sim.sensors.cameras.settings import CameraSettings, RobotCamera
from sim.sensors.height_scan import make_scanner
from sim.tasks.driving.experts import along_path
from sim.tasks.task import Curriculum, StepState, Task

DROP = 0.01
"""Height of robots above the floor at reset [m]: the mesh is uneven by millimetres."""
TIME = "time"
"""What ended an episode that no termination ended."""
STATE_FORMAT = "splatyard.sim_state.3"
ENGINE, ABOUT = "engine", "about"
"""Names in a saved state, in addition to those of the arrays."""

Observations = dict[str, np.ndarray]
"""Observations of all N environments, by name."""


@dataclass(frozen=True)
class EnvConfig:
    """How a simulation runs.

    Attributes:
        engine: Physics engine, a name in `sim.physics.catalog`.
        device: Device that renders the images, and that GPU engines run on: cpu, cuda, or cuda:1 and so on.
        seed: Seed of everything random, until `reset` gives another.
        cameras: Cameras of each robot; by default one colour camera with the task's lens, () for blind robots.
        camera_settings: Clock, exposure and noise of the cameras; the task's by default.
        randomisation: Ranges of friction, mass, motors, latency, pushes and arms' tables; none by default.
        starts: Where episodes begin: anywhere ("all"), on the training floor, or on the held-out floor.
        level: Initial level of the task's curriculum.
        observation_noise: Whether observations are as noisy as the task says.
        reduced_collision: Whether legs touch the scene with few simple shapes: several times as fast.
        self_collision: Whether a robot's links touch each other; by default those of robots with a fixed base do, whom
            it costs next to nothing.
        expert: Whether the actions of the task's expert are an observation.
        stagger: Whether the first episodes after `reset` end at different times, so that not all end at once.
        seconds: Time limit of an episode [s]; the task's by default, of which `StepState.elapsed` is a fraction anyway.
        autoreset: Whether episodes that ended are reset in the same step; else they go on until `reset` is called for
            them.
    """

    engine: str = "sapien"
    device: str = CPU
    seed: int = 0
    cameras: Sequence[RobotCamera] | None = None
    camera_settings: CameraSettings | None = None
    randomisation: Randomisation | None = None
    starts: Split = "all"
    level: int = 0
    observation_noise: bool = False
    reduced_collision: bool = False
    self_collision: bool | None = None
    expert: bool = False
    stagger: bool = False
    seconds: float | None = None
    autoreset: bool = True


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
        config: EnvConfig = EnvConfig(),
    ) -> None:
        check_device(config.device)
        task, scenes = task.in_scenes(scenes, robot)
        self.scenes, self.robot, self.num_envs = scenes, robot, num_envs
        self.controller, self.config = controller, config
        if not config.autoreset:
            self.metadata = {**self.metadata, "autoreset_mode": AutoresetMode.DISABLED}
        self.scenario = task.scenario(Floors(scenes, robot, config.starts), num_envs, task.control_period)
        self.expert = task.expert or along_path(self.scenario, controller)
        if config.expert:
            if self.expert is None:
                raise SimError("a task's expert is asked", found=f"{task.name} has none", remedy="take another task")
            task = task.with_expert(self.expert)
        self.task = task
        randomisation = config.randomisation or Randomisation()
        settings = config.camera_settings or task.camera_settings
        self.scenario.vary(randomisation, light=settings.varies_light)
        own_bodies = [*self.scenario.bodies, *(item.body for item in task.items)]
        meshes = [scene.collision for scene in scenes]
        period, time_step = controller.period or task.control_period, controller.time_step or task.time_step
        self._loops = round(task.control_period / period)
        self.watchers: list[Callable[[], None]] = []
        body = reduced(robot) if controller.legs and config.reduced_collision else robot
        touches_itself = robot.fixed_base if config.self_collision is None else config.self_collision
        body = with_self_contacts(body) if touches_itself else body
        objects = [scene.objects for scene in scenes]
        loose = [[one.body for one in own] for own in objects] if any(objects) or own_bodies else []
        loose += [own_bodies] if own_bodies else []
        self.engine = find_engine(config.engine, config.device)(body, meshes, num_envs, time_step, loose)
        self._objects = [one for own in objects for one in own]
        scanned = [item.splat for item in task.items if item.splat]
        self._splats = [*(one.splat for one in self._objects), *scanned]
        first, own = len(self._objects), len(own_bodies) - len(task.items)
        self._drawn = [*range(first), *range(first + own, first + own + len(scanned))]
        self._solid = [number for number in range(first + len(own_bodies)) if number not in self._drawn]
        self.solid_hulls = tuple(self.engine.bodies[number].hulls for number in self._solid)
        regions = [scene.regions for scene in scenes]
        self._randomiser = Randomiser(randomisation, self.engine, robot, regions, round(period / time_step))
        cameras = task.cameras_of(robot) if config.cameras is None else config.cameras
        self.cameras: tuple[CameraRig, ...] = ()
        if cameras:
            renderer = make_renderer([*(scene.gaussians for scene in scenes), *self.things], config.device)
            drawn = ObjectSplats(renderer, len(scenes), self.things)
            self.cameras = tuple(
                CameraRig(camera, robot, renderer, num_envs, settings, task.control_period, drawn, self.solid_hulls)
                for camera in cameras
            )
        spaces: dict[str, gymnasium.Space] = {}
        for rig in self.cameras:
            if spaces.keys() & rig.spaces():
                raise ValueError("a robot's cameras need different names")
            spaces |= rig.spaces()
        feet = len(controller.legs.feet) if controller.legs else 0
        sizes = {"action": controller.size, "joints": len(robot.joint_names), "feet": feet}
        for name, term in task.observations.items():
            size = sizes[term.size] if isinstance(term.size, str) else term.size
            spaces[name] = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self._scanner = make_scanner(scenes, task.height_scan) if task.height_scan else None
        self._feeler = self._scanner
        if controller.height_scan and task.height_scan != controller.height_scan:
            self._feeler = make_scanner(scenes, controller.height_scan)
        self._no_heights = np.zeros((num_envs, 0), np.float32)
        self._ground = self._no_heights
        self.single_observation_space = gymnasium.spaces.Dict(spaces)
        self.single_action_space = gymnasium.spaces.Box(-1, 1, (controller.size,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._weight = robot.mass * GRAVITY
        controller.start(num_envs)
        super().reset(seed=config.seed)
        self.scene_of = np.arange(num_envs) % len(scenes)
        self.level = np.full(num_envs, config.level)
        self._scene_weights = np.ones((num_envs, len(scenes)))  # a row per environment, so that `save` keeps them
        self._reward_weights, self._sums = task.weights(), np.zeros((num_envs, len(task.rewards)), np.float32)
        self.last_step: StepState[Any] | None = None
        self.now: StepState[Any] | None = None
        self._action, self._steps = np.zeros((num_envs, controller.size), np.float32), np.zeros(num_envs, np.int64)

    @property
    def longest(self) -> int:
        """Steps until the time limit of an episode."""
        return self.task.steps_in(self.config.seconds or self.task.seconds)

    @cached_property
    def things(self) -> list[Gaussians]:
        """Gaussians of the bodies of `Props.objects`, each in its own frame."""
        return [load() for load in self._splats]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, object]]:
        """Begin all episodes, or those of the environments that are true in `options["reset_mask"]` (N,).

        `seed` makes everything after it repeatable.
        """
        super().reset(seed=seed)
        if seed is not None:
            self.scene_of[:] = np.arange(self.num_envs) % len(self.scenes)
            self.level[:] = self.config.level
        envs = np.flatnonzero((options or {}).get("reset_mask", np.ones(self.num_envs, bool)))
        self._reset_envs(envs)
        if self.config.stagger:
            self._steps[envs] = self.np_random.integers(self.longest, size=len(envs))
        self.now = self.last_step = self._step_state(self.engine.read(), self._action, self._contact_force())
        return self._observe(self.now), {}

    def step(self, actions: F32) -> tuple[Observations, F32, Mask, Mask, dict[str, Any]]:
        """Act for one control period."""
        raw = np.asarray(actions, np.float32).reshape(self.num_envs, self.controller.size)
        invalid = np.asarray(~np.isfinite(raw).all(1))
        action = np.clip(np.where(invalid[:, None], 0, raw), -1, 1)
        self._act(action)
        self._steps += 1
        contact_force = self._contact_force()
        state = self.engine.read()
        self._randomiser.moved(self.scene_of, state.position)
        self.scenario.update(state, self.np_random)
        step = self.last_step = self._step_state(state, action, contact_force)
        reward = np.zeros(self.num_envs, np.float32)
        for number, (weight, term) in enumerate(zip(self._reward_weights, self.task.rewards.values(), strict=True)):
            worth = weight * term.function(step)
            reward += worth
            self._sums[:, number] += worth
        ended = {name: term(step) for name, term in self.task.terminations.items()}
        terminated = invalid.copy()
        for values in ended.values():
            terminated |= values
        truncated = ~terminated & (self._steps >= self.longest)
        info: dict[str, object] = {f"ended_by_{name}": values for name, values in ended.items()}
        info["invalid_action"], info["scene"] = invalid, self.scene_of.copy()
        if self.task.curriculum:
            info["level"] = self.level.copy()
        self._action = action
        done = np.flatnonzero(terminated | truncated)
        if len(done) and self.config.autoreset:
            info.update(self._final(done, step))
            if self.task.curriculum:
                self._change_levels(self.task.curriculum, step, terminated, done)
            self._reset_envs(done)
            step = self._step_state(self.engine.read(), self._action, contact_force)
        self.now = step
        return self._observe(step), reward, terminated, truncated, info

    def _change_levels(self, curriculum: Curriculum, step: StepState[Any], failed: Mask, done: I64) -> None:
        """Change the levels of environments (M,) whose episodes ended."""
        level = self.level[done] + curriculum.function(step, failed)[done]
        if curriculum.again:
            level = np.where(level < curriculum.levels, level, self.np_random.integers(0, curriculum.levels, len(done)))
        self.level[done] = np.clip(level, 0, curriculum.levels - 1)

    def _act(self, action: F32) -> None:
        """Move for one control period."""
        assert self.now, "it was reset"
        command = self.now.scenario.command if self.scenario.commands else None
        sensed = Sensed(self.now.state, self._ground, command)
        self.controller.begin(action, sensed)
        for loop in range(self._loops):
            if loop:
                state = self.engine.read()
                sensed = Sensed(state, self._feel(state), command)
            self._randomiser.step(self.controller.targets(action, sensed), self.np_random)
            for watch in self.watchers:
                watch()

    def _feel(self, state: RobotState) -> F32:
        """Ground that the controller sees (N, K)."""
        if not self._feeler:
            return self._no_heights
        return self._feeler.read(state.position, state.quaternion, self.scene_of)

    @property
    def scene_weights(self) -> F64:
        """Relative frequency of the scenes in new episodes (S,); uniform at first."""
        return self._scene_weights[0].copy()

    @scene_weights.setter
    def scene_weights(self, weights: Floats) -> None:
        weights = np.asarray(weights, np.float64)
        if weights.shape != (len(self.scenes),) or (weights < 0).any() or not 0 < weights.sum() < np.inf:
            raise ValueError(f"{len(self.scenes)} scenes need as many weights, not all of them 0: got {weights}")
        self._scene_weights = np.tile(weights, (self.num_envs, 1))

    def save(self) -> bytes:
        """All that the future depends on: after `restore`, the same actions give the same future bit for bit.

        What changes during episodes are arrays with a row per environment, of this object and of its `Saved` parts;
        the engine saves itself, and all randomness comes from one generator.
        """
        world = np.frombuffer(self.engine.save(), np.uint8)  # first: it may change what the engine does next
        if self.now:
            self._look_again()
        text = json.dumps({**self._about(), "rng": self.np_random.bit_generator.state})
        return packed({ENGINE: world, ABOUT: np.frombuffer(text.encode(), np.uint8), **self._arrays()})

    def restore(self, state: bytes) -> None:
        """Go back to what `save` returned; of this environment, or of one made with the same arguments.

        Raises:
            SimError: When it is no such state.
        """
        try:
            with np.load(io.BytesIO(state), allow_pickle=False) as file:
                saved = {name: file[name] for name in file.files}
            found = json.loads(saved.pop(ABOUT).tobytes())
            world, generator = saved.pop(ENGINE).tobytes(), found.pop("rng")
        except (ValueError, TypeError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
            found = f"{type(error).__name__}: {error}"
            raise SimError("a state is what `save` returned", found=found, remedy="save it again") from error
        expected = self._about()
        if found.get("format") != STATE_FORMAT:
            raise SimError(
                "a state goes back into the version of splatyard that saved it",
                found=f"the format {found.get('format')!r} instead of {STATE_FORMAT!r}",
                remedy="begin new episodes; to go on with a training, start it again under another --name",
            )
        shapes = {name: array.shape for name, array in self._arrays().items()}
        if found != expected or {name: array.shape for name, array in saved.items()} != shapes:
            other = [name for name in expected if found.get(name) != expected[name]] or ["its settings"]
            raise SimError(
                "a state goes back into an environment like the one it comes from",
                found=f"it differs in {', '.join(other)}",
                remedy="make the environment with the same arguments",
            )
        self.engine.restore(world)
        self.np_random.bit_generator.state = generator
        self._action, self._steps, self._scene_weights = saved["action"], saved["steps"], saved["scene_weights"]
        self._sums = saved["sums"]
        self.scene_of, self.level = saved["scene_of"], saved["level"]
        set_arrays_of(self._parts(), saved)
        self._look_again()

    def _look_again(self) -> None:
        """See what the engine has now, which it may have rounded."""
        self.now = self._step_state(self.engine.read(), self._action, self._contact_force())

    def _about(self) -> dict[str, object]:
        """Identity of the environment."""
        return {
            "format": STATE_FORMAT,
            "task": self.task.name,
            "robot": self.robot.name,
            "engine": type(self.engine).__name__,
            "starts": self.config.starts,
            "environments": self.num_envs,
            "scenes": [scene.lock.sha256 for scene in self.scenes],
        }

    def _parts(self) -> dict[str, Saved]:
        """What changes during episodes, by the names that a saved state has for it."""
        cameras = {f"cameras.{number}": rig for number, rig in enumerate(self.cameras)}
        own = {"scenario": self.scenario, "controller": self.controller, "randomiser": self._randomiser}
        return {**own, **cameras}

    def _arrays(self) -> dict[str, np.ndarray]:
        """All arrays with a row per environment that change, the engine's apart."""
        own = {"action": self._action, "steps": self._steps, "scene_weights": self._scene_weights, "sums": self._sums}
        return {**own, "scene_of": self.scene_of, "level": self.level, **arrays_of(self._parts())}

    def close_extras(self, **kwargs: object) -> None:
        """Free the engine."""
        self.engine.close()

    def _reset_envs(self, envs: I64) -> None:
        """Begin new episodes in environments (M,)."""
        rng = self.np_random
        if len(self.scenes) > 1:
            weights = self._scene_weights[0]
            self.scene_of[envs] = rng.choice(len(weights), len(envs), p=weights / weights.sum())
        scenes = self.scene_of[envs]
        poses = self.scenario.reset(envs, scenes, self.level[envs], rng)
        half, zeros = poses.yaw / 2, np.zeros(len(envs))
        quaternion = np.column_stack([np.cos(half), zeros, zeros, np.sin(half)])
        rest = np.tile(self.robot.default_position.astype(np.float32), (len(envs), 1))
        joints = rest if poses.joints is None else poses.joints
        drop = np.array([0, 0, 0 if self.robot.fixed_base else DROP])
        state = RobotState.at_rest(poses.position + drop, quaternion, joints)
        self.engine.reset(envs, state, scenes)
        if self.engine.bodies:
            bodies = self._objects_at_rest(poses.position, rng)
            bodies = bodies if poses.bodies is None else bodies.joined(poses.bodies)
            self.engine.place_bodies(envs, bodies, asleep=poses.bodies is None)
        self._randomiser.reset(envs, scenes, state.position, rng)
        self.controller.reset(envs, joints, rng)
        self._action = self._action.copy()  # callers may hold the old one as an observation
        self._action[envs], self._steps[envs], self._sums[envs] = 0, 0, 0
        for rig in self.cameras:
            rig.reset(envs, rng)

    def _objects_at_rest(self, robots: Floats, rng: np.random.Generator) -> BodyState:
        """Where objects stand when episodes begin with robots at positions (M, 3): not in a robot, where it can be."""
        positions, quaternions = np.empty((len(robots), len(self._objects), 3)), [np.zeros((len(robots), 0, 4))]
        for number, one in enumerate(self._objects):
            (where, turned), drawn = one.starts, np.zeros(len(robots), np.int64)
            if one.places:
                apart = self.robot.radius + max(np.linalg.norm(hull[:, :2], axis=1).max() for hull in one.body.hulls)
                free = np.linalg.norm(where[None, :, :2] - robots[:, None, :2], axis=2) > apart
                drawn = (rng.random(free.shape) + free).argmax(1)
            positions[:, number] = where[drawn]
            quaternions.append(turned[drawn][:, None])
        return BodyState.at_rest(positions, np.concatenate(quaternions, 1))

    @property
    def _seconds(self) -> F64:
        """Time since each episode began (N,) [s]: a sum of periods would drift."""
        return np.asarray(self._steps * self.task.control_period, np.float64)

    def _contact_force(self) -> F32:
        """Horizontal contact force on the bases (N,), relative to the weight; costs SAPIEN a loop over contacts.

        0 for bases that are fixed.
        """
        if self.robot.fixed_base:
            return np.zeros(self.num_envs, np.float32)
        force = self.engine.contact_forces()[:, 0, :2]
        return (np.linalg.norm(force, axis=1) / self._weight).astype(np.float32)

    def _step_state(self, state: RobotState, action: F32, contact_force: F32) -> StepState[object]:
        upright = state.world_from_base[:, 2, 2]
        heights = self._no_heights
        if self._scanner:
            heights = self._scanner.read(state.position, state.quaternion, self.scene_of)
        self._ground = heights if self._feeler is self._scanner else self._feel(state)
        return StepState(
            robot=self.robot,
            state=state,
            action=action,
            last_action=self._action,
            contact_force=contact_force,
            heights=heights,
            tilt=np.arccos(np.clip(upright, -1, 1)).astype(np.float32),
            seconds=self._seconds,
            elapsed=(self._seconds / self.task.seconds).astype(np.float32),
            legs=self.controller.measure(self.engine, state, self._ground),
            scenario=self.scenario.state(),
            arm=self.controller.end_effectors(),
            bodies=self.engine.read_bodies() if self.engine.bodies else None,
        )

    def _observe(self, step: StepState[object]) -> Observations:
        props, observations = self.props(), Observations()
        for rig in self.cameras:
            observations |= rig.observe(step.state, self.scene_of, props, self._seconds, self.np_random)
        for name, term in self.task.observations.items():
            value = term.function(step)
            if term.noise and self.config.observation_noise:
                value = value + np.float32(term.noise) * self.np_random.standard_normal(value.shape, np.float32)
            observations[name] = value
        return observations

    def props(self) -> Props:
        """What cameras see beside splats and robots."""
        props = self.scenario.props()
        if self.engine.bodies:
            poses = self.engine.read_bodies().world_from_bodies
            solids = replace(props.solids, pose=poses[:, self._solid]) if self._solid else props.solids
            props = replace(props, objects=poses[:, self._drawn] if self._drawn else props.objects, solids=solids)
        return props

    def _final(self, done: I64, step: StepState[object]) -> dict[str, object]:
        """Last observations of episodes that ended, in gymnasium's form, and their outcomes."""
        observations = self._observe(step)
        final, ended = np.full(self.num_envs, None, object), np.zeros(self.num_envs, bool)
        for env in done:
            final[env] = {name: values[env] for name, values in observations.items()}
        ended[done] = True
        success = self.task.success(step) & ended
        outcomes = {name: term(step) & ended for name, term in self.task.outcomes.items()}
        rewards = {name: np.where(ended, self._sums[:, number], 0) for number, name in enumerate(self.task.rewards)}
        info = {"final_success": success, "final_outcomes": outcomes, "final_rewards": rewards}
        return {"final_obs": final, "_final_obs": ended, **info}
