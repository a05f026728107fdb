"""The driver that finds a ball in places that it has never seen: by its eyes, and a map of the episode's depth."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.errors import SimError
from pipeline.geometry import Camera
from pipeline.types import F32, F64, U8, Floats, Mask
from sim.control.state import Velocities
from sim.env import Observations, SceneEnv
from sim.finding.eyes import BUILDS, Eyes, Modality
from sim.finding.finder import PERIOD, Finder, upright
from sim.finding.maps import on_floor
from sim.robots.model import Robot
from sim.sensors.cameras.rig import CameraRig
from sim.sensors.networks import flat_floor

Look = Callable[[U8, F32], tuple[F32, F32]]
MEASURED = ("odometry", "projected_gravity", "action")
"""What it needs beside images: how it moved since the last step, which way is down, and what it was told then."""


@dataclass(frozen=True, eq=False)
class FinderBody:
    """What finding a ball needs to know of a robot.

    Attributes:
        rig: The camera that has what eyes see.
        lens: Its lens.
        velocities: How it is told speeds.
    """

    robot: Robot
    rig: CameraRig
    lens: Camera
    velocities: Velocities

    @staticmethod
    def of(env: SceneEnv, modality: Modality) -> FinderBody:
        """That of an environment's robots, for eyes that see so.

        Raises:
            SimError: When they lack what it needs.
        """
        rig, velocities = _camera(env, modality), env.controller.velocities
        lens = rig.camera.lens
        lacks = [name for name in MEASURED if name not in env.task.observations]
        if lacks or velocities is None or not isinstance(lens, Camera):
            raise SimError(
                "find drives robots that take speeds, by a pinhole camera and odometry, action and projected_gravity",
                found=f"{env.robot.name} in {env.task.name} lacks {', '.join(lacks) or 'speeds or a pinhole camera'}",
                remedy="--task find, and a robot with wheels or a gait",
            )
        if not np.isclose(env.task.control_period, PERIOD):
            raise SimError(
                f"find looks and decides every {PERIOD:g} s",
                found=f"{env.task.name}, every {env.task.control_period:g} s",
                remedy="--task find",
            )
        return FinderBody(env.robot, rig, lens, velocities)

    def finder(self, count: int) -> Finder:
        """The beliefs of so many such robots."""
        robot = self.robot
        return Finder(count, self.lens, self.rig.mount, robot.radius, robot.height, robot.base_height)

    def flat_floor(self, gravity: Floats) -> F32:
        """Depths (N, H, W) [m] of a floor without end, with gravity (N, 3) in the base's axes; 0 above it."""
        return flat_floor(self.lens, self._cameras(gravity))

    def on_floor(self, depth: F32, gravity: Floats) -> tuple[Mask, Mask]:
        """Where depths (N, H, W) [m] show obstacles for the robot, and where floor is missing."""
        return on_floor(depth, self.lens, self._cameras(gravity), self.robot.height)

    def _cameras(self, gravity: Floats) -> F64:
        return upright(gravity, self.rig.mount.matrix, self.robot.base_height)


class FinderDriver:
    """Drives all robots of an environment to the balls that they find.

    Attributes:
        look: Says which parts of images show the ball, as `sim.finding.eyes.Eyes.look`.
        body: What it knows of the robots.
        finder: What the robots believe of their episodes.

    Raises:
        SimError: When the robots lack what it needs.
    """

    def __init__(self, look: Look, modality: Modality, env: SceneEnv) -> None:
        self._env, self.look, self.body = weakref.proxy(env), look, FinderBody.of(env, modality)
        self._seen: Observations | None = None
        self._rgb, *self._depth = (self.body.rig.camera.key(output) for output in BUILDS[modality].sees)
        self.finder = self.body.finder(env.num_envs)

    def __call__(self, seen: Observations) -> F32:
        """Actions (N, A) for the last observations; whoever asks again for the same ones gets the same."""
        if seen is not self._seen:
            self._see(seen)
            self._seen, self._actions = seen, self.body.velocities.actions(*self.finder.speeds())
        return self._actions.copy()

    def _see(self, seen: Observations) -> None:
        """Take over the last observations; those who begin an episode forget all others."""
        now = self._env.now
        assert now, "it was reset"
        self.finder.reset(np.flatnonzero(now.seconds == 0))
        motion, gravity, action = (seen[name] for name in MEASURED)
        depth = seen[self._depth[0]] if self._depth else self.body.flat_floor(gravity)
        odds, depth = self.look(seen[self._rgb], np.ascontiguousarray(depth, np.float32))
        self.finder.see(depth, odds, motion, gravity, self.body.velocities.of(action)[0])


_DRIVERS: weakref.WeakKeyDictionary[SceneEnv, dict[Path, FinderDriver]] = weakref.WeakKeyDictionary()


def finder_with(file: Path, env: SceneEnv) -> FinderDriver:
    """The driver with the eyes of a file: one for all who ask, so that a student knows what its teacher believes.

    Raises:
        SimError: When they are damaged or of another camera, or the robots lack what it needs.
    """
    drivers = _DRIVERS.setdefault(env, {})
    if file not in drivers:
        eyes = Eyes(file)
        driver = FinderDriver(eyes.look, eyes.card.modality, env)
        eyes.check_lens(driver.body.lens)
        drivers[file] = driver
    return drivers[file]


def _camera(env: SceneEnv, modality: Modality) -> CameraRig:
    """The first camera that has what eyes see.

    Raises:
        SimError: When there is none.
    """
    needed = BUILDS[modality].sees
    for rig in env.cameras:
        if set(needed) <= set(rig.camera.outputs):
            return rig
    raise SimError(
        f"these eyes see {' and '.join(needed)}",
        found=f"no camera with {' and '.join(needed)} on {env.robot.name} in {env.task.name}",
        remedy="--task find",
    )
