"""Elevation maps around robots, of depth images and of the feet that stand, each cell with its height and variance.

Source of the cells' filter: Fankhauser et al., Probabilistic terrain mapping for mobile robots with uncertain
localization, IEEE Robotics and Automation Letters 2018. Frame `odometry`: that of the poses that images come with; its
z is up.
"""

from __future__ import annotations

import numpy as np

from pipeline.geometry import Camera
from pipeline.geometry.grids import moved_on
from pipeline.geometry.jit import njit, prange
from pipeline.types import F32, F64, I64, Floats, Mask
from sim.saved import Saved

CELL, SIDE = 0.04, 192
"""Edge of a cell [m], and cells along each edge of a map: 7.7 m, with the robot near its middle."""
OFF_CENTRE = 1.5
"""Farther from the middle of its map [m] a robot moves the map on."""
UNKNOWN = float("inf")
"""Variance of what was never seen."""
NOISE, NOISE_SLOPE = 0.008, 0.006
"""Standard deviation of a depth camera's height, and its growth with the square of the distance [m, 1/m]."""
LEAST, GROWTH = 1e-5, 1e-5
"""Smallest variance [m^2], and how fast it grows while a cell isn't seen [m^2/s]."""
SURPRISE, STEP = 3.0, 0.03
"""A height that differs by more than so many standard deviations and so much [m] replaces what was believed."""
TOP = 0.03
"""Of an image's points in a cell those count that are no more than this below the highest [m]: pixels on the face of
a step fall into the cells of its edge."""
FLIES = 0.08
"""A pixel at the edge of what is near is of no surface if it is so far above one neighbour and below another [m]."""
CUT_OFF = 4, 0.06
"""So near to a depth image's edge [pixels], where pixels may be holes, what is so high [m] may be cut off."""
FOOT = 0.01
"""Standard deviation of the height at which a foot stands [m]."""


