"""Boxes, cylinders and balls that the surface of an object lies on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import least_squares

from pipeline.geometry import Mesh, Pose
from pipeline.scenes.objects import ShapeKind
from pipeline.types import F64, Mask

UPRIGHT = 0.35
"""Largest z of the normal of a side; also of a cylinder along its axis."""
FACING = 0.9
"""Least cosine between a triangle's normal and that of the face of a box that it belongs to."""
FACE_AREA = 0.02
"""Least share of the surface that a face has been seen with."""
ON_FACE = 0.012
"""Surface this near to a shape lies on it [m]."""
FACE_SEEN = 0.1
"""Least share of a box's side that it was seen with."""
STRIP, ENDS = 0.025, 0.8
"""A side that nobody saw is where the faces next to it end, in this quantile over strips of that width [m]."""
EDGE = 0.1
"""Where there are none, it is where the surface ends that is no farther than this below the top [m]."""
TOP_SEEN, SLIVER = 0.5, 0.5
"""Share of the top that must have been seen for the place of such sides to be known; of what is narrower than the
second of its width, the rest may be hidden."""
IS_SHAPE = 0.75
"""Least share of the surface that lies on a shape."""
ARC, WIDEST = 1.0, 1.0
"""A round shape was seen over an angle of at least the first [rad]; its radius is at most the second [m]."""
SAMPLES, SPREAD, EXACT = 600, 0.004, 1e-5
"""Triangles that a round shape is fitted to, errors from which on they count less [m], and relative changes of a fit
that end it."""
FAR_OFF = 4.0
"""A round shape is sought where half of what it needs is within so many times `ON_FACE` of where the fit begins."""
GRID, MAX_GRID = 0.05, 100
"""Longest edge of a box's triangles [m], longer where an edge of the box would have more than that."""
AROUND = 64
"""Corners of a circle; a ball has a quarter of that along a meridian."""


