"""Oriented, coloured point clouds: what mesh and splat both start from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.similarity import Similarity

Float = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class PointCloud:
    """Points with what is known of each; all arrays have the same length N.

    Attributes:
        points: (N, 3) float32 [m, world frame].
        normals: (N, 3) float32, unit, towards the cameras that saw the point.
        colors: (N, 3) uint8, sRGB.
        sigma: (N,) float32 [m], standard deviation along the viewing ray.
        views: (N,) int32, how many keyframes agree on the point.
        guessed: (N,) bool, filled in rather than measured.
    """

    points: Float
    normals: Float
    colors: NDArray[np.uint8]
    sigma: Float
    views: NDArray[np.int32]
    guessed: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: NDArray[np.bool_] | NDArray[np.integer] | slice) -> PointCloud:
        """The cloud of the chosen points."""
        return PointCloud(
            self.points[index],
            self.normals[index],
            self.colors[index],
            self.sigma[index],
            self.views[index],
            self.guessed[index],
        )

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
