"""Terms of tasks at tables: what is observed, what is rewarded, where things are to go, and what counts as done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import numpy as np

from pipeline.types import F32, F64, Mask
from sim.control.state import EndEffectorState
from sim.tasks.handling.table_state import TableState, seen
from sim.tasks.parameters import settable
from sim.tasks.task import StepState

MIDDLE = np.array([0.5, 0.0, 0.1])
"""Of where hands are, base frame [m]."""
LIES, LET_GO = 0.015, 0.008
"""Largest difference of heights of what lies somewhere, and least gap of fingers to what was let go [m]."""
SLOW, STILL = 0.05, 1.0
"""Speeds of a thing [m/s] and of an arm's joint [rad/s] below which they are at rest."""
UPRIGHT = 0.9
"""Least cosine between the vertical and the axis along it at first of what stands."""
FALLEN = 0.1
"""[m] below the surface."""


# Observations.


def proprioception(step: StepState[TableState]) -> F32:
    """The hand's place, where it was sent from there, its turn, fingers, and how fast the arm moves (N, 10)."""
    now, arm = seen(step), sent(step)
    hand = now.hand[:, :3, 3]
    ahead = (arm.target[:, :3, 3] - hand) / arm.action.reach
    turn = np.stack([np.cos(now.hand_yaw), np.sin(now.hand_yaw)], 1)
    return np.column_stack([(hand - MIDDLE) * 5, ahead, turn, now.fingers * 25 - 1, now.rates]).astype(np.float32)


def things(step: StepState[TableState]) -> F32:
    """What only a simulator knows: where things are from the hand and from the next thing, turned, and held (N, 12 K).

    Closeness counts: places are there at two scales. Turns are modulo those that look alike to a gripper.
    """
    now, parts = seen(step), []
    for number, item in enumerate(step.scenario.items):
        from_hand = now.grip[:, number] - now.hand[:, :3, 3]
        ahead = now.place[:, (number + 1) % now.place.shape[1]] - now.place[:, number]
        wrong = now.askew(number, item.grasp)
        held = now.held(number, item.grasp)
        parts += [
            from_hand * 8,
            np.clip(from_hand * 40, -3, 3),
            ahead * 5,
            wrong * 2,
            held,
            (now.place[:, number, 2] - now.surface) * 5,
        ]
    return np.column_stack(parts).astype(np.float32)


def mark(step: StepState[TableState]) -> F32:
    """Where the mark is, and where from the first thing, at two scales (N, 6)."""
    now = seen(step)
    ahead = (now.mark - now.place[:, 0])[:, :2]
    return np.column_stack([(now.mark - MIDDLE)[:, :2] * 5, ahead * 5, np.clip(ahead * 40, -3, 3)]).astype(np.float32)


# Rewards, and what counts as done.

Goal = Callable[[StepState[TableState]], F64]
"""Where a thing's origin is to go (N, 3), base frame [m]."""


def on_top(item: int, of: int) -> Goal:
    """On another thing."""

    def goal(step: StepState[TableState]) -> F64:
        items = step.scenario.items
        return seen(step).place[:, of] + np.array([0, 0, items[of].top + items[item].rest])

    return goal


def at_mark(item: int) -> Goal:
    """On the mark."""
    return lambda step: seen(step).mark + np.array([0, 0, step.scenario.items[item].rest])


def raised(item: int, height: float) -> Goal:
    """Above where it is, so high over the surface [m]."""

    def goal(step: StepState[TableState]) -> F64:
        place = seen(step).place[:, item].copy()
        place[:, 2] = seen(step).surface + height
        return place

    return goal


def reach(step: StepState[TableState], *, item: int = 0) -> F32:
    """1 with the hand at an object, 0 far away."""
    now = seen(step)
    return _near(now.grip[:, item] - now.hand[:, :3, 3])


