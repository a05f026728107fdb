"""The cut of a mesh at one height: its outlines, straightened as far as they are straight, walls and the gaps in them.

Outlines are directed: what is free lies to their left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import cv2
import numpy as np

from pipeline.geometry import Mesh
from pipeline.types import F64, I64, Mask

STRAIGHT = 0.02
"""An outline runs within this of the straight line that is drawn for it [m]."""
SHORTEST = 0.08
"""Shorter outlines are crumbs of the mesh [m]."""
LONG = 0.3
"""Lines of this length [m] are fitted to all points of theirs; shorter ones join their ends."""
CORNER = 0.05
"""Two fitted lines meet in one corner, if it lies so near to where the mesh has it [m]."""
BEVEL = 0.15
"""Shorter faces across a corner of two fitted lines are left out [m]."""
THICKEST = 0.45
"""Thicker is no wall, but two things [m]."""
HANGS = 0.03
"""What is nearer to a wall hangs on it [m]."""
PASSABLE, WIDEST = 0.55, 3.0
"""Widths between which a gap is an opening [m]."""
FACING = -0.95
"""Cosine of the angle between the normals of two faces that look at each other."""
BESIDE = 0.15
"""So far beside an outline tells which side of it is free [m]."""
CLOSED = 1e-6
POSITIONS = 1e-5
"""Points nearer than this are one [m]."""


@dataclass(frozen=True, eq=False)
class Outline:
    """A line around something solid, its free side to the left.

    Attributes:
        points: (N, 2) corners [m]; of a closed one the first comes again at the end.
        guessed: Whether most of it was closed, not measured.
    """

    points: F64
    guessed: bool

    @property
    def closed(self) -> bool:
        """Whether it ends where it begins."""
        return bool(np.abs(self.points[0] - self.points[-1]).max() < CLOSED)

    @property
    def is_pillar(self) -> bool:
        """Whether it goes round something solid: clockwise, since what is free lies to the left."""
        x, y = self.points.T
        return self.closed and float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum()) < 0


@dataclass(frozen=True, eq=False)
class Faces:
    """Straight faces of walls.

    Attributes:
        start: (F, 2) where they begin [m].
        end: (F, 2) where they end [m].
        outline: (F,) number of the outline.
        thickness: (F,) how far behind them the wall's other face is [m]; NaN where that wasn't seen.
    """

    start: F64
    end: F64
    outline: I64
    thickness: F64

    @property
    def length(self) -> F64:
        """Of each (F,) [m]."""
        return np.linalg.norm(self.end - self.start, axis=1)

    @property
    def along(self) -> F64:
        """Unit vectors (F, 2)."""
        return (self.end - self.start) / np.maximum(self.length, 1e-9)[:, None]

    @property
    def normal(self) -> F64:
        """Unit vectors (F, 2) towards what is free."""
        along = self.along
        return np.stack([-along[:, 1], along[:, 0]], 1)


@dataclass(frozen=True, eq=False)
class Opening:
    """A passable gap in a wall, from `start` to `end` (2,) [m] along the wall's middle."""

    start: F64
    end: F64
    depth: float

    @property
    def width(self) -> float:
        """Free width [m]."""
        return float(np.linalg.norm(self.end - self.start))


def cut(mesh: Mesh, height: float, is_free: Callable[[F64], Mask]) -> list[Outline]:
    """The outlines of a mesh at a height [m], directed by its triangles, or by which places (N, 2) are free."""
    segments, guessed = _segments(mesh, height)
    outlines = list[Outline]()
    for chain in _chains(segments):
        points = np.concatenate([segments[chain, 0], segments[chain[-1:], 1]])
        if np.linalg.norm(np.diff(points, axis=0), axis=1).sum() >= SHORTEST:
            straight = _directed(_straightened(points), is_free)
            if len(straight) > 1:
                outlines.append(Outline(straight, bool(guessed[chain].mean() > 0.5)))
    return outlines


