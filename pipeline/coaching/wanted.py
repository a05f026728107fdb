"""What a capture left out of a place: surface that no view shows well, and openings into space nobody looked into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import binary_opening
from scipy.spatial import KDTree

from pipeline.coaching.filmed import SEED, Filmed
from pipeline.coverage.map import CoverageMap
from pipeline.geometry import Camera, Pose
from pipeline.geometry.rays import RayCaster, sample_surface
from pipeline.types import F32, F64, I64, Floats, Mask

OPENING, GUESSED, UNSEEN, GRAZING, FAR = range(5)
"""Kinds of what is wanted."""
SAMPLE_AREA, MAX_SAMPLES = 0.02, 16_000
"""Area of surface for a sample [m^2], more where there would be too many samples."""
MAX_WANTED = 6_000
VOXEL, MAX_VOXELS = 0.1, 400_000
"""Edge of the cells that space is looked through in [m], larger where there would be too many."""
DEPTH_SIDE = 112
"""Longer side of the depth images that tell what a view sees [px]."""
BEHIND = 0.04, 0.02
"""A view sees what is at most this far behind its depth image [m], and as a share of the depth."""
NEAREST, GOOD, REACH = 0.25, 2.5, 5.0
"""Distances [m]: nearer a view is out of focus; up to there it is as good as it gets; farther it shows nothing well."""
GOOD_COSINE = 0.5
"""A surface is seen well up to an angle of 60 degrees."""
LOOKED_THROUGH = 3.0
"""How far a view looks where the mesh ends [m]."""
BODY = 0.3
"""Radius and room over the camera of whoever walked there [m]."""
OVER_FLOOR, UNDER_FLOOR = 2.6, 0.3
"""Space that counts: so far over the highest and below the lowest floor [m]."""
SLANT = 2 / 3
"""Area of a surface by that of the faces of cells along it, on average over directions."""
GUESS = 0.5
"""A view of surface that was guessed in spite of it is worth so much."""
ENOUGH = 0.6
"""Surface seen so well is not wanted."""
LOW = 0.5
"""What lies that low over the floor is where robots drive, walk and grasp [m]."""
EYE, EYES, STEEPEST = 0.3, 48, 0.62
"""A robot's camera: height [m], from how many places at most, and slope of the steepest ray of a level camera."""
BASE, FOR_ROBOTS, FOR_CONTACT = 0.1, 0.6, 0.3
"""Weight of everything, and what is added for what robots see and for what lies low."""
URGENCY = np.array([1.0, 1.0, 1.0, 0.4, 0.3])
"""Factor of the weight by kind: a first look counts more than a better one."""


@dataclass(frozen=True, eq=False)
class Wanted:
    """Pieces of surface and of openings, each with what is known of it."""

    points: F64  # (T, 3) [m, world frame]
    normals: F64  # (T, 3) unit, towards free space
    area: F64  # (T,) [m^2]
    seen: F64  # (T,) how well the best view shows it, 0..1
    kind: I64  # (T,)
    height: F64  # (T,) over the nearest floor [m]
    weight: F64  # (T,) how much it matters, 0..1

    def chosen(self, index: I64 | Mask) -> Wanted:
        """Some of the pieces."""
        return Wanted(**{name: values[index] for name, values in vars(self).items()})

    def __len__(self) -> int:
        return len(self.points)


@dataclass(frozen=True, eq=False)
class Space:
    """Space in cells, of which some were looked through."""

    low: F64  # (3,) low corner [m]
    cell: float  # [m]
    free: Mask  # (X, Y, Z)

    def is_free(self, points: Floats) -> Mask:
        """Which of the points (N, 3) [m] lie in free cells."""
        index = np.floor((points - self.low) / self.cell).astype(np.int64)
        inside = np.asarray(((index >= 0) & (index < self.free.shape)).all(1))
        x, y, z = np.where(inside[:, None], index, 0).T
        return np.asarray(inside & self.free[x, y, z])


def find_wanted(filmed: Filmed, caster: RayCaster) -> tuple[Wanted, Space]:
    """What is wanted of a place, at most `MAX_WANTED` pieces, and the space that the views looked through."""
    depths = [caster.depth(*view) for view in small_views(filmed.cameras)]
    space = look_through(filmed, depths)
    found = _joined(_surface(filmed, depths), openings(space, caster))
    found = found.chosen(np.asarray(found.seen < ENOUGH))
    if len(found) > MAX_WANTED:
        some = np.random.default_rng(SEED).permutation(len(found))[:MAX_WANTED]
        found = replace(found.chosen(some), area=found.area[some] * len(found) / MAX_WANTED)
    nearest = KDTree(filmed.floor[:, :2]).query(found.points[:, :2])[1]
    found = replace(found, height=found.points[:, 2] - filmed.floor[nearest, 2])
    seen_from = _for_robots(filmed, caster, found)
    low = np.abs(found.height) < LOW
    weight = (BASE + FOR_ROBOTS * seen_from + FOR_CONTACT * low) * URGENCY[found.kind]
    return replace(found, weight=weight), space


