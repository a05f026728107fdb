"""Stepping in place as an action space: a clock lifts the feet in turn, an action changes the joints' positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.errors import SimError
from pipeline.types import F32, F64, I64
from sim.height_scan import ScanGrid, headings
from sim.physics.state import PhysicsEngine, RobotState
from sim.robots.drive import LegsState, Stepping, Walker
from sim.robots.kinematics import link_poses
from sim.robots.legs import Legs
from sim.robots.model import Robot

PERIOD = 0.02
"""Time between two actions [s]."""
TIME_STEP = 0.005
"""Time step of the physics [s]."""
STANDS = np.array([0.08, 0.08, 0.15])
"""Commands below these speeds [m/s, m/s, rad/s] mean standing: no foot is lifted."""
SCAN = ScanGrid(ahead=(-0.4, 0.8), aside=(-0.3, 0.3), spacing=0.1, clip=1.5)
"""Where the ground is seen, around the base."""
AHEAD, ASIDE = (0.05, 0.35), 0.12
"""Where a rise before a foot is looked for: so far ahead of it and to its sides [m]."""
TOUCH = 1.0
"""Least force of a contact that counts [N]."""
OVERHANG = 0.03
"""How far the centre of mass may lie outside the feet at rest, for point feet and inexact masses [m]."""
SOFT = 0.9
"""Targets of joints stay within that share of their range, as legged_gym's soft limits (Rudin et al., 2021)."""
BELOW = 0.25
"""The ground below the base is that within this distance of it along the axes [m]."""


@dataclass(frozen=True)
class Trot:
    """How robots step; a gait is bound to what it was trained with.

    Attributes:
        beat: Steps of each foot per second [Hz].
        lift: Height of a step on level ground, as a fraction of a leg's length.
        scale: Offset of a joint for an action of 1 [rad].
        higher: How much higher a foot is lifted before the largest rise, as a fraction.
        rise: Rises of the ground before a foot between which it is lifted higher and higher [m].
        stands: Whether a robot that is told to stand does, or else steps on the spot.
    """

    beat: float = 2.0
    lift: float = 0.3
    scale: float = 0.5
    higher: float = 1.2
    rise: tuple[float, float] = (0.03, 0.18)
    stands: bool = True


BIPED = Trot(beat=2.0, lift=0.08, stands=False)
"""On two feet, standing is what robots fall at: they can't step where they would be caught."""