def carry(step: StepState[TableState], *, goal: Goal, item: int = 0) -> F32:
    """1 for an object that is held, up to 3 the nearer it is to its goal; there it need not be held."""
    off = seen(step).place[:, item] - goal(step)
    has = seen(step).held(item, step.scenario.items[item].grasp) | _placed(off)
    return (has * (1 + 2 * _near(off))).astype(np.float32)


def release(step: StepState[TableState], *, goal: Goal, item: int = 0) -> F32:
    """How far the gripper is open, 0..1, with the object at its goal."""
    share = seen(step).fingers / step.scenario.arm.gripper.widths[-1]
    return (_placed(seen(step).place[:, item] - goal(step)) * share).astype(np.float32)


def push(step: StepState[TableState], *, item: int = 0) -> F32:
    """1 with the object on the mark, 0 far away."""
    return _near(seen(step).place[:, item] - at_mark(item)(step))


Within = Annotated[float, settable(0.001, 1, "how near to its place an object has to be [m]")]
Height = Annotated[float, settable(0.001, 1, "how high an object has to be [m]")]


def rests_on(step: StepState[TableState], *, within: Within, item: int = 0, of: int = 1) -> Mask:
    """Whether an object lies on another one, near to its middle, let go and at rest."""
    now, items = seen(step), step.scenario.items
    height = now.higher(item, of) - items[of].top
    lies = (now.apart(item, of) < within) & (np.abs(height - items[item].rest) < LIES)
    let_go = now.fingers > items[item].grasp.width + LET_GO
    return lies & let_go & (now.speed[:, item] < SLOW) & (now.rates < STILL)


def over(
    step: StepState[TableState],
    *,
    within: Within,
    height: Annotated[float, settable(0.001, 1, "how high over another one an object may be [m]")],
    item: int = 0,
    of: int = 1,
) -> Mask:
    """GSEnv's success: whether an object's origin is over another's, near and not too high, held or not."""
    now = seen(step)
    off = now.higher(item, of)
    return (now.apart(item, of) < within) & (off >= 0) & (off <= height)


def is_lifted(step: StepState[TableState], *, height: Height, item: int = 0) -> Mask:
    """Whether an object is held high enough over where it lay."""
    now, what = seen(step), step.scenario.items[item]
    return now.held(item, what.grasp) & (now.place[:, item, 2] - now.surface > what.rest + height)


def is_at_mark(step: StepState[TableState], *, within: Within, item: int = 0) -> Mask:
    """Whether an object rests on the mark, near to its middle."""
    now, what = seen(step), step.scenario.items[item]
    off = np.linalg.norm((now.place[:, item] - now.mark)[:, :2], axis=1)
    lies = np.abs(now.place[:, item, 2] - now.surface - what.rest) < LIES
    return (off < within) & lies & (now.speed[:, item] < SLOW)


def stands_at_mark(step: StepState[TableState], *, within: Within, item: int = 0) -> Mask:
    """Whether an object stands on the mark as it stood, near to its middle, let go and at rest."""
    now = seen(step)
    upright = now.rotation[:, item, 2, 2] > UPRIGHT
    let_go = now.fingers > step.scenario.items[item].grasp.width + LET_GO
    return is_at_mark(step, within=within, item=item) & upright & let_go & (now.rates < STILL)


def dropped(step: StepState[TableState]) -> Mask:
    """Whether a thing fell off the surface."""
    now = seen(step)
    return np.asarray((now.place[..., 2] < now.surface[:, None] - FALLEN).any(1))


def sent(step: StepState[TableState]) -> EndEffectorState:
    """Where the hands were sent."""
    assert step.arm, "these tasks have arms"
    return step.arm


def _near(off: F64) -> F32:
    return (1 - np.tanh(5 * np.linalg.norm(off, axis=1))).astype(np.float32)


def _placed(off: F64) -> Mask:
    return np.asarray(np.linalg.norm(off, axis=1) < 0.04)
