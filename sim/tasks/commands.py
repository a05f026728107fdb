"""Velocity commands on stairs: a course over the walkable floor."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from pipeline.errors import SimError
from sim.cameras.things import Things
from sim.physics.state import Float, Int, RobotState
from sim.places import Floors, Split
from sim.robots.model import Robot
from sim.scene import SimScene
from sim.tasks.task import Bool, Starts

logger = logging.getLogger(__name__)

RISES = (0.0, 0.05, 0.2, 0.4)
"""Least height [m] that the way ahead climbs, by level."""
HIGHEST = (*RISES[1:], np.inf)
HEADINGS = 16
LEVEL = 0.04
"""How uneven the floor under a start may be [m]."""
SPEED, TURN = (0.3, 0.6), (-0.6, 0.6)  # [m/s], [rad/s]
HOLD = 3.0
"""How long a command holds [s], but for the first, which holds for the way ahead."""
OPTIONS = 8
"""Commands that are tried at a place until one keeps to the floor."""
LOOKS = 20
"""Places of a command's arc that must lie on the floor."""
TOLERANCE = 0.25
"""Difference from the command at which tracking counts 1/e; [m/s] and [rad/s]."""


@dataclass(frozen=True, eq=False)
class Commanded:
    """What N robots were told, and how they do it.

    Attributes:
        command: (N, 2) forward [m/s] and turning speed [rad/s] that hold now.
        velocity: (N, 2) those that the robot has, in the plane.
        tracked: (N,) mean over the episode of `tracking` ahead times that in turning, 0..1.
        height: (N,) of the base over the floor [m].
        arrived: (N,) whether it has been, within its radius, where the way ahead of its start ends.
    """

    command: Float
    velocity: Float
    tracked: Float
    height: Float
    arrived: Bool


class CommandCourse:
    """Starts before something to climb, the higher the level the more of it; commands that keep to the walkable floor.

    The first command leads straight up; later ones lead along arcs. Where none of those that are tried keeps to the
    floor, the robot is to turn on the spot.

    Args:
        scenes: Where. Levels that a scene lacks are replaced by the next easier one.
        robot: Who.
        num_envs: N.
        period: Between two steps [s].
        ahead: Length of the way that is known to be free at a start [m].
        steps: Whether some scene must have a start before something to climb.
        starts: Which places episodes may begin at.

    Raises:
        SimError: When a scene has no start with a way ahead, or no scene has steps that are needed.
    """

    def __init__(
        self,
        scenes: Sequence[SimScene],
        robot: Robot,
        num_envs: int,
        period: float,
        *,
        ahead: float,
        steps: bool = False,
        starts: Split = "all",
    ) -> None:
        self.floors = Floors(scenes, robot, starts)
        self._rise, self._period, self._ahead, self._radius = robot.base_height, period, ahead, robot.radius
        found = [_starts_by_level(self.floors, scene, robot.radius, ahead) for scene in range(len(scenes))]
        if steps:
            _check_steps(self.floors, found)
        self._starts = [_filled(levels) for levels in found]
        self._scene_of = np.zeros(num_envs, np.int64)
        self._command, self._velocity = np.zeros((num_envs, 2), np.float32), np.zeros((num_envs, 2), np.float32)
        self._hold, self._sum, self._steps = np.zeros(num_envs), np.zeros(num_envs), np.zeros(num_envs)
        self._height = np.zeros(num_envs, np.float32)
        self._end, self._arrived = np.zeros((num_envs, 2)), np.zeros(num_envs, bool)

    def begin(self, envs: Int, scenes: Int, levels: Int, rng: np.random.Generator) -> Starts:
        """Environments (M,) before what their levels (M,) have to climb, or the most that their scenes have."""
        share = rng.random(len(envs))
        options = [self._starts[scene][level] for scene, level in zip(scenes, levels, strict=True)]
        chosen = np.array([one[int(u * len(one))] for one, u in zip(options, share, strict=True)])
        place = self.floors.places(scenes, chosen[:, :2]) + np.array([0, 0, self._rise])
        self._scene_of[envs] = scenes
        self._command[envs] = np.column_stack([rng.uniform(*SPEED, len(envs)), np.zeros(len(envs))])
        self._velocity[envs], self._sum[envs], self._steps[envs] = 0, 0, 0
        self._hold[envs] = self._ahead / self._command[envs, 0]
        self._height[envs] = self._rise
        yaw = chosen[:, 2] * (2 * np.pi / HEADINGS)
        self._end[envs] = place[:, :2] + self._ahead * np.column_stack([np.cos(yaw), np.sin(yaw)])
        self._arrived[envs] = False
        return Starts(place, yaw)

    def update(self, state: RobotState, rng: np.random.Generator) -> None:
        """How the command was followed, and other commands where it has held long enough."""
        yaw = state.planar[:, 2]
        forward = np.cos(yaw) * state.linear_velocity[:, 0] + np.sin(yaw) * state.linear_velocity[:, 1]
        self._velocity = np.column_stack([forward, state.angular_velocity[:, 2]]).astype(np.float32)
        self._sum += tracking(self._command, self._velocity).prod(1)
        self._steps += 1
        ground = self.floors.height[(self._scene_of, *self.floors.cells(self._scene_of, state.position[:, :2]))]
        self._height = np.where(np.isfinite(ground), state.position[:, 2] - ground, self._height)
        self._arrived |= np.linalg.norm(state.position[:, :2] - self._end, axis=1) < self._radius
        self._hold -= self._period
        due = np.flatnonzero(self._hold <= 0)
        if len(due):
            self._command[due] = self._next_commands(due, state.position[due, :2], yaw[due], rng)
            self._hold[due] = HOLD

    def now(self) -> Commanded:
        """For the terms."""
        tracked = (self._sum / np.maximum(self._steps, 1)).astype(np.float32)
        return Commanded(
            self._command.copy(), self._velocity.copy(), tracked, self._height.copy(), self._arrived.copy()
        )

    def things(self) -> Things:
        """Nothing."""
        return Things.none(len(self._scene_of))

    def _next_commands(
        self, envs: Int, xy: NDArray[np.floating], yaw: NDArray[np.floating], rng: np.random.Generator
    ) -> NDArray[np.float64]:
        """Commands (M, 2) whose arcs from places (M, 2) with headings (M,) keep to the floor."""
        size = (len(envs), OPTIONS)
        speed, turn = rng.uniform(*SPEED, size), rng.uniform(*TURN, size)
        scenes = self._scene_of[envs]
        arcs = xy[:, None, None] + arc(speed, turn, yaw[:, None], HOLD * np.linspace(0, 1, LOOKS))
        on_floor = self.floors.walkable[(scenes[:, None, None], *self.floors.cells(scenes[:, None, None], arcs))].all(
            -1
        )
        row, first = np.arange(len(envs)), on_floor.argmax(1)
        any_of_them = np.asarray(on_floor)[row, first]
        return np.column_stack(
            [
                np.where(any_of_them, speed[row, first], 0),
                np.where(any_of_them, turn[row, first], np.copysign(TURN[1], turn[:, 0])),
            ]
        )


