"""Colours and guessed marks of a mesh from the shared point cloud."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.spatial import KDTree

from pipeline.geometry import Mesh, PointCloud

NEIGHBOURS = 3


def colored(mesh: Mesh, cloud: PointCloud) -> Mesh:
    """The mesh with the distance-weighted colour of its vertices' nearest points; guessed where the nearest point is.

    Vertices and cloud lie in the same frame; an empty cloud leaves the mesh as it is.
    """
    if not len(cloud) or not len(mesh.vertices):
        return mesh
    count = min(NEIGHBOURS, len(cloud))
    distance, index = KDTree(cloud.points).query(mesh.vertices, k=count, workers=-1)
    distance, index = distance.reshape(-1, count), index.reshape(-1, count)
    weight = 1 / (distance + 1e-3)
    weight /= weight.sum(1, keepdims=True)
    colors = np.einsum("nk,nkc->nc", weight, cloud.colors[index].astype(np.float64))
    return replace(mesh, colors=colors.round().astype(np.uint8), guessed=mesh.guessed | cloud.guessed[index[:, 0]])
