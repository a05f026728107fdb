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
from pipeline.mesh import stage
from pipeline.mesh.clean import in_free_space, observe
from pipeline.mesh.params import MeshParams
from pipeline.mesh.topology import border_edges, triangle_components
from pipeline.objects.close import MEASURED, Body, Views, close_bodies
from pipeline.objects.cut import RAISED, REACH, SMEARED
from pipeline.objects.find import find_objects
from pipeline.types import F64, Mask

SEEN_THROUGH = 0.1
"""Share of what closes a body that depth maps may look through: more is no body."""
SPACING, FLUSH = 0.005, 0.004
"""A face goes beyond the border of the surface where it is as near to points on that border, so far apart, as to the
surface, and farther than the second from it [m]."""
OFF = 0.008
"""What is farther from a body, at its foot, is smeared [m]."""
FOOT = -0.7
"""Largest z of the normal of what a body stands on."""


def run(inputs: Mapping[str, Path], params: MeshParams, out_dir: Path) -> None:
    """Read poses, depth, align and points; write the meshes of a place, its objects closed."""
    stage.run(inputs, params, out_dir, close_objects)


def close_objects(
    mesh: Mesh, cameras: Sequence[tuple[Camera, Pose]], maps: Sequence[DepthMap], margin: float
) -> stage.Closed:
    """A mesh (world frame, floor near z = 0) without what is smeared at the feet of its objects, and what closes them.

    What closes them is guessed. A depth map looks through what is nearer than its depth by the margin [m].
    """
    standing = find_objects(mesh, 0.0)
    found = close_bodies(mesh, standing, Views(mesh, cameras))
    bodies = {number: body for number, body in found.items() if triangle_components(body.mesh.triangles).max() == 0}
    smeared = {number: _smeared(mesh, body) for number, body in bodies.items()}
    pieces = [_beyond(mesh, standing[number].triangles, smeared[number], body) for number, body in bodies.items()]
    faces, closed, kept = _nothing(), 0, np.ones(len(mesh.triangles), bool)
    for number, piece, free in zip(bodies, pieces, _looked_through(pieces, maps, margin), strict=True):
        areas = piece.face_areas()
        if areas[free].sum() <= SEEN_THROUGH * areas.sum():
            support = float(bodies[number].world_from_body.translation[2])
            closed, faces = closed + 1, faces.joined(_not_twice(piece.with_faces(~free), support, mesh, faces))
            kept &= ~smeared[number]
    return mesh.with_faces(kept), faces, stage.ClosingReport(len(standing), closed, float(faces.face_areas().sum()))


def _nothing() -> Mesh:
    return Mesh.from_arrays(np.zeros((0, 3)), np.zeros((0, 3), np.int32))


def _smeared(mesh: Mesh, body: Body) -> Mask:
    """Triangles (F,) that lead from the foot of a body over to what it stands on: neither is there."""
    corners, height = mesh.corners(), body.world_from_body.translation[2]
    low, high = body.mesh.vertices.min(0) - SMEARED, body.mesh.vertices.max(0) + SMEARED
    above = corners[..., 2].max(1) - height
    smeared = ((corners > low) & (corners < high)).all((1, 2)) & (above > RAISED) & (above < SMEARED)
    points = corners[smeared].astype(np.float64)
    to_body = RayCaster(body.mesh).distances(points.reshape(-1, 3)).reshape(-1, 3)
    smeared[smeared] = (to_body.max(1) > OFF) & (to_body.min(1) < REACH)
    return smeared


def _beyond(mesh: Mesh, triangles: Mask, smeared: Mask, body: Body) -> Mesh:
    """The faces of a body that go beyond its object's triangles (F,), or lie on their other side."""
    corners, height = mesh.corners(), body.world_from_body.translation[2]
    low, high = body.mesh.vertices.min(0) - MEASURED, body.mesh.vertices.max(0) + MEASURED
    within = ((corners > low) & (corners < high)).all((1, 2))
    foot = within & (corners[..., 2].min(1) < height + SMEARED)  # a part of what it stands on
    own, normals = mesh.with_faces((triangles | foot) & ~smeared), body.mesh.face_normals()
    facing, border = own.face_normals(), KDTree(_border_points(own))
    side = np.abs(normals).argmax(1)
    open_ = np.zeros(len(normals), bool)
    for axis in range(3):
        for sign in (-1, 1):
            chosen = (side == axis) & (sign * normals[:, axis] > 0)
            points = body.mesh.corners()[chosen].reshape(-1, 3).astype(np.float64)
            to_surface = RayCaster(own.with_faces(sign * facing[:, axis] > 0)).distances(points)
            to_border = border.query(points, distance_upper_bound=MEASURED, workers=-1)[0]
            beyond = (to_surface > MEASURED) | ((to_surface > FLUSH) & (to_border < to_surface + FLUSH / 2))
            open_[chosen] = beyond.reshape(-1, 3).any(1)
    kept = body.mesh.with_faces(open_)
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


def _not_twice(piece: Mesh, support: float, mesh: Mesh, faces: Mesh) -> Mesh:
    """A piece without its foot where that lies on what is there already."""
    middles = piece.corners().mean(1)
    foot = (piece.face_normals()[:, 2] < FOOT) & (middles[:, 2] < support + MEASURED)
    middles = middles[foot]
    there = np.minimum(RayCaster(mesh).distances(middles), RayCaster(faces).distances(middles)) < MEASURED
    foot[foot] = there
    return piece.with_faces(~foot)
