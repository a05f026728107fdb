"""Robots that step as a gait was trained to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sim.config import EnvConfig
from sim.control.trot import TrotController
from sim.controlled import robot_for
from sim.env import SceneEnv
from sim.gaits import Gait
from sim.scene.opening import open_scene
from sim.tasks.walking.walking_tasks import WALK


def walking(gait: Gait, robot: str, engine: str, reference: str, robots: int, seed: int, **config: Any) -> SceneEnv:
    """Robots on procedural ground that step as a gait does: its actions are offsets from its own clock's positions."""
    stepping = replace(WALK, controller=lambda robot, _: TrotController(robot, gait.card.trot))
    settings = EnvConfig(engine=engine, cameras=(), seed=seed, **config)
    return SceneEnv(stepping, [open_scene(reference)], *robot_for(stepping, robot), robots, settings)