def small_views(cameras: Sequence[tuple[Camera, Pose]]) -> list[tuple[Camera, Pose]]:
    """The views with images that are large enough to tell what they see."""
    return [(camera.within(DEPTH_SIDE), pose) for camera, pose in cameras]


def how_well(points: Floats, normals: Floats, eye: Floats) -> F64:
    """How well pieces of surface (N, 3) with normals (N, 3) can be seen from an eye (3,), 0..1, if nothing hides them.

    Twice as far, a pixel covers four times the area, and depth is as much less certain.
    """
    towards = eye - points
    distance = np.linalg.norm(towards, axis=1)
    cosine = (towards * normals).sum(1) / np.maximum(distance, 1e-9)
    near = np.minimum((GOOD / np.maximum(distance, GOOD)) ** 2, 1)
    return np.clip(cosine / GOOD_COSINE, 0, 1) * near * ((distance > NEAREST) & (distance < REACH))


def unhidden(caster: RayCaster, eye: Floats, points: Floats) -> Mask:
    """Which of the points (N, 3) no surface hides from an eye (3,)."""
    towards = points - eye
    slack = BEHIND[0] / np.maximum(np.linalg.norm(towards, axis=1), 1e-6) + BEHIND[1]
    return np.asarray(caster.cast(np.broadcast_to(eye, towards.shape), towards).distance > 1 - slack)


def in_image(camera: Camera, pose: Pose, points: Floats) -> tuple[I64, I64, I64, F64]:
    """Which of the points (N, 3) an image shows if nothing hides them: their indices, rows, columns, depths."""
    local = pose.inverse().apply(points)
    index = np.flatnonzero(local[:, 2] > NEAREST)
    pixels = np.floor(camera.project(local[index])).astype(np.int64)
    inside = ((pixels >= 0) & (pixels < [camera.width, camera.height])).all(1)
    index, (columns, rows) = index[inside], pixels[inside].T
    return index, rows, columns, local[index, 2]


def _surface(filmed: Filmed, depths: Sequence[F32]) -> Wanted:
    """Samples of the mesh."""
    mesh = filmed.mesh
    area = float(mesh.face_areas().sum())
    count = int(np.clip(area / SAMPLE_AREA, 100, MAX_SAMPLES))
    points, triangle = sample_surface(mesh, count, np.random.default_rng(SEED))
    points, normals = points.astype(np.float64), mesh.face_normals()[triangle]
    seen, seen_at_all, front = np.zeros((3, count))
    for (camera, pose), depth in zip(small_views(filmed.cameras), depths, strict=True):
        index, rows, columns, z = in_image(camera, pose, points)
        index = index[z < depth[rows, columns] * (1 + BEHIND[1]) + BEHIND[0]]
        here = how_well(points[index], normals[index], pose.translation)
        seen[index] = np.maximum(seen[index], here)
        seen_at_all[index] = np.maximum(seen_at_all[index], here > 0)
        towards = pose.translation - points[index]
        cosine = (towards * normals[index]).sum(1) / np.linalg.norm(towards, axis=1)
        front[index] = np.maximum(front[index], cosine)
    guessed = mesh.face_guessed()[triangle]
    kind = np.where(front < GOOD_COSINE, GRAZING, FAR)
    kind = np.where(guessed, GUESSED, np.where(seen_at_all > 0, kind, UNSEEN))
    seen = np.where(guessed, GUESS * seen, seen)
    return _pieces(points, normals, np.full(count, area / count), seen, kind)


