"""Matches of images as measurements of poses: a point on one depth image's surface, and where the other image shows it.

Depth tells nothing along a wall or a floor; what is painted there does, be it too little for a map of the images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.poses.by_depth.pairs import Frames, inverses
from pipeline.poses.by_depth.surfels import IS_THERE, NORMAL_X, X, Z
from pipeline.poses.keyframes import Keyframe
from pipeline.poses.matching import Features, Matches
from pipeline.types import F64, I64, Mask

PIXELS = 0.7
"""One sigma of a match [px]."""
DEPTH = 0.008
"""One sigma of a point along its ray [m]: what its image moves by, seen from elsewhere."""
ROBUST, FAR = 3.0, 20.0
"""Sigmas at which a match counts a quarter (Geman and McClure), and beyond which it doesn't."""
LEAST_FACING, SAME_SURFACE = 0.1, 0.1
"""Least cosine of a ray to its surface's normal, and largest change of depth to where the ray meets it [share]."""
MOST = 20
"""Matches of a pair that are taken."""
NEAREST = 0.1
"""Points count that lie so far before the camera [m]."""


@dataclass(frozen=True, eq=False)
class Matched:
    """Points of frames that other frames' images show.

    Attributes:
        pairs: (M, 2) frame of the point, frame that shows it.
        pair: (K,) which pair each point belongs to, in their order.
        points: (K, 3) in the axes of the first [m].
        shown: (K, 2) where the second shows it, at depth 1.
        sigma: (K,) of that.
    """

    pairs: I64
    pair: I64
    points: F64
    shown: F64
    sigma: F64

    @staticmethod
    def of(
        frames: Frames, keyframes: Sequence[Keyframe], features: Sequence[Features], matches: Sequence[Matches]
    ) -> Matched:
        """Verified matches of keyframes whose depth images are the frames."""
        pairs, parts = list[tuple[int, int]](), list[tuple[F64, F64, F64]]()
        for match in matches:
            rays = [
                keyframes[k].camera.rays(features[k].pixels[rows].astype(np.float64))
                for k, rows in zip((match.i, match.j), match.features.T, strict=True)
            ]
            for (first, second), (own, other) in (
                ((match.i, match.j), rays),
                ((match.j, match.i), rays[::-1]),
            ):
                points, known = _on_surface(frames, first, own)
                chosen = np.flatnonzero(known)
                chosen = chosen[:: len(chosen) // MOST + 1]
                if len(chosen):
                    pairs.append((first, second))
                    sigma = np.full(len(chosen), PIXELS / keyframes[second].camera.fx)
                    parts.append((points[chosen], other[chosen, :2], sigma))
        counts = [len(points) for points, *_ in parts]
        parts.append((np.zeros((0, 3)), np.zeros((0, 2)), np.zeros(0)))
        points, shown, sigma = (np.concatenate([part[k] for part in parts]) for k in range(3))
        belongs = np.repeat(np.arange(len(pairs)), counts)
        return Matched(np.array(pairs, np.int64).reshape(-1, 2), belongs, points, shown, sigma)

    def only(self, kept: I64) -> Matched:
        """Those between some of the frames, numbered as they come."""
        number = np.full(max(int(self.pairs.max(initial=-1)), int(kept.max(initial=-1))) + 1, -1)
        number[kept] = np.arange(len(kept))
        usable = np.asarray((number[self.pairs] >= 0).all(1))
        rows = usable[self.pair]
        renumbered = np.cumsum(usable) - 1
        return Matched(
            number[self.pairs[usable]],
            renumbered[self.pair[rows]],
            self.points[rows],
            self.shown[rows],
            self.sigma[rows],
        )

    def compare(self, poses: F64) -> tuple[F64, F64]:
        """Terms (M, 12, 12), (M, 12) of the pairs, as those of `pairs.compare`, under poses (N, 4, 4)."""
        if not len(self.points):
            return np.zeros((0, 12, 12)), np.zeros((0, 12))
        relative = inverses(poses[self.pairs[:, 1]]) @ poses[self.pairs[:, 0]]
        turn, shift = relative[self.pair, :3, :3], relative[self.pair, :3, 3]
        local = np.einsum("nij,nj->ni", turn, self.points) + shift
        depth = np.maximum(local[:, 2], NEAREST)
        off = local[:, :2] / depth[:, None] - self.shown
        variance = self.sigma**2 + (np.linalg.norm(shift, axis=1) * DEPTH / depth**2) ** 2
        square = (off**2).sum(1) / variance
        weight = 1 / (1 + square / ROBUST**2) ** 2 / variance
        weight[(local[:, 2] < NEAREST) | (square > FAR**2)] = 0
        seen = np.zeros((len(off), 2, 3))
        seen[:, 0, 0] = seen[:, 1, 1] = 1 / depth
        seen[:, :, 2] = -local[:, :2] / depth[:, None] ** 2
        slope = np.concatenate(
            [seen @ turn, -seen @ turn @ cross_matrices(self.points), -seen, seen @ cross_matrices(local)], 2
        )
        weighted = slope * weight[:, None, None]
        starts = np.flatnonzero(np.diff(self.pair, prepend=-1))
        hessian = np.add.reduceat(np.swapaxes(weighted, 1, 2) @ slope, starts)
        return hessian, -np.add.reduceat(np.einsum("nki,nk->ni", weighted, off), starts)


def cross_matrices(vectors: F64) -> F64:
    """Matrices (N, 3, 3) of the cross products with vectors (N, 3)."""
    x, y, z = vectors.T
    zero = np.zeros_like(x)
    return np.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).reshape(-1, 3, 3)


def _on_surface(frames: Frames, frame: int, rays: F64) -> tuple[F64, Mask]:
    """Where rays (K, 3) of depth 1 meet the surfels that they show (K, 3) [m], and which (K,) do."""
    fx, fy, cx, cy = frames.lenses[frame]
    height, width = frames.surfels.shape[1:3]
    row = np.floor((fy * rays[:, 1] + cy) / frames.stride).astype(np.int64)
    column = np.floor((fx * rays[:, 0] + cx) / frames.stride).astype(np.int64)
    inside = (row >= 0) & (column >= 0) & (row < height) & (column < width)
    surfels = frames.surfels[frame, np.where(inside, row, 0), np.where(inside, column, 0)].astype(np.float64)
    middles, normals = surfels[:, X : Z + 1], surfels[:, NORMAL_X : NORMAL_X + 3]
    towards = np.einsum("nd,nd->n", normals, rays)
    known = inside & (surfels[:, IS_THERE] > 0) & (np.abs(towards) > LEAST_FACING * np.linalg.norm(rays, axis=1))
    depth = np.einsum("nd,nd->n", normals, middles) / np.where(known, towards, 1)
    known &= np.abs(depth - middles[:, 2]) < SAME_SURFACE * middles[:, 2]
    return rays * depth[:, None], known
