"""Stepping in place as an action space: a clock lifts the feet in turn, an action changes the joints' positions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.errors import SimError
from pipeline.types import F32, F64, I64
from sim.control.controller import Controller
from sim.control.mirror import exchanged
from sim.control.state import LegsState, Sensed, Stepping, Trot
from sim.physics.state import PhysicsEngine
from sim.robots.kinematics import link_poses
from sim.robots.legs import Legs
from sim.robots.model import Robot
from sim.robots.state import RobotState, headings
from sim.sensors.scan_grid import ScanGrid

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
EXACT = 0.02
"""Largest difference between a foot's place at rest and the mirror image of its partner's [m]."""
SIGNS = {
    "command": (1, -1, -1),  # ahead, to the left, turning to the left
    "clock": (-1, -1, 1),  # the other feet step half a beat later
    "knocks": (1,),
    "vertical_velocity": (1,),
}
"""Signs of what legs observe in the mirror image."""
BELOW = 0.25
"""The ground below the base is that within this distance of it along the axes [m]."""


QUADRUPED = Trot(scale=0.8)
"""On steep stairs legs lean by half a radian against the body, and stretch."""
BIPED = Trot(beat=2.0, lift=0.08, stands=False)
"""On two feet, standing is what robots fall at: they can't step where they would be caught."""


class TrotController(Controller):
    """Joint positions of the legs, on top of a trot on the spot; other joints are held at rest.

    A policy that knows nothing does not fall, and lifts its feet: nothing has to be unlearned.

    Raises:
        SimError: When the robot has no feet, feet beyond what it sees of the ground, or falls at rest.
    """

    ROWS = ("_phase", "_moving", "_swing", "_target")

    period, time_step, height_scan = PERIOD, TIME_STEP, SCAN

    def __init__(self, robot: Robot, trot: Trot | None = None) -> None:
        self.legs = self._legs = Legs(robot)
        if self._legs.overhang > OVERHANG:
            raise SimError(
                "a robot stands in its pose at rest (keyframe home): its centre of mass is above its feet",
                found=f"{robot.name} falls before its first step: it is {self._legs.overhang:.2f} m outside them",
                remedy="correct the joint angles of the pose at rest, or the masses of the links",
                file=robot.file,
            )
        self.trot = self._trot = trot = trot or (QUADRUPED if len(self._legs.feet) > 2 else BIPED)
        self.size = len(self._legs.joints)
        self._rest = robot.default_position.astype(np.float32)
        self._lift = self._legs.offsets_to_lift(trot.lift * self._legs.length).astype(np.float32)
        self._first = self._legs.diagonal
        self._driven, self._range = robot.driven, _soft_range(robot)
        self._before, self._below = _scan_points(self._legs)
        self._under = np.flatnonzero(np.abs(SCAN.points).max(1) <= BELOW)
        self.start(0)

    def start(self, num_envs: int) -> None:
        """Make room for N robots."""
        self._phase, self._moving = np.zeros(num_envs), np.zeros((num_envs,), np.float32)
        self._swing = np.zeros((num_envs, len(self._legs.feet)), np.float32)
        self._target = np.tile(self._rest, (num_envs, 1))

    def reset(self, envs: I64, joints: F32, rng: np.random.Generator) -> None:
        """Begin episodes in environments (M,) with either foot."""
        self._phase = self._phase.copy()
        self._phase[envs] = rng.integers(0, 2, len(envs)) / 2
        self._moving, self._swing, self._target = self._moving.copy(), self._swing.copy(), self._target.copy()
        self._moving[envs], self._swing[envs], self._target[envs] = 0, 0, self._rest

    def targets(self, actions: F32, now: Sensed) -> F32:
        """Targets (N, A) of the actuators, short of the joints' stops; the clock goes on by one period."""
        assert now.command is not None, "a task for this controller gives commands"
        return self.step(actions, now.heights, now.command)

    def step(self, actions: F32, heights: F32, command: F32) -> F32:
        """As `targets`, for heights (N, K) and commands (N, 3)."""
        told = (np.abs(command) > STANDS).any(1)
        self._moving = np.asarray(told | (not self._trot.stands), np.float32)
        rise = heights[:, self._before].max(-1) - heights[:, self._below].mean(-1)
        low, high = self._trot.rise
        higher = 1 + self._trot.higher * np.clip((rise - low) / (high - low), 0, 1)
        beat = np.maximum(np.sin(2 * np.pi * (self._phase[:, None] + self._first)), 0)
        self._swing = (beat * self._moving[:, None] * higher).astype(np.float32)
        target: F32 = self._rest + np.matmul(self._swing, self._lift)
        target[:, self._legs.joints] += np.float32(self._trot.scale) * actions
        self._target = target = np.clip(target, *self._range)
        self._phase = (self._phase + self._trot.beat * PERIOD * self._moving) % 1
        return target[:, self._driven]

    def command(self, actions: F32) -> F32:
        """Offsets of the legs' joints from where the clock has them (N, size) [rad]."""
        return np.float32(self._trot.scale) * actions

    def outputs(self, robot: Robot) -> list[dict[str, object]]:
        """The offset of each of the legs' joints."""
        names = [robot.joint_names[column] for column in self._legs.joints]
        return [{"joint": name, "mode": "offset from the clock's position", "unit": "rad"} for name in names]

    def mirrored(self, name: str) -> tuple[I64, F32] | None:
        """Order and signs of what legs observe, and of the action, in the mirror image."""
        partner, sign = self._legs.mirror
        joints = self._legs.joints
        if name in ("joint_positions", "joint_velocities"):
            return partner, sign
        if name == "action":
            return np.array([joints.tolist().index(column) for column in partner[joints]]), sign[joints]
        if name in ("feet_down", "feet_heights"):
            return exchanged(np.array([foot.at_rest[:2] for foot in self._legs.feet]), EXACT)
        return (np.arange(len(SIGNS[name])), np.array(SIGNS[name], np.float32)) if name in SIGNS else None

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
        legs = self._legs
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
