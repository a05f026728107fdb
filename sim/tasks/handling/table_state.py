"""What a task at a table knows of its episodes, and what lies before its arms at a step."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pipeline.geometry import matrix_from_quaternion
from pipeline.types import F32, F64, Mask
from sim.robots.arm import Arm
from sim.tasks.task import Grasp, Item, StepState

SINK = 0.016
"""How far fingers sink into what they hold, at most, both together [m]; half of what is thin."""


@dataclass(frozen=True, eq=False)
class Table:
    """What lies before N arms now; in the frames of their bases.

    Attributes:
        hand: (N, 4, 4) base from hand.
        fingers: (N,) how far the fingers are apart [m].
        place: (N, K, 3) of the things' origins [m].
        grip: (N, K, 3) where hands hold them [m].
        grip_yaw: (N, K) turns of hands that hold them; others do as well, see `Grasp.turn` [rad].
        rotation: (N, K, 3, 3) base from thing.
        speed: (N, K) [m/s].
        rates: (N,) fastest joint of the arm [rad/s].
        mark: (N, 3) middle of the mark on the surface, if the task has one [m].
        surface: (N,) height of the surface [m].
    """

    hand: F64
    fingers: F64
    place: F64
    grip: F64
    grip_yaw: F64
    rotation: F64
    speed: F64
    rates: F64
    mark: F64
    surface: F64

    @cached_property
    def hand_yaw(self) -> F64:
        """Turns (N,) of the hands that point down [rad]."""
        return np.arctan2(self.hand[:, 1, 0], self.hand[:, 0, 0])

    def held(self, item: int, grasp: Grasp) -> Mask:
        """Whether (N,) a thing is between the fingers, which press it."""
        near = np.linalg.norm(self.hand[:, :3, 3] - self.grip[:, item], axis=1) < 0.025
        return near & (self.fingers < grasp.width + 0.006) & (self.fingers > grasp.width - min(SINK, grasp.width / 2))

    def askew(self, item: int, grasp: Grasp) -> F64:
        """How far hands turn to hold a thing (N,) [rad]."""
        return folded(self.grip_yaw[:, item] - self.hand_yaw, grasp.turn)

    def apart(self, one: int, other: int) -> F64:
        """Horizontal distances (N,) of two things [m]."""
        return np.linalg.norm((self.place[:, one] - self.place[:, other])[:, :2], axis=1)

    def higher(self, one: int, other: int) -> F64:
        """By how much one thing's origin is above the other's (N,) [m]."""
        return self.place[:, one, 2] - self.place[:, other, 2]


@dataclass(frozen=True, eq=False)
class TableState:
    """What a task at a table knows of its episodes.

    Attributes:
        items: Its things, in the order of every array.
        arm: The robot's.
        mark: (N, 3) base frame [m].
        surface: (N,) height of the surface in the base frame [m].
    """

    items: tuple[Item, ...]
    arm: Arm
    mark: F32
    surface: F32


def seen(step: StepState[TableState]) -> Table:
    """What lies before the arms, computed once a step."""
    cached = step.__dict__.get("_table")
    if cached is None:
        cached = step.__dict__["_table"] = _table(step)
    return cached


def _table(step: StepState[TableState]) -> Table:
    scenario, state, bodies = step.scenario, step.state, step.bodies
    assert bodies is not None, "these tasks have things"
    base, count = state.world_from_base, len(scenario.items)
    place = np.einsum("nji,nkj->nki", base, bodies.position[:, -count:] - state.position[:, None])
    rotation = np.einsum("nji,nkjl->nkil", base, matrix_from_quaternion(bodies.quaternion[:, -count:]))
    joints, grasps = state.joint_position, [item.grasp for item in scenario.items]
    grip = place + np.einsum("nkij,kj->nki", rotation, np.array([grasp.place for grasp in grasps]))
    yaw = np.arctan2(rotation[..., 1, 0], rotation[..., 0, 0]) + [grasp.yaw for grasp in grasps]
    return Table(
        hand=scenario.arm.hands(joints),
        fingers=scenario.arm.gripper.width(joints[:, scenario.arm.fingers].astype(np.float64)),
        place=place,
        grip=grip,
        grip_yaw=yaw,
        rotation=rotation,
        speed=np.linalg.norm(bodies.linear_velocity[:, -count:], axis=2),
        rates=np.abs(state.joint_velocity[:, scenario.arm.columns]).max(1),
        mark=scenario.mark.astype(np.float64),
        surface=scenario.surface.astype(np.float64),
    )


def folded(angle: F64, turn: float) -> F64:
    """An angle modulo a turn, the nearest to 0 [rad]."""
    return (angle + turn / 2) % turn - turn / 2
