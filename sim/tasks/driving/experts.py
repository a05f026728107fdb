"""Experts that drive: actions of one who knows the shortest path, or who does as told."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from pipeline.types import F32, I64, Floats
from sim.control.controller import Controller
from sim.control.state import Velocities
from sim.scene.navigation import path_ahead
from sim.tasks.scenario import Scenario
from sim.tasks.task import StepState, Term

RIM = 0.07
"""Nearer to the floor's edge [m] a path counts as longer, by as much: a robot doesn't stay on it to the centimetre."""
ASIDE, TURN_FIRST, NEAR = 0.8, 0.7, 0.3
"""With more to turn than the first [rad] a robot turns left, however far: a student that sees nothing there can learn
that, and not to which side the way is. With more than the second [rad], or so near to the end of its path [m], it turns
on the spot."""
SPEED, FASTEST, STRAIGHT = 0.5, 0.8, 0.5
"""Speed near the floor's edge, and where there is room [m/s], with less to turn than this [rad]."""
ROOM, MORE = 0.1, 1.5
"""Farther from the edge [m] it is faster, by so much for a metre [1/s]."""


def who_knows(scenario: Scenario[Any], controller: Controller) -> Term[F32] | None:
    """One who drives along the path, or as told; None where nobody knows how."""
    if not controller.velocities:
        return None
    if scenario.commands:
        return partial(_as_told, controller.velocities)
    return _along_path(scenario, controller.velocities) if scenario.has_paths else None


def _as_told(velocities: Velocities, step: StepState[Any]) -> F32:
    ahead, _, turn = step.scenario.command.T
    return velocities.actions(ahead, turn)


def _along_path(scenario: Scenario[Any], velocities: Velocities) -> Term[F32]:
    """Turn to where the path gets shortest, then drive there."""

    def length(xy: Floats, envs: I64) -> F32:
        return scenario.path_length(xy, envs) + np.maximum(np.float32(RIM) - scenario.to_edge(xy, envs), 0)

    def act(step: StepState[Any]) -> F32:
        pose = step.state.planar
        here, turn = path_ahead(pose, length, np.arange(len(pose)))
        turn = np.where(np.abs(turn) > ASIDE, np.abs(turn), turn)
        room = scenario.to_edge(pose[:, :2], np.arange(len(pose))) - ROOM
        speed = np.where(np.abs(turn) < STRAIGHT, np.clip(SPEED + MORE * room, SPEED, FASTEST), SPEED)
        forward = np.where((np.abs(turn) < TURN_FIRST) & (here > NEAR), speed, 0.0)
        return velocities.actions(forward, 3 * turn)

    return act
