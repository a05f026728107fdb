"""Finds a ball by eyes and map: looks round, explores what it hasn't seen, and drives to where the ball seems to be."""

from __future__ import annotations

import numpy as np

from pipeline.geometry import Camera, Pose
from pipeline.types import F32, F64, I64, Floats, Mask
from sim.finding.maps import BARRED, CELL, SIDE, Maps
from sim.finding.ways import ways
from sim.robots.state import turned_to
from sim.saved import Saved

MOST_ODDS, LEAST_ODDS = 3.0, -1.5
"""Largest and smallest log-odds that one image counts for: what follows is alike."""
BELIEVED, DOUBTED = 2.5, 0.5
"""A ball is driven to where it is so sure, and no longer where it is less sure than the second."""
BETTER = 3.0
"""By how much surer another place must be."""
SAME = 1.0
"""Nearer together, two places are one ball's [m]."""
THERE, GIVEN_UP = 0.3, 0.45
"""So near to a ball that isn't there it is given up, with all places so near to it [m]."""
LOOK_ROUND = np.deg2rad(240)
"""How far a robot turns before it drives anywhere."""
SLOW, FAST, ROOM = 0.45, 0.8, (0.25, 0.55)
"""Speeds with as little and as much room as this, and between [m/s, m]."""
CREEP, SLOWEST = 0.8, 0.3
"""So near to what seems to be the ball it is slow [m, m/s]."""
OFF_CENTRE = 4.0
"""Farther from the middle of its map [m] a robot moves the map on."""
PERIOD = 0.2
"""Time between two images, for which the numbers here are meant [s]."""
TURN, TURN_GAIN = 1.5, 2.5
"""Largest yaw rate [rad/s], and yaw rate for each radian to turn [1/s]."""
LEAD = 2.0
"""Ways are sought as if robots turned on for so many steps: who has begun to turn to one side goes on, and students see
which side that is."""
STUCK_SENT, STUCK_SHARE, STUCK_STEPS, BACK_STEPS, BACK_SPEED = 0.05, 0.05, 3, 4, -0.2
"""Who is sent faster than the first [m/s] and moves less than the second of it in a step [s], so many steps, is held;
and goes back so many, so fast [m/s]."""


