"""The search for level surfaces that depth missed: black gloss, steel or glass at the height of a measured rim.

A depth camera gets nothing back from black gloss, or the mirror image of what stands on it; stereo matches the mirror
image. What remains is evidence round the hole: level pieces of its rim, things that stand there, walls behind it, and
that no view sees anything through it that isn't such a mirror image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from scipy import ndimage

from pipeline.depth.maps import DepthMap, subsampled
from pipeline.geometry import PointCloud, masks
from pipeline.geometry.jit import njit
from pipeline.points.levels import FLATTEST, THICKNESS, Level, Levels
from pipeline.types import F32, F64, I32, I64, Mask

CELL = 0.02
"""Edge of a cell [m]."""
MAX_CELLS = 1_000_000
STRIDE = 2
"""Every so many of the maps' pixels say what is missed; where levels may be, all do: what is seen flat has few."""
LOWEST, HIGHEST = 0.25, 2.0
"""Heights of level surfaces above the floor [m]: the floor itself is closed with the mesh."""
UPWARD = 0.9
"""Least z of the normal of a level piece."""
MIN_LEVEL = 0.02
"""Least area of the level pieces at a height [m^2]."""
REACH = 1.5
"""Distance from level pieces beyond which nothing is looked for [m]."""
MIN_VIEWS = 3
"""Views that must miss a cell; as many that look through it prove it free."""
MAX_THROUGH = 0.1
"""Largest number of views that look through a missed cell, as a share of those without depth there."""
SPAN = 0.5
"""What is measured next to a hole in the image lies at most this far from its cells in space, and so do things from
their mirror images [m]: else the hole is one in something farther away."""
LIKE_MIRROR, LIKE_HIDDEN = 0.8, 0.2
"""More views are without depth at a cell of a hole than those times as many as see a mirror image, or something before
it: a wall is its own mirror image, and seen through a level that isn't there it looks like one."""
VOXEL = 0.03
"""Mirror images lie within about 1.5 times this distance of what they show [m]."""
STANDING = 0.15
"""Height over the level of what bounds it [m]: things that stand there, walls."""
AXES, MIN_AXES = 8, 3
"""Directions across a cell, and in how many of them something bounds the hole on both sides: a doorway, a window or
what lies beyond the sensor's range is open on the far side."""
MIN_RIM = 0.15
"""Least share of a hole's rim next to measured level pieces, or over a front: a landing is seen from below its rim."""
FRONT, FRONT_TILT = 0.12, 0.3
"""Height below a level of which a front that ends there is looked at, and as far above it is nothing [m]; largest z of
the normal of a front, a riser or the side of a body."""
MOST_UNPROVEN = 4.0
"""Largest area that is filled, of what views miss there: by mirror images alone a level would reach along all walls."""
MIN_AREA = 0.1
"""Least area of a hole that is filled [m^2]: what is smaller lies beside the edge of something that was measured."""
MIN_WIDTH = 0.12
"""What is narrower is the shadow of an edge and counts for nothing [m]."""
GAP = 0.06
"""Gaps up to this width between its cells are part of it [m]."""
WALL, WALL_SHARE, WALL_GAP = (0.05, 0.55), 0.5, 0.1
"""Heights over the level [m] of which a wall fills at least this share, and gaps in walls that are closed [m]."""
LEVEL_SIGMA = 0.005
"""Least sigma of a level's height [m]."""