def look_through(filmed: Filmed, depths: Sequence[F32]) -> Space:
    """The space round a place, and which of it the views looked through, or whoever held the camera walked through."""
    corners = np.percentile(filmed.mesh.vertices, [1, 99], axis=0) + np.array([[-VOXEL], [VOXEL]])
    track = np.array([pose.translation for _, pose in filmed.cameras])
    low, high = np.minimum(corners[0], track.min(0)), np.maximum(corners[1], track.max(0))
    low[2] = max(low[2], float(filmed.floor[:, 2].min()) - UNDER_FLOOR)
    high[2] = max(low[2] + VOXEL, min(high[2], float(filmed.floor[:, 2].max()) + OVER_FLOOR))
    cell = max(VOXEL, float(((high - low).prod() / MAX_VOXELS) ** (1 / 3)))
    shape = np.ceil((high - low) / cell).astype(int) + 1
    centres = low + (np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, 3) + 0.5) * cell
    free = np.zeros(len(centres), bool)
    under = filmed.floor[KDTree(filmed.floor[:, :2]).query(track[:, :2])[1], 2]
    for eye, floor in zip(track, under, strict=True):
        upright = (centres[:, 2] > floor) & (centres[:, 2] < eye[2] + BODY)
        free |= upright & (np.hypot(*(centres[:, :2] - eye[:2]).T) < BODY)
    for (camera, pose), depth in zip(small_views(filmed.cameras), depths, strict=True):
        unknown = np.flatnonzero(~free)
        index, rows, columns, z = in_image(camera, pose, centres[unknown])
        ahead = depth[rows, columns]
        free[unknown[index[z < np.where(ahead > 0, ahead, LOOKED_THROUGH)]]] = True
    return Space(low, cell, free.reshape(shape))


def openings(space: Space, caster: RayCaster) -> Wanted:
    """Where free space borders on space that nobody looked into, with no surface between."""
    unknown = binary_opening(np.pad(~space.free, 1, constant_values=True))[1:-1, 1:-1, 1:-1]
    points, normals = list[F64](), list[F64]()
    for axis, unit in enumerate(np.eye(3)):
        free, hidden = (np.asarray(np.moveaxis(cells, axis, 0), np.bool_) for cells in (space.free, unknown))
        for sign, borders in ((-1, free[:-1] & hidden[1:]), (1, hidden[:-1] & free[1:])):
            index = np.argwhere(np.moveaxis(borders, 0, axis))
            points.append(space.low + (index + (1 + unit) / 2) * space.cell)
            normals.append(np.broadcast_to(sign * unit, (len(index), 3)))
    where, towards = np.concatenate(points), np.concatenate(normals)
    bare = caster.distances(where) > space.cell
    where, towards = where[bare], towards[bare]
    area = np.full(len(where), SLANT * space.cell**2)
    return _pieces(where, towards, area, np.zeros(len(where)), np.full(len(where), OPENING))


def _pieces(points: F64, normals: F64, area: F64, seen: F64, kind: I64) -> Wanted:
    nothing = np.zeros(len(points))
    return Wanted(points, normals, area, seen, kind, nothing, nothing)


def _joined(one: Wanted, other: Wanted) -> Wanted:
    return Wanted(**{name: np.concatenate([values, getattr(other, name)]) for name, values in vars(one).items()})


def _for_robots(filmed: Filmed, caster: RayCaster, wanted: Wanted) -> F64:
    """How much (T,) robots on the floor want it: 1 if they see it well and can't trust their images."""
    eyes = spread(filmed.floor, EYES) + np.array([0, 0, EYE])
    most = np.zeros(len(wanted))
    for eye in eyes:
        towards = wanted.points - eye
        across = np.hypot(towards[:, 0], towards[:, 1])
        well = how_well(wanted.points, wanted.normals, eye)
        index = np.flatnonzero((well > most) & (np.abs(towards[:, 2]) < STEEPEST * across))
        index = index[unhidden(caster, eye, wanted.points[index])]
        trust = _trust(filmed.coverage, eye - np.array([0, 0, EYE]), towards[index])
        most[index] = np.maximum(most[index], well[index] * (1 - trust / 2))
    return most


def _trust(coverage: CoverageMap | None, place: F64, directions: F64) -> F64 | float:
    """How far a robot's images from a place (3,) towards (N, 3) can be trusted, 0 where nobody knows."""
    if coverage is None:
        return 0.0
    trust = coverage.heading_trust(place[None])[0]
    turn = np.arctan2(directions[:, 1], directions[:, 0]) / (2 * np.pi) * len(trust)
    return trust[np.round(turn).astype(np.int64) % len(trust)]


def spread(points: ArrayLike, most: int) -> F64:
    """Some of the points (N, 3), at most so many, spread over the floor plan."""
    places, cell = np.asarray(points, np.float64), 0.3
    while len(places):
        key = np.floor(places[:, :2] / cell).astype(np.int64)
        off = np.abs(places[:, :2] / cell - key - 0.5).max(1)
        order = np.lexsort((off, key[:, 1], key[:, 0]))
        first = np.diff(key[order], axis=0, prepend=key[order][:1] - 1).any(1)
        if first.sum() <= most:
            return places[order[first]]
        cell *= 1.15
    return places
