"""What an object hid: the floor below it and the walls behind, on the planes that they lie in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from scipy.ndimage import distance_transform_edt

from pipeline.geometry import SH_C0, Gaussians, Mesh, Pose, Similarity, quaternions_from_z
from pipeline.geometry.rays import RayCaster
from pipeline.geometry.winding import winding
from pipeline.mesh.planes import Planes, find_planes
from pipeline.objects.close import Body, foot_of
from pipeline.objects.find import GRAIN, SHELL_SKIN, shell_of
from pipeline.objects.views import Views
from pipeline.types import F32, F64, I64, Mask

CELL = 0.03
"""Edge of the cells of a plane [m]."""
LEVEL, OVER = 0.03, 0.3
"""What is as near to a plane as the first lies on it; between the two something stands before it [m]."""
BARE = 0.03
"""A plane has no surface where the mesh is farther away [m]."""
AROUND = 1.0
"""Holes are looked for as far from an object [m]."""
LIKE = 0.99
"""Least cosine between the normals of parts of one plane."""
GOES_ON = 0.5
"""A plane goes on as far beyond what was seen of it, where it isn't behind another and no view looked through [m]."""
SMEARED = 20
"""Triangles that are cut off with an object reach as far beyond it [cells]."""
GRAIN_CELLS, BACK, OPACITY = 9, 0.01, 0.95
"""Discs behind a hole: over how many cells their colours are smoothed, how far behind [m], and their opacity."""
MAX_CELLS = 1000
"""Longest side of a grid [cells]."""
AWAY, DIRECTIONS = (0.3, 0.45, 0.6, 0.8, 1.0, 1.3, 1.7, 2.2), 24
"""Where the like of a hole is looked for: distances [its size] and number of directions."""
RIM = 0.15
"""Width of the rim of a hole [m]."""
BLOCKED, FAR, UNLIKE = 0.3, 0.1, 2.0
"""What a cell in front of which something stands, a distance of the hole's size, and a mean difference in colour (0..1)
from the rim of the hole count against a covered cell."""


@dataclass(frozen=True, eq=False)
class Sheet:
    """A plane of floor, wall or ceiling.

    Attributes:
        world_from_sheet: z is its normal, x level.
        outline: (P, 2) of what was seen of it, convex [m].
    """

    world_from_sheet: Pose
    outline: F32


