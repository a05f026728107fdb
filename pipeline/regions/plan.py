"""The floor plan of a level: what is measured for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from pipeline.geometry import Mesh, masks
from pipeline.geometry.rays import RayCaster
from pipeline.regions.cut import Faces, Opening, Outline, contours, cut, faces_of, on_others, openings
from pipeline.regions.levels import Level, Levels, Way
from pipeline.regions.params import Area
from pipeline.types import F64, I32, I64, Mask

CUT = 1.2
"""Height of the cut over the floor [m]."""
HIGH = 1.7
"""What is cut at this height over the floor, too, reaches up like a wall [m]."""
UPRIGHT = 0.1
"""So near to each other both cuts of a wall are [m]."""
BACK = 0.06
"""Floor so far behind a face is before a wall [m]."""
PIXEL, MAX_PIXELS = 0.025, 4_000_000
"""Edge of the pixels in which furniture and rooms are found [m], larger where there would be more than so many."""
LOW = 0.1
"""Lower things on the floor are not drawn [m]."""
NEXT = 0.05
"""A higher step within furniture is the edge of another thing [m]."""
LEAST_THING, LEAST_ROOM = 0.02, 1.0
"""Smaller things and rooms are not drawn [m^2]."""
SLIT = 0.1
"""Narrower gaps in what was seen of a room are closed [m]."""
ON_STAIRS = 0.8
"""An outline of which so much lies on stairs is theirs."""
FITS = 0.9
"""A thing that fills so much of the smallest rectangle around it is one."""
GROUND = 0.08
"""So near to the level the floor is hit [m]."""
NAMED = 0.5
"""A room has the name of an area that shares so much of what both cover."""


@dataclass(frozen=True, eq=False)
class Thing:
    """Something on the floor, seen from above: its outline (N, 2) [m], and whether most of it was closed."""

    outline: F64
    guessed: bool


@dataclass(frozen=True, eq=False)
class Room:
    """A part of the level between walls and openings.

    Attributes:
        name: Of an area that covers it, or its number.
        area: Its floor, what stands on it included [m^2].
        middle: (2,) a place far from its walls [m].
        outlines: Its outlines, each (N, 2) [m].
    """

    name: str
    area: float
    middle: F64
    outlines: tuple[F64, ...]


@dataclass(frozen=True, eq=False)
class FloorPlan:
    """What the drawing of a level shows; all in the world frame [m].

    Attributes:
        level: Its index.
        height: Of its floor.
        walls: Outlines of what reaches above the cut.
        tall: For each of them whether it reaches up like a wall.
        faces: Their straight faces.
        openings: Passable gaps between them.
        things: What is lower than the cut.
        rooms: From the largest.
        closed: Outlines of floor that was closed, not measured.
        ends: Lines (N, 2) at which rooms end without a wall.
        ways: Those that begin or end here, each with outline and height of its treads from below, of a ramp one.
        platforms: Outline, height over the level's floor of its other floors.
    """

    level: int
    height: float
    walls: tuple[Outline, ...]
    tall: tuple[bool, ...]
    faces: Faces
    openings: tuple[Opening, ...]
    things: tuple[Thing, ...]
    rooms: tuple[Room, ...]
    closed: tuple[F64, ...]
    ends: tuple[F64, ...]
    ways: tuple[tuple[Way, tuple[tuple[F64, float], ...]], ...]
    platforms: tuple[tuple[F64, float], ...]


@dataclass(frozen=True, eq=False)
class _Pixels:
    """A finer grid over one level: (X, Y) what is right below the cut."""

    origin: F64
    size: float
    floor: F64  # height of the nearest floor of the level
    owned: Mask  # where the level itself has floor
    top: F64  # over that floor [m]; NaN where nothing, or the inside of something, is below the cut
    guessed: Mask

    def index(self, xy: F64) -> F64:
        return (xy - self.origin) / self.size

    def centres(self) -> F64:
        return _centres(self.origin, self.size, self.owned.shape)


def _centres(origin: F64, size: float, shape: tuple[int, ...]) -> F64:
    x, y = np.meshgrid(*((np.arange(n) + 0.5) * size for n in shape), indexing="ij")
    return np.stack([x, y], -1) + origin


def floor_plan(mesh: Mesh, levels: Levels, index: int, areas: Sequence[Area] = ()) -> FloorPlan:
    """Measure the plan of a level by the full mesh [m, world frame]."""
    level = levels.levels[index]
    pixels = _look_down(mesh, levels, level)

    def is_free(places: F64) -> Mask:
        cells = np.floor(pixels.index(places)).astype(np.int64)
        inside = ((cells >= 0) & (cells < pixels.owned.shape)).all(1)
        cells = np.clip(cells, 0, np.array(pixels.owned.shape) - 1)
        return np.asarray(inside & pixels.owned[cells[:, 0], cells[:, 1]])

    ways = tuple(way for way in levels.ways if index in way.levels)
    on_ways = _on_ways(ways, levels, pixels)
    walls, above = (cut(mesh, level.height + height, is_free) for height in (CUT, HIGH))
    raised = pixels.owned & (np.abs(pixels.floor - level.height) > NEXT)
    walls = [one for one in walls if not _is_of(one, masks.grown(on_ways | raised), pixels)]
    faces = faces_of(walls)
    before = np.isnan(faces.thickness) & is_free((faces.start + faces.end) / 2 - BACK * faces.normal)
    faces = replace(faces, thickness=np.where(before | on_others(faces), 0, faces.thickness))
    near = [opening for opening in openings(walls, faces) if _is_passable(opening, pixels)]
    rooms = _rooms(pixels, walls, near, on_ways | raised, areas)
    bounds = [*(one.points for one in walls), *(np.stack([one.start, one.end]) for one in near)]
    return FloorPlan(
        level=index,
        height=level.height,
        walls=tuple(walls),
        tall=tuple(_reaches_up(outline, above) for outline in walls),
        faces=faces,
        openings=tuple(near),
        things=tuple(_things(pixels, on_ways)),
        rooms=tuple(rooms),
        closed=tuple(_closed(level, levels)),
        ends=tuple(end for room in rooms for line in room.outlines for end in _apart_from(line, bounds)),
        ways=tuple((way, tuple(_treads(way, levels))) for way in ways),
        platforms=tuple(_platforms(pixels, raised, level.height)),
    )


def _look_down(mesh: Mesh, levels: Levels, level: Level) -> _Pixels:
    """What rays from the cut downwards hit, over the level's floor and a little around it."""
    known = np.isfinite(level.surface)
    cells = np.argwhere(known)
    low, high = (
        levels.columns.origin + cells.min(0) * levels.cell,
        levels.columns.origin + (cells.max(0) + 1) * levels.cell,
    )
    low, high = low - 4 * levels.cell, high + 4 * levels.cell
    size = max(PIXEL, float(np.sqrt(np.prod(high - low) / MAX_PIXELS)))
    shape = np.ceil((high - low) / size).astype(int)
    xy = _centres(low, size, (int(shape[0]), int(shape[1])))
    at = _cells_at(levels, xy)
    nearest = masks.nearest_marked(known)[:, at[..., 0], at[..., 1]]
    floor, owned = level.surface[nearest[0], nearest[1]], known[at[..., 0], at[..., 1]]
    start = np.concatenate([xy, (np.maximum(floor, level.height) + CUT)[..., None]], -1).reshape(-1, 3)
    hits = RayCaster(mesh).cast(start, np.array([0, 0, -1.0]))
    upward = hits.hit & (mesh.face_normals()[np.maximum(hits.triangle, 0), 2] > 0)
    top = np.where(upward, start[:, 2] - hits.distance, np.nan).reshape(floor.shape) - floor
    top[top < -GROUND] = np.nan  # another level, through a hole
    guessed = upward & mesh.face_guessed()[np.maximum(hits.triangle, 0)]
    return _Pixels(low, size, floor, owned, top, guessed.reshape(floor.shape))


