"""The faces of a place's objects that nobody saw: the mesh stage of places, in whose mesh each object is closed.

What was measured stays. Where the capture shows an object as one body, its mesh gets the rest of that body's surface,
less what a depth map looks through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.spatial import KDTree

from pipeline.depth.maps import DepthMap
from pipeline.geometry import Camera, Mesh, Pose
from pipeline.geometry.rays import RayCaster
from pipeline.geometry.winding import winding
from pipeline.mesh import stage
from pipeline.mesh.clean import in_free_space, observe
from pipeline.mesh.params import MeshParams
from pipeline.mesh.topology import border_edges, triangle_components
from pipeline.objects.close import CELL, MEASURED, THINNEST, Body, close_bodies, finer
from pipeline.objects.cut import RAISED, REACH, SMEARED
from pipeline.objects.find import Standing, find_objects
from pipeline.objects.views import Views
from pipeline.types import F64, Mask

FLOOR = 0.0
"""Height of the floor [m]."""
SEEN_THROUGH = 0.1
"""Share of what closes a body that depth maps may look through: more is no body."""
WHOLE = 0.9
"""Share of a body's surface that hangs together, at least: less is in pieces."""
SPACING, FLUSH = 0.005, 0.004
"""A face goes beyond the border of the surface where it is as near to points on that border, so far apart, as to the
surface, and farther than the second from it [m]."""
OFF = 0.008
"""What is farther from a body, at its foot, is smeared [m]."""
LEVEL = 0.7
"""Least z of the normal of what things stand on."""


def run(inputs: Mapping[str, Path], params: MeshParams, out_dir: Path) -> None:
    """Read poses, depth, align and points; write the meshes of a place, its objects closed."""
    stage.run(inputs, params, out_dir, close_objects)


def close_objects(
    mesh: Mesh, cameras: Sequence[tuple[Camera, Pose]], maps: Sequence[DepthMap], margin: float
) -> stage.Closed:
    """A mesh (world frame, floor near z = 0) without what is smeared at the feet of its objects, and what closes them.

    What closes them is guessed. A depth map looks through what is nearer than its depth by the margin [m].
    """
    standing = find_objects(mesh, FLOOR)
    found = close_bodies(mesh, standing, Views(mesh, cameras))
    bodies = {number: body for number, body in found.items() if _is_one(body)}
    smeared = {number: _smeared(mesh, body) for number, body in bodies.items()}
    pieces = [_beyond(mesh, standing[number].triangles, smeared[number], body) for number, body in bodies.items()]
    looked_through = zip(bodies, pieces, _looked_through(pieces, maps, margin), strict=True)
    kept = {number: piece.with_faces(~free) for number, piece, free in looked_through if _mostly(piece, ~free)}
    closing, clean = _nothing(), np.ones(len(mesh.triangles), bool)
    for number, piece in kept.items():  # the lowest first
        above = [bodies[other] for other in kept if standing[other].on == number]
        closing = closing.joined(_not_twice(piece, standing[number], above, mesh, closing))
        clean &= ~smeared[number]
    report = stage.ClosingReport(len(standing), len(kept), float(closing.face_areas().sum()))
    return mesh.with_faces(clean), closing, report


def _is_one(body: Body) -> bool:
    """Whether it is neither thin, as noise may be, nor in pieces, as what was closed from too little of a surface.

    A leg may be apart, of which a piece in the middle is missing.
    """
    sizes = np.bincount(triangle_components(body.mesh.triangles), body.mesh.face_areas())
    return float(body.size.min()) >= THINNEST and sizes.max() >= WHOLE * sizes.sum()


def _mostly(piece: Mesh, kept: Mask) -> bool:
    areas = piece.face_areas()
    return bool(areas[~kept].sum() <= SEEN_THROUGH * areas.sum())


def _nothing() -> Mesh:
    return Mesh.from_arrays(np.zeros((0, 3)), np.zeros((0, 3), np.int32))


