"""Velocity commands on the walkable floor and up its steps."""

from __future__ import annotations

import itertools
import logging
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from pipeline.errors import SimError
from pipeline.geometry.jit import njit, prange
from pipeline.types import F32, F64, I64, Floats, Mask
from sim.robots.legs import highest_step
from sim.robots.state import RobotState
from sim.scene.floors import Floors
from sim.sensors.cameras.props import Props
from sim.tasks.parameters import settable
from sim.tasks.scenario import ResetPoses, Scenario

logger = logging.getLogger(__name__)

RISES = (0.0, 0.05, 0.2, 0.4)
"""Smallest rise of the path ahead, by level [m]."""
MAX_RISES = (*RISES[1:], np.inf)
HEADINGS = 16
TURNED = 0.05
"""Largest angle between the heading of a start and one of those [rad]."""
MAX_UNEVENNESS = 0.04
"""Largest height difference of the floor under a start [m]."""
KEEP, MAX_TURN = 1.5, 1.0
"""Yaw rate per error of the heading [1/s], and the largest commanded one [rad/s]."""
HOLD = 3.0
"""Duration of a command [s]; the first one lasts for the path ahead."""
OPTIONS = 8
"""Commands that are tried at a position until one stays on the floor."""
ARC_POINTS = 20
"""Points of a command's arc that must lie on the floor."""
TOLERANCE = 0.25
"""Deviation from the command at which tracking is 1/e; [m/s] and [rad/s]."""


@dataclass(frozen=True, eq=False)
class CommandState:
    """Commands of N robots, and how well they follow them.

    Attributes:
        command: (N, 3) commanded speed ahead and to the left, which is 0 [m/s], and yaw rate [rad/s].
        velocity: (N, 2) actual forward speed and yaw rate.
        tracked: (N,) mean over the episode of the product of both tracking scores, 0..1.
        height: (N,) height of the base over the floor [m].
        arrived: (N,) whether the robot has been within its radius of the end of the path ahead of its start.
        hill: (N,) whether the path ahead of its start leads up steps.
    """

    command: F32
    velocity: F32
    tracked: F32
    height: F32
    arrived: Mask
    hill: Mask