@dataclass(frozen=True, eq=False)
class Hole:
    """Cells of a plane that an object hid, or stood on.

    Attributes:
        world_from_sheet: z is the plane's normal.
        cells: (K, 2) indices along x and y.
        covered: (K,) whether the mesh has a surface there that was seen.
    """

    world_from_sheet: Pose
    cells: I64
    covered: Mask

    def parted(self, mesh: Mesh) -> tuple[Hole, Hole]:
        """What a mesh covers of the hole, and what it doesn't."""
        far = RayCaster(mesh).distances(self.world_from_sheet.apply(_middles(self.cells))) > BARE
        covered, left = (replace(self, cells=self.cells[own], covered=self.covered[own]) for own in (~far, far))
        return covered, left

    def cleared(self, rest: Gaussians) -> Gaussians:
        """Gaussians without those that lie in the hole."""
        local = self.world_from_sheet.inverse().apply(rest.means)
        if not len(self.cells):
            return rest
        low, size = self.cells.min(0), np.ptp(self.cells, axis=0) + 1
        hole = np.zeros(size, bool)
        hole[tuple((self.cells - low).T)] = True
        at = np.floor(local[:, :2] / CELL).astype(np.int64) - low
        lying = ((at >= 0) & (at < size)).all(1) & (np.abs(local[:, 2]) < LEVEL)
        lying[lying] = hole[tuple(at[lying].T)]
        return rest[~lying]

    def fill(self, rest: Gaussians) -> Gaussians:
        """Gaussians with copies of the plane's in the hole.

        They come from where the plane looks out over most of the hole's shape, in front of which nothing stands.
        """
        sheet_from_world = self.world_from_sheet.inverse()
        local = sheet_from_world.apply(rest.means)
        cells = np.floor(local[:, :2] / CELL).astype(np.int64)
        low = self.cells.min(0)
        size = np.ptp(self.cells, axis=0) + 1
        margin = int(np.ceil(max(AWAY) * np.linalg.norm(size))) + 1
        shape = size + 2 * margin
        hole, before = (np.zeros(shape, bool) for _ in range(2))
        hole[tuple((self.cells - low + margin).T)] = True
        at = cells - low + margin
        inside = ((at >= 0) & (at < shape)).all(1)
        lying = inside & (np.abs(local[:, 2]) < LEVEL)
        lying[lying] = ~hole[tuple(at[lying].T)]  # what was hidden goes
        standing = inside & (local[:, 2] > LEVEL) & (local[:, 2] < OVER)
        before[tuple(at[standing].T)] = True
        colors = np.where(hole[..., None], np.nan, _colors(rest[lying], at[lying], shape))
        shift = _like(hole, before, colors)
        hidden = inside & (np.abs(local[:, 2]) < LEVEL)
        hidden[hidden] = hole[tuple(at[hidden].T)]
        kept = rest[~hidden]
        kept = Gaussians.concatenate([kept, self._ground(colors, margin, kept)])
        if shift is None:
            return kept
        source = np.zeros(shape, bool)
        source[tuple((self.cells - low + margin + shift).T)] = True
        copied = lying.copy()
        copied[copied] = source[tuple(at[copied].T)]
        # large ones don't reach out of the hole
        room = CELL * (np.asarray(cv2.distanceTransform(source.astype(np.uint8), cv2.DIST_L2, 3)) + 1)
        copied[copied] = np.exp(rest.log_scales[copied].max(1)) < room[tuple(at[copied].T)]
        back = self.world_from_sheet.rotate(np.array([*(-shift * CELL), 0.0]))
        copies = rest[copied].transformed(Similarity(1.0, np.eye(3), back))
        return Gaussians.concatenate([kept, copies])

    def _ground(self, colors: F64, margin: int, like: Gaussians) -> Gaussians:
        """Discs behind the hole in the colours (X, Y, 3) of its rim: copies leave gaps."""
        known = np.isfinite(colors[..., 0])
        if not known.any():
            return like[:0]
        nearest = np.asarray(distance_transform_edt(~known, return_distances=False, return_indices=True))
        smooth = cv2.blur(colors[tuple(nearest)], (GRAIN_CELLS, GRAIN_CELLS))
        cells = self.cells[(self.cells % 2 == 0).all(1)]
        if not len(cells):
            return like[:0]
        normal = self.world_from_sheet.rotation[:, 2]
        middles = self.world_from_sheet.apply(np.column_stack([(cells + 1) * CELL, np.full(len(cells), -BACK)]))
        scales = np.tile([1.2 * CELL, 1.2 * CELL, 0.1 * CELL], (len(cells), 1))
        turns = quaternions_from_z(np.tile(normal, (len(cells), 1)))
        tints = np.asarray(smooth, np.float64)[tuple((cells - self.cells.min(0) + margin).T)]
        discs = Gaussians.from_colors(middles, scales, turns, tints, OPACITY, like.sh.shape[1])
        return replace(discs, antialiased=like.antialiased)

    def surface(self, before: Mesh, after: Mesh) -> Mesh:
        """Guessed triangles, facing along the normal, where a mesh had no surface or lost it as the object was cut."""
        reach = np.arange(-SMEARED, SMEARED + 1)
        around = np.stack(np.meshgrid(reach, reach, indexing="ij"), -1).reshape(-1, 2)
        near = np.unique((self.cells[:, None] + around).reshape(-1, 2), axis=0)
        inner = np.array([[0.02, 0.02], [0.98, 0.02], [0.02, 0.98], [0.98, 0.98], [0.5, 0.5]])
        places = np.zeros((len(near), len(inner), 3))
        places[..., :2], places[..., 2] = (near[:, None] + inner) * CELL, LEVEL
        above, down = self.world_from_sheet.apply(places.reshape(-1, 3)), -self.world_from_sheet.rotation[:, 2]
        there = [RayCaster(mesh).cast(above, down).distance < 2 * LEVEL for mesh in (before, after)]
        lost = (there[0] & ~there[1]).reshape(len(near), -1).any(1)
        cells = np.unique(np.concatenate([self.cells[~self.covered], near[lost]]), axis=0)
        square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
        corners, of = np.unique((cells[:, None] + square).reshape(-1, 2), axis=0, return_inverse=True)
        a, b, c, d = of.reshape(-1, 4).T
        places = np.column_stack([corners * CELL, np.zeros(len(corners))])
        made = Mesh.from_arrays(
            self.world_from_sheet.apply(places), np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
        )
        return Mesh(made.vertices, made.triangles, made.colors, np.ones(len(made.vertices), bool))


