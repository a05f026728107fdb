"""The driver that finds a ball in places that it has never seen: by its eyes, and a map of the episode's depth."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.errors import SimError
from pipeline.geometry import Camera
from pipeline.types import F32
from sim.env import Observations, SceneEnv
from sim.finding.eyes import Eyes
from sim.finding.finder import Finder
from sim.sensors.cameras.rig import CameraRig

MEASURED = ("odometry", "projected_gravity")
"""What it needs beside images: how it moved since the last step, and which way is down."""


class FinderDriver:
    """Drives all robots of an environment to the balls that they find.

    Attributes:
        eyes: What says which parts of an image show the ball.
        finder: What the robots believe of their episodes.

    Raises:
        SimError: When the eyes are damaged, or the robots lack what it needs.
    """

    def __init__(self, file: Path, env: SceneEnv) -> None:
        self._env, self.eyes = env, Eyes(file)
        rig = _with_depth(env)
        lens = rig.camera.lens
        lacks = [name for name in MEASURED if name not in env.task.observations]
        fits = env.controller.velocities and isinstance(lens, Camera) and not lacks
        if not fits:
            raise SimError(
                "find drives robots that take speeds, by a pinhole camera, odometry and which way is down",
                found=f"{env.robot.name} in {env.task.name} lacks {', '.join(lacks) or 'speeds or a pinhole camera'}",
                remedy="--task find, and a robot with wheels or a gait",
            )
        assert isinstance(lens, Camera)
        self.eyes.check_lens(lens)
        self._rgb, self._depth = rig.camera.key("rgb"), rig.camera.key("depth")
        self.finder = make_finder(env, rig)

    def __call__(self, seen: Observations) -> F32:
        """Actions (N, A) for the last observations."""
        env = self._env
        assert env.now, "it was reset"
        assert env.controller.velocities
        self.finder.reset(np.flatnonzero(env.now.seconds == 0))
        depth = np.ascontiguousarray(seen[self._depth], np.float32)
        odds = self.eyes.look(seen[self._rgb], depth)
        self.finder.see(depth, odds, *(seen[name] for name in MEASURED))
        return self.finder.act(env.controller.velocities)


def make_finder(env: SceneEnv, rig: CameraRig) -> Finder:
    """Who decides where the robots of an environment drive, by what their pinhole camera sees."""
    lens, robot = rig.camera.lens, env.robot
    assert isinstance(lens, Camera)
    return Finder(env.num_envs, lens, rig.mount, robot.radius, robot.height, robot.base_height)


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
