"""How a thing that moved is held: on a hinge, on a slide, or not at all, from its two poses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.changes.compare import Motion
from pipeline.changes.register import Registration, Scan
from pipeline.geometry import Pose, matrix_from_rotvec, rotvec_from_matrix
from pipeline.types import F64, Mask

TURNED, MOVED = 3.0, 0.03
"""Least turn about a hinge [degrees], and least way of a slide [m]."""
PITCH = 0.03
"""What a hinge moves along its axis, at most [m]."""
HELD, STEPS, ALONG = 0.1, 24, 0.5
"""A hinge is held where something that stays is as near to its axis as the first [m], in as many places along the
thing, and over the third of them at least."""
BESIDE, SECTORS, AROUND = 0.06, 8, 5
"""A slide is held where something that stays is as near beside it as the first [m], seen along its way in as many
sectors, in so many of them."""
BEYOND = 0.15
"""A hinge lies as near to the bounds of the thing [m]."""
DRAWS = 256
"""Motions that are drawn from the fit's errors, for those of the axis."""


@dataclass(frozen=True, eq=False)
class Axis:
    """A joint that holds a thing, in the first scan's world.

    Attributes:
        kind: Whether it turns about the axis, or slides along it.
        direction: (3,) unit.
        point: (3,) on the axis, nearest to the middle of the thing [m].
        travel: From the first scan to the second [rad or m], positive.
        sigma_deg: Of the direction [degrees].
        sigma: Of the axis beside its direction [m]; 0 for a slide, which has no place.
        sigma_travel: Of the travel [rad or m].
    """

    kind: Literal["hinge", "slide"]
    direction: F64
    point: F64
    travel: float
    sigma_deg: float
    sigma: float
    sigma_travel: float


def joint_of(first: Scan, registration: Registration, motion: Motion) -> Axis | None:
    """What holds a thing that moved; None for what is loose.

    Any motion on a floor is a turn about some axis, and a parcel may be pushed straight. A joint is where something
    that stays is there to hold the thing: along the axis of a hinge, around the way of a slide.
    """
    pose, middle = motion.second_from_first, (motion.gone.low + motion.gone.high) / 2
    axis = _axis(pose, middle)
    if axis is None:
        return None
    kind, direction, point, travel = axis
    if kind == "hinge":
        held = _held_along(first, motion, direction, point)
    else:
        held = _held_around(first, motion, direction, middle)
    if not held:
        return None
    rng = np.random.default_rng(0)
    values, vectors = np.linalg.eigh(motion.fit.covariance)
    errors = rng.normal(size=(DRAWS, 6)) * np.sqrt(np.maximum(values, 0)) @ vectors.T
    errors[:, 3:] += rng.normal(size=(DRAWS, 3)) * registration.residual  # scans are bent
    drawn = [_axis(_changed(pose, motion.fit.middle, error), middle, kind) for error in errors]
    off = [one for one in drawn if one is not None]
    turned = np.array([np.arccos(np.clip(abs(one[1] @ direction), 0, 1)) for one in off])
    beside = np.array([np.cross(one[2] - point, direction) for one in off])
    travels = np.array([one[3] for one in off])
    return Axis(
        kind,
        direction,
        point,
        travel,
        float(np.rad2deg(np.sqrt((turned**2).mean()))),
        float(np.sqrt((beside**2).sum(1).mean())) if kind == "hinge" else 0.0,
        float(travels.std()),
    )


def _changed(pose: Pose, middle: F64, error: F64) -> Pose:
    turn = matrix_from_rotvec(error[:3])
    return Pose(turn, middle + error[3:] - turn @ middle) @ pose


def _axis(
    pose: Pose, middle: F64, kind: Literal["hinge", "slide"] | None = None
) -> tuple[Literal["hinge", "slide"], F64, F64, float] | None:
    """Kind, direction (3,), point (3,) and travel of a screw motion; None for one that no such joint allows.

    The point is the one of the axis that is nearest to the middle (3,) of the thing.
    """
    vector = rotvec_from_matrix(pose.rotation)
    angle = float(np.linalg.norm(vector))
    shift = pose.apply(middle) - middle
    if kind is None:
        kind = "hinge" if angle > np.deg2rad(TURNED) else "slide"
        if kind == "slide" and (angle > np.deg2rad(TURNED) / 2 or np.linalg.norm(shift) < MOVED):
            return None
    if kind == "slide":
        travel = float(np.linalg.norm(shift))
        return kind, shift / travel, middle, travel
    direction = vector / angle
    along = float(shift @ direction)
    if abs(along) > PITCH:
        return None
    level = shift - along * direction
    # the middle moves on an arc: the axis is beside its chord's middle
    point = middle + level / 2 + np.cross(direction, level) / (2 * np.tan(angle / 2))
    return kind, direction, point, angle


def _static(first: Scan, motion: Motion) -> tuple[F64, Mask]:
    """Middles (F, 3) of the first's triangles, and which of them stay."""
    return first.mesh.corners().mean(1).astype(np.float64), ~motion.gone.triangles


def _held_along(first: Scan, motion: Motion, direction: F64, point: F64) -> bool:
    middles, stays = _static(first, motion)
    own = (middles[~stays] - point) @ direction
    corners = np.stack(np.meshgrid(*zip(motion.gone.low, motion.gone.high, strict=True), indexing="ij"), -1)
    low, high = corners.reshape(-1, 3).min(0) - BEYOND, corners.reshape(-1, 3).max(0) + BEYOND
    if not ((point > low) & (point < high)).all():
        return False
    near = stays & (np.linalg.norm(np.cross(middles - point, direction), axis=1) < HELD)
    steps = np.linspace(own.min(), own.max(), STEPS + 1)
    # what it stands on is no hinge: ends don't count
    filled = np.histogram((middles[near] - point) @ direction, steps)[0][1:-1] > 0
    return bool(filled.mean() > ALONG)


def _held_around(first: Scan, motion: Motion, direction: F64, middle: F64) -> bool:
    middles, stays = _static(first, motion)
    from scipy.spatial import KDTree

    own = middles[~stays]
    box = ((middles > motion.gone.low - BESIDE) & (middles < motion.gone.high + BESIDE)).all(1)
    beside = np.flatnonzero(stays & box)
    if not len(beside):
        return False
    near = KDTree(middles[beside]).query(own)[0] < BESIDE
    across = np.linalg.svd(direction[None])[2][1:]
    places = (own[near] - middle) @ across.T
    size = np.maximum(np.ptp((own - middle) @ across.T, axis=0), 1e-6)
    sectors = np.floor(np.arctan2(places[:, 1] / size[1], places[:, 0] / size[0]) / (2 * np.pi) * SECTORS)
    return len(np.unique(sectors.astype(int) % SECTORS)) >= AROUND
