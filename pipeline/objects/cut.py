"""Objects cut out of a scene: which Gaussians and triangles are theirs, and what is left, with its holes filled."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import KDTree

from pipeline.geometry import Gaussians, Mesh, matrix_from_quaternion, quaternions_from_z
from pipeline.geometry.rays import RayCaster, sample_surface
from pipeline.geometry.winding import winding
from pipeline.objects.close import Body
from pipeline.objects.holes import Hole
from pipeline.objects.views import Views
from pipeline.types import F64, Mask

REACH = 0.03
"""Gaussians may lie outside of the body by this much [m]."""
SHOWN, SHOWN_REACH, GHOST = 0.5, 0.2, 0.7
"""Those that show more than the first of what they show where the body is seen, by the second [m]. Those that show more
than the third, but are nearer to something else, are nobody's: without the body they would be its ghost."""
FLAT, FLAT_BELOW = 0.7, 0.02
"""Gaussians whose thinnest axis is as upright as the first, lower than the second over the support, are its own [m]."""
LEVEL = 0.03
"""What is lower by this much than an object's support isn't its own [m]."""
RAISED, SMEARED = 0.006, 0.06
"""Triangles beside an object, higher than the first and lower than the second over its support, are neither's [m]."""
OFF, BEHIND, AROUND = 0.03, 0.05, 1.5
"""Gaussians that only the object hides, farther than the first from any surface, show nothing of the place: they lie
behind what every view sees by the second, and within the third of the object [m]."""
APART, INSET, DENSITY, MAX_DISCS = 1.5, 0.01, 4000, 20_000
"""Discs that line a body's unseen faces: distance [sigmas], depth below them [m], tries for a square metre, bound."""
CLEAR = 0.02
"""Discs are left out where two views see them clear of what is behind by this much [m]."""
OPACITY = 0.95
BARED, NEIGHBOURS = 2.0, 8
"""Gaussians that show more than they did by the first, and more than a pixel, without the objects before them have the
colours of the second of those nearest that were seen."""


@dataclass(frozen=True, eq=False)
class CutSplat:
    """A splat in two parts.

    Attributes:
        own: The object's Gaussians, world frame, with discs on the faces that nobody saw.
        rest: All others, and copies of the support's Gaussians where the object stood.
    """

    own: Gaussians
    rest: Gaussians


def cut_splat(
    gaussians: Gaussians, body: Body, scene: Mesh, holes: Sequence[Hole], views: Views, disc: float = 0.015
) -> CutSplat:
    """Cut an object out of a splat; the scene is the mesh without the object's triangles, the holes what it hid.

    A Gaussian is the object's where its middle is nearer to the closed body than to the rest of the scene. Those that
    lie flat on the support are the support's: by height alone the foot of the object would go with them. Faces that
    nobody saw are lined with discs of that standard deviation [m].
    """
    support = float(body.world_from_body.translation[2])
    upright = np.abs(_thinnest(gaussians)[:, 2]) > FLAT
    means, above = gaussians.means.astype(np.float64), gaussians.means[:, 2] - support
    shares = views.shares(gaussians, body.mesh)
    reach = np.where(shares > SHOWN, SHOWN_REACH, REACH)
    own = _nearer(means, body, scene, ~(upright & (above < FLAT_BELOW)), reach)
    ghosts = shares > GHOST
    ghosts[ghosts] = RayCaster(body.mesh).distances(means[ghosts]) < SHOWN_REACH
    left = np.flatnonzero(~own & ~ghosts & ~_astray(means, body, scene, views))
    rest = _recolored(gaussians[left], views.weights(gaussians)[left], views.weights(gaussians[left]))
    for hole in holes:
        rest = hole.fill(rest)
    whole = Gaussians.concatenate([gaussians[own], _lining(gaussians[own], body, views, disc)])
    return CutSplat(whole, rest)


def _recolored(rest: Gaussians, before: F64, now: F64) -> Gaussians:
    """What is left of a splat, by how many pixels each of its Gaussians showed and shows.

    What objects hid gets colours of what is seen next to it: nothing gave it any in training, and it is glaring.
    """
    bared = np.flatnonzero(now > np.maximum(BARED * before, 1))
    seen = np.flatnonzero(before > 1)
    if not len(bared) or not len(seen):
        return rest
    near = KDTree(rest.means[seen]).query(rest.means[bared], min(NEIGHBOURS, len(seen)))[1].reshape(len(bared), -1)
    sh = rest.sh.copy()
    sh[bared] = 0
    sh[bared, 0] = np.median(rest.sh[seen[near], 0], axis=1)
    return replace(rest, sh=sh)


def cut_mesh(mesh: Mesh, body: Body, scene: Mesh, holes: Sequence[Hole]) -> Mesh:
    """A mesh of the scene without an object, with guessed triangles in the holes; see `cut_splat`."""
    middle, support = mesh.corners().mean(1).astype(np.float64), float(body.world_from_body.translation[2])
    flat = (mesh.face_normals()[:, 2] > FLAT) & (middle[:, 2] < support + FLAT_BELOW)
    own = _nearer(middle, body, scene, ~flat, np.full(len(middle), REACH))
    own |= _reaches_into(mesh, body)
    # where its sides met the support, the surface was smeared
    above = mesh.corners()[..., 2].max(1) - support
    low = np.flatnonzero(~own & (above > RAISED) & (above < SMEARED))
    own[low] |= RayCaster(body.mesh).distances(middle[low]) < REACH
    rest = _levelled(mesh.with_faces(np.asarray(~own)), body)
    return functools.reduce(Mesh.joined, [hole.surface(mesh, rest) for hole in holes], rest)


