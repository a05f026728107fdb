"""What stands in a scene: the mesh without floor, walls and ceiling falls apart into objects, and those into stacks.

What is left of a surface when its large planes are taken away hangs together object by object; what stands on another
object hangs together with it by the level plane that it stands on only (after A. Karpathy, S. Miller, L. Fei-Fei,
Object discovery in 3D scenes via shape analysis, ICRA 2013, section III, with planes instead of convexity).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.geometry import Mesh
from pipeline.mesh.planes import Planes, find_planes
from pipeline.mesh.topology import triangle_components
from pipeline.objects.touching import told_apart
from pipeline.types import F64, Mask

GRAIN = 0.02
"""Edge of the cells that planes are sought with [m]: the smallest has 60 of them."""
SHELL_AREA = 2.5
"""Planes at least this large are floor, walls and ceiling [m^2]."""
SHELL_SKIN = 0.045
"""Surface this near to such a plane, within its bounds, is part of it [m]."""
LEVEL = 0.97
"""Least z of the normal of a plane that things stand on."""
TOUCH = 0.03
"""How far below such a plane an object on it may begin [m]."""
SMALLEST = np.array([0.05, 0.05, 0.1])
"""Extent of the smallest object [m]."""
LEAST_AREA = 0.03
"""Least surface of an object [m^2]."""
UPWARD = 0.3
"""Least z of the normal of a triangle at the height of such a plane that is taken away with it."""
WHOLE = 0.95
"""What has more than this share of an object's surface doesn't stand on it."""
NARROW, NEAR = 0.15, 0.1
"""Pieces narrower than the first are parts of what they are within, or as near to as the second [m]."""
LARGEST = 1.0
"""Longest edge of what a robot might move [m]."""
NEAR_SHELL, NEAR_CEILING = 0.03, 0.2
"""An object as near to a wall as the first leans on it, as near to the ceiling as the second reaches it [m]."""


@dataclass(frozen=True, eq=False)
class Standing:
    """An object.

    Attributes:
        triangles: (F,) which of the mesh's triangles are its own.
        low: (3,) lowest corner of its bounds [m].
        high: (3,) highest corner.
        support: Height of what it stands on [m].
        on: Index of the object that it stands on; -1 for the floor, and for something that nobody saw.
        fixed: Why it is part of the building; empty for what could be moved.
        cluster: The same for objects that touch, and were told apart by a groove or a ledge; -1 for what doesn't.
    """

    triangles: Mask
    low: F64
    high: F64
    support: float
    on: int
    fixed: str
    cluster: int = -1


def find_objects(mesh: Mesh, floor_height: float) -> list[Standing]:
    """All objects of a mesh whose z is up, each before what stands on it."""
    if not len(mesh.triangles):
        return []
    planes, areas = find_planes(mesh, GRAIN), mesh.face_areas()
    corners = mesh.corners().astype(np.float64)
    shell = shell_of(planes, areas, floor_height)
    parts = _parts(mesh, ~_on_shell(mesh, planes, shell), areas)
    wholes = [whole for part in parts for whole in _unstacked(mesh, part, planes, areas)]
    wholes = _joined(corners, wholes, floor_height)
    walls = shell & (np.abs(planes.normals[:, 2]) < 1 - LEVEL)
    top = corners[..., 2].max()
    found = list[Standing]()
    for number, whole in enumerate(sorted(wholes, key=lambda own: corners[own][..., 2].min())):
        _, support = _support(corners, found, corners[whole].reshape(-1, 3), floor_height)
        parts = told_apart(mesh, whole, planes, support)
        for own in parts:
            points = corners[own].reshape(-1, 3)
            low, high = points.min(0), points.max(0)
            on, support = _support(corners, found, points, floor_height)
            reach = np.abs(points @ planes.normals[walls].T - planes.offsets[walls]).min(initial=np.inf)
            fixed, cluster = _fixed(low, high, floor_height, top, reach), number if len(parts) > 1 else -1
            found.append(Standing(own, low, high, support, on, fixed, cluster))
    return found


def shell_of(planes: Planes, face_areas: F64, floor_height: float) -> Mask:
    """Which planes (P,) are floor, walls and ceiling, or go on where one of those ends."""
    areas = np.bincount(planes.labels + 1, face_areas, len(planes.normals) + 1)[1:]
    large = areas >= SHELL_AREA
    floor = (planes.normals[:, 2] > LEVEL) & (np.abs(planes.offsets - floor_height) < SHELL_SKIN)
    alike = planes.normals @ planes.normals[large].T > LEVEL
    level_with = np.abs(planes.offsets[:, None] - planes.offsets[large]) < SHELL_SKIN
    return large | floor | (alike & level_with).any(1)


def _on_shell(mesh: Mesh, planes: Planes, shell: Mask) -> Mask:
    """Which triangles (F,) lie on those planes."""
    result = np.isin(planes.labels, np.flatnonzero(shell))
    points = mesh.vertices.astype(np.float64)
    for number in np.flatnonzero(shell):
        own = points[mesh.triangles[planes.labels == number]].reshape(-1, 3)
        low, high = own.min(0) - SHELL_SKIN, own.max(0) + SHELL_SKIN
        near = np.abs(points @ planes.normals[number] - planes.offsets[number]) < SHELL_SKIN
        near[near] = ((points[near] > low) & (points[near] < high)).all(1)
        result |= mesh.faces_of(near)
    return result


def _parts(mesh: Mesh, chosen: Mask, areas: F64) -> list[Mask]:
    """Connected parts (F,) of the chosen triangles that are large enough to be objects, the largest first."""
    rows = np.flatnonzero(chosen)
    if not len(rows):
        return []
    of = triangle_components(mesh.triangles[rows])
    size = np.bincount(of, areas[rows])
    parts = []
    for part in np.argsort(-size, kind="stable"):
        own = rows[of == part]
        if size[part] < LEAST_AREA:
            break
        if (np.ptp(mesh.corners()[own].reshape(-1, 3), axis=0) >= SMALLEST).all():
            mask = np.zeros(len(areas), bool)
            mask[own] = True
            parts.append(mask)
    return parts


def _unstacked(mesh: Mesh, own: Mask, planes: Planes, areas: F64) -> list[Mask]:
    """An object (F,) without what stands on its level planes, and those parts."""
    above = list[Mask]()
    levels = [plane for plane in np.unique(planes.labels[own]) if plane >= 0 and planes.normals[plane, 2] > LEVEL]
    middle, upward = mesh.corners()[..., 2].mean(1), mesh.face_normals()[:, 2] > UPWARD
    for plane in sorted(levels, key=lambda number: planes.offsets[number]):
        height = float(planes.offsets[plane])
        rest = own & (planes.labels != plane) & ~(upward & (np.abs(middle - height) < TOUCH))
        for part in _parts(mesh, rest, areas):
            lowest = mesh.corners()[part][..., 2].min()
            if lowest > height - TOUCH and areas[part].sum() < WHOLE * areas[own].sum():
                above += _unstacked(mesh, part, planes, areas)
                own = own & ~part
    return [own, *above]


def _joined(corners: F64, wholes: list[Mask], floor_height: float) -> list[Mask]:
    """Objects with their fragments: what is within the bounds of one, doesn't stand on it, and is narrow or hangs."""
    wholes = sorted(wholes, key=lambda own: -np.ptp(corners[own].reshape(-1, 3), axis=0).prod())
    kept = list[Mask]()
    for own in wholes:
        points = corners[own].reshape(-1, 3)
        low, high = points.min(0), points.max(0)
        for number, other in enumerate(kept):
            others = corners[other].reshape(-1, 3)
            within = ((low > others.min(0) - NEAR) & (high < others.max(0) + NEAR)).all()
            stands = np.isfinite(_level_under(corners[other], points))
            narrow, over_floor = (high - low)[:2].max() < NARROW, low[2] > floor_height + 2 * TOUCH
            if within and not stands and (narrow or over_floor):
                kept[number] = other | own
                break
        else:
            kept.append(own)
    return kept


