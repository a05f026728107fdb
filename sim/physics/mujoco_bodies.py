"""Bodies beside the robots in MuJoCo: loose ones, and those that a joint holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np

from pipeline.geometry import matrix_from_quaternion
from pipeline.types import F64, I64, Mask
from sim import libraries
from sim.physics.bodies import ABSENT, BodyState, RigidBody

if TYPE_CHECKING:
    from mujoco._specs import MjsBody, MjSpec
    from mujoco._structs import MjModel

SCENE = 1
"""Bit of the scenes in contype."""
OBJECT = "object_"
"""What the names of bodies begin with, before their numbers."""
HOLDING = (0.999, 0.999, 0.001, 0.5, 2.0)
"""solimp of the friction of joints: with the default a door that leans creeps."""


def add_bodies(
    world: MjSpec, bodies: Sequence[RigidBody], owners: Mapping[str, int], solref: Sequence[float], offsets: F64
) -> None:
    """Add bodies (K,) to a world, whose scenes lie at offsets (K, 3), once for each prefix of their names.

    Those of each prefix have its bit: they touch what is of the same, and the scene. What a joint holds touches neither
    the scene nor what other joints hold: it hangs close to both.
    """
    kinds = libraries.mujoco().mjtGeom
    for number, body in enumerate(bodies):
        for piece, corners in enumerate(body.hulls):
            mesh = world.add_mesh(name=f"{OBJECT}{number}/{piece}")
            mesh.uservert = corners.ravel().tolist()
    for prefix, own in owners.items():
        for number, body in enumerate(bodies):
            made = world.worldbody.add_body(name=f"{prefix}{OBJECT}{number}", pos=ABSENT)
            if body.joint:
                home = body.joint.world_from_body
                made.pos, made.quat = home.translation + offsets[number], home.quaternion
                _add_joint(made, body)
            else:
                made.add_freejoint()
            frame, moments = body.inertia
            made.explicitinertial, made.mass, made.inertia = True, body.mass, moments
            made.ipos, made.iquat = frame.translation, frame.quaternion
            for piece in range(len(body.hulls)):
                geom = made.add_geom(type=kinds.mjGEOM_MESH, meshname=f"{OBJECT}{number}/{piece}")
                geom.contype, geom.conaffinity = own, 0 if body.joint else SCENE | own
                geom.friction = [body.friction, *geom.friction[1:]]
                geom.priority, geom.solref = 1, [*solref]


def _add_joint(made: MjsBody, body: RigidBody) -> None:
    """Hold it by its joint."""
    joint, kinds = body.joint, libraries.mujoco().mjtJoint
    assert joint
    axis, point, friction = body.held
    added = made.add_joint(type={"hinge": kinds.mjJNT_HINGE, "slide": kinds.mjJNT_SLIDE}[joint.kind])
    in_degrees = joint.kind == "hinge" and added.compiler.degree
    added.axis, added.pos, added.frictionloss, added.solimp_friction = axis, point, friction, HOLDING
    added.limited, added.range = True, np.rad2deg(joint.range) if in_degrees else joint.range


class Coordinates:
    """Where bodies are in MuJoCo's qpos and qvel: seven and six numbers for a loose one, one each on a joint.

    Attributes:
        number: (P, K) MuJoCo's numbers of the bodies, by the prefix of their names.
        value_at: (P, Q) indices of all their values in qpos.
        rate_at: (P, V) of their rates in qvel.
    """

    def __init__(self, bodies: Sequence[RigidBody], model: MjModel, prefixes: Sequence[str]) -> None:
        names = [[f"{prefix}{OBJECT}{number}" for number in range(len(bodies))] for prefix in prefixes]
        self.number = np.array([[model.body(name).id for name in row] for row in names], np.int64)
        self.number = self.number.reshape(len(prefixes), len(bodies))
        held = np.array([body.joint is not None for body in bodies], bool)
        joint = model.body_jntadr[self.number]
        self.value_at, self._values = _columns(model.jnt_qposadr[joint], np.where(held, 1, 7))
        self.rate_at, self._rates = _columns(model.jnt_dofadr[joint], np.where(held, 1, 6))
        self._free = np.flatnonzero(~held)
        self._pose_at = self._values[self._free, None] + np.arange(7)
        self._twist_at = self._rates[self._free, None] + np.arange(6)
        self._joints = [(number, body.joint) for number, body in enumerate(bodies) if body.joint]

    def of(self, state: BodyState, present: Mask, offsets: F64) -> tuple[F64, F64]:
        """Values (N, Q) and rates (N, V) of bodies in scenes at offsets (N, 3); those not present (N, K) rest."""
        values, rates = (np.empty((len(present), at.shape[1])) for at in (self.value_at, self.rate_at))
        position, quaternion, linear, angular = (
            getattr(state, field.name)[:, self._free].astype(np.float64) for field in fields(state)
        )
        here = present[:, self._free, None]
        turned = np.einsum("nkji,nkj->nki", matrix_from_quaternion(quaternion), angular)  # along its own axes
        values[:, self._pose_at] = np.concatenate([np.where(here, position + offsets[:, None], ABSENT), quaternion], 2)
        rates[:, self._twist_at] = np.concatenate([linear, turned], 2) * here
        for number, joint in self._joints:
            travel, rate = joint.travel(state[:, number])
            values[:, self._values[number]], rates[:, self._rates[number]] = travel, rate * present[:, number]
        return values, rates

    def state(self, values: F64, rates: F64, present: Mask, offsets: F64) -> BodyState:
        """State of bodies with values (N, Q) and rates (N, V); those not present (N, K) are at `ABSENT`."""
        shape = present.shape
        position, linear, angular = (np.empty((*shape, 3), np.float32) for _ in range(3))
        quaternion = np.empty((*shape, 4), np.float32)
        pose, twist = values[:, self._pose_at], rates[:, self._twist_at]
        turn = pose[..., 3:] / np.linalg.norm(pose[..., 3:], axis=2, keepdims=True)
        position[:, self._free], quaternion[:, self._free] = pose[..., :3] - offsets[:, None], turn
        linear[:, self._free] = twist[..., :3]
        angular[:, self._free] = np.einsum("nkij,nkj->nki", matrix_from_quaternion(turn), twist[..., 3:])
        for number, joint in self._joints:
            one = joint.state(values[:, self._values[number]], rates[:, self._rates[number]])
            position[:, number], quaternion[:, number] = one.position, one.quaternion
            linear[:, number], angular[:, number] = one.linear_velocity, one.angular_velocity
        quaternion *= np.where(quaternion[..., :1] < 0, -1, 1)
        return BodyState(
            np.where(present[..., None], position, np.array(ABSENT, np.float32)), quaternion, linear, angular
        )


def _columns(first: I64, widths: I64) -> tuple[I64, I64]:
    """Indices (P, sum) from each body's first (P, K) on, by widths (K,); and the columns (K,) in them of the bodies."""
    starts = np.cumsum(widths) - widths
    return (np.repeat(first - starts, widths, 1) + np.arange(widths.sum())).astype(np.int64), starts
