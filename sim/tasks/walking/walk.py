"""Walking by velocity commands on procedural ground: where robots begin, and what they are told."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.errors import SimError
from pipeline.types import F32, F64, I64, Mask
from sim.robots.state import RobotState
from sim.scene.floors import Floors
from sim.sensors.cameras.props import Props
from sim.tasks.scenario import ResetPoses, Scenario
from sim.tasks.walking.commands import kept_heading

SHARES = {
    "flat": 0.22, "stairs": 0.18, "steep stairs": 0.18, "short stairs": 0.18, "ramp": 0.06, "rubble": 0.1, "gaps": 0.08
}  # fmt: skip
"""Shares of the robots on each kind of ground. Each stays on its kind, going up or down, so that its level is that of
what it can do there."""
SPEED, SIDE, TURN = (-0.6, 1.0), (-0.4, 0.4), (-1.0, 1.0)
"""Commands on flat ground [m/s, m/s, rad/s]."""
CLIMB_SPEED, CLIMB_SIDE = (0.35, 0.8), (-0.1, 0.1)
"""Commands over hills, which lead to their middle [m/s]."""
STANDING = 0.1
"""Share of commands to stand."""
HOLD = (3.0, 6.0)
"""Duration of a command [s]."""
RAMP = np.array([3.0, 3.0, 6.0], np.float32)
"""Fastest change of the speeds that are commanded [m/s^2, m/s^2, rad/s^2]."""
ON_TOP = 0.33
"""Share of the robots that begin in the middle of a hill, and walk down from it."""
ASKEW, ASKEW_ON_TOP = 0.4, 0.15
"""Standard deviations of the first heading from the one that is kept, beside the hill and on top [rad]."""
ACROSS = 0.15
"""Standard deviation of the headings that are kept from those straight over the edges [rad]."""
BEGIN = (2.5, 2.9)
"""Distance from the middle of a hill where the others begin [m]."""
DOWN = 2.6
"""At this distance from the middle a robot that began there has left the hill [m]."""
BEYOND = 3.3
"""At this distance from the middle a robot is sent back to it [m]."""
TOP = (0.3, 0.9)
"""A robot has climbed a hill when it was this near to its middle, along its way and to the side [m]."""


@dataclass(frozen=True, eq=False)
class WalkState:
    """Commands of N robots.

    Attributes:
        command: (N, 3) speed ahead and to the left [m/s] and yaw rate [rad/s].
        height: (N,) height of the base over the ground [m].
        crossed: (N,) whether the robot has been on top of its hill since it began beside it, or beside it since it
            began on top.
        told: (N,) distance that it was told to go so far [m].
        gone: (N,) distance from its start [m].
        hill: (N,) whether the ground is not flat.
        fell_behind: (N,) mean of the error of the velocity over the episode [m/s].
    """

    command: F32
    height: F32
    crossed: Mask
    told: F32
    gone: F32
    hill: Mask
    fell_behind: F32


class WalkScenario(Scenario[WalkState]):
    """Commands on the tiles of a terrain; the higher the level, the higher the hills.

    Raises:
        SimError: When the scene is not procedural ground.
    """

    ROWS = (
        "_kind", "_level", "_middle", "_start", "_command", "_turn", "_wanted", "_heading", "_hold", "_outside",
        "_crossed", "_told", "_gone", "_error", "_steps", "_height",
    )  # fmt: skip
    commands = True

    def __init__(self, floors: Floors, num_envs: int, period: float) -> None:
        (scene, *others) = floors.scenes
        if others or not scene.terrain or scene.terrain.flights:
            raise SimError(
                "a gait is learned on procedural ground",
                found=", ".join(one.lock.reference for one in floors.scenes),
                remedy="leave --scene out, or give terrain:0",
            )
        self.terrain = scene.terrain
        self._robot, self._period = floors.robot, period
        shares = np.array([SHARES[kind] for kind in self.terrain.kinds])
        self._shares = shares / shares.sum()
        self._flat = self.terrain.kinds.index("flat") if "flat" in self.terrain.kinds else -1
        self._kind, self._level = np.zeros(num_envs, np.int64), np.zeros(num_envs, np.int64)
        self._middle, self._start = np.zeros((num_envs, 2)), np.zeros((num_envs, 2))
        self._command, self._turn = np.zeros((num_envs, 3), np.float32), np.zeros(num_envs)
        self._wanted = np.zeros((num_envs, 3), np.float32)
        self._heading, self._hold = np.zeros(num_envs), np.zeros(num_envs)
        self._outside, self._crossed = np.zeros(num_envs, bool), np.zeros(num_envs, bool)
        self._told, self._gone, self._error = np.zeros(num_envs), np.zeros(num_envs), np.zeros(num_envs)
        self._steps, self._height = np.zeros(num_envs), np.zeros(num_envs, np.float32)

    def reset(self, envs: I64, scenes: I64, levels: I64, rng: np.random.Generator) -> ResetPoses:
        """Put environments (M,) on tiles of their levels (M,)."""
        count = len(envs)
        self._kind[envs] = np.searchsorted(np.cumsum(self._shares)[:-1], spread(envs, 2))
        self._level[envs] = np.where(self._kind[envs] == self._flat, 0, np.minimum(levels, self.terrain.levels - 1))
        middle = self.terrain.centre(self._kind[envs], self._level[envs])[:, :2]
        ramp = self.terrain.kinds.index("ramp") if "ramp" in self.terrain.kinds else -1
        side = rng.integers(0, 4, count)
        side = np.where(self._kind[envs] == ramp, side // 2 * 2, side)  # ramps go along x
        self._heading[envs] = side * (np.pi / 2)
        along = np.stack([np.cos(self._heading[envs]), np.sin(self._heading[envs])], 1)
        on_top = spread(envs, 3) < ON_TOP
        self._heading[envs] += rng.normal(0, ACROSS, count)
        place = middle - along * np.where(on_top, 0, rng.uniform(*BEGIN, count))[:, None]
        place += along[:, ::-1] * [1, -1] * rng.uniform(-0.4, 0.4, count)[:, None]
        self._middle[envs], self._start[envs] = middle, place
        self._outside[envs], self._crossed[envs] = ~on_top, False
        self._told[envs], self._gone[envs], self._error[envs], self._steps[envs] = 0, 0, 0, 0
        self._command = self._command.copy()
        self._command[envs] = 0
        ground = self.terrain.heights(place)
        self._height[envs] = self._robot.base_height
        self._draw(envs, rng)
        position = np.column_stack([place, ground + self._robot.base_height])
        askew = np.where(on_top, ASKEW_ON_TOP, ASKEW)
        return ResetPoses(position, self._heading[envs] + askew * rng.standard_normal(count))

    def update(self, state: RobotState, rng: np.random.Generator) -> None:
        """Measure how commands are followed, turn robots round that left their hill, and go on to new commands."""
        place, yaw = state.planar[:, :2], state.planar[:, 2]
        velocity = np.einsum("nij,ni->nj", state.world_from_base, state.linear_velocity)[:, :2]
        self._error = self._error + np.linalg.norm(velocity - self._command[:, :2], axis=1)
        self._steps = self._steps + 1
        self._told = self._told + np.linalg.norm(self._command[:, :2], axis=1) * self._period
        self._gone = np.linalg.norm(place - self._start, axis=1)
        away = place - self._middle
        far = np.linalg.norm(away, axis=1)
        hill = self._kind != self._flat
        along = np.cos(self._heading) * away[:, 0] + np.sin(self._heading) * away[:, 1]
        aside = np.cos(self._heading) * away[:, 1] - np.sin(self._heading) * away[:, 0]
        top = (np.abs(along) < TOP[0]) & (np.abs(aside) < TOP[1])
        self._crossed |= hill & np.where(self._outside, top, far > DOWN)
        back = hill & (far > BEYOND) & (along > 0)
        self._heading = np.where(back, np.arctan2(-away[:, 1], -away[:, 0]), self._heading)
        self._height = (state.position[:, 2] - self.terrain.heights(place)).astype(np.float32)
        self._hold = self._hold - self._period
        due = np.flatnonzero(self._hold <= 0)
        if len(due):
            self._draw(due, rng)
        command = self._wanted.copy()
        command[:, 2] = np.where(np.isnan(self._turn), kept_heading(0, self._heading, yaw), self._turn)
        self._command = ramped(self._command, command, self._period)

    def state(self) -> WalkState:
        """State that terms read."""
        mean = self._error / np.maximum(self._steps, 1)
        return WalkState(
            self._command.copy(),
            self._height.copy(),
            self._crossed.copy(),
            self._told.astype(np.float32),
            self._gone.astype(np.float32),
            self._kind != self._flat,
            mean.astype(np.float32),
        )

    def props(self) -> Props:
        """No props."""
        return Props.none(len(self._kind))

    def on_top(self) -> Mask:
        """Which robots (N,) began in the middle of their hill."""
        return ~self._outside

    def _draw(self, envs: I64, rng: np.random.Generator) -> None:
        """New commands for environments (M,): any on flat ground, elsewhere ahead with the heading kept."""
        count = len(envs)
        flat = self._kind[envs] == self._flat
        command = np.zeros((count, 3), np.float32)
        command[:, 0] = np.where(flat, rng.uniform(*SPEED, count), rng.uniform(*CLIMB_SPEED, count))
        command[:, 1] = np.where(flat, rng.uniform(*SIDE, count), rng.uniform(*CLIMB_SIDE, count))
        turn = np.where(flat, rng.uniform(*TURN, count), np.nan)
        stand = rng.random(count) < STANDING
        command[stand] = 0
        turn[stand] = 0
        command[:, 2] = np.nan_to_num(turn)
        self._wanted, self._turn, self._hold = self._wanted.copy(), self._turn.copy(), self._hold.copy()
        self._wanted[envs], self._turn[envs] = command, turn
        self._hold[envs] = rng.uniform(*HOLD, count)


def spread(number: I64, by: int) -> F64:
    """For numbers (M,) as many values in 0..1, which any run of numbers fills evenly: by the root of a prime."""
    return np.asarray((number + 0.5) * np.sqrt(by) % 1, np.float64)


def ramped(command: F32, wanted: F32, period: float) -> F32:
    """Commands (N, 3) a period [s] later, on their way to those that are wanted (N, 3), no faster than `RAMP`."""
    change = RAMP * np.float32(period)
    return np.asarray(command + np.clip(wanted - command, -change, change), np.float32)
