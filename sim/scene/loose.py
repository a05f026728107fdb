"""Loose bodies of scenes, from objects of bundles."""

from __future__ import annotations

import functools

import numpy as np
from scipy.spatial import ConvexHull

from pipeline.geometry import Mesh, Similarity
from pipeline.scenes.objects import BundleObject
from sim.physics.bodies import BodyJoint, RigidBody
from sim.scene.scene import SceneObject


def rigid_body(one: BundleObject) -> RigidBody:
    """The body of an object that was cut out of a bundle, on its joint.

    Raises:
        BundleError: As `BundleObject.hulls`.
    """
    joint = None
    if held := one.record.joint:
        joint = BodyJoint(held.kind, np.array(held.axis), np.array(held.point), held.range, one.world_from_body)
    return RigidBody(one.record.name, one.hulls(), one.record.mass, one.record.friction, joint)


def hulls_at(one: SceneObject) -> Mesh:
    """The convex pieces of a loose body where it stands."""
    pieces = []
    for hull in one.body.hulls:
        triangles = ConvexHull(hull).simplices
        a, b, c = np.moveaxis(hull[triangles], 1, 0)
        inwards = (np.cross(b - a, c - a) * (a - hull.mean(0))).sum(1) < 0
        pieces.append(Mesh.from_arrays(hull, np.where(inwards[:, None], triangles[:, ::-1], triangles)))
    return functools.reduce(Mesh.joined, pieces).transformed(Similarity.from_pose(one.world_from_body))
