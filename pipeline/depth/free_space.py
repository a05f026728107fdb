# ruff: noqa: ANN001, ANN202 - numba infers the types of compiled functions
"""Free-space violations: regions where views contradict each other because of motion, mirrors or windows.

Where a map sees through a surface that another map measured, one of the two is wrong. The surface is dropped when more
maps see through it than see it (somebody walked by, a reflection on glass), else the depth behind it (a mirror's room,
the view through a window). Only connected regions are handled: single pixels at edges are left to the fusion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

import cv2
import numpy as np

from pipeline.depth.consistency import DepthMapSet, sees_through
from pipeline.depth.maps import DepthMap, subsampled_to
from pipeline.geometry import Similarity
from pipeline.geometry.jit import njit
from pipeline.types import Mask

Kind = Literal["looked through", "behind a surface"]

LONG_SIDE = 160
"""Maps are compared at about this size [px]."""
NEIGHBOURS, MAX_DEVIATION = 12, 4.0
MIN_WITNESSES = 2
"""Number of maps that must contradict a pixel."""
MIN_AREA = 0.004
"""A region has at least this share of its map's pixels."""
CLUSTER_SIZE = 0.75
"""Regions of several views whose centres are nearer than this are one region of the scene [m]."""
_CLOSED = 5
"""Gaps in a region up to this many pixels are part of it."""


class ViolatedRegion(TypedDict):
    """A connected part of one view that others look through, or that lies behind a surface that others confirm.

    `share` is that of the map's pixels, `centre` the median (x, y, z) of its points in the scene's frame.
    """

    view: str
    kind: Kind
    share: float
    centre: tuple[float, float, float]


class SuspiciousRegion(TypedDict):
    """Regions of several views at one position [m, world frame]; `share` is the largest of one view."""

    kind: Kind
    centre: list[float]
    views: list[str]
    share: float


@dataclass(frozen=True, eq=False)
class FreeSpaceViolations:
    """All contradictions: regions in the views' order, large ones first, and their masks in the small maps.

    `pixel_share` is the share of a view's known pixels in conflict, in regions of any size.
    """

    regions: tuple[ViolatedRegion, ...]
    pixel_share: dict[str, float]
    masks: dict[str, Mask]

    def report(self) -> dict[str, object]:
        """Plain JSON values."""
        return {
            "pixel_share": float(np.mean([*self.pixel_share.values()])) if self.pixel_share else 0.0,
            "views": self.pixel_share,
            "suspicious": list(self.regions),
        }

    def remove_from(self, depth_map: DepthMap) -> DepthMap:
        """The whole map without the regions."""
        mask = self.masks.get(depth_map.name)
        if mask is None:
            return depth_map
        height, width = depth_map.depth.shape
        removed = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0
        return depth_map.without(removed)


def suspicious_regions(regions: Sequence[ViolatedRegion], world_from_scene: Similarity) -> list[SuspiciousRegion]:
    """Regions of all views clustered by kind and position, those that most views show first."""
    clusters: list[SuspiciousRegion] = []
    for region in sorted(regions, key=lambda region: -float(region["share"])):
        centre = world_from_scene.apply(np.array(region["centre"]))
        for cluster in clusters:
            near = float(np.linalg.norm(centre - np.array(cluster["centre"]))) < CLUSTER_SIZE
            if near and cluster["kind"] == region["kind"]:
                cluster["views"] += [region["view"]] * (region["view"] not in cluster["views"])
                break
        else:
            kind, share = region["kind"], region["share"]
            clusters.append({"kind": kind, "centre": centre.tolist(), "views": [region["view"]], "share": share})
    return sorted(clusters, key=lambda cluster: -len(cluster["views"]))


def small(depth_map: DepthMap) -> DepthMap:
    """The map at the size of the comparison."""
    return subsampled_to(depth_map, LONG_SIDE)


