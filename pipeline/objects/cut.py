"""Objects cut out of a splat: which Gaussians are theirs, and what is left, with the hole below filled."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.geometry import Gaussians, Mesh, Similarity, matrix_from_quaternion
from pipeline.geometry.rays import RayCaster
from pipeline.objects.close import Body, foot_of, winding
from pipeline.types import F64, Mask

REACH = 0.03
"""Gaussians may lie outside of the body by this much [m]."""
FLAT, FLAT_BELOW = 0.7, 0.02
"""Gaussians whose thinnest axis is as upright as the first, lower than the second over the support, are its own [m]."""
LEVEL = 0.03
"""A support's Gaussians are as near to its height [m]."""
OVER = 0.3
"""Below this height over a support nothing may stand where its Gaussians are copied from [m]."""
CELL = 0.03
"""Edge of the cells by which it is told whether a place is covered [m]."""
AWAY, DIRECTIONS = (0.6, 0.8, 1.0, 1.3, 1.7), 24
"""Where a bare place of the same shape is looked for: distances [lengths of the foot] and number of directions."""
BLOCKED = 0.02
"""What one Gaussian of another thing in a place counts against a share of it that is covered."""


@dataclass(frozen=True, eq=False)
class CutSplat:
    """A splat in two parts.

    Attributes:
        own: The object's Gaussians, world frame.
        rest: All others, and copies of the support's Gaussians where the object stood.
        filled: Share of the foot that is covered by those, 0..1.
    """

    own: Gaussians
    rest: Gaussians
    filled: float


def cut_splat(gaussians: Gaussians, body: Body, scene: Mesh) -> CutSplat:
    """Cut an object out of a splat; the scene is the mesh without the object's triangles.

    A Gaussian is the object's where its middle is nearer to the closed body than to the rest of the scene. Those that
    lie flat on the support are the support's: by height alone the foot of the object would go with them.
    """
    outline = foot_of(body).vertices[:, :2].astype(np.float64)
    support = float(body.world_from_body.translation[2])
    means, above = gaussians.means.astype(np.float64), gaussians.means[:, 2] - support
    rotations = matrix_from_quaternion(gaussians.quaternions)
    upright = np.abs(rotations[np.arange(len(means)), 2, gaussians.log_scales.argmin(1)]) > FLAT
    flat = upright & (above < FLAT_BELOW)
    own = np.zeros(len(means), bool)
    corners = body.mesh.corners().reshape(-1, 3)
    inside = ((means > corners.min(0) - REACH) & (means < corners.max(0) + REACH)).all(1)
    near = np.flatnonzero(inside & ~flat & (above > -LEVEL))
    to_body = np.asarray(RayCaster(body.mesh).distances(means[near]), np.float64)
    to_body[winding(body.mesh.corners().astype(np.float64), means[near]) > 0.5] = 0
    own[near[(to_body < REACH) & (to_body < RayCaster(scene).distances(means[near]))]] = True
    hidden = ~own & upright & (np.abs(above) < LEVEL) & _within(means, outline)
    rest = gaussians[~own & ~hidden]
    copies, filled = _bare_place(rest, outline, support)
    return CutSplat(gaussians[own], Gaussians.concatenate([rest, copies]), filled)


def _bare_place(rest: Gaussians, outline: F64, support: float) -> tuple[Gaussians, float]:
    """Copies of a support's Gaussians from the nearest bare place of an outline's (P, 2) shape, moved into it.

    And the share of the outline that they cover.
    """
    if len(outline) < 3:  # a body without a foot leaves no hole
        return rest[:0], 1.0
    means = rest.means.astype(np.float64)
    above = means[:, 2] - support
    level, high = np.flatnonzero(np.abs(above) < LEVEL), np.flatnonzero((above > LEVEL) & (above < OVER))
    length = float(np.linalg.norm(np.ptp(outline, axis=0)))
    best, found, covered = -np.inf, rest[:0], 0.0
    for away in AWAY:
        for angle in np.linspace(0, 2 * np.pi, DIRECTIONS, endpoint=False):
            shift = away * length * np.array([np.cos(angle), np.sin(angle)])
            there = level[_within(means[level], outline + shift)]
            share = _covered(means[there, :2] - shift, outline)
            score = share - BLOCKED * _within(means[high], outline + shift).sum() - 0.1 * away
            if len(there) and score > best:
                best, covered = score, share
                found = rest[there].transformed(Similarity(1.0, np.eye(3), np.array([*-shift, 0.0])))
    return found, covered


def _within(points: F64, outline: F64) -> Mask:
    """Which points (N, >= 2) are in a convex outline (P, 2), counter-clockwise; none in less than a triangle."""
    if len(outline) < 3:
        return np.zeros(len(points), bool)
    edges = np.roll(outline, -1, 0) - outline
    inwards = np.stack([-edges[:, 1], edges[:, 0]], 1)
    return np.asarray(((points[:, None, :2] - outline) * inwards).sum(2).min(1) >= 0)


def _covered(points: F64, outline: F64) -> float:
    """Share of an outline's cells that have a point (N, 2)."""
    low = outline.min(0)
    shape = np.ceil(np.ptp(outline, axis=0) / CELL).astype(int) + 1
    wanted = np.zeros(shape[::-1], np.uint8)
    cv2.fillPoly(wanted, [np.floor((outline - low) / CELL).astype(np.int32)], 1)
    seen = np.zeros_like(wanted)
    cells = np.floor((points - low) / CELL).astype(int)
    cells = cells[((cells >= 0) & (cells < shape)).all(1)]
    seen[cells[:, 1], cells[:, 0]] = 1
    return float((seen & wanted).sum() / wanted.sum())