def _colors(gaussians: Gaussians, cells: I64, shape: I64) -> F64:
    """Mean colours (X, Y, 3) of cells by the Gaussians (N,) in them, and around them; nan where there are none."""
    colors = np.clip(0.5 + SH_C0 * gaussians.sh[:, 0].astype(np.float64), 0, 1)
    total = np.zeros((*shape, 4))
    np.add.at(total, tuple(cells.T), np.column_stack([colors, np.ones(len(colors))]))
    total = cv2.blur(total, (3, 3))
    return np.where(total[..., 3:] > 1e-6, total[..., :3] / np.maximum(total[..., 3:], 1e-6), np.nan)


def _like(hole: Mask, before: Mask, colors: F64) -> I64 | None:
    """The shift [cells] to the place that is most like a hole (X, Y) and its rim; None where nothing is known."""
    cells = np.argwhere(hole)
    length = float(np.linalg.norm(np.ptp(cells, axis=0) + 1))
    rim = colors[_grown(hole, RIM) & np.isfinite(colors[..., 0])]
    usual = np.median(rim, axis=0) if len(rim) else np.full(3, 0.5)
    best, shift = 0.0, None
    for away in AWAY:
        for angle in np.linspace(0, 2 * np.pi, DIRECTIONS, endpoint=False):
            step = np.round(away * length * np.array([np.cos(angle), np.sin(angle)])).astype(np.int64)
            there = tuple((cells + step).T)
            known = np.isfinite(colors[there][:, 0])
            share = float(known.mean())
            unlike = float(np.abs(colors[there][known] - usual).mean()) if known.any() else 1.0
            score = share - BLOCKED * float(before[there].mean()) - FAR * away - UNLIKE * unlike
            if (shift is None and share) or score > best:
                best, shift = score, step
    return shift


def sheets_of(mesh: Mesh, floor_height: float) -> list[Sheet]:
    """Planes of floor, walls and ceiling."""
    if not len(mesh.triangles):
        return []
    planes = find_planes(mesh, GRAIN)
    areas, corners = mesh.face_areas(), mesh.corners().astype(np.float64)
    shell = shell_of(planes, areas, floor_height)
    result, left = list[Sheet](), list(np.flatnonzero(shell))
    left.sort(key=lambda number: -areas[planes.labels == number].sum())
    while left:  # the largest of each plane says how it lies
        number = left[0]
        alike = planes.normals[left] @ planes.normals[number] > LIKE
        same = [one for one, near in zip(left, alike, strict=True) if near and _off(planes, one, number) < SHELL_SKIN]
        left = [one for one in left if one not in same]
        frame = _frame(planes.normals[number], float(planes.offsets[number]))
        points = frame.inverse().apply(corners[np.isin(planes.labels, same)].reshape(-1, 3))[:, :2].astype(np.float32)
        result.append(Sheet(frame, np.asarray(cv2.convexHull(points), np.float32).reshape(-1, 2)))
    return result


def _off(planes: Planes, number: np.integer, other: np.integer) -> float:
    return float(np.abs(planes.offsets[number] - planes.offsets[other]))