def find_levels(maps: Sequence[DepthMap], cloud: PointCloud) -> tuple[Levels, list[Level]]:
    """Level surfaces that the maps miss, by the cloud of their points; all in the world frame [m].

    One after the other, those with the largest level pieces first: what a level fills is not missed at other heights.
    """
    rims = np.concatenate([np.zeros((0, 3)), *(_rims(depth_map) for depth_map in maps)])
    maps = [subsampled(depth_map, STRIDE) for depth_map in maps]
    rims = rims[(rims[:, 2] > LOWEST) & (rims[:, 2] < HIGHEST)]
    heights = _heights(rims)
    if not len(heights):
        return Levels.none(np.zeros(2), CELL, (1, 1)), []
    low, high = rims[:, :2].min(0) - REACH, rims[:, :2].max(0) + REACH
    step = max(CELL, float(np.sqrt(np.prod(high - low) / MAX_CELLS)))
    width, length = np.ceil((high - low) / step).astype(int) + 1
    levels = empty = Levels.none(low, step, (int(width), int(length)))
    reports, voxels = [], _voxels(cloud.points)
    for height in heights:
        for level, cells, hidden in _missed(maps, cloud, voxels, empty, height):
            levels, alone = levels.plus(level, cells, hidden), empty.plus(level, cells, hidden)
            maps = [alone.complete(depth_map) for depth_map in maps]
            reports.append(level)
    return levels, reports


def _rims(depth_map: DepthMap) -> F64:
    """Points (N, 3) of a map on level surfaces next to its holes."""
    missing = (depth_map.depth <= 0).astype(np.uint8)
    near = cv2.dilate(missing, np.ones((5, 5), np.uint8)) > 0
    rotation = depth_map.world_from_camera.rotation
    level = (depth_map.depth > 0) & ~depth_map.guessed & (depth_map.normals @ rotation[2] > UPWARD)
    chosen = near & level
    directions = depth_map.camera.rays()[chosen]
    return depth_map.world_from_camera.apply(directions * depth_map.depth[chosen][:, None])


def _heights(rims: F64) -> list[float]:
    """Heights [m] at which level rims (N, 3) gather, those of the largest area first."""
    bin_height = THICKNESS / 2
    places = np.unique(np.round(rims / [CELL, CELL, bin_height]).astype(np.int64), axis=0)
    if not len(places):
        return []
    first = places[:, 2].min()
    area = np.convolve(np.bincount(places[:, 2] - first), np.ones(3), "same") * CELL**2 / 2
    highest = ndimage.maximum_filter1d(area, 7)
    peaks = np.flatnonzero((area >= MIN_LEVEL) & (area == highest))
    return [float((number + first) * bin_height) for number in peaks[np.argsort(-area[peaks], kind="stable")]]


def _missed(
    maps: Sequence[DepthMap], cloud: PointCloud, voxels: tuple[I64, F32], grid: Levels, height: float
) -> Iterator[tuple[Level, Mask, Mask]]:
    """The surfaces near a height [m] that the maps miss, with the cells (X, Y) that are filled, and that are hidden."""
    points = cloud.points[(cloud.normals[:, 2] > UPWARD) & ~cloud.guessed]
    points = points[np.abs(points[:, 2] - height) < THICKNESS]
    if not len(points):
        return
    height = float(np.median(points[:, 2]))
    points = points[np.abs(points[:, 2] - height) < THICKNESS]
    pieces = grid.mark(points)
    above = cloud.points[:, 2] - height
    near = masks.distance_from(pieces) <= REACH / grid.step
    unseen, mirrored, through, hidden = _all_votes(maps, voxels, grid, near, height)
    free = (through >= MIN_VIEWS) & (through > MAX_THROUGH * unseen)
    walls = _walls(cloud.points, height, grid)
    open_ = free | walls
    hole = (unseen >= MIN_VIEWS) & (unseen > LIKE_MIRROR * mirrored + LIKE_HIDDEN * hidden) & ~open_
    mirror = (mirrored >= MIN_VIEWS) & ~open_
    things = grid.mark(cloud.points[np.abs(above) < STANDING])
    hole &= _bounded(hole | mirror, masks.grown(open_ | things)) >= MIN_AXES
    region = masks.closed(hole | pieces, GAP / grid.step) & ~open_
    region |= masks.without_holes(region | things) & mirror
    labels, count = masks.parts(region)
    beside = masks.distance_from(pieces | _fronts(cloud, height, grid)) <= 2
    for number in range(1, count + 1):
        part = labels == number
        inner = part & hole & ~pieces
        border = part & masks.grown(~part)
        rim = float((border & beside).sum() / border.sum())
        if rim < MIN_RIM or inner.sum() * grid.step**2 < MIN_AREA:
            continue
        area = float(_opened(inner, MIN_WIDTH / 2 / grid.step).sum() * grid.step**2)
        if area < MIN_AREA:
            continue
        own = points[part[grid.cells_of(points)[:2]], 2]
        middle = float(np.median(own)) if len(own) else height
        scatter = 1.4826 * float(np.median(np.abs(own - middle))) if len(own) else THICKNESS
        part = masks.grown(part) & ~free
        if (part & ~pieces).sum() * grid.step**2 > MOST_UNPROVEN * area:
            continue
        pockets = masks.without_holes(part | things | walls) & (masks.distance_from(part) <= SPAN / grid.step)
        connected, _ = masks.parts(part | pockets & ~open_)
        level = Level(middle, max(scatter, LEVEL_SIGMA), area, rim)
        yield level, part, np.isin(connected, np.unique(connected[part])) & ~part