def _directed(points: F64, is_free: Callable[[F64], Mask]) -> F64:
    """The points (N, 2), reversed if more of what is right of them than left is free: drawn walls face outwards."""
    steps = np.diff(points, axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    left = np.stack([-steps[:, 1], steps[:, 0]], 1) / np.maximum(lengths, 1e-9)[:, None] * BESIDE
    middles = (points[1:] + points[:-1]) / 2
    votes = (is_free(middles + left).astype(np.float64) - is_free(middles - left)) @ lengths
    return points[::-1] if votes < 0 else points


def _segments(mesh: Mesh, height: float) -> tuple[F64, F64]:
    """Where triangles cross the height: (S, 2, 2) start and end, the free side to the left; and (S,) guessed, 0..1."""
    z = mesh.vertices[mesh.triangles][..., 2].astype(np.float64)
    above = z > height
    crossing = np.flatnonzero(above.any(1) & ~above.all(1))
    corners = mesh.corners()[crossing].astype(np.float64)
    above = above[crossing]
    alone = np.where(above.sum(1) == 1, above.argmax(1), (~above).argmax(1))
    rows = np.arange(len(crossing))
    apex, ahead, behind = (corners[rows, (alone + turn) % 3] for turn in (0, 1, 2))
    ends = np.stack([_crossing(apex, other, height) for other in (ahead, behind)], 1)
    normal = mesh.face_normals()[crossing, :2]
    along = ends[:, 1] - ends[:, 0]
    wrong = along[:, 0] * normal[:, 1] - along[:, 1] * normal[:, 0] < 0
    ends[wrong] = ends[wrong][:, ::-1]
    keep = np.abs(ends[:, 0] - ends[:, 1]).max(1) > POSITIONS
    return ends[keep], mesh.guessed[mesh.triangles[crossing[keep]]].astype(np.float64).mean(1)


def _crossing(one: F64, other: F64, height: float) -> F64:
    """Where edges between corners (S, 3) have the height (S, 2): the same for both triangles at an edge."""
    low, high = (np.where((one[:, 2:] < other[:, 2:]) == lower, one, other) for lower in (True, False))
    share = (height - low[:, 2:]) / (high[:, 2:] - low[:, 2:])
    return (low + share * (high - low))[:, :2]


def _chains(segments: F64) -> list[I64]:
    """Numbers of the segments that follow each other."""
    keys = np.round(segments / POSITIONS).astype(np.int64)
    begins: dict[tuple[int, int], list[int]] = {}
    for number, (x, y) in enumerate(keys[:, 0].tolist()):
        begins.setdefault((x, y), []).append(number)
    has_before = {(x, y) for x, y in keys[:, 1].tolist()}
    ends = [(x, y) for x, y in keys[:, 1].tolist()]
    first = [number for number, (x, y) in enumerate(keys[:, 0].tolist()) if (x, y) not in has_before]
    used, chains = np.zeros(len(segments), bool), list[I64]()
    for start in (*first, *range(len(segments))):  # open ones from their start; then those that are closed
        if used[start]:
            continue
        chain, following = list[int](), start
        while following is not None:
            used[following] = True
            chain.append(following)
            following = next((one for one in begins.get(ends[following], ()) if not used[one]), None)
        chains.append(np.array(chain))
    return chains


def _straightened(points: F64) -> F64:
    """An outline's points (N, 2) as few straight lines within `STRAIGHT`, the long ones fitted to all their points."""
    closed = np.abs(points[0] - points[-1]).max() < 2 * POSITIONS
    kept = _simplified(points)
    if closed:  # begin in a corner, not where the mesh happens to
        split = int(np.linalg.norm(points - points[kept[len(kept) // 2]], axis=1).argmin())
        points = np.concatenate([points[split:-1], points[: split + 1]])
        kept = _simplified(points)
    lines = [_line(points[a : b + 1]) for a, b in pairwise(kept)]
    corners = [points[index] for index in kept]
    _sharpen(corners, lines)
    for number in range(1, len(corners) - 1):
        corners[number] = _corner(corners[number], lines[number - 1], lines[number])
    if closed and len(lines) > 2:
        corners[0] = corners[-1] = _corner(corners[0], lines[-1], lines[0])
    return np.array(corners)


def _sharpen(corners: list[F64], lines: list[tuple[F64, F64] | None]) -> None:
    """Let fitted lines meet where only short ones lie between them: meshes round corners off."""
    fitted = [number for number, line in enumerate(lines) if line is not None]
    for first, last in reversed(list(pairwise(fitted))):
        between, one, other = np.array(corners[first + 1 : last + 1]), lines[first], lines[last]
        length = np.linalg.norm(np.diff(between, axis=0), axis=1).sum()
        if last == first + 1 or length > BEVEL or one is None or other is None:
            continue
        meeting = _meeting(one, other)
        if meeting is not None and np.linalg.norm(between.mean(0) - meeting) < BEVEL:
            corners[first + 1 : last + 1] = [meeting]
            del lines[first + 1 : last]


def _simplified(points: F64) -> list[int]:
    """Indices of the points (N, 2) that are kept by Douglas and Peucker's rule; the first and the last are."""
    kept, parts = {0, len(points) - 1}, [(0, len(points) - 1)]
    while parts:
        first, last = parts.pop()
        if last - first < 2:
            continue
        base = points[last] - points[first]
        length = float(np.hypot(*base))
        away = points[first + 1 : last] - points[first]
        beside = np.abs(away[:, 0] * base[1] - away[:, 1] * base[0])
        off = beside / length if length > POSITIONS else np.hypot(*away.T)
        worst = int(off.argmax())
        if off[worst] > STRAIGHT:
            middle = first + 1 + worst
            kept.add(middle)
            parts += [(first, middle), (middle, last)]
    return sorted(kept)


def _line(points: F64) -> tuple[F64, F64] | None:
    """Point and direction (2,) of the line through points (N, 2); None for one that is too short to be sure of."""
    steps = np.diff(points, axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    if np.linalg.norm(points[-1] - points[0]) < LONG:
        return None
    middles = (points[1:] + points[:-1]) / 2
    centre = np.average(middles, axis=0, weights=lengths)
    off = np.concatenate([points[:-1], points[1:]]) - centre
    weights = np.tile(lengths, 2)
    direction = np.linalg.eigh((off * weights[:, None]).T @ off)[1][:, 1]
    return centre, direction


def _corner(there: F64, before: tuple[F64, F64] | None, after: tuple[F64, F64] | None) -> F64:
    """The corner (2,) of two lines near to where the mesh has it; on the one that was fitted, if only one was."""
    if before is not None and after is not None and (meeting := _meeting(before, after)) is not None:
        return meeting if np.linalg.norm(meeting - there) < CORNER else there
    fitted = [line for line in (before, after) if line is not None]
    if not fitted:
        return there
    onto = [line[0] + ((there - line[0]) @ line[1]) * line[1] for line in fitted]
    return np.mean(onto, axis=0)


def _meeting(one: tuple[F64, F64], other: tuple[F64, F64]) -> F64 | None:
    """Where two lines cross (2,) [m]; None if they hardly do."""
    matrix = np.stack([one[1], -other[1]], 1)
    if abs(np.linalg.det(matrix)) < 0.2:
        return None
    return one[0] + np.linalg.solve(matrix, other[0] - one[0])[0] * one[1]


def faces_of(outlines: list[Outline]) -> Faces:
    """The straight faces of outlines, with the thickness of the walls behind them where both sides were seen."""
    starts = [outline.points[:-1] for outline in outlines]
    ends = [outline.points[1:] for outline in outlines]
    numbers = np.repeat(np.arange(len(outlines)), [len(one) for one in starts])
    nothing = np.zeros((0, 2))
    start, end = np.concatenate([nothing, *starts]), np.concatenate([nothing, *ends])
    bare = Faces(start, end, numbers, np.full(len(start), np.nan))
    return replace(bare, thickness=_thickness(bare))


def _thickness(faces: Faces) -> F64:
    """How far behind each face one lies that faces away from it (F,) [m]; NaN where there is none within a wall."""
    found = np.full(len(faces.start), np.nan)
    middle = (faces.start + faces.end) / 2
    for number in range(len(found)):
        away = (faces.normal @ faces.normal[number]) < FACING
        behind = -(middle - middle[number]) @ faces.normal[number]
        span = faces.along[number]
        low, high = sorted((0.0, float((faces.end[number] - faces.start[number]) @ span)))
        ends = np.stack([(faces.start - faces.start[number]) @ span, (faces.end - faces.start[number]) @ span])
        shared = np.minimum(ends.max(0), high) - np.maximum(ends.min(0), low)
        near = away & (behind > 0.01) & (behind <= THICKEST) & (shared > 0.5 * (high - low))
        if near.any():
            found[number] = behind[near].min()
    return found


def on_others(faces: Faces) -> Mask:
    """Which faces (F,) lie on longer ones, as posters do on walls."""
    length, normal, along = faces.length, faces.normal, faces.along
    found = np.zeros(len(length), bool)
    for number in range(len(length)):
        start = faces.start[number]
        parallel = np.abs(normal @ normal[number]) > -FACING
        close = np.abs((faces.start - start) @ normal[number]) < HANGS
        ends = np.stack([(faces.start - start) @ along[number], (faces.end - start) @ along[number]])
        shared = np.minimum(ends.max(0), length[number]) - np.maximum(ends.min(0), 0)
        found[number] = (parallel & close & (length > length[number]) & (shared > 0.5 * length[number])).any()
    return found


def openings(outlines: list[Outline], faces: Faces) -> list[Opening]:
    """Gaps between two ends of walls that look at each other, as wide as somebody could pass, narrow ones first."""
    jambs = _jambs(outlines, faces)
    middle, length, normal = (faces.start + faces.end) / 2, faces.length, faces.normal
    found: list[Opening] = []
    for one in np.flatnonzero(jambs).tolist():
        across = faces.along[one]
        for other in np.flatnonzero((normal @ normal[one]) < FACING).tolist():
            if jambs[other] and other <= one:
                continue
            gap = float((middle[other] - middle[one]) @ normal[one])
            spans = [sorted(((faces.start[n] - middle[one]) @ across, (faces.end[n] - middle[one]) @ across))
                     for n in (one, other)]  # fmt: skip
            low, high = max(spans[0][0], spans[1][0]), min(spans[0][1], spans[1][1])
            if not PASSABLE <= gap <= WIDEST or high - low < 0.5 * length[one]:
                continue
            foot = middle[one] + (low + high) / 2 * across
            found.append(Opening(foot, foot + gap * normal[one], high - low))
    found.sort(key=lambda opening: opening.width)
    return _apart(found)


def _jambs(outlines: list[Outline], faces: Faces) -> Mask:
    """Which faces (F,) are the short end of a wall: between two corners away from what is free."""
    jambs = np.zeros(len(faces.start), bool)
    for number, outline in enumerate(outlines):
        own = np.flatnonzero(faces.outline == number)
        if len(own) < 3 or (outline.is_pillar and np.ptp(outline.points, axis=0).max() < 1.2):
            continue
        for at, face in enumerate(own.tolist()):
            before, after = at - 1, at + 1
            if (before < 0 or after >= len(own)) and not outline.closed:
                continue
            neighbours = faces.along[own[before]], faces.along[own[after % len(own)]]
            into = neighbours[0][0] * faces.along[face][1] - neighbours[0][1] * faces.along[face][0]
            out = faces.along[face][0] * neighbours[1][1] - faces.along[face][1] * neighbours[1][0]
            jambs[face] = into < -0.7 and out < -0.7 and 0.04 < faces.length[face] <= THICKEST
    return jambs


def _apart(found: list[Opening]) -> list[Opening]:
    """Openings that don't cross narrower ones."""
    kept: list[Opening] = []
    for one in found:
        middle = (one.start + one.end) / 2
        if all(np.linalg.norm(middle - (other.start + other.end) / 2) > 0.5 * other.width for other in kept):
            kept.append(one)
    return kept


def contours(mask: Mask, origin: F64, cell: float, tolerance: float) -> list[F64]:
    """Outer outlines (N, 2) [m] of a mask (X, Y) of cells, straight within a tolerance [m]; holes are left out."""
    grown = np.pad(np.ascontiguousarray(mask, np.uint8), 1).repeat(2, 0).repeat(2, 1)  # outlines go through middles
    lines, _ = cv2.findContours(grown, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    result = []
    for line in lines:
        simple = cv2.approxPolyDP(line, 2 * tolerance / cell, True)[:, 0, ::-1]
        if len(simple) > 2:
            result.append(origin + ((simple + 0.5) / 2 - 1) * cell)
    return result