def holes_of(body: Body, scene: Mesh, sheets: Sequence[Sheet], views: Views) -> list[Hole]:
    """What is hidden by a body; the scene is the mesh without it.

    That is its foot, and where a plane goes on, the scene has no surface, and the body is before it in some view.
    """
    foot, height = foot_of(body).vertices.astype(np.float64), float(body.world_from_body.translation[2])
    level = [sheet for sheet in sheets if sheet.world_from_sheet.rotation[2, 2] > 0.97]
    under = [sheet for sheet in level if abs(sheet.world_from_sheet.translation[2] - height) < SHELL_SKIN]
    if not under:
        sheets = [*sheets, Sheet(_frame(np.array([0, 0, 1.0]), height), np.zeros((0, 2), np.float32))]
        under = sheets[-1:]
    caster, found = RayCaster(scene), list[Hole]()
    low, high = body.mesh.vertices.min(0) - AROUND, body.mesh.vertices.max(0) + AROUND
    corners = np.array(np.meshgrid(*zip(low, high, strict=True))).reshape(3, -1).T
    for sheet in sheets:
        sheet_from_world = sheet.world_from_sheet.inverse()
        near = sheet_from_world.apply(corners)
        first = np.floor(near[:, :2].min(0) / CELL).astype(np.int64)
        shape = np.ceil(near[:, :2].max(0) / CELL).astype(np.int64) - first
        if near[:, 2].min() > 0 or near[:, 2].max() < 0 or shape.max() > MAX_CELLS:
            continue
        beneath = np.zeros(shape, bool)
        if sheet is under[0]:
            beneath = _polygon(sheet_from_world.apply(foot)[:, :2].astype(np.float32), first, shape)
        asked = np.argwhere(_grown(_polygon(sheet.outline, first, shape), GOES_ON) | _grown(beneath, CELL))
        centres = sheet.world_from_sheet.apply(_middles(asked + first))
        covered = caster.distances(centres) < BARE
        bare = ~covered & ((centres > low) & (centres < high)).all(1)
        bare[bare] = winding(body.mesh.corners().astype(np.float64), centres[bare]) < 0.1
        bare[bare] = _before_all(centres[bare], sheets, sheet)
        bare[bare] = views.look_through(centres[bare], BARE) < 2
        bare[bare] = views.hidden_by(body.mesh, centres[bare], caster)
        rim = _grown(beneath, CELL)[tuple(asked.T)]
        chosen = bare | beneath[tuple(asked.T)] | (rim & ~covered)
        if chosen.any():
            covered[rim] = False  # what is there was never seen
            found.append(Hole(sheet.world_from_sheet, asked[chosen] + first, covered[chosen]))
    return found


def _before_all(points: F64, sheets: Sequence[Sheet], own: Sheet) -> Mask:
    """Which points (N, 3) lie before every other plane that they are near to, not behind."""
    before = np.ones(len(points), bool)
    for sheet in sheets:
        if sheet is own or len(sheet.outline) < 3:
            continue
        local = sheet.world_from_sheet.inverse().apply(points)
        behind = np.flatnonzero((local[:, 2] < -BARE) & (local[:, 2] > -AROUND))
        for row in behind:
            place = tuple(map(float, local[row, :2]))
            if cv2.pointPolygonTest(sheet.outline, place, True) > -GOES_ON:
                before[row] = False
    return before


def _grown(cells: Mask, reach: float) -> Mask:
    """Cells with all that are as near to one [m]."""
    away = round(reach / CELL)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * away + 1, 2 * away + 1))
    return np.asarray(cv2.dilate(cells.astype(np.uint8), kernel), bool)


def _frame(normal: F64, offset: float) -> Pose:
    x = np.cross([0, 0, 1.0], normal)
    x = x / np.linalg.norm(x) if np.linalg.norm(x) > 0.1 else np.cross([0, 1.0, 0], normal)
    x = x / np.linalg.norm(x)
    return Pose(np.stack([x, np.cross(normal, x), normal], 1), offset * normal)


def _middles(cells: I64) -> F64:
    return np.column_stack([(cells + 0.5) * CELL, np.zeros(len(cells))]).astype(np.float64)


def _polygon(outline: F32, first: I64, shape: I64) -> Mask:
    """Cells (X, Y) of a grid that begins at `first` which a convex outline (P, 2) [m] touches."""
    image = np.zeros(shape[::-1], np.uint8)
    if len(outline) > 2:
        cv2.fillConvexPoly(image, np.floor(outline / CELL - first).astype(np.int32), 1)
    return image.T.astype(bool)