def _level_under(triangles: F64, points: F64) -> float:
    """Height of the level part of triangles (F, 3, 3) that points (N, 3) begin at, under or beside them; or nan."""
    low, high = points.min(0), points.max(0)
    middle = triangles.mean(1)
    beside = ((middle[:, :2] > low[:2] - NEAR) & (middle[:, :2] < high[:2] + NEAR)).all(1)
    level = np.ptp(triangles[..., 2], axis=1) < TOUCH
    found = middle[beside & level & (np.abs(middle[:, 2] - low[2]) < 2 * TOUCH), 2]
    return float(np.median(found)) if len(found) else np.nan


def _support(corners: F64, found: list[Standing], points: F64, floor_height: float) -> tuple[int, float]:
    """Index of the object that points (N, 3) stand on, -1 for none, and the height there."""
    low = float(points[:, 2].min())
    if low <= floor_height + 2 * TOUCH:
        return -1, floor_height
    for number, other in enumerate(found):
        height = _level_under(corners[other.triangles], points)
        if np.isfinite(height):
            return number, height
    return -1, low


def _fixed(low: F64, high: F64, floor_height: float, top: float, reach: float) -> str:
    """Why what has these bounds can't be moved; `top` is the scene's, `reach` the distance to a wall [m]."""
    if high[2] > top - NEAR_CEILING and low[2] < floor_height + TOUCH:
        return "reaches from floor to ceiling"
    if reach < NEAR_SHELL:
        return "leans on a wall"
    size = (high - low).max()
    return f"{size:.1f} m long" if size > LARGEST else ""