def tracking(command: Float, velocity: Float) -> Float:
    """How well commands (N, 2) are followed, forward and turning (N, 2): 1 exactly, towards 0 the worse."""
    return np.exp(-(((command - velocity) / np.float32(TOLERANCE)) ** 2))


def arc(
    speed: NDArray[np.floating],
    turn: NDArray[np.floating],
    yaw: NDArray[np.floating],
    seconds: NDArray[np.floating],
) -> NDArray[np.floating]:
    """Where (..., T, 2) [m] a robot gets with speeds (...) [m/s, rad/s] from heading (...), after seconds (T,)."""
    half = turn[..., None] * seconds / 2
    chord = speed[..., None] * seconds * np.sinc(half / np.pi)
    heading = yaw[..., None] + half
    return np.stack([chord * np.cos(heading), chord * np.sin(heading)], -1)


def _starts_by_level(floors: Floors, scene: int, radius: float, ahead: float) -> list[Int]:
    """For each level, cells and headings (T, 3) to start from."""
    cell = floors.cell[scene]
    rise = _rises(floors.height[scene], floors.walkable[scene], radius / cell, ahead / cell)
    rise[~floors.eligible[scene]] = np.nan
    result = [np.argwhere((rise >= low) & (rise < high)) for low, high in zip(RISES, HIGHEST, strict=True)]
    if not len(result[0]):
        raise SimError(
            "a scene needs level floor with a straight way ahead",
            found=f"none of {ahead} m on the walkable floor of {floors.scenes[scene].lock.reference}",
            remedy="use a larger scene",
        )
    for low, high, found in zip(RISES, HIGHEST, result, strict=True):
        if not len(found):
            logger.info("%s has no way up of %.2f to %.2f m", floors.scenes[scene].lock.reference, low, high)
    return result


def _check_steps(floors: Floors, found: list[list[Int]]) -> None:
    if not any(len(of_level) for levels in found for of_level in levels[1:]):
        names = ", ".join(scene.lock.reference for scene in floors.scenes)
        raise SimError(
            "climbing needs a scene with steps, and level floor before them",
            found=f"0 starts before a rise of {RISES[1]:g} m or more in {names}, "
            f"{sum(len(levels[0]) for levels in found)} on level floor",
            remedy="use a scene with stairs, captured with the floor at their foot",
        )


def _filled(levels: list[Int]) -> list[Int]:
    """The same with what is empty replaced by the next easier."""
    result = levels[:1]
    for found in levels[1:]:
        result.append(found if len(found) else result[-1])
    return result


@njit(parallel=True, cache=True, nogil=True)
def _rises(height: Float, walkable: Bool, radius: float, ahead: float) -> Float:
    """How high straight ways lead up (X, Y, HEADINGS) [m]; NaN where one leaves the floor, leads down or starts uneven.

    Args:
        height: (X, Y) [m].
        walkable: (X, Y).
        radius: Of the robot [cells]: so far before and behind a start the floor is level.
        ahead: Length of the ways [cells].
    """
    rise = np.full((*height.shape, HEADINGS), np.float32(np.nan), np.float32)
    for i in prange(height.shape[0]):
        for j in range(height.shape[1]):
            if not walkable[i, j]:
                continue
            for heading in range(HEADINGS):
                angle = heading * 2 * np.pi / HEADINGS
                highest = np.float32(0)
                for half in range(-int(2 * radius), int(2 * ahead) + 1):
                    step = half / 2
                    a = int(np.floor(i + 0.5 + step * np.cos(angle)))
                    b = int(np.floor(j + 0.5 + step * np.sin(angle)))
                    if not (0 <= a < height.shape[0] and 0 <= b < height.shape[1]):
                        break
                    up = height[a, b] - height[i, j]
                    uneven = abs(up) > LEVEL if step <= radius else up < -LEVEL
                    if np.isnan(up) or uneven or (step >= 0 and not walkable[a, b]):
                        break
                    highest = max(highest, up)
                else:
                    rise[i, j, heading] = highest
    return rise
