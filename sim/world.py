"""The physics of an environment: an engine with robots, scenes and loose bodies, and what is randomised of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from pipeline.constants import GRAVITY
from pipeline.geometry import Gaussians
from pipeline.types import F32, I64, Floats
from sim.config import EnvConfig
from sim.control.controller import Controller
from sim.physics.bodies import BodyState, RigidBody
from sim.physics.catalog import find_engine
from sim.randomisation import Randomisation, Randomiser
from sim.robots.legs import reduced
from sim.robots.model import Robot
from sim.robots.self_contacts import with_self_contacts
from sim.robots.state import RobotState
from sim.scene.scene import SimScene
from sim.sensors.cameras.props import Props
from sim.tasks.scenario import ResetPoses
from sim.tasks.task import Item, Task

DROP = 0.01
"""Height of robots above the floor at reset [m]: the mesh is uneven by millimetres."""


class LooseBodies:
    """Bodies that nothing holds: the scenes' objects, the scenario's own, the task's items.

    They are of an engine's: first the scenes' objects, then those that are in every scene.

    Attributes:
        groups: What an engine is made with: the bodies of each scene, then those of all; empty without any.
        loads: What loads the Gaussians of those that are drawn by them, each in its own frame.
        solid_hulls: Corners (V, 3) of the convex pieces of each body that is drawn as a solid, in its own axes [m].
    """

    def __init__(self, scenes: Sequence[SimScene], own: Sequence[RigidBody], items: Sequence[Item]) -> None:
        shared = [*own, *(item.body for item in items)]
        in_scenes = [scene.objects for scene in scenes]
        self._objects = [one for objects in in_scenes for one in objects]
        bodies = [[one.body for one in objects] for objects in in_scenes]
        self.groups = [*(bodies if self._objects or shared else []), *([shared] if shared else [])]
        scanned = [item.splat for item in items if item.splat]
        self.loads = [*(one.splat for one in self._objects), *scanned]
        first = len(self._objects)
        self._drawn = [*range(first), *range(first + len(own), first + len(own) + len(scanned))]
        self._solid = [number for number in range(first + len(shared)) if number not in self._drawn]
        whole = [body for group in self.groups for body in group]
        self.solid_hulls = tuple(whole[number].hulls for number in self._solid)

    @cached_property
    def splats(self) -> list[Gaussians]:
        """Gaussians of the bodies that are drawn by their splats, each in its own frame."""
        return [load() for load in self.loads]

    def at_rest(self, robot: Robot, positions: Floats, rng: np.random.Generator) -> BodyState:
        """Where objects stand when episodes begin with robots at positions (M, 3): not in a robot, where it can be."""
        found, quaternions = np.empty((len(positions), len(self._objects), 3)), [np.zeros((len(positions), 0, 4))]
        for number, one in enumerate(self._objects):
            (where, turned), drawn = one.starts, np.zeros(len(positions), np.int64)
            if one.places:
                apart = robot.radius + max(np.linalg.norm(hull[:, :2], axis=1).max() for hull in one.body.hulls)
                free = np.linalg.norm(where[None, :, :2] - positions[:, None, :2], axis=2) > apart
                drawn = (rng.random(free.shape) + free).argmax(1)
            found[:, number] = where[drawn]
            quaternions.append(turned[drawn][:, None])
        return BodyState.at_rest(found, np.concatenate(quaternions, 1))

    def shown(self, props: Props, state: BodyState) -> Props:
        """Props with the bodies where they are."""
        poses = state.world_from_bodies
        solids = replace(props.solids, pose=poses[:, self._solid]) if self._solid else props.solids
        return replace(props, objects=poses[:, self._drawn] if self._drawn else props.objects, solids=solids)


class World:
    """An engine with N robots in scenes, among loose bodies.

    Attributes:
        loops: Steps of the controller's loop in one of the task's.

    Raises:
        SimError: When there is no such engine here, or the robot doesn't suit it.
    """

    def __init__(
        self,
        task: Task,
        scenes: Sequence[SimScene],
        robot: Robot,
        controller: Controller,
        num_envs: int,
        loose: LooseBodies,
        config: EnvConfig,
    ) -> None:
        self._robot, self.loose, self._count, self._scenes = robot, loose, num_envs, scenes
        period, time_step = controller.period or task.control_period, controller.time_step or task.time_step
        self.loops, self.period = round(task.control_period / period), period
        body = reduced(robot) if controller.legs and config.reduced_collision else robot
        touches_itself = robot.fixed_base if config.self_collision is None else config.self_collision
        body = with_self_contacts(body) if touches_itself else body
        make, meshes = find_engine(config.engine, config.device), [scene.touched for scene in scenes]
        self.engine = make(body, meshes, num_envs, time_step, loose.groups)
        randomisation, regions = config.randomisation or Randomisation(), [scene.regions for scene in scenes]
        self.randomiser = Randomiser(randomisation, self.engine, robot, regions, round(period / time_step))

    def reset(self, envs: I64, scenes: I64, poses: ResetPoses, rng: np.random.Generator) -> F32:
        """Put robots and bodies of environments (M,) where episodes begin, in scenes (M,); returns joints (M, J).

        All of them stand on what is touched, wherever that is (`SimScene.moved_from_world`).
        """
        half, zeros = poses.yaw / 2, np.zeros(len(envs))
        quaternion = np.column_stack([np.cos(half), zeros, zeros, np.sin(half)])
        rest = np.tile(self._robot.default_position.astype(np.float32), (len(envs), 1))
        joints = rest if poses.joints is None else poses.joints
        drop = np.array([0, 0, 0 if self._robot.fixed_base else DROP])
        position = self._raised(scenes, poses.position)
        state = RobotState.at_rest(position + drop, quaternion, joints)
        self.engine.reset(envs, state, scenes)
        if self.engine.bodies:
            bodies = self.loose.at_rest(self._robot, poses.position, rng)
            bodies = bodies if poses.bodies is None else bodies.joined(poses.bodies)
            bodies = replace(bodies, position=self._raised(scenes, bodies.position).astype(np.float32))
            self.engine.place_bodies(envs, bodies, asleep=poses.bodies is None)
        self.randomiser.reset(envs, rng)
        return joints

    def _raised(self, scenes: I64, position: Floats) -> Floats:
        """Positions (M, ..., 3) in scenes (M,) [m], as high above what is touched as they are above what is seen."""
        raised = np.array(position, np.float64)
        for scene in np.unique(scenes):
            rows = scenes == scene
            raised[rows, ..., 2] += self._scenes[scene].rise(position[rows])
        return raised

    def contact_force(self) -> F32:
        """Horizontal contact force on the bases (N,), relative to the weight; costs SAPIEN a loop over contacts.

        0 for bases that are fixed.
        """
        if self._robot.fixed_base:
            return np.zeros(self._count, np.float32)
        force = self.engine.contact_forces()[:, 0, :2]
        return (np.linalg.norm(force, axis=1) / (self._robot.mass * GRAVITY)).astype(np.float32)

    def bodies(self) -> BodyState | None:
        """Where loose bodies are; None without any."""
        return self.engine.read_bodies() if self.engine.bodies else None

    def shown(self, props: Props) -> Props:
        """Props with the loose bodies where they are."""
        bodies = self.bodies()
        return props if bodies is None else self.loose.shown(props, bodies)