@dataclass(frozen=True, eq=False)
class Shape:
    """A box, a cylinder, upright or lying along x, or a ball.

    Attributes:
        world_from_body: z up; the origin is the middle of its foot.
        size: (3,) lengths along the body's axes [m].
        lying: Whether a cylinder's axis is x.
        off: Mean distance of the surface from it, where more than `ON_FACE` counts as that [m].
        unseen: Sides of a box, by axis and sign, of which nothing tells where they are: neither they nor the top above
            them were seen.
    """

    kind: ShapeKind
    world_from_body: Pose
    size: F64
    lying: bool
    off: float
    unseen: tuple[tuple[int, int], ...] = ()

    def corners(self) -> F64:
        """Corners (8, 3) of its bounds along its own axes, world frame."""
        signs = np.stack(np.meshgrid(*[[0.0, 1.0]] * 3, indexing="ij"), -1).reshape(-1, 3) - [0.5, 0.5, 0]
        return self.world_from_body.apply(signs * self.size)

    def mesh(self) -> Mesh:
        """Its watertight surface, in the world frame."""
        if self.kind == "box":
            return box_mesh(self.world_from_body, self.size)
        length = self.size[0 if self.lying else 2]
        angle = 2 * np.pi * np.arange(AROUND) / AROUND
        circle = np.stack([np.cos(angle), np.sin(angle)], 1)
        if self.kind == "ball":
            polar = np.pi * (np.arange(AROUND // 4) + 0.5) / (AROUND // 4)
            rings = [np.column_stack([np.sin(p) * circle, np.full(AROUND, -np.cos(p))]) for p in polar]
        else:
            heights = np.linspace(-1, 1, int(np.clip(np.ceil(length / GRID), 1, MAX_GRID)) + 1)
            radii = [(0.5, -1.0), *((1.0, height) for height in heights), (0.5, 1.0)]
            rings = [np.column_stack([radius * circle, np.full(AROUND, height)]) for radius, height in radii]
        places = np.concatenate([*rings, [[0, 0, -1.0], [0, 0, 1.0]]])
        if self.lying:
            places = places[:, [2, 0, 1]]
        places = (places + np.array([0, 0, 1])) * self.size / 2
        return Mesh.from_arrays(self.world_from_body.apply(places), _lathed(len(rings)))


def _lathed(rings: int) -> np.ndarray:
    """Triangles (F, 3) round rings of `AROUND` corners, lowest first, closed by two poles that come after them."""
    number = np.arange(rings * AROUND).reshape(rings, AROUND)
    a, b = number[:-1], number[1:]
    c, d = np.roll(a, -1, 1), np.roll(b, -1, 1)
    low, high = np.full(AROUND, number.size), np.full(AROUND, number.size + 1)
    sides = [np.stack([a, c, d], -1), np.stack([a, d, b], -1)]
    first, last = number[0], number[-1]
    ends = [np.stack([low, np.roll(first, -1), first], -1), np.stack([high, last, np.roll(last, -1)], -1)]
    return np.concatenate([part.reshape(-1, 3) for part in (*sides, *ends)])


def shape_of(seen: Mesh, support: float) -> Shape | None:
    """The shape, standing at a height [m], that most of a surface lies on; None where there is none."""
    surface = _Surface.of(seen)
    found = [fit(surface, support) for fit in (_box, _upright, _lying, _ball)]
    return min((one for one in found if one is not None), key=lambda one: one.off, default=None)


@dataclass(frozen=True, eq=False)
class _Surface:
    """Middles (F, 3), normals (F, 3) and areas (F,) of triangles, their corners (3F, 3), and which were measured."""

    middle: F64
    normals: F64
    areas: F64
    points: F64
    measured: Mask

    @staticmethod
    def of(seen: Mesh) -> _Surface:
        corners = seen.corners().astype(np.float64)
        measured = ~seen.face_guessed()
        return _Surface(corners.mean(1), seen.face_normals(), seen.face_areas(), corners.reshape(-1, 3), measured)

    def shape(
        self, kind: ShapeKind, pose: Pose, size: F64, distances: Callable[[F64], F64], *, lying: bool = False
    ) -> Shape | None:
        """A shape, if most of the surface lies on it, given distances (F,) of points (F, 3) in its frame."""
        off = np.abs(distances(pose.inverse().apply(self.middle)))
        if self.areas[off < ON_FACE].sum() < IS_SHAPE * self.areas.sum():
            return None
        mean = float(np.average(np.minimum(off, ON_FACE), weights=self.areas))
        return Shape(kind, pose, size, lying, mean)

    def top(self, support: float) -> float:
        """Height of what faces up in the upper half over a support [m]."""
        top = self.normals[:, 2] > FACING
        top &= self.middle[:, 2] > support + 0.5 * (self.middle[:, 2].max() - support)
        if self.areas[top].sum() > FACE_AREA * self.areas.sum():
            return _median(self.middle[top, 2], self.areas[top])
        return float(self.points[:, 2].max())


def _box(surface: _Surface, support: float) -> Shape | None:
    side = np.abs(surface.normals[:, 2]) < UPRIGHT
    if not side.any():
        return None
    areas, rotation = surface.areas, along_sides(surface.normals[side], surface.areas[side])
    middle, normals, points = surface.middle @ rotation, surface.normals @ rotation, surface.points @ rotation
    low, high = np.array([np.nan, np.nan, support]), np.array([np.nan, np.nan, surface.top(support)])
    rim = points[np.repeat(surface.measured, 3) & (points[:, 2] > high[2] - EDGE)]
    rim = rim if len(rim) else points
    faces = [(2, (normals[:, 2] > FACING) & (np.abs(middle[:, 2] - high[2]) < ON_FACE))]
    unseen = list[tuple[int, int]]()
    for axis in (0, 1):
        least = max(FACE_SEEN * (high[2] - support) * np.ptp(rim[:, 1 - axis]), FACE_AREA * areas.sum())
        for bounds, sign in ((low, -1), (high, 1)):
            facing = sign * normals[:, axis] > FACING
            if areas[facing].sum() > least:
                bounds[axis] = _median(middle[facing, axis], areas[facing])
                faces.append((axis, facing & (np.abs(middle[:, axis] - bounds[axis]) < ON_FACE)))
            else:
                unseen.append((axis, sign))
    for axis, sign in unseen:
        ends = [_end(points[np.repeat(own, 3)], axis, sign, 3 - axis - face) for face, own in faces if face != axis]
        ends = [end for end in ends if np.isfinite(end)] or [float((sign * rim[:, axis]).max())]
        (low if sign < 0 else high)[axis] = sign * max(ends)
    told = areas[faces[0][1]].sum() > TOP_SEEN * np.prod((high - low)[:2])
    size = high - low
    if (size <= 0).any():
        return None
    pose = Pose(rotation, rotation @ np.array([*(low + high)[:2] / 2, support]))
    shape = surface.shape("box", pose, size, lambda local: _outside(np.abs(local - [0, 0, size[2] / 2]) - size / 2))
    open_ends = [(axis, sign) for axis, sign in unseen if not told or size[axis] < SLIVER * size[1 - axis]]
    return shape and replace(shape, unseen=tuple(open_ends))


def _end(face: F64, axis: int, sign: int, across: int) -> float:
    """Where a face of points (N, 3) ends along an axis, in most of its strips across that; -inf for none."""
    if not len(face):
        return -np.inf
    strip = np.floor(face[:, across] / STRIP).astype(np.int64)
    strip -= strip.min()
    ends = np.full(strip.max() + 1, -np.inf)
    np.maximum.at(ends, strip, sign * face[:, axis])
    return float(np.quantile(ends[np.isfinite(ends)], ENDS))


def _outside(beyond: F64) -> F64:
    """Signed distances (N,) from how far points (N, K) are beyond the sides of what is the same along all of them."""
    return np.linalg.norm(np.maximum(beyond, 0), axis=1) + np.minimum(beyond.max(1), 0)


def _upright(surface: _Surface, support: float) -> Shape | None:
    side = np.abs(surface.normals[:, 2]) < UPRIGHT
    circle = _round(surface, side, np.eye(3)[:2], None)
    if circle is None:
        return None
    (x, y), radius = circle
    height = surface.top(support) - support
    if height <= 0:
        return None
    size = np.array([2 * radius, 2 * radius, height])

    def distances(local: F64) -> F64:
        beyond = np.hypot(local[:, 0], local[:, 1]) - radius, np.abs(local[:, 2] - height / 2) - height / 2
        return _outside(np.stack(beyond, 1))

    return surface.shape("cylinder", Pose(np.eye(3), np.array([x, y, support])), size, distances)


def _lying(surface: _Surface, support: float) -> Shape | None:
    around = np.pi * np.arange(180) / 180
    directions = np.stack([np.cos(around), np.sin(around), 0 * around])
    some = slice(None, None, len(surface.areas) // SAMPLES + 1)
    along = np.minimum((surface.normals[some] @ directions) ** 2, 0.1)  # ends face along it: the same either way
    yaw = around[int((surface.areas[some] @ along).argmin())]
    x, y = np.array([np.cos(yaw), np.sin(yaw), 0]), np.array([-np.sin(yaw), np.cos(yaw), 0])
    facing = surface.normals @ x
    circle = _round(surface, np.abs(facing) < UPRIGHT, np.stack([y, [0, 0, 1.0]]), support)
    if circle is None:
        return None
    (across, _), radius = circle
    ends, place = list[float](), surface.middle @ x
    for sign in (-1, 1):
        end = sign * facing > FACING
        seen = surface.areas[end].sum() > FACE_AREA * surface.areas.sum()
        last = sign * float((sign * surface.points @ x).max())
        ends.append(_median(place[end], surface.areas[end]) if seen else last)
    length = ends[1] - ends[0]
    if length <= 0:
        return None
    pose = Pose(np.stack([x, y, [0, 0, 1.0]], 1), (ends[0] + ends[1]) / 2 * x + across * y + np.array([0, 0, support]))

    def distances(local: F64) -> F64:
        beyond = np.hypot(local[:, 1], local[:, 2] - radius) - radius, np.abs(local[:, 0]) - length / 2
        return _outside(np.stack(beyond, 1))

    return surface.shape("cylinder", pose, np.array([length, 2 * radius, 2 * radius]), distances, lying=True)


def _ball(surface: _Surface, support: float) -> Shape | None:
    sphere = _round(surface, np.ones(len(surface.areas), bool), np.eye(3), support)
    if sphere is None:
        return None
    (x, y, _), radius = sphere
    pose = Pose(np.eye(3), np.array([x, y, support]))
    return surface.shape(
        "ball", pose, np.full(3, 2 * radius), lambda local: np.linalg.norm(local - [0, 0, radius], axis=1) - radius
    )


def _round(surface: _Surface, own: Mask, axes: F64, support: float | None) -> tuple[F64, float] | None:
    """Centre (K,) along axes (K, 3) and radius of what triangles go round; on a support by the last axis, if given."""
    rows = np.flatnonzero(own & surface.measured)
    if len(rows) < 20:
        return None
    rows = rows[:: len(rows) // SAMPLES + 1]
    points, normals = surface.middle[rows] @ axes.T, surface.normals[rows] @ axes.T
    weights = np.sqrt(surface.areas[rows] / surface.areas[rows].sum())
    around = normals[:, 0] + 1j * normals[:, 1]
    if np.ptp(np.quantile(np.angle(around / np.exp(1j * np.angle(around.sum()))), [0.05, 0.95])) < ARC:
        return None
    free = len(axes) - (support is not None)

    def centre(parameters: F64) -> F64:
        return parameters[:-1] if support is None else np.append(parameters[:-1], support + parameters[-1])

    # points less their normals times the radius are the centre, which is linear: where to begin
    matrix = np.zeros((len(rows), len(axes), free + 1))
    matrix[:, np.arange(free), np.arange(free)] = 1
    matrix[..., -1] = normals
    known = points.copy()
    if support is not None:
        matrix[:, -1, -1] += 1
        known[:, -1] -= support
    each = np.repeat(weights, len(axes))
    begin: F64 = np.linalg.lstsq(matrix.reshape(-1, free + 1) * each[:, None], known.reshape(-1) * each)[0]  # type: ignore[assignment]

    away = np.linalg.norm(points - centre(begin), axis=1) - begin[-1]
    if (weights**2)[np.abs(away) < FAR_OFF * ON_FACE].sum() < IS_SHAPE / 2:
        return None
    weights *= np.sqrt(len(rows))

    def errors(parameters: F64) -> F64:
        return (np.linalg.norm(points - centre(parameters), axis=1) - parameters[-1]) * weights

    def derivatives(parameters: F64) -> F64:
        away = centre(parameters) - points
        away /= np.linalg.norm(away, axis=1, keepdims=True) + 1e-12
        by_radius = np.full(len(away), -1.0) if support is None else away[:, -1] - 1
        return np.column_stack([away[:, :free], by_radius]) * weights[:, None]

    ends = {"ftol": EXACT, "xtol": EXACT, "gtol": None}
    found = least_squares(errors, begin, derivatives, loss="soft_l1", f_scale=SPREAD, **ends).x  # type: ignore[arg-type]
    return (centre(found), float(found[-1])) if 0 < found[-1] < WIDEST else None


def along_sides(normals: F64, areas: F64) -> F64:
    """Rotation (3, 3) about z from axes along sides with normals (F, 3) that meet at right angles, as most do."""
    around = np.arctan2(normals[:, 1], normals[:, 0])
    yaw = float(np.angle((areas * np.exp(4j * around)).sum()) / 4)
    return np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1.0]])


def _median(values: F64, weights: F64) -> float:
    order = np.argsort(values)
    return float(values[order][np.searchsorted(np.cumsum(weights[order]), weights.sum() / 2)])


def box_mesh(world_from_body: Pose, size: F64, grid: float = GRID) -> Mesh:
    """Surface of a box that stands on the origin of its frame, in triangles of up to that length [m]."""
    counts = np.clip(np.ceil(size / grid), 1, MAX_GRID).astype(int)
    vertices, triangles, start = [], [], 0
    for axis in range(3):
        others = [(axis + 1) % 3, (axis + 2) % 3]
        u, v = (np.linspace(-0.5, 0.5, counts[other] + 1) for other in others)
        for sign in (-0.5, 0.5):
            sheet = np.empty((len(u), len(v), 3))
            sheet[..., axis] = sign
            sheet[..., others[0]], sheet[..., others[1]] = np.meshgrid(u, v, indexing="ij")
            number = start + np.arange(len(u) * len(v)).reshape(len(u), len(v))
            a, b, c, d = number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]
            faces = np.stack([np.stack([a, b, c], -1), np.stack([a, c, d], -1)]).reshape(-1, 3)
            vertices.append(sheet.reshape(-1, 3))
            triangles.append(faces if sign > 0 else faces[:, ::-1])
            start += len(vertices[-1])
    places = (np.concatenate(vertices) + np.array([0, 0, 0.5])) * size
    unique, first = np.unique(np.round(places, 6), axis=0, return_inverse=True)
    return Mesh.from_arrays(world_from_body.apply(unique), first.reshape(-1)[np.concatenate(triangles)])
