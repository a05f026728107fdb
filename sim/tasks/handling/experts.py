"""Experts: actions of one who knows where things are. They depend on nothing but what is now.

Heights are funnels over the horizontal error: an expert that waited for millimetres would teach waiting to a student
that sees centimetres (DAgger: S. Ross et al., A reduction of imitation learning to no-regret online learning, 2011).
"""

from __future__ import annotations

import numpy as np

from pipeline.geometry import matrix_from_rotvec
from pipeline.types import F32, F64, Mask
from sim.robots.arm import DOWN
from sim.tasks.handling.table_state import TableState, folded, seen
from sim.tasks.handling.table_terms import Goal, at_mark, sent
from sim.tasks.task import QUARTER_TURN, StepState

BEHIND, TOUCHES = 0.075, 0.028
"""How far behind a thing a hand goes down to push it, and where it pushes [m]."""
SLOPE = 4.0
"""Height of a funnel over the horizontal error."""
HOVER, CARRY = 0.09, 0.11
"""Largest heights of the funnels over a thing and over its goal [m]."""
NEAR, WITHIN, DEEPER = 0.016, 0.006, 0.002
"""Horizontal error at which hands are down; by how much more fingers shut, and how far below where they hold they do
[m]."""
NARROW, WIDE = 0.04, 0.08
"""What is wider than the first [m] leaves less room for that error, and at the second hardly any."""
TURN_FIRST, LEVER = 0.3, 0.05
"""Hands that are askew by more [rad] stay higher, as by so much horizontal error [m a radian]."""
CLEAR = 0.05
"""The hand rises before it goes aside, as long as it is lower than this over a thing's middle [m]."""


def to_grasp(step: StepState[TableState], item: int) -> tuple[F64, Mask]:
    """Where hands (N, 3) go to hold a thing, and whether they are there."""
    now, grasp = seen(step), step.scenario.items[item].grasp
    hand, thing = now.hand[:, :3, 3], now.grip[:, item]
    beside = np.linalg.norm((thing - hand)[:, :2], axis=1)
    near = NEAR * float(np.clip((WIDE - grasp.width) / (WIDE - NARROW), 0.2, 1))
    off = beside - near + LEVER * np.maximum(np.abs(now.askew(item, grasp)) - TURN_FIRST, 0)
    target = np.column_stack([thing[:, :2], thing[:, 2] - DEEPER + np.clip(SLOPE * off, 0, HOVER)])
    at_it = (beside < near + WITHIN) & (np.abs(hand[:, 2] - thing[:, 2]) < 0.014)
    low = (beside > 0.03) & (hand[:, 2] < thing[:, 2] + CLEAR)
    target[low, :2] = hand[low, :2]
    target[low, 2] = thing[low, 2] + HOVER
    return target, at_it


def sent_to(step: StepState[TableState], target: F64, rotation: F64, shut: Mask) -> F32:
    """Actions that send hands to places (N, 3), turned as (N, 3, 3), base from hand, open or shut (N,)."""
    return sent(step).actions(seen(step).hand, target, rotation, np.where(shut, -1.0, 1.0))


def pick_and_place(
    step: StepState[TableState], *, goal: Goal, item: int = 0, let_go: float = 0.042, below: float = 0.0
) -> F32:
    """Bring a thing to a goal and let it go there, so near to it [m].

    Where it is near it goes down as if the goal were so far below [m], until it lets go: a student that goes down too
    slowly would stop there.
    """
    now, what = seen(step), step.scenario.items[item]
    hand, thing = now.hand[:, :3, 3], now.grip[:, item]
    there = goal(step) + thing - now.place[:, item]
    target, at_it = to_grasp(step, item)
    shut = at_it.copy()
    held = now.held(item, what.grasp) & at_it
    beside = np.linalg.norm((there - thing)[:, :2], axis=1)
    height = there[:, 2] + 0.006 + np.clip(SLOPE * (beside - 0.6 * let_go), -below, CARRY)
    carried = np.column_stack([hand[:, :2] + (there - thing)[:, :2], height])
    low = (beside >= let_go) & (hand[:, 2] < there[:, 2] + 0.04)
    carried[low, :2] = hand[low, :2]
    target[held], shut[held] = carried[held], True
    lies = (beside < let_go) & (thing[:, 2] < there[:, 2] + 0.014)
    shut[lies] = False
    away = lies & (now.fingers > what.grasp.width + 0.008)
    target[away, 2] = thing[away, 2] + 0.18
    return sent_to(step, target, _turned(now.hand_yaw, now.askew(item, what.grasp), ~held), shut)


def lift(step: StepState[TableState], *, height: float, item: int = 0) -> F32:
    """Hold a thing so high over the surface [m]."""
    now, what = seen(step), step.scenario.items[item]
    hand = now.hand[:, :3, 3]
    target, at_it = to_grasp(step, item)
    held = now.held(item, what.grasp) & at_it
    target[held] = np.column_stack([hand[held, :2], now.surface[held] + height])
    return sent_to(step, target, _turned(now.hand_yaw, now.askew(item, what.grasp), ~held), at_it)


def push(step: StepState[TableState], *, item: int = 0) -> F32:
    """Push a thing to the mark, with shut fingers."""
    now = seen(step)
    hand, thing, there = now.hand[:, :3, 3], now.place[:, item], at_mark(item)(step)
    way = (there - thing)[:, :2]
    left = np.linalg.norm(way, axis=1, keepdims=True)
    way = way / np.maximum(left, 1e-6)
    from_thing = hand[:, :2] - thing[:, :2]
    along = (from_thing * way).sum(1)
    aside = np.linalg.norm(from_thing - along[:, None] * way, axis=1)
    in_line = (along < -0.02) & (aside < 0.02)
    start = thing[:, :2] - BEHIND * way
    off = np.linalg.norm(hand[:, :2] - start, axis=1)
    low = thing[:, 2]
    target = np.column_stack([start, low + np.clip(SLOPE * (off - 0.02), 0, HOVER)])
    rises = (off > 0.05) & (hand[:, 2] < low + 0.04) & ~in_line
    target[rises] = np.column_stack([hand[rises, :2], now.surface[rises] + HOVER])
    pushes = in_line & (hand[:, 2] < low + 0.015)
    reach = np.clip(left[:, 0], 0, 0.05) - TOUCHES
    target[pushes, :2] = (thing[:, :2] + reach[:, None] * way)[pushes]
    target[pushes, 2] = low[pushes]
    wrong = folded(np.arctan2(way[:, 1], way[:, 0]) - now.hand_yaw, QUARTER_TURN)
    return sent_to(
        step, target, _turned(now.hand_yaw, wrong, ~pushes & (np.abs(wrong) < np.pi / 5)), np.ones(len(hand), bool)
    )


def _turned(hand_yaw: F64, wrong: F64, turns: Mask) -> F64:
    """Rotations (N, 3, 3), base from hand, of hands that point down; some turn by what is wrong."""
    yaw = hand_yaw + np.where(turns, wrong, 0)
    return matrix_from_rotvec(yaw[:, None] * np.array([0, 0, 1.0])) @ DOWN
