"""The driver that finds a ball in places that it has never seen: by its eyes, and a map of the episode's depth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.errors import SimError
from pipeline.geometry import Camera
from pipeline.types import F32, U8
from sim.control.state import Velocities
from sim.env import Observations, SceneEnv
from sim.finding.eyes import Eyes
from sim.finding.finder import PERIOD, Finder
from sim.robots.model import Robot
from sim.sensors.cameras.rig import CameraRig

Look = Callable[[U8, F32], F32]
MEASURED = ("odometry", "projected_gravity")
"""What it needs beside images: how it moved since the last step, and which way is down."""


@dataclass(frozen=True, eq=False)
class FinderBody:
    """What finding a ball needs to know of a robot.

    Attributes:
        rig: The camera that has colours and depths.
        lens: Its lens.
        velocities: How it is told speeds.
    """

    robot: Robot
    rig: CameraRig
    lens: Camera
    velocities: Velocities

    @staticmethod
    def of(env: SceneEnv) -> FinderBody:
        """That of an environment's robots.

        Raises:
            SimError: When they lack what it needs.
        """
        rig, velocities = _with_depth(env), env.controller.velocities
        lens = rig.camera.lens
        lacks = [name for name in MEASURED if name not in env.task.observations]
        if lacks or velocities is None or not isinstance(lens, Camera):
            raise SimError(
                "find drives robots that take speeds, by a pinhole camera, odometry and which way is down",
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


class FinderDriver:
    """Drives all robots of an environment to the balls that they find.

    Attributes:
        look: Says which parts of images show the ball, as `sim.finding.eyes.Eyes.look`.
        body: What it knows of the robots.
        finder: What the robots believe of their episodes.

    Raises:
        SimError: When the robots lack what it needs.
    """

    def __init__(self, look: Look, env: SceneEnv) -> None:
        self._env, self.look, self.body = env, look, FinderBody.of(env)
        self._rgb, self._depth = (self.body.rig.camera.key(output) for output in ("rgb", "depth"))
        self.finder = self.body.finder(env.num_envs)

    def __call__(self, seen: Observations) -> F32:
        """Actions (N, A) for the last observations."""
        now = self._env.now
        assert now, "it was reset"
        self.finder.reset(np.flatnonzero(now.seconds == 0))
        depth = np.ascontiguousarray(seen[self._depth], np.float32)
        odds = self.look(seen[self._rgb], depth)
        self.finder.see(depth, odds, *(seen[name] for name in MEASURED))
        return self.body.velocities.actions(*self.finder.speeds())


def finder_with(file: Path, env: SceneEnv) -> FinderDriver:
    """The driver with the eyes of a file.

    Raises:
        SimError: When they are damaged or of another camera, or the robots lack what it needs.
    """
    eyes = Eyes(file)
    driver = FinderDriver(eyes.look, env)
    eyes.check_lens(driver.body.lens)
    return driver


def _with_depth(env: SceneEnv) -> CameraRig:
    """The first camera that has colours and depths.

    Raises:
        SimError: When there is none.
    """
    for rig in env.cameras:
        if {"rgb", "depth"} <= set(rig.camera.outputs):
            return rig
    raise SimError(
        "find sees colours and how far away they are",
        found=f"no camera with depth on {env.robot.name} in {env.task.name}",
        remedy="--task find",
    )