class Elevation(Saved):
    """Maps of N robots.

    Attributes:
        height: (N, SIDE, SIDE) [m].
        variance: (N, SIDE, SIDE) [m^2].
        seen: (N, SIDE, SIDE) when a cell was measured last [s].
        corner: (N, 2) cells from the origin of the odometry to the map's first.
    """

    ROWS = ("height", "variance", "seen", "corner")

    def __init__(self, count: int) -> None:
        self.height, self.seen = np.zeros((count, SIDE, SIDE), np.float32), np.zeros((count, SIDE, SIDE), np.float32)
        self.variance = np.full((count, SIDE, SIDE), UNKNOWN, np.float32)
        self.corner = np.full((count, 2), -SIDE // 2, np.int64)

    def reset(self, robots: I64, xy: Floats) -> None:
        """Begin maps of robots (M,) at positions (M, 2); nothing is known."""
        self.variance[robots] = UNKNOWN
        self.corner[robots] = np.floor(xy / CELL).astype(np.int64) - SIDE // 2

    def follow(self, xy: Floats) -> None:
        """Move the maps of robots that come near the edge at positions (N, 2); what is left behind is forgotten."""
        middle = (self.corner + SIDE // 2) * CELL
        for robot in np.flatnonzero((np.abs(xy - middle) > OFF_CENTRE).any(1)).tolist():
            rows, columns = (np.floor(xy[robot] / CELL).astype(np.int64) - SIDE // 2 - self.corner[robot]).tolist()
            for grid, nothing in ((self.height, 0), (self.variance, UNKNOWN), (self.seen, 0)):
                grid[robot] = moved_on(grid[robot], rows, columns, nothing)
            self.corner[robot] += [rows, columns]

    def see(
        self,
        robots: I64,
        depth: F32,
        lens: Camera,
        odometry_from_camera: F64,
        low: Floats,
        high: Floats,
        now: Floats,
        error: F32 | None = None,
        cut_off: tuple[int, float] = CUT_OFF,
    ) -> None:
        """Take depth images (M, H, W) [m], 0 = unknown, of robots (M,) at times (M,) [s].

        What is not between heights (M,) is no ground. Depths have relative errors (M, H, W) that pixels of an image
        have in common, beside a depth camera's noise; none by default. A cell with points so much below
        its highest [m] is the face of something; so near to an image's edge it may be cut off [pixels].
        """
        error = np.zeros_like(depth) if error is None else error
        focal = np.array([lens.fx, lens.fy, lens.cx, lens.cy])
        poses = np.ascontiguousarray(odometry_from_camera, np.float64)
        bounds = np.column_stack([low, high, now]).astype(np.float64)
        _fuse(self.height, self.variance, self.seen, self.corner, robots, depth, error, focal, poses, bounds, cut_off)

    def stand(self, place: Floats, down: Mask, now: Floats) -> None:
        """Note that feet stand at positions (N, F, 3), where they do (N, F), at times (N,) [s]."""
        robot, foot = np.nonzero(down)
        i, j = (np.floor(place[robot, foot, :2] / CELL).astype(np.int64) - self.corner[robot]).T
        on = (i >= 0) & (i < SIDE) & (j >= 0) & (j < SIDE)
        at = robot[on], i[on], j[on]
        self.height[at], self.variance[at], self.seen[at] = place[robot, foot, 2][on], FOOT**2, now[robot][on]

    def at(self, xy: Floats) -> F32:
        """Heights (N, K) at positions (N, K, 2) [m]; NaN where nothing is known."""
        return _look_up(self.height, self.variance, self.corner, np.ascontiguousarray(xy, np.float64))


@njit(cache=True, nogil=True)
def _flies(z: F64, row: int, column: int, rows: int, columns: int) -> bool:
    """Whether a pixel's height is between those of its neighbours, and far from both: it is half of each."""
    at = row * columns + column
    if 0 < row < rows - 1:
        up, down = z[at - columns] - z[at], z[at] - z[at + columns]
        if up * down > 0 and min(abs(up), abs(down)) > FLIES:
            return True
    if 0 < column < columns - 1:
        up, down = z[at - 1] - z[at], z[at] - z[at + 1]
        return up * down > 0 and min(abs(up), abs(down)) > FLIES
    return False


@njit(cache=True, nogil=True)
def _leave_out(cells: I64, z: F64, top: F32, low: F32, rows: int, columns: int, cut_off: tuple[int, float]) -> None:
    """Forget cells of walls that the image's edge cuts off: their tops are higher, and low ones look like steps.

    What is so near to it [pixels] may be the uppermost that is seen of a face, which is so high [m].
    """
    edge, face = cut_off
    cut = np.zeros((SIDE, SIDE), np.bool_)
    for row in range(rows):
        for column in range(columns):
            at = cells[row * columns + column]
            if at < 0 or min(row, column, columns - 1 - column) > edge:
                continue
            i, j = at // SIDE, at % SIDE
            cut[i, j] |= top[i, j] - low[i, j] > face and z[row * columns + column] > top[i, j] - TOP
    for pixel in range(rows * columns):
        if cells[pixel] >= 0 and cut[cells[pixel] // SIDE, cells[pixel] % SIDE]:
            cells[pixel] = -1


@njit(parallel=True, cache=True, nogil=True)
def _fuse(
    height: F32,
    variance: F32,
    seen: F32,
    corner: I64,
    robots: I64,
    depth: F32,
    error: F32,
    lens: F64,
    poses: F64,
    bounds: F64,
    cut_off: tuple[int, float],
) -> None:
    """Fuse images (M, H, W) into maps; bounds (M, 3) are the lowest and the highest ground [m], and the time [s]."""
    fx, fy, cx, cy = lens
    rows, columns = depth.shape[1], depth.shape[2]
    for m in prange(len(robots)):
        n, pose, now = robots[m], poses[m], bounds[m, 2]
        cells = np.full(rows * columns, -1, np.int64)
        z, away, off = np.full(rows * columns, np.nan), np.empty(rows * columns), np.empty(rows * columns)
        top, low = np.full((SIDE, SIDE), np.float32(-np.inf)), np.full((SIDE, SIDE), np.float32(np.inf))
        total, count = np.zeros((SIDE, SIDE), np.float32), np.zeros((SIDE, SIDE), np.float32)
        for row in range(rows):
            for column in range(columns):
                far = depth[m, row, column]
                if far <= 0:
                    continue
                u, v = far * (column + 0.5 - cx) / fx, far * (row + 0.5 - cy) / fy
                x = pose[0, 0] * u + pose[0, 1] * v + pose[0, 2] * far + pose[0, 3]
                y = pose[1, 0] * u + pose[1, 1] * v + pose[1, 2] * far + pose[1, 3]
                rise = pose[2, 0] * u + pose[2, 1] * v + pose[2, 2] * far + pose[2, 3]
                i, j = int(np.floor(x / CELL)) - corner[n, 0], int(np.floor(y / CELL)) - corner[n, 1]
                if not (0 <= i < SIDE and 0 <= j < SIDE and bounds[m, 0] < rise < bounds[m, 1]):
                    continue
                pixel = row * columns + column
                cells[pixel], z[pixel], away[pixel] = i * SIDE + j, rise, far
                off[pixel] = error[m, row, column] * (rise - pose[2, 3])
        for row in range(rows):
            for column in range(columns):
                pixel = row * columns + column
                if cells[pixel] >= 0 and _flies(z, row, column, rows, columns):
                    cells[pixel] = -1
                elif cells[pixel] >= 0:
                    i, j = cells[pixel] // SIDE, cells[pixel] % SIDE
                    top[i, j], low[i, j] = max(top[i, j], np.float32(z[pixel])), min(low[i, j], np.float32(z[pixel]))
        _leave_out(cells, z, top, low, rows, columns, cut_off)
        for pixel in range(rows * columns):
            if cells[pixel] >= 0 and z[pixel] > top[cells[pixel] // SIDE, cells[pixel] % SIDE] - TOP:
                total[cells[pixel] // SIDE, cells[pixel] % SIDE] += z[pixel]
                count[cells[pixel] // SIDE, cells[pixel] % SIDE] += 1
        for pixel in range(rows * columns):
            i, j = cells[pixel] // SIDE, cells[pixel] % SIDE
            if cells[pixel] < 0 or count[i, j] == 0:
                continue
            measured = total[i, j] / count[i, j]
            own = (NOISE + NOISE_SLOPE * away[pixel] ** 2) ** 2 / count[i, j] + off[pixel] ** 2 + LEAST
            count[i, j] = 0
            old = variance[n, i, j] + GROWTH * max(0.0, now - seen[n, i, j])
            gap = measured - height[n, i, j]
            if not np.isfinite(old) or gap * gap > SURPRISE**2 * (old + own) + STEP**2:
                height[n, i, j], variance[n, i, j] = measured, own
            else:
                height[n, i, j] += old / (old + own) * gap
                variance[n, i, j] = max(LEAST, own * old / (old + own))
            seen[n, i, j] = now


@njit(parallel=True, cache=True, nogil=True)
def _look_up(height: F32, variance: F32, corner: I64, xy: F64) -> F32:
    result = np.full(xy.shape[:2], np.float32(np.nan))
    for n in prange(xy.shape[0]):
        for k in range(xy.shape[1]):
            i = int(np.floor(xy[n, k, 0] / CELL)) - corner[n, 0]
            j = int(np.floor(xy[n, k, 1] / CELL)) - corner[n, 1]
            if 0 <= i < SIDE and 0 <= j < SIDE and np.isfinite(variance[n, i, j]):
                result[n, k] = height[n, i, j]
    return result


@njit(cache=True, nogil=True)
def filled(grid: F32, otherwise: F32) -> F32:
    """Grids (N, A, B) whose unknown cells, NaN, take the lowest of their known neighbours, again and again; or (N,).

    What lies behind an edge that goes down is hidden until a robot is near: so it goes on as it was before.
    """
    result = grid.copy()
    count, rows, columns = grid.shape
    for n in range(count):
        for _ in range(rows + columns):
            before, left = result[n].copy(), 0
            for i in range(rows):
                for j in range(columns):
                    if not np.isnan(before[i, j]):
                        continue
                    lowest = np.float32(np.inf)
                    for u in range(max(0, i - 1), min(rows, i + 2)):
                        for v in range(max(0, j - 1), min(columns, j + 2)):
                            if before[u, v] < lowest:
                                lowest = before[u, v]
                    if lowest < np.inf:
                        result[n, i, j] = lowest
                    else:
                        left += 1
            if left == 0 or left == rows * columns:
                break
        for i in range(rows):
            for j in range(columns):
                if np.isnan(result[n, i, j]):
                    result[n, i, j] = otherwise[n]
    return result