class Finder(Saved):
    """What N robots believe of their episodes, and what they do about it.

    Attributes:
        radius: Of the robots [m].
        maps: What their cameras saw.
        pose: (N, 3) x, y [m] and heading [rad] by odometry, in the frame of the maps, which moves on with the robot.
        goal: (N, 2) where the ball seems to be [m].
        known: (N,) whether it seems to be anywhere.
        turned: (N,) how far they have turned in all [rad].
        backing: (N,) whether they go back from something that holds them.
    """

    ROWS = (
        "pose",
        "goal",
        "known",
        "turned",
        "backing",
        "_moved",
        "_stuck",
        "_back",
        "_done",
    )
    PARTS = ("maps",)

    def __init__(
        self, count: int, lens: Camera, base_from_camera: Pose, radius: float, height: float, base_height: float
    ) -> None:
        self.radius, self._base_height = radius, base_height
        self._base_from_camera = base_from_camera.matrix
        self.maps = Maps(count, lens, radius, height)
        self.pose, self.goal, self.known = np.zeros((count, 3)), np.zeros((count, 2)), np.zeros(count, bool)
        self.turned, self._moved = np.zeros(count), np.zeros((count, 3))
        self.backing = np.zeros(count, bool)
        self._done = np.zeros(count)
        self._stuck, self._back = np.zeros(count, np.int64), np.zeros(count, np.int64)

    def reset(self, robots: I64) -> None:
        """Begin episodes of robots (M,): nothing is known."""
        self.maps.reset(robots)
        for name in self.ROWS:
            getattr(self, name)[robots] = 0

    def see(self, depth: F32, odds: F32, motion: Floats, gravity: Floats, sent: Floats) -> None:
        """Take over what was measured since the last step.

        Args:
            depth: (N, H, W) [m], 0 = unknown.
            odds: (N, h, w) log-odds that parts of the images show the ball.
            motion: (N, 3) since the last step by odometry: ahead, to the left [m], and turn to the left [rad]; along
                the axes of the base of before.
            gravity: (N, 3) unit, downwards, in the base's axes.
            sent: (N,) speeds ahead that they were told last, by whomever [m/s].
        """
        self._moved = np.asarray(motion, np.float64)
        ahead = np.column_stack([np.cos(self.pose[:, 2]), np.sin(self.pose[:, 2])])
        left = np.column_stack([-ahead[:, 1], ahead[:, 0]])
        self.pose[:, :2] += ahead * self._moved[:, :1] + left * self._moved[:, 1:2]
        self.pose[:, 2] += self._moved[:, 2]
        self.turned += np.abs(self._moved[:, 2])
        self._recentre()
        self.maps.see(depth, np.clip(odds, LEAST_ODDS, MOST_ODDS), self._cameras(gravity), self.pose)
        self._feel(sent)
        self._believe()

    def _recentre(self) -> None:
        """Move the frames of maps on whose robots come near the edge."""
        for robot in np.flatnonzero((np.abs(self.pose[:, :2]) > OFF_CENTRE).any(1)).tolist():
            cells = np.round(self.pose[robot, :2] / CELL).astype(np.int64)
            self.maps.shift(robot, *cells.tolist())
            self.pose[robot, :2] -= cells * CELL
            self.goal[robot] -= cells * CELL

    def _feel(self, sent: Floats) -> None:
        """Note where something holds robots that isn't seen; they go back from it."""
        held = (sent > STUCK_SENT) & (self._moved[:, 0] < STUCK_SHARE * sent)
        self._stuck = np.where(held, self._stuck + 1, 0)
        for robot in np.flatnonzero(self._stuck >= STUCK_STEPS).tolist():
            self._back[robot], self._stuck[robot] = BACK_STEPS, 0
            x, y, heading = self.pose[robot]
            ahead, left = np.array([np.cos(heading), np.sin(heading)]), np.array([-np.sin(heading), np.cos(heading)])
            before = np.array([x, y]) + (self.radius + CELL) * ahead
            self.maps.mark(robot, before + np.array([[-0.12], [0.0], [0.12]]) * left)

    def _cameras(self, gravity: Floats) -> F64:
        """Poses (N, 4, 4) of the cameras, map from camera."""
        cos, sin, nought = np.cos(self.pose[:, 2]), np.sin(self.pose[:, 2]), np.zeros(len(self.pose))
        poses = np.tile(np.eye(4), (len(self.pose), 1, 1))
        poses[:, :3, :3] = np.stack([cos, -sin, nought, sin, cos, nought, nought, nought, nought + 1], 1).reshape(
            -1, 3, 3
        )
        poses[:, :2, 3] = self.pose[:, :2]
        return poses @ upright(gravity, self._base_from_camera, self._base_height)

    def _believe(self) -> None:
        """Where the ball seems to be, by all images."""
        sums = _three_by_three(self.maps.ball)
        rows = np.arange(len(sums))
        best = sums.reshape(len(sums), -1).argmax(1)
        at = (np.column_stack(np.unravel_index(best, sums.shape[1:])) - SIDE // 2 + 0.5) * CELL
        cell = np.clip(np.floor(self.goal / CELL).astype(np.int64) + SIDE // 2, 0, SIDE - 1)
        own, other = _around(sums, cell), sums[rows, best // SIDE, best % SIDE]
        same = self.known & (np.linalg.norm(at - self.goal, axis=1) < SAME)
        self.known &= own > DOUBTED
        take = (other > BELIEVED) & (same | ~self.known | (other > own + BETTER))
        self.goal[take], self.known[take] = at[take], True
        away = np.linalg.norm(self.goal - self.pose[:, :2], axis=1)
        for robot in np.flatnonzero(self.known & (away < THERE)).tolist():  # there, and the episode goes on
            self._give_up(robot, BARRED)

    def _give_up(self, robot: int, odds: float) -> None:
        """Give a robot's ball up: it isn't where it seemed to be, or no way leads there before it is seen again."""
        centres = (np.arange(SIDE) - SIDE // 2 + 0.5) * CELL
        x, y = self.goal[robot]
        near = (centres[:, None] - x) ** 2 + (centres - y) ** 2 < GIVEN_UP**2
        self.maps.ball[robot][near] = odds
        self.known[robot] = False

    def speeds(self) -> tuple[F64, F64]:
        """Speeds ahead (N,) [m/s] and yaw rates to the left (N,) [rad/s] until the next images."""
        maps, seek = self.maps, ~self.known
        looking = seek & (self.turned < LOOK_ROUND)
        soon = self.pose + np.array([0, 0, LEAD]) * self._moved
        way = ways(maps.taken, maps.floor, soon, self.goal, seek, self.radius)
        to, ok = way[:, :2] - self.pose[:, :2], way[:, 3] > 0
        off = turned_to(to, self.pose[:, 2])
        arrived = np.linalg.norm(to, axis=1) < CELL / 2
        speed = np.interp(way[:, 2], ROOM, (SLOW, FAST))
        away = np.linalg.norm(self.goal - self.pose[:, :2], axis=1)
        speed = np.where(self.known & (away < CREEP), SLOWEST, speed)  # time to see what it is
        forward = speed * np.clip(1.4 - 2.2 * np.abs(off), 0, 1)
        turn = TURN_GAIN * off
        # the map is too coarse for the last steps
        close = self.known & arrived & (away < CREEP)
        direct = turned_to(self.goal - self.pose[:, :2], self.pose[:, 2])
        forward = np.where(close, SLOWEST * np.clip(1.4 - 2.2 * np.abs(direct), 0, 1), forward)
        turn = np.where(close, TURN_GAIN * direct, turn)
        for robot in np.flatnonzero(self.known & arrived & ~close).tolist():  # no way leads there
            self._give_up(robot, 0.0)
        lost = looking | (~self.known & (arrived | ~ok))
        self._search_anew(seek & ~ok & ~looking)
        forward, turn = np.where(lost, 0, forward), np.where(lost, TURN, turn)
        self.backing = self._back > 0
        self._back = np.maximum(self._back - 1, 0)
        forward, turn = np.where(self.backing, BACK_SPEED, forward), np.where(self.backing, 0.0, turn)
        return np.asarray(forward, np.float64), np.clip(turn, -TURN, TURN)

    def _search_anew(self, done: Mask) -> None:
        """Robots (N,) that have seen all floor, and not the ball, forget it after one more turn: they missed it."""
        self._done = np.where(done, self._done + np.abs(self._moved[:, 2]), 0)
        missed = np.flatnonzero(self._done > 2 * np.pi)
        self.maps.reset(missed)
        self._done[missed] = 0


def upright(gravity: Floats, base_from_camera: F64, base_height: float) -> F64:
    """Poses (N, 4, 4) of cameras as gravity (N, 3) in the base's axes says, level from camera.

    The frame level has its origin on the floor under the base, z up, and x ahead.
    """
    up = -np.asarray(gravity, np.float64) / np.linalg.norm(gravity, axis=1, keepdims=True)
    ahead = np.array([1.0, 0, 0]) - up[:, :1] * up
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
    poses = np.tile(np.eye(4), (len(up), 1, 1))
    poses[:, :3, :3], poses[:, 2, 3] = np.stack([ahead, np.cross(up, ahead), up], 1), base_height
    return poses @ base_from_camera


def _three_by_three(grid: F32) -> F32:
    """Sums of what is positive in each cell and its eight neighbours (N, X, Y); the border stays what it is."""
    grid = np.maximum(grid, 0)
    result = grid.copy()
    rows = grid[:, :-2] + grid[:, 1:-1] + grid[:, 2:]
    result[:, 1:-1, 1:-1] = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    return result


def _around(grid: F32, cell: I64) -> F32:
    """Largest values (N,) within three cells of cells (N, 2)."""
    offsets = np.stack(np.meshgrid(np.arange(-3, 4), np.arange(-3, 4), indexing="ij"), -1).reshape(-1, 2)
    at = np.clip(cell[:, None] + offsets, 0, grid.shape[1] - 1)
    return grid[np.arange(len(grid))[:, None], at[..., 0], at[..., 1]].max(1)
