"""Hulls of objects against their surfaces, which belong to the collision mesh that is compared with what is seen."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from scipy.spatial import ConvexHull

from pipeline.audit.patches import deviation
from pipeline.geometry import Camera, Mesh, Pose
from pipeline.geometry.rays import RayCaster
from pipeline.scenes.objects import BundleObject
from pipeline.types import F64

PIXELS, AWAY = 64, 8.0
"""Sides of the images of an object, and the distance that they are taken from, in its largest sides."""
LEAST, SHARE = 40, 0.25
"""Pixels of a side that are compared, at least; and the share of them that may be nearer: a hull bridges hollows."""
SIDES = np.array([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1]])
"""Of an object, in its frame; what it stands on hides the last one."""
SEEN_SIDES = 2
"""So many sides tell whether a hull is too large; one side may have been completed wrongly."""


@dataclass(frozen=True)
class HullGap:
    """By how much an object's hulls stand out over its surface [m], and its sigma from side to side."""

    name: str
    gap: float
    sigma: float
    sides: int
    place: tuple[float, float, float]


def measure_hulls(one: BundleObject) -> HullGap | None:
    """Compare from five sides; None where the surface has too few of them."""
    hulls = RayCaster(functools.reduce(Mesh.joined, [_solid(hull) for hull in one.hulls()]))
    surface, corners = RayCaster(one.mesh()), np.concatenate(one.hulls())
    middle, size = (corners.min(0) + corners.max(0)) / 2, float(np.ptp(corners, axis=0).max())
    focal = 0.9 * PIXELS * AWAY
    camera = Camera(PIXELS, PIXELS, focal, focal, PIXELS / 2, PIXELS / 2)
    gaps = list[float]()
    for side in SIDES:
        right = np.cross(side, [0, 0, 1.0] if side[2] == 0 else [0, 1.0, 0])
        pose = Pose(np.column_stack([right, np.cross(-side, right), -side]), middle + AWAY * size * side)
        depth, touched = surface.depth(camera, pose), hulls.depth(camera, pose)
        both = (depth > 0) & (touched > 0)
        if both.sum() >= LEAST:
            gaps.append(float(np.quantile((depth - touched)[both], SHARE)))
    if len(gaps) < SEEN_SIDES:
        return None
    gap, spread = float(np.median(gaps)), deviation(np.array(gaps))
    x, y, z = one.world_from_body.apply(middle).tolist()
    return HullGap(one.record.name, gap, spread / np.sqrt(len(gaps)), len(gaps), (x, y, z))


def _solid(hull: F64) -> Mesh:
    return Mesh.from_arrays(hull, ConvexHull(hull).simplices)
