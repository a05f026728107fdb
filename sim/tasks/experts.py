"""Experts: actions of one who knows where things are. They depend on nothing but what is now.

Heights are funnels over the horizontal error: an expert that waited for millimetres would teach waiting to a student
that sees centimetres (DAgger: S. Ross et al., A reduction of imitation learning to no-regret online learning, 2011).
"""

from __future__ import annotations

import numpy as np

from pipeline.geometry import matrix_from_rotvec
from pipeline.types import F32, F64, Mask
from sim.tasks.fetch import TO_HOME, TO_THING, FetchState
from sim.tasks.table import DOWN, Goal, StepState, TableState, at_mark, quarter, seen, sent
from sim.tasks.task import Term

SLOPE = 4.0
"""Height of a funnel over the horizontal error."""
HOVER, CARRY = 0.09, 0.11
"""Largest heights of the funnels over a thing and over its goal [m]."""
GRASP, DEEPER = 0.022, 0.002
"""Horizontal error at which fingers shut, and how far below the thing's middle they do [m]."""
CLEAR = 0.05
"""The hand rises before it goes aside, as long as it is lower than this over a thing's middle [m]."""
BEHIND, TOUCHES = 0.075, 0.028
"""How far behind a thing a hand goes down to push it, and where it pushes [m]."""
STAND, AHEAD, ASIDE = 0.30, 0.06, 0.05
"""How far ahead of a base what its hand goes down to is at best, and the largest deviations ahead and aside [m]."""
NEAR, SPEED, BACK = 0.6, 0.5, 0.2
"""From this near a base goes straight to it [m]; speeds ahead and back [m/s]."""
LOW, BENEATH, AT_HOME = 0.16, 0.12, 0.08
"""A base stands while its hand is lower; then the hand reaches for what is this near, and lets go of what is this near
to the middle of the mark [m]."""
TUCKED = np.array([0.18, 0.0, 0.28])
"""Where the hand is on the way, base frame [m]."""


def pick_and_place(item: int, goal: Goal, let_go: float = 0.042) -> Term[F32]:
    """Bring a thing to a goal and let it go there, so near to it [m]."""

    def act(step: StepState[TableState]) -> F32:
        now, what = seen(step), step.scenario.items[item]
        hand, thing, there = now.hand[:, :3, 3], now.place[:, item], goal(step)
        target, at_it = _to_grasp(hand, thing)
        shut = at_it.copy()
        held = now.held(item, what.width) & at_it
        beside = np.linalg.norm((there - thing)[:, :2], axis=1)
        height = there[:, 2] + 0.006 + np.clip(SLOPE * (beside - 0.6 * let_go), 0, CARRY)
        carried = np.column_stack([hand[:, :2] + (there - thing)[:, :2], height])
        low = (beside >= let_go) & (hand[:, 2] < there[:, 2] + 0.04)
        carried[low, :2] = hand[low, :2]
        target[held], shut[held] = carried[held], True
        lies = (beside < let_go) & (thing[:, 2] < there[:, 2] + 0.014)
        shut[lies] = False
        away = lies & (now.fingers > what.width + 0.008)
        target[away, 2] = 0.2
        return _act(step, target, _turned(now.hand_yaw, now.yaw[:, item], ~held), shut)

    return act


def lift(item: int, height: float) -> Term[F32]:
    """Hold a thing so high over the surface [m]."""

    def act(step: StepState[TableState]) -> F32:
        now, what = seen(step), step.scenario.items[item]
        hand, thing = now.hand[:, :3, 3], now.place[:, item]
        target, at_it = _to_grasp(hand, thing)
        held = now.held(item, what.width) & at_it
        target[held] = np.column_stack([hand[held, :2], np.full(held.sum(), height)])
        return _act(step, target, _turned(now.hand_yaw, now.yaw[:, item], ~held), at_it)

    return act


def push(item: int) -> Term[F32]:
    """Push a thing to the mark, with shut fingers."""

    def act(step: StepState[TableState]) -> F32:
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
        target[rises] = np.column_stack([hand[rises, :2], np.full(rises.sum(), HOVER)])
        pushes = in_line & (hand[:, 2] < low + 0.015)
        reach = np.clip(left[:, 0], 0, 0.05) - TOUCHES
        target[pushes, :2] = (thing[:, :2] + reach[:, None] * way)[pushes]
        target[pushes, 2] = low[pushes]
        yaw = np.arctan2(way[:, 1], way[:, 0])
        return _act(step, target, _turned(now.hand_yaw, yaw, ~pushes), np.ones(len(hand), bool))

    return act