def _is_passable(opening: Opening, pixels: _Pixels) -> bool:
    """Whether floor leads through an opening: before, in and behind it."""
    middle, along = (opening.start + opening.end) / 2, (opening.end - opening.start) / opening.width
    across = np.array([-along[1], along[0]])
    places = middle + np.outer((-1, 0, 1), across) * (opening.depth / 2 + 0.15)
    cells = np.floor(pixels.index(places)).astype(int)
    if (cells < 0).any() or (cells >= pixels.owned.shape).any():
        return False
    return bool((np.abs(pixels.top[cells[:, 0], cells[:, 1]]) < GROUND).all())


def _is_of(outline: Outline, ways: Mask, pixels: _Pixels) -> bool:
    """Whether an outline is the cut through stairs or a platform."""
    cells = np.floor(pixels.index(_spread(outline.points))).astype(np.int64)
    inside = ((cells >= 0) & (cells < ways.shape)).all(1)
    return bool(ways[tuple(cells[inside].T)].sum() > ON_STAIRS * len(cells))


def _reaches_up(outline: Outline, above: Sequence[Outline]) -> bool:
    """Whether the cut higher up has most of an outline's points, too."""
    return bool((_distance(_spread(outline.points), [one.points for one in above]) < UPRIGHT).mean() > 0.5)


