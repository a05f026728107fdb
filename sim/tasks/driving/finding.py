"""A ball anywhere on the floor: where it is can't be known from the place, only by looking."""

from __future__ import annotations

from colorsys import hsv_to_rgb
from dataclasses import dataclass

import numpy as np

from pipeline.types import F32, F64, I64, Floats, Mask
from sim.robots.state import RobotState
from sim.scene.floors import Floors
from sim.scene.navigation import DistanceFields, lengths_to
from sim.scene.sight import in_sight
from sim.sensors.cameras.props import Balls, Patches, Posts, Props
from sim.tasks.driving.paths import Ends, MinLength, PathScenario, PathState, PathTracker
from sim.tasks.scenario import ResetPoses

BALL_RADIUS = (0.1, 0.2)
"""Range of the ball's radius [m]."""
HUE, SATURATION, VALUE = (0.09, 0.17), (0.75, 1.0), (0.7, 1.0)
"""Ranges of its colour: from orange to lemon."""
RAISED, RAISED_SHARE = (0.05, 0.3), 0.3
"""Height of the post on which some balls lie [m], and how many do."""
POST_RADIUS, POST_COLOR = 0.03, (0.35, 0.35, 0.35)


@dataclass(frozen=True, eq=False)
class FindState(PathState):
    """Paths of N robots to their balls.

    Attributes:
        in_sight: (N,) whether nothing stood between the robot and the ball when the episode began, wherever it looked.
        motion: (N, 3) by how much the robot moved ahead and to the left [m] and turned to the left [rad] in this step.
    """

    in_sight: Mask
    motion: F32


class FindScenario(PathScenario[FindState]):
    """A ball anywhere on the floor, of any size and of some yellow, on the floor or on a low post; drawn each episode.

    Paths from start to goal have at least `min_length` [m]. Only goals in use have a distance field.

    Raises:
        SimError: When no start in a scene leads to a goal that far away.
    """

    ROWS = ("_radius", "_color", "_raised", "_in_sight", "_pose", "_motion")
    PARTS = ("_paths", "_fields")

    def __init__(self, floors: Floors, num_envs: int, period: float, *, min_length: MinLength) -> None:
        self.floors = floors
        self._fields = DistanceFields.nowhere(num_envs)
        self._ends = Ends(floors, min_length)
        self._paths = PathTracker(floors, num_envs, self._fields)
        self._radius, self._raised = np.full(num_envs, BALL_RADIUS[0]), np.zeros(num_envs)
        self._color, self._in_sight = np.zeros((num_envs, 3)), np.zeros(num_envs, bool)
        self._pose, self._motion = np.zeros((num_envs, 3)), np.zeros((num_envs, 3), np.float32)

    def reset(self, envs: I64, scenes: I64, levels: I64, rng: np.random.Generator) -> ResetPoses:
        """Draw balls and starts for environments (M,)."""
        starts, goals = self._ends.draw(scenes, rng)
        floors, cell = self.floors, self.floors.cell[scenes]
        self._fields.put(envs, floors.origin[scenes], cell, lengths_to(floors.price, scenes, goals, cell))
        start, goal = self.floors.positions(scenes, starts), self.floors.positions(scenes, goals)
        count, yaw = len(envs), rng.uniform(-np.pi, np.pi, len(envs))
        self._radius[envs] = rng.uniform(*BALL_RADIUS, count)
        self._raised[envs] = np.where(rng.random(count) < RAISED_SHARE, rng.uniform(*RAISED, count), 0)
        hsv = [rng.uniform(*bounds, count) for bounds in (HUE, SATURATION, VALUE)]
        self._color[envs] = [hsv_to_rgb(*one) for one in zip(*hsv, strict=True)]
        self._pose[envs], self._motion[envs] = np.column_stack([start[:, :2], yaw]), 0
        self._paths.reset(envs, scenes, goal, envs, self._pose[envs])
        base = start + np.array([0, 0, self.floors.robot.base_height])
        eye = base + np.array([0, 0, self.floors.robot.base_from_camera.translation[2]])
        self._in_sight[envs] = in_sight(self.floors.scenes, scenes, eye, goal + self._up(envs))
        return ResetPoses(base, yaw)

    def _up(self, envs: I64) -> F64:
        """From the floor to the centre of balls (M, 3) [m]."""
        height = self._radius[envs] + self._raised[envs]
        return np.column_stack([np.zeros((len(envs), 2)), height])

    def update(self, state: RobotState, rng: np.random.Generator) -> None:
        """Update the remaining paths and the motion."""
        self._paths.update(state.planar)
        self._motion, self._pose = _motion(self._pose, state.planar), state.planar.astype(np.float64)

    def state(self) -> FindState:
        """State that terms read."""
        return FindState(**vars(self._paths.state()), in_sight=self._in_sight.copy(), motion=self._motion.copy())

    def props(self) -> Props:
        """The balls, some on posts."""
        count, foot = len(self._radius), self._paths.goal[:, None].astype(np.float64)
        center = foot + self._up(np.arange(count))[:, None]
        color = np.broadcast_to(np.array(POST_COLOR), foot.shape)
        radius = np.where(self._raised > 0, POST_RADIUS, 0)[:, None]
        posts = Posts(foot, radius, self._raised[:, None], color)
        return Props(Balls(center, self._radius[:, None], self._color[:, None]), posts, Patches.none(count))


def _motion(before: Floats, after: Floats) -> F32:
    """From poses (N, 3) to others, x, y [m] and heading [rad]: along the axes of the first, and the turn (N, 3)."""
    offset, cos, sin = after[:, :2] - before[:, :2], np.cos(before[:, 2]), np.sin(before[:, 2])
    turn = (after[:, 2] - before[:, 2] + np.pi) % (2 * np.pi) - np.pi
    ahead, left = cos * offset[:, 0] + sin * offset[:, 1], -sin * offset[:, 0] + cos * offset[:, 1]
    return np.column_stack([ahead, left, turn]).astype(np.float32)