def fetch(step: StepState[FetchState]) -> F32:
    """Drive to the thing, pick it up, drive home and put it down on the mark; actions of an arm on wheels."""
    now, what, paths, arm = seen(step), step.scenario.items[0], step.scenario, sent(step)
    assert arm.wheels, "a task for arms on wheels"
    hand, thing, mark = now.hand[:, :3, 3], now.place[:, 0], now.mark
    to_grasp, at_it = _to_grasp(hand, thing)
    held = now.held(0, what.width) & at_it
    beside = np.linalg.norm((mark - thing)[:, :2], axis=1)
    home = (beside < AT_HOME) & (thing[:, 2] < mark[:, 2] + what.rest + 0.012)
    goal = np.where(held[:, None], mark, thing)
    ahead, left = goal[:, 0] - STAND, goal[:, 1]
    low = hand[:, 2] < LOW
    beneath = np.linalg.norm((goal - hand)[:, :2], axis=1) < BENEATH
    there = (low & beneath) | (np.abs(ahead) < AHEAD) & (np.abs(left) < ASIDE)

    # wheels: along the path, and straight for what is near; they stand while the hand is low
    row, way = np.arange(len(hand)), np.where(held, TO_HOME, TO_THING)
    near = (np.linalg.norm(goal[:, :2], axis=1) < NEAR) & (paths.length[row, way] < 3 * NEAR)
    turn = np.where(near, np.arctan2(left, goal[:, 0]), paths.turn[row, way])
    forward = np.where(near, np.clip(2 * ahead, -BACK, SPEED), SPEED)
    forward = np.where((np.abs(turn) < np.where(near, 0.2, 0.5)) | (near & (ahead < 0)), forward, 0)
    stands = low | home
    wheels = arm.wheels.actions(np.where(stands, 0, forward), np.where(stands, 0, 3 * turn))

    # the hand: down to what is there, up first otherwise
    target = np.where(low[:, None], hand + np.array([0, 0, 0.1]), TUCKED)
    picks, shut = there & ~held & ~home, held | at_it
    target[picks] = to_grasp[picks]
    puts = there & held
    height = mark[:, 2] + what.rest + 0.004 + np.clip(SLOPE * (beside - 0.06), 0, CARRY)
    target[puts] = np.column_stack([hand[:, :2] + (mark - thing)[:, :2], height])[puts]
    shut[home] = False
    stays = home & (now.fingers < what.width + 0.008)
    target[stays] = hand[stays]
    yaw = np.where(picks, now.hand_yaw + quarter(now.yaw[:, 0] - now.hand_yaw), np.where(held, now.hand_yaw, 0))
    rotation = matrix_from_rotvec(yaw[:, None] * np.array([0, 0, 1.0])) @ DOWN
    return np.concatenate([wheels, _act(step, target, rotation, shut)], 1)


def _to_grasp(hand: F64, thing: F64) -> tuple[F64, Mask]:
    """Where hands (N, 3) go for things (N, 3), and whether they are there."""
    beside = np.linalg.norm((thing - hand)[:, :2], axis=1)
    target = np.column_stack([thing[:, :2], thing[:, 2] - DEEPER + np.clip(SLOPE * (beside - 0.016), 0, HOVER)])
    at_it = (beside < GRASP) & (np.abs(hand[:, 2] - thing[:, 2]) < 0.014)
    low = (beside > 0.03) & (hand[:, 2] < thing[:, 2] + CLEAR)
    target[low, :2] = hand[low, :2]
    target[low, 2] = thing[low, 2] + HOVER
    return target, at_it


def _turned(hand_yaw: F64, yaw: F64, turns: Mask) -> F64:
    """Rotations (N, 3, 3), base from hand, of hands that point down; some turn to things of square section."""
    wrong = quarter(yaw - hand_yaw)
    wrong = np.where(turns & (np.abs(wrong) < np.pi / 5), wrong, 0)
    return matrix_from_rotvec((hand_yaw + wrong)[:, None] * np.array([0, 0, 1.0])) @ DOWN


def _act(step: StepState[TableState], target: F64, rotation: F64, shut: Mask) -> F32:
    return sent(step).actions(seen(step).hand, target, rotation, np.where(shut, -1.0, 1.0))