def _all_votes(maps: Sequence[DepthMap], voxels: tuple[I64, F32], grid: Levels, near: Mask, height: float) -> I32:
    """Counts (4, X, Y) of the maps that say each of the four things of `_vote` on the cells near a level."""
    i, j = np.nonzero(near)
    votes = np.zeros((len(i), 4), np.int32)
    places = np.stack([i, j], 1) * grid.step + grid.origin
    for depth_map in maps:
        pose, camera = depth_map.world_from_camera, depth_map.camera
        if pose.translation[2] > height:
            _vote(
                places,
                height,
                pose.rotation,
                pose.translation,
                np.array([camera.fx, camera.fy, camera.cx, camera.cy]),
                depth_map.depth,
                depth_map.sigma,
                _known_beside(depth_map.depth),
                *voxels,
                votes,
            )
    counts = np.zeros((4, *near.shape), np.int32)
    counts[:, i, j] = votes.T
    return counts


def _opened(mask: Mask, radius: float) -> Mask:
    """The mask (X, Y) without what is narrower than a disc of this radius [cells]."""
    return masks.distance_from(masks.distance_from(~mask) > radius) <= radius


def _walls(points: F32, height: float, grid: Levels) -> Mask:
    """Cells (X, Y) in which points (N, 3) fill most of the height above a level [m]."""
    bins = round((WALL[1] - WALL[0]) / 0.05)
    layer = np.floor((points[:, 2] - height - WALL[0]) / 0.05).astype(np.int64)
    row, column, inside = grid.cells_of(points)
    inside &= (layer >= 0) & (layer < bins)
    filled = np.zeros((*grid.cells.shape[1:], bins), bool)
    filled[row[inside], column[inside], layer[inside]] = True
    return masks.closed(filled.mean(-1) >= WALL_SHARE, WALL_GAP / grid.step)


def _fronts(cloud: PointCloud, height: float, grid: Levels) -> Mask:
    """Cells (X, Y) over upright surface that ends at a level [m]: what it is the front of has its top there."""
    upright = (np.abs(cloud.normals[:, 2]) < FRONT_TILT) & ~cloud.guessed
    below = height - cloud.points[:, 2]
    front = grid.mark(cloud.points[upright & (below > THICKNESS) & (below < FRONT)])
    goes_on = grid.mark(cloud.points[upright & (below < -THICKNESS) & (below > -FRONT)])
    return front & (masks.distance_from(goes_on) > 2)


_OFFSET = 1 << 20


def _voxels(points: F32) -> tuple[I64, F32]:
    """Sorted keys (V,) of the voxels with points (N, 3), and of their neighbours, and the highest z there [m]."""
    cells, of = np.unique(np.floor(points / VOXEL).astype(np.int64), axis=0, return_inverse=True)
    top = np.full(len(cells), -np.inf, np.float32)
    np.maximum.at(top, of.reshape(-1), points[:, 2])
    around = np.stack(np.meshgrid(*3 * [[-1, 0, 1]], indexing="ij"), -1).reshape(-1, 3)
    x, y, z = (cells[:, None] + around).reshape(-1, 3).T + _OFFSET
    keys = (x << 42) | (y << 21) | z
    order = np.argsort(keys, kind="stable")
    first = np.flatnonzero(np.diff(keys[order], prepend=-1))
    return keys[order][first], np.maximum.reduceat(np.repeat(top, len(around))[order], first)


