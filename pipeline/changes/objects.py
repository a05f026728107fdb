"""Things that moved between two scans, as bodies of the first: closed by what either saw, named, cut out."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.changes.compare import Changes, Motion, find_changes
from pipeline.changes.joints import Axis, joint_of
from pipeline.changes.register import Registration, Scan, register_scans, require_two
from pipeline.changes.surfaces import FACING
from pipeline.errors import BundleError
from pipeline.geometry import Gaussians, Mesh, Pose, Similarity
from pipeline.geometry.rays import RayCaster
from pipeline.objects.close import MEASURED, Body, close_body
from pipeline.objects.cutting import Behind
from pipeline.objects.find import Standing
from pipeline.objects.listing import OVER_FLOOR, UNSEEN, SceneObject
from pipeline.objects.shapes import box_mesh
from pipeline.objects.version import cut_out
from pipeline.objects.views import Views
from pipeline.scenes.bundle import Bundle
from pipeline.scenes.objects import Joint
from pipeline.types import Mask

logger = logging.getLogger(__name__)

THICK = 0.04
"""Thickness of what was seen from one side only [m]: that of a door leaf."""
EDGES = 0.01
"""Such a thing ends where this share of its surface lies farther out."""
UPRIGHT = 0.3
"""Largest z of the normal of an upright one."""
STRIP, FLAT = 0.12, 0.02
"""A thing goes on to its hinge over as much as the first, where surface is as near to its plane as the second [m]."""
PIN = 0.01
"""As near to its axis a thing ends [m]."""
NEW = 0.03
"""What a second scan saw anew is farther than this from what stayed of the first [m]."""
APART = 0.05
"""And farther than this from what a joint holds [m]."""
OF_IT = 0.04
"""Gaussians as near to that are its [m]."""


@dataclass(frozen=True, eq=False)
class MovedThing:
    """A thing that moved.

    Attributes:
        object: Where it was in the first scan; None where its surface can't be closed to a body.
        kind: What its motion is: hinge, slide or loose.
        motion: Of its surface.
    """

    object: SceneObject | None
    kind: str
    motion: Motion


@dataclass(frozen=True, eq=False)
class TwoScans:
    """Two scans of one place, and what differs."""

    first: Bundle
    second: Bundle
    scans: tuple[Scan, Scan]
    registration: Registration
    changes: Changes
    things: Sequence[MovedThing]


def compare_scans(first: Bundle, second: Bundle) -> TwoScans:
    """Find what moved between two scans of a place.

    Raises:
        BundleError: When they are one scan, not of one place, or not of one scale.
    """
    require_two(first, second)
    scans = Scan.of(first), Scan.of(second)
    registration = register_scans(*scans)
    changes = find_changes(*scans, registration)
    things, counts = list[MovedThing](), dict[str, int]()
    for motion in changes.moved:
        axis = joint_of(scans[0], registration, motion)
        kind = axis.kind if axis else "loose"
        counts[kind] = counts.get(kind, 0) + 1
        things.append(_thing(scans, motion, axis, kind, f"{kind}-{counts[kind]}"))
    return TwoScans(first, second, scans, registration, changes, things)


def cut_moved(compared: TwoScans, out: Path, version: str | None = None) -> Path:
    """Write the version of the first bundle in which what moved are bodies; see `version.cut_out`.

    Raises:
        BundleError: When nothing moved, or objects were cut out of the bundle before.
        CardError: As `version_for`.
        MachineError: When the folder can't be written.
    """
    objects = [one.object for one in compared.things if one.object]
    if not objects:
        raise BundleError(
            "something moved between two scans",
            found=f"{len(compared.changes.gone)} things only in the first, {len(compared.changes.new)} only in the "
            "second, none in both",
            remedy="scan both states so that what moved is well seen in each",
        )
    return cut_out(compared.first, objects, out, version, behind=_behind(compared, objects))


def _thing(scans: tuple[Scan, Scan], motion: Motion, axis: Axis | None, kind: str, name: str) -> MovedThing:
    first, second = scans
    if axis and axis.kind == "hinge":
        motion = replace(motion, gone=replace(motion.gone, triangles=_to_the_axis(first.mesh, motion, axis)))
    gone = first.mesh.with_faces(motion.gone.triangles)
    # what the second saw of it as well, moved back
    back = motion.second_from_first.inverse() @ motion.first_from_second
    whole = gone.joined(second.mesh.with_faces(motion.new.triangles).transformed(Similarity.from_pose(back)))
    low, high = whole.vertices.min(0).astype(np.float64), whole.vertices.max(0).astype(np.float64)
    on_floor = low[2] < first.floor + OVER_FLOOR
    support = first.floor if on_floor and not axis else max(float(low[2]), first.floor)
    everything = Standing(np.ones(len(whole.triangles), bool), low, high, support, -1, "")
    body = close_body(whole, everything, Views(whole, []))
    if body is None or body.size.min() < THICK / 2:
        body = _slab(gone, support)
    if body and axis and axis.kind == "hinge" and body.kind == "box":
        body = _reaching(body, axis, whole)
    if body is None:
        logger.warning("%s moved, but too little of it was seen to close it to a body", name)
        return MovedThing(None, kind, motion)
    on = f"a {kind}" if axis else ("floor" if on_floor else UNSEEN)
    standing = Standing(motion.gone.triangles, low, high, support, -1, "")
    joint = None if axis is None else _joint(axis)
    thing = SceneObject(name, standing, body, on, "", float(1 - body.mesh.guessed.mean()), joint)
    return MovedThing(thing, kind, motion)


def _to_the_axis(mesh: Mesh, motion: Motion, axis: Axis) -> Mask:
    """A thing's triangles (F,) with those between it and its hinge: they moved by too little to be told from others."""
    middles, normals, own = mesh.corners().mean(1).astype(np.float64), mesh.face_normals(), motion.gone.triangles
    areas = mesh.face_areas()[own]
    facing = areas @ normals[own] / areas.sum()
    arms = middles - axis.point
    along = arms @ axis.direction
    across = np.cross(facing, axis.direction)
    across /= max(float(np.linalg.norm(across)), 1e-9)
    across *= np.sign(areas @ (arms[own] @ across))  # from the axis towards the thing
    plane = float(np.median(arms[own & (normals @ facing > FACING * np.linalg.norm(facing))] @ facing))
    reach = arms @ across
    between = (reach > 0) & (reach < STRIP) & (np.abs(arms @ facing - plane) < FLAT * np.linalg.norm(facing))
    between &= (along > along[own].min()) & (along < along[own].max())
    return own | (between & (normals @ facing > FACING * np.linalg.norm(facing)))