class CommandScenario(Scenario[CommandState]):
    """Starts in front of rises, the higher the level the higher; commands that stay on the walkable floor.

    Yaw rates are corrected by the error of the heading, so that paths are straight even if robots turn a little.

    The first command leads straight up; later ones lead along arcs. If no tried command stays on the floor, the robot
    turns on the spot. Levels that a scene lacks are replaced by the next easier one; with `steps`, some scene must have
    a start in front of a rise, unless all are procedural. `ahead` is the length of the free path ahead of a start [m].

    Raises:
        SimError: When a scene has no start with a path ahead, or no scene has the steps that are needed.
    """

    ROWS = (
        "_scene_of", "_command", "_velocity", "_heading", "_yaw", "_hill", "_hold", "_sum", "_steps", "_height", "_end",
        "_arrived",
    )  # fmt: skip
    commands = True

    def __init__(
        self,
        floors: Floors,
        num_envs: int,
        period: float,
        *,
        ahead: Annotated[float, settable(0.5, 10, "how far ahead of where an episode begins the way leads [m]")],
        steps: bool = False,
        slowest: Annotated[float, settable(0.05, 3, "lowest commanded speed [m/s]")] = 0.3,
        fastest: Annotated[float, settable(0.05, 3, "highest commanded speed [m/s], at least the lowest")] = 0.6,
        turning: Annotated[float, settable(0, 3, "highest commanded yaw rate, either way [rad/s]")] = 0.6,
    ) -> None:
        self.floors, self._period, self._ahead = floors, period, ahead
        self._speed, self._turning = (slowest, max(slowest, fastest)), turning
        starts = [_starts_by_level(floors, scene, ahead) for scene in range(len(floors.scenes))]
        scanned = [scene for scene in floors.scenes if not scene.terrain]
        if steps and scanned and not any(len(cells) for levels in starts for cells in levels[1:]):
            names = ", ".join(scene.lock.reference for scene in floors.scenes)
            highest = highest_step(floors.robot)
            limit = f" by steps of at most {highest:.2f} m" if np.isfinite(highest) else ""
            raise SimError(
                "climbing needs a scene with steps, and horizontal floor in front of them",
                found=f"0 starts in front of a rise of {RISES[1]:g} m or more in {names}{limit}, "
                f"{sum(len(levels[0]) for levels in starts)} on horizontal floor",
                remedy="use a scene with stairs that the robot's legs are long enough for, captured with the floor at "
                "their foot",
            )
        self._starts = [
            list(itertools.accumulate(levels, lambda easier, level: level if len(level) else easier))
            for levels in starts
        ]
        self._scene_of = np.zeros(num_envs, np.int64)
        self._command, self._velocity = np.zeros((num_envs, 2), np.float32), np.zeros((num_envs, 2), np.float32)
        self._heading, self._yaw, self._hill = np.zeros(num_envs), np.zeros(num_envs), np.zeros(num_envs, bool)
        self._hold, self._sum, self._steps = np.zeros(num_envs), np.zeros(num_envs), np.zeros(num_envs)
        self._height = np.zeros(num_envs, np.float32)
        self._end, self._arrived = np.zeros((num_envs, 2)), np.zeros(num_envs, bool)

    def reset(self, envs: I64, scenes: I64, levels: I64, rng: np.random.Generator) -> ResetPoses:
        """Put environments (M,) in front of the rises of their levels (M,), or the highest that their scenes have."""
        share = rng.random(len(envs))
        options = [self._starts[scene][level] for scene, level in zip(scenes, levels, strict=True)]
        chosen = np.array([starts[int(u * len(starts))] for starts, u in zip(options, share, strict=True)])
        base_height = self.floors.robot.base_height
        position = self.floors.positions(scenes, chosen[:, :2]) + np.array([0, 0, base_height])
        self._scene_of[envs] = scenes
        self._command[envs] = np.column_stack([rng.uniform(*self._speed, len(envs)), np.zeros(len(envs))])
        self._velocity[envs], self._sum[envs], self._steps[envs] = 0, 0, 0
        self._hold[envs] = self._ahead / self._command[envs, 0]
        self._height[envs] = base_height
        position[:, :2] += rng.uniform(-0.5, 0.5, (len(envs), 2)) * self.floors.cell[scenes][:, None]
        yaw = chosen[:, 2] * (2 * np.pi / HEADINGS) + rng.uniform(-TURNED, TURNED, len(envs))
        self._heading[envs], self._yaw[envs] = yaw, yaw
        self._hill[envs] = np.asarray(levels) > 0
        self._end[envs] = position[:, :2] + self._ahead * np.column_stack([np.cos(yaw), np.sin(yaw)])
        self._arrived[envs] = False
        return ResetPoses(position, yaw)

    def update(self, state: RobotState, rng: np.random.Generator) -> None:
        """Measure how commands are followed, and draw new ones where they have lasted long enough."""
        yaw = state.planar[:, 2]
        forward = np.cos(yaw) * state.linear_velocity[:, 0] + np.sin(yaw) * state.linear_velocity[:, 1]
        self._velocity = np.column_stack([forward, state.angular_velocity[:, 2]]).astype(np.float32)
        self._yaw = yaw
        self._heading = self._heading + self._command[:, 1] * self._period
        self._sum += tracking(self._command, self._velocity).prod(1)
        self._steps += 1
        ground = self.floors.height[(self._scene_of, *self.floors.cells(self._scene_of, state.position[:, :2]))]
        self._height = np.where(np.isfinite(ground), state.position[:, 2] - ground, self._height)
        self._arrived |= np.linalg.norm(state.position[:, :2] - self._end, axis=1) < self.floors.robot.radius
        self._hold -= self._period
        due = np.flatnonzero(self._hold <= 0)
        if len(due):
            self._command[due] = self._next_commands(due, state.position[due, :2], yaw[due], rng)
            self._hold[due], self._heading[due] = HOLD, yaw[due]

    def state(self) -> CommandState:
        """State that terms read."""
        tracked = (self._sum / np.maximum(self._steps, 1)).astype(np.float32)
        turn = kept_heading(self._command[:, 1], self._heading, self._yaw)
        command = np.column_stack([self._command[:, 0], np.zeros_like(turn), turn]).astype(np.float32)
        return CommandState(
            command, self._velocity.copy(), tracked, self._height.copy(), self._arrived.copy(), self._hill.copy()
        )

    def props(self) -> Props:
        """No props."""
        return Props.none(len(self._scene_of))

    def _next_commands(self, envs: I64, xy: Floats, yaw: Floats, rng: np.random.Generator) -> F64:
        """Commands (M, 2) whose arcs from positions (M, 2) with headings (M,) stay on the floor."""
        size = (len(envs), OPTIONS)
        speed, yaw_rate = rng.uniform(*self._speed, size), rng.uniform(-self._turning, self._turning, size)
        scenes = self._scene_of[envs][:, None, None]
        arcs = xy[:, None, None] + arc(speed, yaw_rate, yaw[:, None], HOLD * np.linspace(0, 1, ARC_POINTS))
        on_floor = np.asarray(self.floors.walkable[(scenes, *self.floors.cells(scenes, arcs))].all(-1))
        row, first = np.arange(len(envs)), on_floor.argmax(1)
        valid = on_floor[row, first]
        return np.column_stack(
            [
                np.where(valid, speed[row, first], 0),
                np.where(valid, yaw_rate[row, first], np.copysign(self._turning, yaw_rate[:, 0])),
            ]
        )


