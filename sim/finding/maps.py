"""Maps of what depth cameras saw in this episode: obstacles, floor, where floor is missing, and where the ball may be.

Nothing of the simulator is used. Frame `map`: the floor is z = 0; x is ahead of the robot, and the origin under its
base, when the episode began; `shift` moves the origin.
"""

from __future__ import annotations

import numpy as np

from pipeline.geometry import Camera
from pipeline.geometry.grids import moved_on
from pipeline.geometry.jit import njit, prange
from pipeline.types import F32, F64, I64, Mask
from sim.saved import Saved
from sim.sensors.networks import rises, to_floor

CELL, SIDE = 0.1, 160
"""Edge of a cell [m], and cells along each edge of a map: 16 m, with the start in its middle."""
FAR = 3.0
"""What is farther away is no obstacle yet, nor free: a camera near the floor sees too little of it [m]."""
LOW, SLOPE = 0.05, 0.04
"""What is so high above the floor is an obstacle, and so much higher for each metre of distance [m, m/m]: the depth of
splats has steps."""
DROP, DROP_SLOPE = 0.06, 0.05
"""What is so far below the floor means that floor is missing before it [m, m/m]."""
HEADROOM = 0.1
"""What is so much higher than the robot stands in nobody's way [m]."""
TAKEN, FREE = 1.5, -0.15
"""By how much an obstacle is surer by an image that shows it, and by one that shows floor there."""
MOST_TAKEN, LEAST_TAKEN = 8.0, -4.0
IS_TAKEN = 1.0
"""Above, a cell is an obstacle."""
FLOOR, HOLE, NOTHING = 1.0, -1.5, -0.75
"""By how much floor is surer by an image that shows it, one that shows what is below, and one that shows nothing."""
MOST_FLOOR = 4.0
IS_HOLE = -1.5
"""Below, floor is missing."""
MOST_BALL, LEAST_BALL = 12.0, -6.0
"""Largest and smallest log-odds of a ball."""
BARRED = -np.inf
"""What is known not to be the ball."""
CLEAR = 1.5
"""Farther away [m] it counts for less that an image shows no ball, by the square of the distance: it is small there."""
LEAST_HEIGHT = 0.04
"""What is lower is floor, and no ball [m]."""
INSIDE = 0.12
"""How far behind its surface the middle of a ball is [m]."""
WIDEST = 0.45
"""What is wider is no ball [m]."""
BALL_FAR = 5.0
"""Largest distance of a ball that is believed [m]."""