def _apart_from(outline: F64, bounds: Sequence[F64]) -> list[F64]:
    """The pieces of a closed outline (N, 2) along which none of the bounds, each (M, 2), runs."""
    places = _spread(np.concatenate([outline, outline[:1]]))
    apart = _distance(places, bounds) > UPRIGHT
    pieces = np.split(np.arange(len(places)), np.flatnonzero(np.diff(apart)) + 1)
    return [places[piece] for piece in pieces if apart[piece[0]] and len(piece) > 2]


def _spread(line: F64) -> F64:
    """Places (K, 2) along a line (N, 2), half of `UPRIGHT` apart."""
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    at = np.linspace(0, along[-1], max(2, int(2 * along[-1] / UPRIGHT)))
    return np.stack([np.interp(at, along, line[:, axis]) for axis in (0, 1)], 1)


def _distance(places: F64, lines: Sequence[F64]) -> F64:
    """Distances (K,) of places (K, 2) from the nearest of lines, each (N, 2) [m]; inf without any."""
    pieces = np.concatenate([np.zeros((0, 2, 2)), *(np.stack([line[:-1], line[1:]], 1) for line in lines)])
    nearest = np.full(len(places), np.inf)
    for start, end in pieces:
        direction = end - start
        share = np.clip((places - start) @ direction / max(float(direction @ direction), 1e-12), 0, 1)
        nearest = np.minimum(nearest, np.linalg.norm(start + share[:, None] * direction - places, axis=1))
    return nearest


def _on_ways(ways: Sequence[Way], levels: Levels, pixels: _Pixels) -> Mask:
    """Pixels (X, Y) on stairs and ramps."""
    covered = np.zeros(levels.columns.layers.shape[:2], bool)
    for way in ways:
        covered[tuple(way.cells.T)] = True
    at = _cells_at(levels, pixels.centres())
    return covered[at[..., 0], at[..., 1]]


def _cells_at(levels: Levels, xy: F64) -> I64:
    """The cells (..., 2) of places (..., 2), or the nearest ones."""
    last = np.array(levels.columns.layers.shape[:2]) - 1
    return np.clip(np.floor((xy - levels.columns.origin) / levels.cell), 0, last).astype(np.int64)


def _things(pixels: _Pixels, on_ways: Mask) -> list[Thing]:
    """What stands on the floor, lower than the cut, from the largest."""
    standing = (pixels.top > LOW) & ~on_ways
    found = list[Thing]()
    numbers = _even_parts(pixels.top, standing)
    sizes = np.bincount(numbers.ravel()) * pixels.size**2
    for number in np.argsort(-sizes, kind="stable").tolist():
        if number == 0 or sizes[number] < LEAST_THING:
            continue
        part = numbers == number
        guessed = bool(pixels.guessed[part].mean() > 0.5)
        found += [Thing(outline, guessed) for outline in _neat(part, pixels.origin, pixels.size) if len(outline) > 2]
    return found


def _even_parts(top: F64, mask: Mask) -> I32:
    """Numbers (X, Y) of the parts of a mask within which heights change little from pixel to pixel; 0 outside."""
    across = [mask[1:] & mask[:-1] & (np.abs(np.diff(top, axis=0)) <= NEXT)]
    across.append(mask[:, 1:] & mask[:, :-1] & (np.abs(np.diff(top, axis=1)) <= NEXT))
    fine = np.zeros((2 * mask.shape[0] - 1, 2 * mask.shape[1] - 1), bool)  # pixels, and between them what joins them
    fine[::2, ::2], fine[1::2, ::2], fine[::2, 1::2] = mask, across[0], across[1]
    return masks.parts(fine)[0][::2, ::2]