def kept_heading(turn: Floats | float, heading: Floats, yaw: Floats) -> Floats:
    """Yaw rates (N,) [rad/s] corrected by the error between the headings (N,) that robots should have and their yaw."""
    wrong = (heading - yaw + np.pi) % (2 * np.pi) - np.pi
    return np.clip(turn + KEEP * wrong, -MAX_TURN, MAX_TURN)


def tracking(command: F32, velocity: F32) -> F32:
    """Tracking scores (N, 2) of commands (N, 2), forward and yaw rate: 1 is exact, 0 is worst."""
    return np.exp(-(((command - velocity) / np.float32(TOLERANCE)) ** 2))


def arc(speed: Floats, yaw_rate: Floats, yaw: Floats, seconds: Floats) -> Floats:
    """Displacements (..., T, 2) [m] at speeds (...) [m/s, rad/s] from headings (...), after seconds (T,)."""
    half = yaw_rate[..., None] * seconds / 2
    chord = speed[..., None] * seconds * np.sinc(half / np.pi)
    heading = yaw[..., None] + half
    return np.stack([chord * np.cos(heading), chord * np.sin(heading)], -1)


def _starts_by_level(floors: Floors, scene: int, ahead: float) -> list[I64]:
    """For each level, cells and headings (T, 3) to start from."""
    cell = floors.cell[scene]
    highest = np.float32(highest_step(floors.robot))
    rise = _rises(floors.height[scene], floors.walkable[scene], floors.robot.radius / cell, ahead / cell, highest)
    rise[~floors.eligible[scene]] = np.nan
    result = [np.argwhere((rise >= low) & (rise < high)) for low, high in zip(RISES, MAX_RISES, strict=True)]
    if not len(result[0]):
        raise SimError(
            "a scene needs horizontal floor with a straight path ahead",
            found=f"none of {ahead} m on the walkable floor of {floors.scenes[scene].lock.reference}",
            remedy="use a larger scene",
        )
    for low, high, starts in zip(RISES, MAX_RISES, result, strict=True):
        if not len(starts):
            logger.info("%s has no rise of %.2f to %.2f m", floors.scenes[scene].lock.reference, low, high)
    return result


@njit(parallel=True, cache=True, nogil=True)
def _rises(height: F32, walkable: Mask, radius: float, ahead: float, max_step: np.float32) -> F32:
    """Rise of straight paths (X, Y, HEADINGS) [m].

    NaN where one leaves the floor, leads down, starts uneven or leads up a step higher than `max_step` [m]. The floor
    is horizontal within the radius [cells] before and behind a start; paths have the length `ahead` [cells].
    """
    rise = np.full((*height.shape, HEADINGS), np.float32(np.nan), np.float32)
    for i in prange(height.shape[0]):
        for j in range(height.shape[1]):
            if not walkable[i, j]:
                continue
            for heading in range(HEADINGS):
                angle = heading * 2 * np.pi / HEADINGS
                highest = before = np.float32(0)
                for half in range(-int(2 * radius), int(2 * ahead) + 1):
                    step = half / 2
                    a = int(np.floor(i + 0.5 + step * np.cos(angle)))
                    b = int(np.floor(j + 0.5 + step * np.sin(angle)))
                    if not (0 <= a < height.shape[0] and 0 <= b < height.shape[1]):
                        break
                    up = height[a, b] - height[i, j]
                    uneven = abs(up) > MAX_UNEVENNESS if step <= radius else up < -MAX_UNEVENNESS
                    if np.isnan(up) or uneven or up - before > max_step or (step >= 0 and not walkable[a, b]):
                        break
                    before = up
                    highest = max(highest, up)
                else:
                    rise[i, j, heading] = highest
    return rise