class TrotDrive(Walker):
    """Joint positions of the legs, on top of a trot on the spot; other joints are held at rest.

    A policy that knows nothing does not fall, and lifts its feet: nothing has to be unlearned.

    Attributes:
        size: Number of elements of an action: the legs' joints.
        trot: How they step.

    Raises:
        SimError: When the robot has no feet, feet beyond what it sees of the ground, or falls at rest.
    """

    period, time_step, height_scan, needs_state = PERIOD, TIME_STEP, SCAN, False

    def __init__(self, robot: Robot, trot: Trot | None = None) -> None:
        self.legs = Legs(robot)
        if self.legs.overhang > OVERHANG:
            raise SimError(
                "a robot stands in its pose at rest (keyframe home): its centre of mass is above its feet",
                found=f"{robot.name} falls before its first step: it is {self.legs.overhang:.2f} m outside them",
                remedy="correct the joint angles of the pose at rest, or the masses of the links",
                file=robot.file,
            )
        self.trot = trot = trot or (Trot() if len(self.legs.feet) > 2 else BIPED)
        self.size = len(self.legs.joints)
        self._rest = robot.default_position.astype(np.float32)
        self._lift = self.legs.offsets_to_lift(trot.lift * self.legs.length).astype(np.float32)
        self._first = self.legs.diagonal
        self._driven, self._range = robot.driven, _soft_range(robot)
        self._before, self._below = _scan_points(self.legs)
        self._under = np.flatnonzero(np.abs(SCAN.points).max(1) <= BELOW)
        self.start(0)

    def start(self, num_envs: int) -> None:
        """Make room for N robots."""
        self._phase, self._moving = np.zeros(num_envs), np.zeros((num_envs,), np.float32)
        self._swing = np.zeros((num_envs, len(self.legs.feet)), np.float32)
        self._target = np.tile(self._rest, (num_envs, 1))

    def reset(self, envs: I64, rng: np.random.Generator) -> None:
        """Begin episodes in environments (M,) with either foot."""
        self._phase = self._phase.copy()
        self._phase[envs] = rng.integers(0, 2, len(envs)) / 2
        self._moving, self._swing, self._target = self._moving.copy(), self._swing.copy(), self._target.copy()
        self._moving[envs], self._swing[envs], self._target[envs] = 0, 0, self._rest

    def walk(self, actions: F32, state: RobotState | None, heights: F32, command: F32 | None) -> F32:
        """Targets (N, A) of the actuators, short of the joints' stops; the clock goes on by one period.

        Actions (N, size), heights (N, K) of the scan relative to the base [m], commands (N, 3): speed ahead and to the
        left [m/s], yaw rate [rad/s].
        """
        assert command is not None, "a task for this drive gives commands"
        told = (np.abs(command) > STANDS).any(1)
        self._moving = np.asarray(told | (not self.trot.stands), np.float32)
        rise = heights[:, self._before].max(-1) - heights[:, self._below].mean(-1)
        low, high = self.trot.rise
        higher = 1 + self.trot.higher * np.clip((rise - low) / (high - low), 0, 1)
        beat = np.maximum(np.sin(2 * np.pi * (self._phase[:, None] + self._first)), 0)
        self._swing = (beat * self._moving[:, None] * higher).astype(np.float32)
        target: F32 = self._rest + np.matmul(self._swing, self._lift)
        target[:, self.legs.joints] += np.float32(self.trot.scale) * actions
        self._target = target = np.clip(target, *self._range)
        self._phase = (self._phase + self.trot.beat * PERIOD * self._moving) % 1
        return target[:, self._driven]

    def targets(self, actions: F32) -> F32:
        """Offsets of the legs' joints from where the clock has them (N, size) [rad]."""
        return np.float32(self.trot.scale) * actions

    def stepping(self) -> Stepping:
        """The clock now; its arrays are never changed later."""
        return Stepping(
            self._phase.astype(np.float32), self._moving, self._swing, np.matmul(self._swing, self._lift), self._target
        )

    def unmeasured(self) -> LegsState:
        """What is known of the legs without looking at them: the clock."""
        nothing = np.zeros_like(self._swing)
        return LegsState(
            self.stepping(),
            nothing,
            nothing > 0,
            np.zeros((*nothing.shape, 3), np.float32),
            nothing,
            self._moving < 0,
            np.zeros_like(self._moving),
        )

    def measure(self, engine: PhysicsEngine, state: RobotState, heights: F32) -> LegsState:
        """What the legs of an engine's robots do now; heights (N, K) are those of the scan."""
        legs = self.legs
        forces, on_feet = engine.contact_forces(), engine.foot_forces([foot.link for foot in legs.feet])
        down = np.linalg.norm(on_feet, axis=-1) > TOUCH
        for column, foot in enumerate(legs.feet):
            forces[:, foot.link] -= on_feet[:, column]
        poses = link_poses(legs.robot, state)
        place = legs.positions(poses)
        ground = np.take_along_axis(heights, _nearest(place[..., :2] - state.position[:, None, :2], state), 1)
        radius = np.array([foot.radius for foot in legs.feet])
        clearance = place[..., 2] - state.position[:, None, 2] - ground - radius
        air = (np.sin(2 * np.pi * (self._phase[:, None] + self._first)) > 0) & (self._moving[:, None] > 0)
        return LegsState(
            self.stepping(),
            1 - air.astype(np.float32),
            down,
            legs.velocities(state, poses).astype(np.float32),
            np.clip(clearance, -0.3, 0.3).astype(np.float32),
            np.asarray((np.linalg.norm(forces, axis=-1) > TOUCH).any(1)),
            -heights[:, self._under].mean(1),
        )


def _soft_range(robot: Robot) -> F32:
    """Smallest and largest targets (2, J) of joints [rad, m]: `SOFT` of their ranges, and where they are at rest."""
    low, high = robot.limits
    spare = (1 - SOFT) / 2 * np.where(np.isfinite(high - low), high - low, 0)
    rest = robot.default_position
    return np.array([np.minimum(low + spare, rest), np.maximum(high - spare, rest)], np.float32)


def _nearest(offset: F64, state: RobotState) -> I64:
    """Points of the scan (N, F) nearest to horizontal offsets (N, F, 2) from the bases, world axes [m]."""
    forward = headings(state.quaternion)
    axes = np.stack([forward, forward[:, ::-1] * [-1, 1]], 2)
    cell = np.rint((offset @ axes - [SCAN.ahead[0], SCAN.aside[0]]) / SCAN.spacing).astype(np.int64)
    row, column = np.moveaxis(np.clip(cell, 0, np.array(SCAN.shape) - 1), -1, 0)
    return row * SCAN.shape[1] + column


def _scan_points(legs: Legs) -> tuple[I64, I64]:
    """Indices of the scan's points before each foot (F, P) and around it (F, Q); some twice, where a foot has fewer."""
    points = SCAN.points
    before, below = list[I64](), list[I64]()
    for foot in legs.feet:
        ahead, aside = (points - foot.at_rest[:2]).T
        near = np.abs(aside) <= ASIDE
        before.append(np.flatnonzero(near & (ahead > AHEAD[0]) & (ahead < AHEAD[1])))
        below.append(np.flatnonzero(near & (np.abs(ahead) <= ASIDE)))
    if not all(len(rows) for rows in (*before, *below)):
        raise SimError(
            "a walking robot sees the ground before its feet",
            found=f"feet at {', '.join(str(foot.at_rest[:2].round(2).tolist()) for foot in legs.feet)} m",
            remedy=f"the scan is from {SCAN.ahead[0]} to {SCAN.ahead[1]} m ahead, and {SCAN.aside[1]} m to each side",
            file=legs.robot.file,
        )
    return _even(before), _even(below)


def _even(rows: Sequence[I64]) -> I64:
    """Rows of one length."""
    most = max(map(len, rows))
    return np.array([np.resize(row, most) for row in rows])