def _neat(part: Mask, origin: F64, cell: float) -> list[F64]:
    """Outlines (N, 2) of cells [m], the largest first: a rectangle where they fill it, else as they are."""
    outlines, full = list[F64](), float(part.sum() * cell**2)
    for line in sorted(contours(part, origin, cell, cell), key=lambda one: -float(np.prod(np.ptp(one, axis=0)))):
        box = cv2.minAreaRect(line.astype(np.float32))
        outlines.append(cv2.boxPoints(box).astype(np.float64) if full > FITS * box[1][0] * box[1][1] > 0 else line)
    return outlines


def _rooms(
    pixels: _Pixels, walls: Sequence[Outline], gaps: Sequence[Opening], above: Mask, areas: Sequence[Area]
) -> list[Room]:
    """Parts of the floor between walls and openings, what stands on it included; `above` are stairs and platforms."""
    barrier = _drawn(pixels, [*(one.points for one in walls), *(np.stack([one.start, one.end]) for one in gaps)])
    pillars = _drawn(pixels, [one.points for one in walls if one.is_pillar], filled=True)
    seen = masks.closed((np.isfinite(pixels.top) | pixels.owned | above) & ~barrier, SLIT / pixels.size) & ~barrier
    numbers, count = masks.parts(seen)
    sizes = np.bincount(numbers.ravel(), minlength=count + 1) * pixels.size**2
    found = list[Room]()
    for number in np.argsort(-sizes, kind="stable").tolist():
        part = numbers == number
        if number == 0 or sizes[number] < LEAST_ROOM or not (part & pixels.owned).any():
            continue
        whole = masks.without_holes(part) & ~pillars
        full = masks.grown(whole)  # up to the middle of the lines around it
        clear = masks.distance_from(~part | above | (pixels.top > LOW))
        middle = pixels.origin + (np.array(np.unravel_index(int(clear.argmax()), clear.shape)) + 0.5) * pixels.size
        name = _name(whole, pixels, areas) or f"Room {len(found) + 1}"
        outlines = tuple(contours(full, pixels.origin, pixels.size, pixels.size))
        found.append(Room(name, float((whole.sum() + full.sum()) / 2 * pixels.size**2), middle, outlines))
    return found


def _name(room: Mask, pixels: _Pixels, areas: Sequence[Area]) -> str:
    """The name of the area that a room is; "" where there is none."""
    for area in areas:
        if area.polygon:
            inside = _drawn(pixels, [np.array(area.polygon)], filled=True)
            if (inside & room).sum() >= NAMED * (inside | room).sum():
                return area.name
    return ""


def _drawn(pixels: _Pixels, lines: Sequence[F64], *, filled: bool = False) -> Mask:
    """Pixels (X, Y) on lines (N, 2) [m], or within those."""
    drawn, far = np.zeros(pixels.owned.shape, np.uint8), max(pixels.owned.shape)
    for line in lines:
        corners = np.clip(np.round(pixels.index(line)[:, ::-1] - 0.5), -far, 2 * far).astype(np.int32)  # rows are x
        if filled:
            cv2.fillPoly(drawn, [corners], 1)
        else:
            cv2.polylines(drawn, [corners], False, 1)
    return drawn > 0


def _treads(way: Way, levels: Levels) -> list[tuple[F64, float]]:
    """Outlines and heights of the treads from below, or of the whole ramp."""
    found = list[tuple[F64, float]]()
    nearest = np.abs(way.heights[:, None] - np.array(way.treads)).argmin(1) if way.treads else 0 * way.cells[:, 0]
    for tread in range(max(1, len(way.treads)) if len(way.cells) else 0):
        mask = np.zeros(levels.columns.layers.shape[:2], bool)
        mask[tuple(way.cells[nearest == tread].T)] = True
        height = way.treads[tread] if way.treads else float(way.low[2])
        found += [(outline, height) for outline in _neat(mask, levels.columns.origin, levels.cell)[:1]]
    return found


def _closed(level: Level, levels: Levels) -> list[F64]:
    """Outlines of the level's floor that was closed."""
    closed = level.guessed & np.isfinite(level.surface)
    return contours(closed, levels.columns.origin, levels.cell, levels.cell / 2)


def _platforms(pixels: _Pixels, raised: Mask, height: float) -> list[tuple[F64, float]]:
    """Outlines and heights over the level's floor of its other floors."""
    found = list[tuple[F64, float]]()
    numbers, count = masks.parts(raised)
    for number in range(1, count + 1):
        part = numbers == number
        over = float(np.median(pixels.floor[part])) - height
        found += [(outline, over) for outline in _neat(part, pixels.origin, pixels.size)]
    return found
