"""Mirrors on walls: a depth camera measures the room that they show, behind them, and no view contradicts it.

What lies behind a wall and is seen through a part of it only is a mirror image where its reflection at that wall is
what was measured before it. A room behind a doorway isn't: the reflections of its far wall and of what stands there
hang in the air, which others look through. Floors, ceilings and walls at a right angle are their own reflections and
tell nothing. Depth behind a mirror becomes that of its plane, marked as guessed, in all depth maps alike.

Source: rays and mirrored geometry as in P.-F. Yang, C.-C. Wang, Dealing with laser scanner failure: mirrors and
windows, ICRA 2008; the plane is refined as in point-to-plane ICP, Y. Chen, G. Medioni, IVC 1992.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

from pipeline.depth.maps import DepthMap, pixels_of, subsampled_to
from pipeline.geometry import Plane, PointCloud, commonest_direction, fit_plane, masks
from pipeline.types import F64, I64, Floats, Mask

LONG_SIDE = 64
"""Maps are looked at in about this size [px]."""
UPRIGHT = 0.15
"""Largest |z| of a wall's normal."""
ALIKE, THICKNESS = 8.0, 0.03
"""Points are one wall's whose normals differ by less than the first [degrees], within the second of its plane [m]."""
DIRECTIONS, OFFSETS, LEAST_WALL = 6, 4, 0.01
"""Directions that are tried, and walls in each; a wall has at least the third as a share of the upright points."""
BEHIND = 0.15
"""What is this far behind a wall is not the wall [m]."""
CELL, LEAST_RAYS, LEAST_AREA = 0.06, 2, 0.06
"""Edge of the wall's cells [m]; rays through a cell, and area of a mirror [m^2], at least."""
WITHIN = 0.08
"""A body is solid so far behind its surface [m]."""
FACING = 0.3
"""Least cosine between the normals of the wall and of a surface whose reflection tells."""
NEAR, CLOSE = 0.12, 0.04
"""Distances [m] within which the reflection of a point is sought at first, and of which it must be one at last."""
TURN = 0.8
"""Least cosine between the reflected normal of a point and that of the surface that it reflects."""
LEAST_TELLING, TELLING_SHARE, SHARE = 60, 0.05, 0.5
"""Points whose reflection tells, at least; shares of these and of all that are reflections of something. Most may be of
what nobody saw but in the mirror."""
FREE, MOST_FREE, ODDS = (0.1, 0.03), 0.12, 2.0
"""A map looks through what is nearer than its depth by so much [m, and share]; reflections that tell hang in the air at
most as often as the second, and what they tell speaks for a mirror so many times as often as against it. Of seven
mirrors in drawn places .001 to .04 hang, of doorways with walls beside them .1 to .8."""
BESIDE, FRAMED, SIDES = 0.15, 0.7, 3
"""A mirror has its wall beside it: within the first [m] along the second share of a side, on so many sides at least."""
CROSSED = 20
"""Rays from behind through an opening that prove it one."""
ROUNDS, MOST_RAYS = 4, 4000
"""Rounds of the refinement, and rays that are looked at."""
VOXEL = 0.03
"""Of the cloud, one point in each cube of that edge is looked at [m]."""
MARGIN = 0.06
"""A mirror goes on beyond the rays that met it by this [m]: depth is missing at its rim."""
SIGMA = 0.01
"""Of the depth of a mirror's plane [m]."""


@dataclass(frozen=True)
class Mirror:
    """What was found on a wall [m, world frame]."""

    centre: tuple[float, float, float]
    normal: tuple[float, float, float]
    width: float
    height: float
    reflected: float  # share of what is seen behind it that is a reflection