def _known_beside(depth: F32) -> I32:
    """Row and column (2, H, W) of each pixel's nearest pixel with depth, in the image."""
    return masks.nearest_marked(depth > 0) if (depth > 0).any() else np.zeros((2, *depth.shape), np.int32)


@njit(nogil=True, cache=True, error_model="numpy")
def _vote(
    places: F64,
    height: float,
    rotation: F64,
    translation: F64,
    lens: F64,
    depth: F32,
    sigma: F32,
    beside: I32,
    voxels: I64,
    tops: F32,
    votes: I32,
) -> None:
    """Count for each place (N, 2) at a height the maps without depth there, that see a mirror image, through, hidden.

    A mirror image is depth below the height whose mirror image is in the `voxels` of points above it, see `_voxels`.
    """
    rows, columns = depth.shape
    for n in range(len(places)):
        x, y, z = places[n, 0] - translation[0], places[n, 1] - translation[1], height - translation[2]
        far = rotation[0, 2] * x + rotation[1, 2] * y + rotation[2, 2] * z
        if far < 0.05 or -z < FLATTEST * far:
            continue
        right = rotation[0, 0] * x + rotation[1, 0] * y + rotation[2, 0] * z
        lower = rotation[0, 1] * x + rotation[1, 1] * y + rotation[2, 1] * z
        u, v = right / far * lens[0] + lens[2], lower / far * lens[1] + lens[3]
        if not (u >= 0 and v >= 0 and u < columns and v < rows):
            continue
        row, column = int(v), int(u)
        seen = depth[row, column]
        if not seen > 0:
            row, column = beside[0, row, column], beside[1, row, column]
            seen = depth[row, column]
            across = (column + 0.5 - lens[2]) / lens[0] * seen - right
            down = (row + 0.5 - lens[3]) / lens[1] * seen - lower
            votes[n, 0] += seen > 0 and across * across + down * down + (seen - far) ** 2 < SPAN**2
            continue
        below = (seen - far) / far * -z
        slack = max(THICKNESS, 3 * sigma[row, column] / far * -z)
        if below <= slack:
            votes[n, 3] += below < -slack
            continue
        share = seen / far
        i = int(np.floor((translation[0] + share * x) / VOXEL)) + _OFFSET
        j = int(np.floor((translation[1] + share * y) / VOXEL)) + _OFFSET
        k = int(np.floor((height + below) / VOXEL)) + _OFFSET
        key = (i << 42) | (j << 21) | k
        found = np.searchsorted(voxels, key)
        near = (share - 1) ** 2 * (x * x + y * y) + below * below < SPAN**2
        if near and found < len(voxels) and voxels[found] == key and tops[found] > height:
            votes[n, 1] += 1
        else:
            votes[n, 2] += 1


@njit(nogil=True, cache=True)
def _bounded(hole: Mask, solid: Mask) -> I64:
    """Along how many of the directions something solid lies on both sides of a hole's cells (X, Y)."""
    width, height = hole.shape
    axes = np.zeros(hole.shape, np.int64)
    for i in range(width):
        for j in range(height):
            if not hole[i, j]:
                continue
            for axis in range(AXES):
                dx, dy = np.cos(np.pi * axis / AXES), np.sin(np.pi * axis / AXES)
                sides = 0
                for side in (-1, 1):
                    x, y = i + 0.5, j + 0.5
                    while True:
                        x, y = x + side * dx, y + side * dy
                        if not (x >= 0 and y >= 0 and x < width and y < height):
                            break
                        if solid[int(x), int(y)]:
                            sides += 1
                            break
                        if not hole[int(x), int(y)]:
                            break
                axes[i, j] += sides == 2
    return axes
