"""Scripted drivers: to look at a task, and to see how well it can be done at all."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np

from pipeline.types import F32, I64, Floats
from sim.env import SceneEnv
from sim.robots.drive import DifferentialDrive
from sim.tasks.commands import CommandScenario

logger = logging.getLogger(__name__)

DriverName = Literal["auto", "random", "still"]
TIME = "time"
"""What ended an episode that no termination ended."""
LOOK_AHEAD = np.array([0.0, 0.1, 0.2])  # [m]: here, close to the goal, and farther away
HEADINGS = np.linspace(-np.pi, np.pi, 24, endpoint=False)
TURN_FIRST = 0.5  # [rad]; with more to turn, it turns on the spot
NEAR = 0.3  # [m]; on the last part of the path it only turns
SPEED = 0.5  # [m/s]


class Driver(Protocol):
    """Acts for all robots of an environment."""

    def act(self) -> F32:
        """Next actions (N, A)."""
        ...


@runtime_checkable
class HasPath(Protocol):
    """A scenario that knows path lengths."""

    def path_length(self, xy: Floats, envs: I64) -> F32:
        """Path length [m] from positions (M, 2) in environments (M,); inf off the floor."""
        ...


class PathFollower:
    """Turns to where the path gets shortest, then drives.

    Args:
        env: Environment of the robots.
        drive: Drive of the robots.
        scenario: Source of the path lengths.
    """

    def __init__(self, env: SceneEnv, drive: DifferentialDrive, scenario: HasPath) -> None:
        self._env, self._drive, self._scenario = env, drive, scenario

    def act(self) -> F32:
        """Next actions (N, 2)."""
        state = self._env.engine.read()
        pose = state.planar
        heading = pose[:, 2:] + HEADINGS
        ahead = LOOK_AHEAD[:, None, None] * np.stack([np.cos(heading), np.sin(heading)], -1)[:, None]
        positions = pose[:, None, None, :2] + ahead
        envs = np.repeat(np.arange(len(state)), positions[0].size // 2)
        lengths = self._scenario.path_length(positions.reshape(-1, 2), envs).reshape(positions.shape[:3])
        here = lengths[:, 0, 0]
        turn = HEADINGS[np.where(here[:, None] < LOOK_AHEAD[2], lengths[:, 1], lengths[:, 2]).argmin(1)]
        forward = np.where((np.abs(turn) < TURN_FIRST) & (here > NEAR), SPEED, 0.0)
        return self._drive.actions(forward, 3 * turn)


class CommandFollower:
    """Follows the command, as far as wheels can.

    Args:
        drive: Drive of the robots.
        scenario: Source of the commands.
    """

    def __init__(self, drive: DifferentialDrive, scenario: CommandScenario) -> None:
        self._drive, self._scenario = drive, scenario

    def act(self) -> F32:
        """Next actions (N, 2)."""
        return self._drive.actions(*self._scenario.state().command.T)


class RandomDriver:
    """Acts at random.

    Args:
        env: Environment of the robots.
        seed: Seed of the actions.
    """

    def __init__(self, env: SceneEnv, seed: int) -> None:
        self._shape, self._rng = (env.num_envs, env.drive.size), np.random.default_rng(seed)

    def act(self) -> F32:
        """Next actions (N, A)."""
        return self._rng.uniform(-1, 1, self._shape).astype(np.float32)


class StillDriver:
    """Stands still: legs keep their pose at rest.

    Args:
        env: Environment of the robots.
    """

    def __init__(self, env: SceneEnv) -> None:
        drive, zeros = env.drive, np.zeros(env.num_envs)
        wheels = isinstance(drive, DifferentialDrive)
        self._action = drive.actions(zeros, zeros) if wheels else np.zeros((env.num_envs, drive.size), np.float32)

    def act(self) -> F32:
        """Next actions (N, A)."""
        return self._action


def find_driver(name: DriverName, env: SceneEnv, seed: int) -> Driver:
    """Make a driver: "auto" follows the path or the command on wheels, and leaves legs still.

    Args:
        name: Name of the driver.
        env: Environment of the robots.
        seed: Seed of random actions.
    """
    if name == "random":
        return RandomDriver(env, seed)
    if name == "auto" and isinstance(env.drive, DifferentialDrive):
        if isinstance(env.scenario, CommandScenario):
            return CommandFollower(env.drive, env.scenario)
        if isinstance(env.scenario, HasPath):
            return PathFollower(env, env.drive, env.scenario)
    if name == "auto":
        logger.info("no driver knows how to drive %r in %r: it stands still", env.robot.name, env.task.name)
    return StillDriver(env)


class EpisodeResult(NamedTuple):
    """What ended an episode, a termination's name or "time", and whether it solved the task."""

    ended_by: str
    success: bool


class Viewer(Protocol):
    """Shows a running simulation."""

    def update(self, seen: dict[str, Any], ended: Mapping[int, EpisodeResult]) -> None:
        """Show the start, or a step.

        Args:
            seen: Observations of all environments.
            ended: Episodes that ended in this step, by environment.
        """
        ...

    def close(self) -> None:
        """Finish."""
        ...


def run_episodes(
    env: SceneEnv, steps: int | None, seed: int, driver: DriverName, viewers: Sequence[Viewer] = ()
) -> Counter[str]:
    """Step until the end or Ctrl-C; returns how many episodes each condition ended.

    Args:
        env: Environment; it is reset first.
        steps: Number of control steps; None for no end.
        seed: Seed of the environment and of random actions.
        driver: Name of the driver, see `find_driver`.
        viewers: Viewers to update.
    """
    counts = Counter(dict.fromkeys([*env.task.terminations, TIME], 0))
    acting = find_driver(driver, env, seed)
    seen, _ = env.reset(seed=seed)
    ended: dict[int, EpisodeResult] = {}
    done = 0
    try:
        while steps is None or done < steps:
            for viewer in viewers:
                viewer.update(seen, ended)
            seen, _, terminated, truncated, info = env.step(acting.act())
            ended = {int(row): _result(env, int(row), info) for row in np.flatnonzero(terminated | truncated)}
            counts.update(result.ended_by for result in ended.values())
            done += 1
    except KeyboardInterrupt:
        pass
    return counts


def _result(env: SceneEnv, row: int, info: dict[str, Any]) -> EpisodeResult:
    ended_by = next((name for name in env.task.terminations if info[f"ended_by_{name}"][row]), TIME)
    return EpisodeResult(ended_by, bool(info["final_success"][row]))