def find_violations(maps: Sequence[DepthMap]) -> FreeSpaceViolations:
    """Compare `small` maps of one scene with each other."""
    maps = list(maps)
    if not maps:
        return FreeSpaceViolations((), {}, {})
    packed = DepthMapSet.pack(maps)
    behind, last = np.zeros(len(packed.depth), np.int32), np.full(len(packed.depth), -1, np.int32)
    through = []
    for index, (depth_map, near) in enumerate(zip(maps, packed.neighbours(NEIGHBOURS), strict=True)):
        comparison = packed.compare(depth_map, near, MAX_DEVIATION)
        agreeing, violations = comparison.agreeing.astype(np.int32), comparison.violations.astype(np.int32)
        dropped = violations > agreeing + 1  # itself
        through.append(dropped & (violations >= MIN_WITNESSES))
        confirmed = (violations > 0) & ~dropped & (agreeing >= MIN_WITNESSES)
        if confirmed.any() and len(near):
            points = depth_map.camera.rays()[confirmed] * depth_map.depth[confirmed][:, None]
            _mark_behind(
                np.concatenate([points, depth_map.sigma[confirmed][:, None]], 1).astype(np.float32),
                packed.depth,
                packed.sigma,
                packed.layout[near],
                packed.intrinsics[near],
                packed.from_map(depth_map, near),
                np.float32(MAX_DEVIATION),
                index,
                behind,
                last,
            )
    regions, shares, masks = [], {}, {}
    for depth_map, seen_through, (start, width, height) in zip(maps, through, packed.layout, strict=True):
        hidden = behind[start : start + width * height].reshape(height, width) >= MIN_WITNESSES
        known = depth_map.depth > 0
        shares[depth_map.name] = float((seen_through | hidden).sum() / max(known.sum(), 1))
        mask = np.zeros(known.shape, bool)
        own_regions: list[ViolatedRegion] = []
        kinds: dict[Kind, Mask] = {"looked through": seen_through, "behind a surface": hidden & ~seen_through}
        for kind, pixels in kinds.items():
            for part in _parts(pixels, known):
                mask |= part
                x, y, z = (float(v) for v in np.median(depth_map.points()[part], axis=0))
                share = float(part.mean())
                own_regions.append({"view": depth_map.name, "kind": kind, "share": share, "centre": (x, y, z)})
        if own_regions:
            regions += sorted(own_regions, key=lambda region: -region["share"])
            masks[depth_map.name] = mask
    return FreeSpaceViolations(tuple(regions), shares, masks)


def _parts(pixels: Mask, known: Mask) -> list[Mask]:
    """Connected regions that are large enough, small gaps closed."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_CLOSED, _CLOSED))
    # Opening first: rims of one or two pixels along edges are noise, not regions.
    opened = cv2.morphologyEx(pixels.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    closed = cv2.morphologyEx(opened, cv2.MORPH_CLOSE, kernel)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(closed, connectivity=8)
    least = MIN_AREA * pixels.size
    return [(labels == i) & known for i in range(1, count) if stats[i, cv2.CC_STAT_AREA] >= least]


@njit(nogil=True, error_model="numpy", cache=True)
def _mark_behind(points, depth, sigma, layout, intrinsics, relative, max_deviation, number, behind, last):
    """Add one to `behind` at the neighbours' pixels that see through points (x, y, z, sigma) of map `number`.

    `last` holds the map that last marked a pixel, so that each counts once.
    """
    for s in range(len(layout)):
        m = relative[s]
        start, width, height = layout[s]
        for i in range(len(points)):
            x, y, z = points[i, 0], points[i, 1], points[i, 2]
            far = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3]
            if far <= 0:
                continue
            u = (m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3]) / far * intrinsics[s, 0] + intrinsics[s, 2]
            v = (m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3]) / far * intrinsics[s, 1] + intrinsics[s, 3]
            if not (u >= 0 and v >= 0 and u < width and v < height):
                continue
            pixel = start + int(v) * width + int(u)
            if last[pixel] == number:
                continue
            if sees_through(depth, start, width, height, u, v, far, points[i, 3], sigma[pixel], max_deviation):
                last[pixel] = number
                behind[pixel] += 1