@dataclass(frozen=True, eq=False)
class Mirrors:
    """Rectangles on upright planes, world frame: `bounds` are (along, up) from and to, along is up x normal."""

    normals: F64  # (M, 3) unit, into the room
    offsets: F64  # (M,) [m]
    bounds: F64  # (M, 2, 2) [m]

    @staticmethod
    def none() -> Mirrors:
        """No mirror."""
        return Mirrors(np.zeros((0, 3)), np.zeros(0), np.zeros((0, 2, 2)))

    def save(self, path: Path) -> None:
        """Write as an .npz file."""
        with path.open("wb") as file:
            np.savez_compressed(file, **asdict(self))

    @staticmethod
    def load(path: Path) -> Mirrors:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as data:
            return Mirrors(data["normals"], data["offsets"], data["bounds"])

    def plus(self, plane: Plane, bounds: F64) -> Mirrors:
        """These and one more."""
        return Mirrors(
            np.concatenate([self.normals, plane.normal[None]]),
            np.append(self.offsets, plane.offset),
            np.concatenate([self.bounds, bounds[None]]),
        )

    def middles(self) -> F64:
        """Their middles (M, 3) [m]."""
        along, up = np.moveaxis(self.bounds.mean(1), -1, 0)
        sideways = np.array([_along(normal) for normal in self.normals]).reshape(-1, 3)
        on_wall = self.offsets[:, None] * self.normals + along[:, None] * sideways
        return np.column_stack([on_wall[:, :2], up])

    def hold(self, points: Floats) -> Mask:
        """Which points (N, 3) lie on a mirror."""
        held = np.zeros(len(points), bool)
        for number, (normal, offset) in enumerate(zip(self.normals, self.offsets, strict=True)):
            near = np.abs(Plane(normal, float(offset)).distance(points)) < CLOSE
            held |= near & self._inside(number, _places(np.asarray(points, np.float64), normal))
        return held

    def show(self, rays: _Rays) -> Mask:
        """Which rays (N,) end at what a mirror shows."""
        shown = np.zeros(len(rays.points), bool)
        for number in range(len(self.offsets)):
            shown[self._shown(number, rays)[0]] = True
        return shown

    def _shown(self, number: int, rays: _Rays) -> tuple[I64, F64]:
        """The rays (K,) that a mirror turns, and after which share of their length."""
        rows, places, share = rays.through(Plane(self.normals[number], float(self.offsets[number])), CLOSE)
        inside = self._inside(number, places)
        return rows[inside], share[inside]

    def _inside(self, number: int, places: F64) -> Mask:
        """Which places (N, 2) on a mirror's plane are within its bounds."""
        low, high = self.bounds[number]
        return np.asarray(((places > low) & (places < high)).all(1))

    def complete(self, depth_map: DepthMap) -> DepthMap:
        """The map [world frame] with the guessed depth of a mirror's plane where it has that of a mirror image."""
        for number, normal in enumerate(self.normals):
            pixels = _behind(Plane(normal, float(self.offsets[number])), depth_map)
            rows, share = self._shown(number, _Rays.of(depth_map, pixels))
            if not len(rows):
                continue
            filled = np.zeros(depth_map.depth.size, bool)
            filled[pixels[rows]] = True
            filled = filled.reshape(depth_map.depth.shape)
            depth = depth_map.depth.copy()
            depth[filled] *= share.astype(np.float32)
            depth_map = depth_map.inferred(filled, depth, np.float32(SIGMA), normal)
        return depth_map


def _behind(plane: Plane, depth_map: DepthMap) -> I64:
    """The measured pixels (N,) of a map that show what lies behind a plane: few, mostly."""
    pose = depth_map.world_from_camera
    before = float(plane.distance(pose.translation[None])[0])
    slope = depth_map.camera.rays() @ (plane.normal @ pose.rotation)
    return np.flatnonzero((depth_map.depth > 0) & ~depth_map.guessed & (before + depth_map.depth * slope < 0))


@dataclass(frozen=True, eq=False)
class _Rays:
    """Measured rays from eyes (N, 3) to points (N, 3) on surfaces with normals (N, 3)."""

    eyes: F64
    points: F64
    normals: F64

    @staticmethod
    def of(depth_map: DepthMap, pixels: I64) -> _Rays:
        """Of pixels (N,) of a map, by their places in it."""
        pose = depth_map.world_from_camera
        normals = pose.rotate(depth_map.normals.reshape(-1, 3)[pixels])
        rays, depth = depth_map.camera.rays().reshape(-1, 3)[pixels], depth_map.depth.reshape(-1, 1)[pixels]
        points = pose.apply(rays * depth.astype(np.float64))
        return _Rays(np.broadcast_to(pose.translation, points.shape), points, normals)

    def __getitem__(self, index: I64 | Mask | slice) -> _Rays:
        return _Rays(self.eyes[index], self.points[index], self.normals[index])

    def through(self, plane: Plane, behind: float) -> tuple[I64, F64, F64]:
        """Rays (K,) from before a plane to that far behind it [m], where (K, 2) they meet it, after which share."""
        before, beyond = plane.distance(self.eyes), -plane.distance(self.points)
        rows = np.flatnonzero((before > behind) & (beyond > behind))
        share = before[rows] / (before[rows] + beyond[rows])
        eyes = self.eyes[rows]
        return rows, _places(eyes + share[:, None] * (self.points[rows] - eyes), plane.normal), share


def _along(normal: F64) -> F64:
    """The level direction (3,) of an upright plane: up x normal."""
    return np.array([-normal[1], normal[0], 0]) / np.hypot(normal[0], normal[1])


