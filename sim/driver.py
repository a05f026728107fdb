"""Simple drivers: to look at a task, and to see how well it can be done at all."""

from __future__ import annotations

import logging
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from sim.env import SceneEnv
from sim.physics.state import Float, Int
from sim.robots.drive import DifferentialDrive
from sim.tasks.commands import CommandCourse

logger = logging.getLogger(__name__)

DriverName = Literal["auto", "random", "still"]
LOOK_AHEAD = np.array([0.0, 0.1, 0.2])  # [m]: here, near to the end of the way, and else
HEADINGS = np.linspace(-np.pi, np.pi, 24, endpoint=False)
TURN_FIRST = 0.5  # [rad]; with more to turn it stands
NEAR = 0.3  # [m]; with less of the way left it only turns
SPEED = 0.5  # [m/s]


class Driver(Protocol):
    """Acts for all robots of an environment."""

    def act(self) -> Float:
        """Actions (N, A) for now."""
        ...


@runtime_checkable
class KnowsWay(Protocol):
    """A course that can tell the way."""

    def way_left(self, xy: NDArray[np.floating], envs: Int) -> Float:
        """What would be left of the way [m] of environments (M,) at places (M, 2); inf off the floor."""
        ...


class WayFollower:
    """Turns to where what is left of the way gets shortest, then drives.

    Args:
        env: Whose robots it drives.
        drive: Their wheels.
        course: Tells the way.
    """

    def __init__(self, env: SceneEnv, drive: DifferentialDrive, course: KnowsWay) -> None:
        self._env, self._drive, self._course = env, drive, course

    def act(self) -> Float:
        """Actions (N, 2) for now."""
        state = self._env.engine.read()
        pose = state.planar
        heading = pose[:, 2:] + HEADINGS
        ahead = LOOK_AHEAD[:, None, None] * np.stack([np.cos(heading), np.sin(heading)], -1)[:, None]
        places = pose[:, None, None, :2] + ahead
        envs = np.repeat(np.arange(len(state)), places[0].size // 2)
        left = self._course.way_left(places.reshape(-1, 2), envs).reshape(places.shape[:3])
        here = left[:, 0, 0]
        turn = HEADINGS[np.where(here[:, None] < LOOK_AHEAD[2], left[:, 1], left[:, 2]).argmin(1)]
        forward = np.where((np.abs(turn) < TURN_FIRST) & (here > NEAR), SPEED, 0.0)
        return self._drive.actions(forward, 3 * turn)


class CommandFollower:
    """Does what the command says, as far as wheels can.

    Args:
        drive: The wheels.
        course: Gives the commands.
    """

    def __init__(self, drive: DifferentialDrive, course: CommandCourse) -> None:
        self._drive, self._course = drive, course

    def act(self) -> Float:
        """Actions (N, 2) for now."""
        return self._drive.actions(*self._course.now().command.T)


class RandomDriver:
    """Does anything.

    Args:
        env: Whose robots it drives.
        seed: Of what it does.
    """

    def __init__(self, env: SceneEnv, seed: int) -> None:
        self._shape, self._rng = (env.num_envs, env.drive.size), np.random.default_rng(seed)

    def act(self) -> Float:
        """Actions (N, A) for now."""
        return self._rng.uniform(-1, 1, self._shape).astype(np.float32)


class StillDriver:
    """Does nothing: legs stay as they are at rest.

    Args:
        env: Whose robots it drives.
    """

    def __init__(self, env: SceneEnv) -> None:
        nothing = np.zeros(env.num_envs)
        drive = env.drive
        wheels = isinstance(drive, DifferentialDrive)
        self._action = drive.actions(nothing, nothing) if wheels else np.zeros((env.num_envs, drive.size), np.float32)

    def act(self) -> Float:
        """Actions (N, A) for now."""
        return self._action


def find_driver(name: DriverName, env: SceneEnv, seed: int) -> Driver:
    """A driver: "auto" follows the way or the command on wheels and leaves legs still.

    Args:
        name: Which.
        env: Whose robots it drives.
        seed: Of what is left to chance.
    """
    if name == "random":
        return RandomDriver(env, seed)
    if name == "auto" and isinstance(env.drive, DifferentialDrive):
        if isinstance(env.course, CommandCourse):
            return CommandFollower(env.drive, env.course)
        if isinstance(env.course, KnowsWay):
            return WayFollower(env, env.drive, env.course)
    if name == "auto":
        logger.info("nobody here knows how to drive %r in %r: it stands still", env.robot.name, env.task.name)
    return StillDriver(env)