def _levelled(mesh: Mesh, body: Body) -> Mesh:
    """A mesh without the rim round a body's foot: what rose there by less than `RAISED`, the less the farther away."""
    vertices, support = mesh.vertices.astype(np.float64), float(body.world_from_body.translation[2])
    corners = body.mesh.vertices
    rim = ((vertices > corners.min(0) - REACH) & (vertices < corners.max(0) + REACH)).all(1)
    rim &= np.abs(vertices[:, 2] - support) < RAISED
    near = np.maximum(1 - RayCaster(body.mesh).distances(vertices[rim]) / REACH, 0)
    vertices[rim, 2] += near * (support - vertices[rim, 2])
    return replace(mesh, vertices=vertices.astype(np.float32))


def _reaches_into(mesh: Mesh, body: Body) -> Mask:
    """Which triangles (F,) reach into a body, or lie where it stands: nobody saw those."""
    vertices, corners = mesh.vertices.astype(np.float64), body.mesh.corners().astype(np.float64)
    low, high = corners.min((0, 1)) - [0, 0, LEVEL], corners.max((0, 1))
    within = ((vertices > low) & (vertices < high)).all(1)
    height = body.world_from_body.translation[2]
    # what lies on its foot is asked for a little higher, within the body
    asked = np.column_stack([vertices[within, :2], np.maximum(vertices[within, 2], height + LEVEL / 3)])
    within[within] = winding(corners, asked) > 0.5
    return np.asarray(within[mesh.triangles].any(1))


def _nearer(points: F64, body: Body, scene: Mesh, asked: Mask, reach: F64) -> Mask:
    """Which of the points (N, 3) that are asked for are nearer to a body than to the scene, and within reach (N,)."""
    own, corners = np.zeros(len(points), bool), body.mesh.corners().reshape(-1, 3)
    inside = ((points > corners.min(0) - reach[:, None]) & (points < corners.max(0) + reach[:, None])).all(1)
    near = np.flatnonzero(inside & asked & (points[:, 2] - body.world_from_body.translation[2] > -LEVEL))
    to_body = np.asarray(RayCaster(body.mesh).distances(points[near]), np.float64)
    to_body[winding(body.mesh.corners().astype(np.float64), points[near]) > 0.5] = 0
    own[near[(to_body < reach[near]) & (to_body < RayCaster(scene).distances(points[near]))]] = True
    return own


def _thinnest(gaussians: Gaussians) -> F64:
    """Directions (N, 3) of the shortest axes."""
    rotations = matrix_from_quaternion(gaussians.quaternions)
    return np.take_along_axis(rotations, gaussians.log_scales.argmin(1)[:, None, None], 2)[:, :, 0]


def _astray(means: F64, body: Body, scene: Mesh, views: Views) -> Mask:
    """Which Gaussians' middles (N, 3) lie off all surfaces where nobody saw them, behind the body."""
    corners = body.mesh.vertices.astype(np.float64)
    near = ((means > corners.min(0) - AROUND) & (means < corners.max(0) + AROUND)).all(1)
    caster = RayCaster(scene)
    near[near] = caster.distances(means[near]) > OFF
    near[near] = views.see(means[near], BEHIND) == 0
    near[near] = views.hidden_by(body.mesh, means[near], caster)
    return near


def _lining(own: Gaussians, body: Body, views: Views, disc: float) -> Gaussians:
    """Discs just inside of the faces of a body that nobody saw, in the colour of what is nearest."""
    mesh = body.mesh.with_faces(body.mesh.face_guessed())
    count = int(min(DENSITY * mesh.face_areas().sum(), MAX_DISCS))
    if not len(own) or not count:
        return own[:0]
    points, faces = sample_surface(mesh, count, np.random.default_rng(0))
    kept = np.unique(np.floor(points / (APART * disc)).astype(np.int64), axis=0, return_index=True)[1]
    points, faces = points[kept].astype(np.float64), faces[kept]
    normals, corners = mesh.face_normals()[faces], body.mesh.corners().astype(np.float64)
    quaternions, means = quaternions_from_z(normals), points - INSET * normals
    across = matrix_from_quaternion(quaternions)[:, :, :2] * 1.5 * disc
    inside = np.ones(len(means), bool)
    for step in (across[..., 0], -across[..., 0], across[..., 1], -across[..., 1]):
        inside[inside] = winding(corners, (means + step)[inside]) > 0.5
    inside[inside] = views.look_through(means[inside], CLEAR) < 2
    colors = mesh.colors[mesh.triangles[faces, 0]].astype(np.float64) / 255
    scales = np.tile([disc, disc, disc / 10], (len(means), 1))
    discs = Gaussians.from_colors(means, scales, quaternions, colors, OPACITY, own.sh.shape[1])
    return replace(discs[inside], antialiased=own.antialiased)