def _places(points: F64, normal: F64) -> F64:
    """Coordinates (N, 2) on an upright plane of points (N, 3): along it, and up."""
    return np.stack([points @ _along(normal), points[:, 2]], 1)


def find_mirrors(maps: Sequence[DepthMap], cloud: PointCloud) -> tuple[Mirrors, list[Mirror]]:
    """Mirrors on the walls of a cloud, by depth maps; all in the world frame [m, Z up]."""
    maps = [subsampled_to(one, LONG_SIDE) for one in maps]
    parts = [_Rays.of(one, np.flatnonzero((one.depth > 0) & ~one.guessed)) for one in maps]
    if not parts or not len(cloud):
        return Mirrors.none(), []
    rays = _Rays(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("eyes", "points", "normals")))
    cloud = cloud[np.unique(np.floor(cloud.points / VOXEL).astype(np.int64), axis=0, return_index=True)[1]]
    tree, mirrors, found = KDTree(cloud.points), Mirrors.none(), list[Mirror]()
    for wall in _walls(cloud):
        rows, places, _ = rays.through(wall, BEHIND)
        back = rays.through(Plane(-wall.normal, -wall.offset), BEHIND)[1] * [-1, 1]
        for own, bounds in _openings(places):
            if ((back > bounds[0]) & (back < bounds[1])).all(1).sum() > CROSSED:
                continue
            some = rays[rows[own][:: own.sum() // MOST_RAYS + 1]]
            plane = _refined(wall, some, cloud, tree)
            like, telling = _reflections(plane, some, cloud, tree, CLOSE)
            if telling.sum() < LEAST_TELLING or like[telling].mean() < TELLING_SHARE or like.mean() < SHARE:
                continue
            hanging = _hanging(plane, some[telling & ~like], maps)
            most = min(MOST_FREE * telling.sum(), like[telling].sum() / ODDS)
            if hanging > most or _sides(plane, bounds, cloud) < SIDES:
                continue
            mirrors = mirrors.plus(plane, bounds)
            found.append(_described(plane, bounds, float(like.mean())))
        rays = rays[~mirrors.show(rays)]
    return mirrors, found


def _described(plane: Plane, bounds: F64, reflected: float) -> Mirror:
    (u, v), (width, height) = bounds.mean(0), bounds[1] - bounds[0]
    centre = u * _along(plane.normal) + np.array([0, 0, v])
    centre -= plane.distance(centre[None])[0] * plane.normal
    x, y, z = (round(float(value), 3) for value in centre)
    nx, ny, nz = (round(float(value), 4) for value in plane.normal)
    return Mirror((x, y, z), (nx, ny, nz), round(float(width), 3), round(float(height), 3), round(reflected, 3))


def _walls(cloud: PointCloud) -> list[Plane]:
    """Upright planes with many points, normals into the room, those with the most points first."""
    upright = np.abs(cloud.normals[:, 2]) < UPRIGHT
    upright &= np.linalg.norm(cloud.normals, axis=1) > 0.5
    points, normals = cloud.points[upright].astype(np.float64), cloud.normals[upright].astype(np.float64)
    least, left, walls = LEAST_WALL * len(points), np.ones(len(points), bool), list[tuple[int, Plane]]()
    for _ in range(DIRECTIONS):
        alike = left & commonest_direction(normals, left.astype(np.float64), ALIKE)
        left &= ~alike
        if not alike.any():
            break
        normal = normals[alike].mean(0) * [1, 1, 0]
        for _ in range(OFFSETS):
            if alike.sum() < least:
                break
            normal /= np.linalg.norm(normal)
            offsets = points[alike] @ normal
            bins = np.floor((offsets - offsets.min()) / THICKNESS).astype(int)
            fullest = (
                offsets.min() + (ndimage.uniform_filter1d(np.bincount(bins).astype(float), 2).argmax()) * THICKNESS
            )
            own = alike & (np.abs(points @ normal - fullest) < 2 * THICKNESS)
            if own.sum() < least:
                break
            plane = fit_plane(points[own])
            sign = 1.0 if plane.normal @ normal > 0 else -1.0
            if abs(plane.normal[2]) < UPRIGHT:
                walls.append((int(own.sum()), Plane(sign * plane.normal, sign * plane.offset)))
            alike &= ~own
    return [wall for _, wall in sorted(walls, key=lambda one: -one[0])]


def _openings(places: F64) -> list[tuple[Mask, F64]]:
    """Regions of a wall through which rays go: which of the places (N, 2) lie in each, and its bounds (2, 2) [m]."""
    if not len(places):
        return []
    low = places.min(0) - CELL
    cells = np.floor((places - low) / CELL).astype(int)
    counts = np.zeros(cells.max(0) + 2, np.int32)
    np.add.at(counts, tuple(cells.T), 1)
    labels, count = masks.parts(masks.closed(counts >= LEAST_RAYS, 1.5))
    of = labels[tuple(cells.T)]
    found = []
    for number in range(1, count + 1):
        own = of == number
        if (labels == number).sum() * CELL**2 >= LEAST_AREA and own.any():
            low, high = np.quantile(places[own], [0.005, 0.995], axis=0)
            found.append((own, np.stack([low - MARGIN, high + MARGIN])))
    return found


def _reflections(plane: Plane, rays: _Rays, cloud: PointCloud, tree: KDTree, near: float) -> tuple[Mask, Mask]:
    """Which rays (N,) end at reflections of the cloud at a plane, and at which surfaces that would tell."""
    points, normals = _reflected(plane, rays)
    distance, index = (np.asarray(v) for v in tree.query(points, distance_upper_bound=2 * near, workers=-1))
    hit = np.isfinite(distance)
    index = np.where(hit, index, 0)
    of = cloud.normals[index].astype(np.float64)
    off = np.abs(np.einsum("nd,nd->n", of, points - cloud.points[index]))
    like = hit & (off < near) & (np.einsum("nd,nd->n", normals, of) > TURN)
    return like, np.abs(rays.normals @ plane.normal) > FACING


def _sides(plane: Plane, bounds: F64, cloud: PointCloud) -> int:
    """Beside how many sides of a rectangle on a plane the cloud has a wall."""
    on_it = (np.abs(plane.distance(cloud.points)) < 2 * THICKNESS) & (cloud.normals @ plane.normal > TURN)
    places = _places(cloud.points[on_it].astype(np.float64), plane.normal)
    count = 0
    for axis in (0, 1):
        low, high = bounds[:, axis]
        across, along = places[:, axis], places[:, 1 - axis]
        cells = max(1, round((bounds[1, 1 - axis] - bounds[0, 1 - axis]) / CELL))
        for beside in ((across < low) & (across > low - BESIDE), (across > high) & (across < high + BESIDE)):
            index = np.floor((along[beside] - bounds[0, 1 - axis]) / CELL).astype(int)
            count += len(np.unique(index[(index >= 0) & (index < cells)])) > FRAMED * cells
    return count


def _hanging(plane: Plane, rays: _Rays, maps: Sequence[DepthMap]) -> int:
    """How many rays' reflections hang in the air: two maps or more look through what should lie behind them.

    Behind, since the plane is some centimetres off, and maps look along a surface just before it.
    """
    points, normals = _reflected(plane, rays)
    points = points - WITHIN * normals
    count = np.zeros(len(points), np.int64)
    for one in maps:
        local = one.world_from_camera.inverse().apply(points)
        row, column, inside = pixels_of(local, one.camera)
        depth = one.depth[np.where(inside, row, 0), np.where(inside, column, 0)]
        count += inside & (depth > local[:, 2] * (1 + FREE[1]) + FREE[0])
    return int((count >= 2).sum())


def _reflected(plane: Plane, rays: _Rays) -> tuple[F64, F64]:
    """The rays' points (N, 3) and normals (N, 3) in the mirror."""
    return plane.reflected(rays.points), Plane(plane.normal, 0.0).reflected(rays.normals)


def _refined(wall: Plane, rays: _Rays, cloud: PointCloud, tree: KDTree) -> Plane:
    """The plane at which the rays' ends are reflections of the cloud, begun at a wall: a mirror hangs before it."""
    plane = wall
    for near in np.geomspace(NEAR, CLOSE, ROUNDS):
        like, _ = _reflections(plane, rays, cloud, tree, float(near))
        if like.sum() < LEAST_TELLING:
            return wall
        points, n = rays.points[like], plane.normal
        reflected, _ = _reflected(plane, rays[like])
        index = np.asarray(tree.query(reflected)[1])
        facing = cloud.normals[index].astype(np.float64)
        apart = np.einsum("nd,nd->n", facing, cloud.points[index] - reflected)
        axes = np.stack([_along(n), np.array([0, 0, 1.0])])
        along, height = facing @ n, plane.distance(points)
        columns = [-2 * ((points @ axis) * along + height * (facing @ axis)) for axis in axes]
        turn = np.linalg.lstsq(np.column_stack([*columns, 2 * along]), apart)[0]
        normal = n + turn[:2] @ axes
        length = float(np.linalg.norm(normal))
        plane = Plane(normal / length, (plane.offset + float(turn[2])) / length)
    return plane
