"""Free-space violations: where views contradict each other: things that moved, mirrors, windows.

A map that sees something farther looks through what another map has measured in between; one of the two is wrong. The
surface falls when more maps look through it than see it as well (somebody walked by, a reflection on glass), else the
depth behind it does (a mirror's room, the view through a window). Only whole regions are judged here: single pixels at
edges are left to the fusion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numba import njit

from pipeline.depth.consistency import DepthMapSet, looked_through
from pipeline.depth.maps import DepthMap
from pipeline.geometry import Similarity
from pipeline.points.fusion import subsampled
from pipeline.types import I32, I64, Mask

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


@dataclass(frozen=True)
class ViolatedRegion:
    """A connected part of one view that other views contradict.

    Attributes:
        view: Its name.
        kind: Whether others look through it, or it lies behind a surface that others confirm.
        share: Share of the map's pixels.
        centre: Median of its points (x, y, z) in the scene's frame.
    """

    view: str
    kind: Kind
    share: float
    centre: tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class FreeSpaceViolations:
    """All contradictions between the views.

    Attributes:
        regions: In the views' order, large ones first.
        pixel_share: By view, the share of known pixels in conflict, of any size.
        masks: By view, which pixels of the small map belong to a region.
    """

    regions: tuple[ViolatedRegion, ...]
    pixel_share: dict[str, float]
    masks: dict[str, Mask]

    def report(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "pixel_share": float(np.mean([*self.pixel_share.values()])) if self.pixel_share else 0.0,
            "views": self.pixel_share,
            "suspicious": [asdict(region) for region in self.regions],
        }

    def remove_from(self, depth_map: DepthMap) -> DepthMap:
        """The whole map without the regions."""
        mask = self.masks.get(depth_map.name)
        if mask is None:
            return depth_map
        height, width = depth_map.depth.shape
        gone = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0
        return depth_map.without(gone)


def suspicious_regions(regions: Sequence[dict[str, Any]], world_from_scene: Similarity) -> list[dict[str, Any]]:
    """Regions of many views (as JSON values) clustered by kind and position, those that most views show first.

    Returns:
        JSON values: kind, centre [m, world frame], the views that show it, and the largest share of one of them.
    """
    places: list[dict[str, Any]] = []
    for region in sorted(regions, key=lambda region: -float(region["share"])):
        centre = world_from_scene.apply(np.array(region["centre"]))
        for place in places:
            near = float(np.linalg.norm(centre - np.array(place["centre"]))) < CLUSTER_SIZE
            if near and place["kind"] == region["kind"]:
                place["views"] += [region["view"]] * (region["view"] not in place["views"])
                break
        else:
            place = {"kind": region["kind"], "centre": centre.tolist(), "views": [region["view"]]}
            places.append(place | {"share": region["share"]})
    return sorted(places, key=lambda place: -len(place["views"]))


def small(depth_map: DepthMap) -> DepthMap:
    """The map at the size that is compared."""
    return subsampled(depth_map, max(1, round(max(depth_map.depth.shape) / LONG_SIDE)))


def find_violations(maps: Sequence[DepthMap]) -> FreeSpaceViolations:
    """Compare `small` maps of one scene with each other."""
    maps = list(maps)
    if not maps:
        return FreeSpaceViolations((), {}, {})
    packed = DepthMapSet.pack(maps)
    neighbours = packed.neighbours(NEIGHBOURS)
    behind, last = np.zeros(len(packed.depth), np.int32), np.full(len(packed.depth), -1, np.int32)
    through = []
    for index, (depth_map, near) in enumerate(zip(maps, neighbours, strict=True)):
        found = packed.compare(depth_map, near, MAX_DEVIATION)
        agreeing, violations = found.agreeing.astype(np.int32), found.violations.astype(np.int32)
        falls = violations > agreeing + 1  # itself
        through.append(falls & (violations >= MIN_WITNESSES))
        stands = (violations > 0) & ~falls & (agreeing >= MIN_WITNESSES)
        _mark_behind(packed, near, depth_map, stands, index, behind, last)
    regions, shares, masks = [], {}, {}
    for depth_map, falling, (start, width, height) in zip(maps, through, packed.layout, strict=True):
        hidden = behind[start : start + width * height].reshape(height, width) >= MIN_WITNESSES
        known = depth_map.depth > 0
        shares[depth_map.name] = float((falling | hidden).sum() / max(known.sum(), 1))
        mask = np.zeros(known.shape, bool)
        found = []
        kinds: dict[Kind, Mask] = {"looked through": falling, "behind a surface": hidden & ~falling}
        for kind, pixels in kinds.items():
            for part in _parts(pixels, known):
                mask |= part
                found.append(_region(depth_map, kind, part))
        if found:
            regions += sorted(found, key=lambda region: -region.share)
            masks[depth_map.name] = mask
    return FreeSpaceViolations(tuple(regions), shares, masks)


def _region(depth_map: DepthMap, kind: Kind, part: Mask) -> ViolatedRegion:
    x, y, z = (float(v) for v in np.median(depth_map.points()[part], axis=0))
    return ViolatedRegion(depth_map.name, kind, float(part.mean()), (x, y, z))


def _parts(pixels: Mask, known: Mask) -> list[Mask]:
    """Connected regions that are large enough, small gaps closed."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_CLOSED, _CLOSED))
    # Opening first: rims of one or two pixels along edges are noise, not regions.
    opened = cv2.morphologyEx(pixels.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    closed = cv2.morphologyEx(opened, cv2.MORPH_CLOSE, kernel)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(closed, connectivity=8)
    least = MIN_AREA * pixels.size
    return [(labels == i) & known for i in range(1, count) if stats[i, cv2.CC_STAT_AREA] >= least]


def _mark_behind(
    packed: DepthMapSet,
    neighbours: I64,
    own: DepthMap,
    stands: Mask,
    number: int,
    behind: I32,
    last: I32,
) -> None:
    """Add one to `behind` at the neighbours' pixels that look through the pixels `stands` of map `number`."""
    if not stands.any() or not len(neighbours):
        return
    relative = np.linalg.inv(packed.poses[neighbours]) @ own.world_from_camera.matrix
    _mark(
        np.concatenate([own.camera.rays()[stands] * own.depth[stands][:, None], own.sigma[stands][:, None]], 1).astype(
            np.float32
        ),
        packed.depth,
        packed.sigma,
        packed.layout[neighbours],
        packed.intrinsics[neighbours],
        relative[:, :3].astype(np.float32),
        np.float32(MAX_DEVIATION),
        number,
        behind,
        last,
    )


@njit(nogil=True, error_model="numpy", cache=True)
def _mark(points, depth, sigma, layout, intrinsics, relative, max_deviation, number, behind, last):  # noqa: ANN001, ANN202
    """`points` holds x, y, z, sigma; `last` remembers which map marked a pixel, so that each counts once."""
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
            place = start + int(v) * width + int(u)
            if last[place] == number:
                continue
            if looked_through(depth, start, width, height, u, v, far, points[i, 3], sigma[place], max_deviation):
                last[place] = number
                behind[place] += 1
