"""The cloud as a PLY file, for other programs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from plyfile import PlyData, PlyElement

from pipeline.geometry import PointCloud


def write_points_ply(path: Path, cloud: PointCloud) -> None:
    """Write a binary PLY: x y z [m], nx ny nz, red green blue, sigma [m], views (how many agree), guessed (0 or 1)."""
    columns = [(name, "f4") for name in ("x", "y", "z", "nx", "ny", "nz")]
    columns += [(name, "u1") for name in ("red", "green", "blue")]
    columns += [("sigma", "f4"), ("views", "u2"), ("guessed", "u1")]
    vertex = np.empty(len(cloud), columns)
    for axis, name in enumerate("xyz"):
        vertex[name] = cloud.points[:, axis]
        vertex[f"n{name}"] = cloud.normals[:, axis]
    for channel, name in enumerate(("red", "green", "blue")):
        vertex[name] = cloud.colors[:, channel]
    vertex["sigma"], vertex["views"], vertex["guessed"] = cloud.sigma, np.minimum(cloud.views, 65535), cloud.guessed
    PlyData([PlyElement.describe(vertex, "vertex")]).write(str(path))