class Maps(Saved):
    """Maps of N robots.

    Attributes:
        taken: (N, SIDE, SIDE) how sure an obstacle is.
        floor: (N, SIDE, SIDE) how sure floor is; 0 where nothing was seen.
        ball: (N, SIDE, SIDE) how sure a ball is, as log-odds.
    """

    ROWS = ("taken", "floor", "ball")

    def __init__(self, count: int, lens: Camera, radius: float, height: float) -> None:
        self._lens, self._radius, self._top = lens, radius, height + HEADROOM
        self.taken, self.floor, self.ball = (np.zeros((count, SIDE, SIDE), np.float32) for _ in range(3))

    def reset(self, robots: I64) -> None:
        """Forget what robots (M,) have seen."""
        for grid in (self.taken, self.floor, self.ball):
            grid[robots] = 0

    def see(self, depth: F32, ball: F32, map_from_camera: F64, pose: F64) -> None:
        """Take images of all robots.

        Args:
            depth: (N, H, W) along the camera's z [m], 0 = unknown.
            ball: (N, h, w) log-odds that a part of the image shows the ball; H / h and W / w are one whole number.
            map_from_camera: (N, 4, 4).
            pose: (N, 3) x, y [m] and heading [rad] of the bases.
        """
        lens = np.array([self._lens.fx, self._lens.fy, self._lens.cx, self._lens.cy])
        _see(self.taken, self.floor, depth, map_from_camera, pose, lens, self._radius, self._top)
        _see_ball(self.ball, depth, ball, map_from_camera, lens)

    def shift(self, robot: int, rows: int, columns: int) -> None:
        """Move the frame of a robot's map so many cells along x and y; what is beyond its edge then is forgotten."""
        for grid in (self.taken, self.floor, self.ball):
            grid[robot] = moved_on(grid[robot], rows, columns, 0)

    def mark(self, robot: int, xy: F64) -> None:
        """Note that something holds a robot at positions (K, 2) [m] that it doesn't see."""
        row, column = np.clip(np.floor(xy / CELL).astype(np.int64) + SIDE // 2, 0, SIDE - 1).T
        self.taken[robot, row, column] = MOST_TAKEN


def on_floor(depth: F32, lens: Camera, map_from_camera: F64, height: float) -> tuple[Mask, Mask]:
    """Where depths (N, H, W) [m] show obstacles to robots so high [m], and where floor is missing: as maps take it."""
    rise, flat = rises(lens, map_from_camera)
    z, reach, floor = (
        map_from_camera[:, 2, 3, None, None] + depth * rise,
        depth * flat,
        to_floor(rise, map_from_camera),
    )
    thing = (depth > 0) & (z > LOW + SLOPE * reach) & (z < height + HEADROOM) & (reach < FAR)
    below = (depth <= 0) | (z < -(DROP + DROP_SLOPE * reach))
    return thing, below & (floor > 0) & (floor * flat < FAR)


@njit(cache=True, nogil=True)
def cell_at(coordinate: float) -> int:
    """Row or column of a coordinate [m]; it may lie beyond the map."""
    return int(np.floor(coordinate / CELL)) + SIDE // 2


@njit(cache=True, nogil=True)
def _paint_line(mask: F32, x0: float, y0: float, x1: float, y1: float) -> None:
    """Set cells of a line (SIDE, SIDE) between two positions [m] to 1."""
    steps = int(np.sqrt((x1 - x0) ** 2 + (y1 - y0) ** 2) / (0.5 * CELL)) + 1
    for step in range(steps + 1):
        x, y = x0 + (x1 - x0) * step / steps, y0 + (y1 - y0) * step / steps
        row, column = cell_at(x), cell_at(y)
        if 0 <= row < SIDE and 0 <= column < SIDE:
            mask[row, column] = 1


@njit(parallel=True, cache=True, nogil=True)
def _see(taken: F32, floor: F32, depth: F32, poses: F64, bases: F64, lens: F64, radius: float, top: float) -> None:
    """Update obstacles and floor (N, SIDE, SIDE); each column of an image is followed from the robot outwards."""
    fx, fy, cx, cy = lens
    count, height, width = depth.shape
    for n in prange(count):
        shown = np.zeros((SIDE, SIDE), np.float32)  # floor, in this image
        missing = np.zeros((SIDE, SIDE), np.float32)
        things = np.zeros((SIDE, SIDE), np.float32)
        rotation, eye = poses[n, :3, :3], poses[n, :3, 3]
        for column in range(width):
            u = (column + 0.5 - cx) / fx
            # the floor goes on from under the robot to the first floor that is seen
            last_x, last_y, joined = bases[n, 0], bases[n, 1], True
            for up in range(height):
                row = height - 1 - up
                v = (row + 0.5 - cy) / fy
                dx = rotation[0, 0] * u + rotation[0, 1] * v + rotation[0, 2]
                dy = rotation[1, 0] * u + rotation[1, 1] * v + rotation[1, 2]
                dz = rotation[2, 0] * u + rotation[2, 1] * v + rotation[2, 2]
                flat = np.sqrt(dx * dx + dy * dy)
                far = depth[n, row, column]
                x, y, z = eye[0] + far * dx, eye[1] + far * dy, eye[2] + far * dz
                reach = far * flat
                if far > 0 and z > top:
                    break
                if far > 0 and z > -(DROP + DROP_SLOPE * reach):
                    if reach > FAR:
                        joined = False
                        continue  # what hangs in the air is nearer, and higher up in the image
                    if z > LOW + SLOPE * reach:
                        near = (x - bases[n, 0]) ** 2 + (y - bases[n, 1]) ** 2 < radius * radius  # its own body
                        if not near:
                            row_at, column_at = cell_at(x), cell_at(y)
                            if 0 <= row_at < SIDE and 0 <= column_at < SIDE:
                                things[row_at, column_at] += 1
                            if joined:
                                back = max(0.0, reach - 0.05) / max(reach, 1e-6)
                                _paint_line(
                                    shown, last_x, last_y, eye[0] + back * (x - eye[0]), eye[1] + back * (y - eye[1])
                                )
                        joined = False
                    else:
                        if joined:
                            _paint_line(shown, last_x, last_y, x, y)
                        else:
                            _paint_line(shown, x, y, x, y)
                        last_x, last_y, joined = x, y, True
                elif dz < -1e-3:  # below the floor, or nothing: where the floor would be there is none
                    crossing = -eye[2] / dz
                    if crossing * flat < FAR:
                        row_at, column_at = cell_at(eye[0] + crossing * dx), cell_at(eye[1] + crossing * dy)
                        if 0 <= row_at < SIDE and 0 <= column_at < SIDE:
                            change = HOLE if far > 0 else NOTHING
                            missing[row_at, column_at] = min(missing[row_at, column_at], change)
                    joined = False
                else:
                    break
        for row in range(SIDE):
            for column in range(SIDE):
                if things[row, column] > 0:
                    change = TAKEN if things[row, column] > 1 else 0.5 * TAKEN
                    taken[n, row, column] = min(MOST_TAKEN, taken[n, row, column] + change)
                elif shown[row, column] > 0:
                    taken[n, row, column] = max(LEAST_TAKEN, taken[n, row, column] + FREE)
                if shown[row, column] > 0:
                    floor[n, row, column] = min(MOST_FLOOR, floor[n, row, column] + FLOOR)
                elif missing[row, column] < 0:
                    floor[n, row, column] = max(-MOST_FLOOR, floor[n, row, column] + missing[row, column])
        # the robot stands on floor
        for a in range(-2, 3):
            for b in range(-2, 3):
                x, y = bases[n, 0] + a * CELL, bases[n, 1] + b * CELL
                row, column = cell_at(x), cell_at(y)
                if 0 <= row < SIDE and 0 <= column < SIDE and floor[n, row, column] <= 0:
                    floor[n, row, column] = 0.5


@njit(cache=True, nogil=True)
def _across(odds: F32, column: int) -> int:
    """How many parts to either side of one, but for those at its ends, seem to be the ball."""
    first = last = column
    while first > 0 and odds[first - 1] > 0:
        first -= 1
    while last < len(odds) - 1 and odds[last + 1] > 0:
        last += 1
    return last - first - 1


@njit(parallel=True, cache=True, nogil=True)
def _see_ball(ball: F32, depth: F32, odds: F32, poses: F64, lens: F64) -> None:
    """Update where the ball may be (N, SIDE, SIDE) by log-odds (N, h, w), at the depths there."""
    fx, fy, cx, cy = lens
    count, height, width = odds.shape
    step = depth.shape[1] // height
    for n in prange(count):
        rotation, eye = poses[n, :3, :3], poses[n, :3, 3]
        best = np.full((SIDE, SIDE), -np.inf, np.float32)
        for row in range(height):
            for column in range(width):
                # the nearest of what this part of the image shows, but for the floor, which is nearer below a ball
                near, at_row, at_column = np.inf, 0, 0
                for a in range(row * step, (row + 1) * step):
                    for b in range(column * step, (column + 1) * step):
                        u, v = (b + 0.5 - cx) / fx, (a + 0.5 - cy) / fy
                        dz = rotation[2, 0] * u + rotation[2, 1] * v + rotation[2, 2]
                        far = depth[n, a, b]
                        if 0 < far < near and eye[2] + far * dz > LEAST_HEIGHT:
                            near, at_row, at_column = far, a, b
                if near == np.inf:
                    continue
                u, v = (at_column + 0.5 - cx) / fx, (at_row + 0.5 - cy) / fy
                dx = rotation[0, 0] * u + rotation[0, 1] * v + rotation[0, 2]
                dy = rotation[1, 0] * u + rotation[1, 1] * v + rotation[1, 2]
                reach = near * np.sqrt(dx * dx + dy * dy)
                if reach > BALL_FAR:
                    continue
                said = odds[n, row, column]
                if said > 0 and _across(odds[n, row], column) * step * near / fx > WIDEST:
                    said = -said
                if said < 0 and reach > CLEAR:
                    said *= (CLEAR / reach) ** 2
                behind = near + INSIDE
                x, y = cell_at(eye[0] + behind * dx), cell_at(eye[1] + behind * dy)
                if 0 <= x < SIDE and 0 <= y < SIDE:
                    best[x, y] = max(best[x, y], said)
        for x in range(SIDE):
            for y in range(SIDE):
                if best[x, y] > -np.inf and ball[n, x, y] >= LEAST_BALL:
                    ball[n, x, y] = min(MOST_BALL, max(LEAST_BALL, ball[n, x, y] + best[x, y]))