def _joint(axis: Axis) -> Joint:
    x, y, z = axis.direction.tolist()
    u, v, w = axis.point.tolist()
    return Joint(
        kind=axis.kind,
        axis=(x, y, z),
        point=(u, v, w),
        range=(0.0, axis.travel),
        sigma_deg=axis.sigma_deg,
        sigma=axis.sigma,
        sigma_travel=axis.sigma_travel,
    )


def _slab(seen: Mesh, support: float) -> Body | None:
    """An upright board behind a flat surface that was seen from one side; None for what isn't upright."""
    areas, normals = seen.face_areas(), seen.face_normals()
    normal = areas @ normals / areas.sum()
    if np.linalg.norm(normal) < 0.5 or abs(normal[2]) > UPRIGHT:
        return None
    y = -np.array([*normal[:2], 0.0]) / np.linalg.norm(normal[:2])  # into the board
    turn = np.stack([np.cross(y, [0, 0, 1.0]), y, [0, 0, 1.0]], 1)
    local = seen.corners().mean(1).astype(np.float64) @ turn
    low, high = np.quantile(local, [EDGES, 1 - EDGES], axis=0)
    front = float(np.median(local[:, 1]))
    size = np.array([high[0] - low[0], THICK, high[2] - support])
    if size.min() <= 0:
        return None
    frame = Pose(turn, turn @ np.array([(low[0] + high[0]) / 2, front + THICK / 2, support]))
    mesh = box_mesh(frame, size)
    known = RayCaster(seen).distances(mesh.vertices) < MEASURED
    return Body("box", frame, size, Mesh(mesh.vertices, mesh.triangles, _tints(seen, mesh), ~known))


def _reaching(body: Body, axis: Axis, seen: Mesh) -> Body:
    """A box that goes on to its upright hinge."""
    frame, size = body.world_from_body, body.size.copy()
    place = frame.inverse().apply(axis.point)[:2]
    gap = np.abs(place) - size[:2] / 2
    side = int(np.argmax(gap))
    if abs(axis.direction[2]) < np.cos(STRIP) or not PIN < gap[side] < STRIP:
        return body
    more = gap[side] - PIN
    shift = np.zeros(3)
    shift[side] = np.sign(place[side]) * more / 2
    size[side] += more
    frame = Pose(frame.rotation, frame.apply(shift))
    mesh = box_mesh(frame, size)
    known = RayCaster(seen).distances(mesh.vertices) < MEASURED
    return Body("box", frame, size, Mesh(mesh.vertices, mesh.triangles, _tints(seen, mesh), ~known))


def _tints(seen: Mesh, mesh: Mesh) -> np.ndarray:
    from scipy.spatial import KDTree

    return seen.colors[KDTree(seen.vertices).query(mesh.vertices)[1]]


def _behind(compared: TwoScans, objects: Sequence[SceneObject]) -> Behind:
    """What the second scan saw where the objects hid it from the first."""
    first, second = compared.scans
    first_from_second = Similarity.from_pose(compared.registration.first_from_second)
    keep = ~np.any([one.standing.triangles for one in objects], axis=0)
    keep &= ~first.mesh.face_guessed()
    rest = RayCaster(first.mesh.with_faces(keep))
    moved = np.any([one.motion.new.triangles for one in compared.things], axis=0)
    changed = [piece.triangles for piece in compared.changes.new]
    mesh = second.mesh.transformed(first_from_second)
    middle = mesh.corners().mean(1).astype(np.float64)
    chosen: Mask = ~moved & ~np.any([np.zeros_like(moved), *changed], axis=0)
    chosen &= rest.distances(middle) > NEW
    hidden = [functools.partial(first.views.hidden_by, one.body.mesh) for one in objects]
    rows = np.flatnonzero(chosen)
    chosen[rows] = np.any([one(middle[rows], rest) for one in hidden], axis=0)
    # where it hangs, both are one surface
    held = [RayCaster(one.body.mesh) for one in objects if one.joint]
    for one in held:
        chosen &= one.distances(middle) > APART
    found = mesh.with_faces(chosen)
    near = RayCaster(found)

    def splat(level: str) -> Gaussians:
        known = level if level in compared.second.manifest.splats else "full"
        gaussians = compared.second.splat(known).transformed(first_from_second)
        own = (near.distances(gaussians.means) < OF_IT) & (rest.distances(gaussians.means) > NEW)
        for one in held:
            own &= one.distances(gaussians.means) > APART
        return gaussians[own]

    return Behind(found, splat, compared.second.files.sha256)
