"""Oriented, coloured point clouds: what mesh and splat both start from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.similarity import Similarity
from pipeline.types import F32, I32, I64, U8, Floats, Mask


@dataclass(frozen=True, eq=False)
class PointCloud:
    """Points with what is known of each; all arrays have the same length N."""

    points: F32  # (N, 3) float32 [m, world frame]
    normals: F32  # (N, 3) float32, unit, towards the cameras that saw the point
    colors: U8  # (N, 3) uint8, sRGB
    sigma: F32  # (N,) float32 [m], standard deviation along the viewing ray
    views: I32  # (N,) int32, number of keyframes that agree on the point
    guessed: Mask  # (N,) bool, filled in rather than measured

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: Mask | NDArray[np.integer] | slice) -> PointCloud:
        """The cloud of the chosen points."""
        return PointCloud(*(getattr(self, name)[index] for name in self.__dataclass_fields__))

    @staticmethod
    def concatenate(parts: Sequence[PointCloud]) -> PointCloud:
        """All points in one cloud."""
        names = PointCloud.__dataclass_fields__
        return PointCloud(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def transformed(self, a_from_b: Similarity) -> PointCloud:
        """The cloud of frame b, in frame a."""
        return PointCloud(
            a_from_b.apply(self.points).astype(np.float32),
            a_from_b.rotate(self.normals).astype(np.float32),
            self.colors,
            (self.sigma * a_from_b.scale).astype(np.float32),
            self.views,
            self.guessed,
        )

    def save(self, path: Path) -> None:
        """Write as an .npz file."""
        with path.open("wb") as file:
            np.savez(file, **{name: getattr(self, name) for name in self.__dataclass_fields__})

    @staticmethod
    def load(path: Path) -> PointCloud:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as data:
            return PointCloud(**{name: data[name] for name in PointCloud.__dataclass_fields__})


def farthest_points(points: Floats, count: int, first: int = 0) -> I64:
    """Indices of up to `count` of the points (N, D), each the farthest from those before it.

    Source: T. Gonzalez, Clustering to minimize the maximum intercluster distance, TCS 1985.
    """
    chosen = [first]
    distance = np.linalg.norm(points - points[first], axis=1)
    while len(chosen) < min(count, len(points)):
        farthest = int(distance.argmax())
        if distance[farthest] <= 0:
            break
        chosen.append(farthest)
        distance = np.minimum(distance, np.linalg.norm(points - points[farthest], axis=1))
    return np.array(chosen, np.int64)


def morton_order(points: Floats) -> I64:
    """Order (N,) in which points (N, 3) follow a Z-curve of 21 bits an axis."""
    if not len(points):
        return np.zeros(0, np.int64)
    low = points.min(0).astype(np.float64)
    extent = np.maximum(points.max(0) - low, 1e-12)
    cells = ((points - low) / extent * (2**21 - 1)).astype(np.uint64)
    code = np.zeros(len(points), np.uint64)
    for axis in range(3):
        spread = cells[:, axis]
        for shift, mask in (
            (32, 0x1F00000000FFFF),
            (16, 0x1F0000FF0000FF),
            (8, 0x100F00F00F00F00F),
            (4, 0x10C30C30C30C30C3),
            (2, 0x1249249249249249),
        ):
            spread = (spread | (spread << np.uint64(shift))) & np.uint64(mask)
        code |= spread << np.uint64(axis)
    return np.argsort(code, kind="stable")