def _smeared(mesh: Mesh, body: Body) -> Mask:
    """Triangles (F,) that lead from the foot of a body over to what it stands on: neither is there."""
    smeared = _beside(mesh, body, SMEARED)
    above = mesh.corners()[smeared][..., 2].max(1) - body.world_from_body.translation[2]
    smeared[smeared] = (above > RAISED) & (above < SMEARED)
    points = mesh.corners()[smeared].astype(np.float64)
    to_body = RayCaster(body.mesh).distances(points.reshape(-1, 3)).reshape(-1, 3)
    smeared[smeared] = (to_body.max(1) > OFF) & (to_body.min(1) < REACH)
    return smeared


def _beside(mesh: Mesh, body: Body, distance: float) -> Mask:
    """Triangles (F,) in the box around a body, which is larger by a distance [m]."""
    low, high = body.mesh.vertices.min(0) - distance, body.mesh.vertices.max(0) + distance
    return mesh.faces_of(((mesh.vertices > low) & (mesh.vertices < high)).all(1))


def _beyond(mesh: Mesh, triangles: Mask, smeared: Mask, body: Body) -> Mesh:
    """The faces of a body that go beyond its object's triangles (F,), or lie on their other side."""
    foot = _beside(mesh, body, MEASURED)  # a part of what it stands on
    foot[foot] = mesh.corners()[foot][..., 2].min(1) < body.world_from_body.translation[2] + SMEARED
    own, surface = mesh.with_faces((triangles | foot) & ~smeared), finer(body)
    normals = surface.face_normals()
    facing, border = own.face_normals(), KDTree(_border_points(own))
    side = np.abs(normals).argmax(1)
    open_ = np.zeros(len(normals), bool)
    for axis in range(3):
        for sign in (-1, 1):
            chosen = (side == axis) & (sign * normals[:, axis] > 0)
            points = surface.corners()[chosen].reshape(-1, 3).astype(np.float64)
            to_surface = RayCaster(own.with_faces(sign * facing[:, axis] > 0)).distances(points)
            to_border = border.query(points, distance_upper_bound=MEASURED, workers=-1)[0]
            beyond = (to_surface > MEASURED) | ((to_surface > FLUSH) & (to_border < to_surface + FLUSH / 2))
            open_[chosen] = beyond.reshape(-1, 3).any(1)
    kept = surface.with_faces(open_)
    return Mesh(kept.vertices, kept.triangles, kept.colors, np.ones(len(kept.vertices), bool))


def _border_points(mesh: Mesh) -> F64:
    """Points (N, 3) along the borders of a surface."""
    ends = mesh.vertices[border_edges(mesh)].astype(np.float64)
    count = np.ceil(np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1) / SPACING).astype(int) + 1
    edge = np.repeat(np.arange(len(ends)), count)
    share = (np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count)) / count[edge]
    return np.concatenate([ends[edge, 0] + share[:, None] * (ends[edge, 1] - ends[edge, 0]), ends[:, 1]])


def _looked_through(pieces: Sequence[Mesh], maps: Sequence[DepthMap], margin: float) -> list[Mask]:
    """Which triangles (F,) of each piece lie where depth maps prove that nothing is."""
    if not pieces:
        return []
    middles = np.concatenate([piece.corners().mean(1) for piece in pieces])
    free = in_free_space(observe(middles, np.concatenate([piece.face_normals() for piece in pieces]), maps, margin))
    return np.split(free, np.cumsum([len(piece.triangles) for piece in pieces])[:-1])


def _not_twice(piece: Mesh, found: Standing, above: Sequence[Body], mesh: Mesh, closing: Mesh) -> Mesh:
    """What closes an object without its foot, where something is or will be below it, and without its top below others.

    The mesh stage closes the floor, and slits up to the sides of what stands on something.
    """
    middles, up = piece.corners().mean(1).astype(np.float64), piece.face_normals()[:, 2]
    foot = (up < -LEVEL) & (middles[:, 2] < found.support + MEASURED)
    asked = middles[foot]
    gone = foot.copy()
    if found.support != FLOOR:
        gone[foot] = np.minimum(RayCaster(mesh).distances(asked), RayCaster(closing).distances(asked)) < CELL
    for other in above:
        under = RayCaster(other.mesh).distances(middles) < MEASURED
        under |= winding(other.mesh.corners().astype(np.float64), middles + np.array([0, 0, CELL])) > 0.5
        gone |= under & (up > LEVEL)
    return piece.with_faces(~gone)
