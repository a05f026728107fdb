"""The walls that an object stands against: what is hidden there goes on up to them."""

from __future__ import annotations

import numpy as np
from scipy.spatial import KDTree

from pipeline.geometry import Mesh, Plane, commonest_direction
from pipeline.mesh.topology import border_edges
from pipeline.types import Mask

UPRIGHT = 0.2
"""Largest |z| of the normal of a wall."""
TOUCH = 0.08
"""Distance of a wall from the rim of what was seen of an object that stands against it [m]."""
RIM_CELL, LEAST_RIM = 0.03, 0.2
"""Length of the rim along a wall, at least, counted in cells of the first [m]."""
ABOVE = 0.05
"""The rim of its foot, up to here above it, says nothing of walls [m]."""
ALIKE = 10.0
"""Difference of directions up to which they are one wall's [degrees]."""
OFF = 0.03
"""Part of a wall is what is as near to its plane; an object is before it but for 2 % of what was seen [m]."""
MOST = 3
"""Walls of an object."""


def walls_behind(mesh: Mesh, own: Mask, support: float) -> list[Plane]:
    """Planes of the walls that an object of the mesh stands against, normals towards it.

    Its `own` triangles (F,) end there in a rim, and those of the wall begin. It stands at the height `support` [m].
    """
    seen = mesh.with_faces(own)
    rim = seen.vertices[np.unique(border_edges(seen))].astype(np.float64)
    rim = rim[rim[:, 2] > support + ABOVE]
    upright = np.flatnonzero(~own & (np.abs(mesh.face_normals()[:, 2]) < UPRIGHT))
    if not len(rim) or not len(upright):
        return []
    middles = mesh.corners()[upright].mean(1).astype(np.float64)
    near = np.isfinite(KDTree(rim).query(middles, distance_upper_bound=TOUCH, workers=-1)[0])
    normals, areas, middles = mesh.face_normals()[upright][near], mesh.face_areas()[upright][near], middles[near]
    found = list[Plane]()
    for _ in range(MOST):
        if not len(areas):
            break
        alike = commonest_direction(normals, areas, ALIKE)
        normal = areas[alike] @ normals[alike] * [1, 1, 0]
        normal /= np.linalg.norm(normal)
        offset = float(np.median(middles[alike] @ normal))
        on_it = np.abs(rim @ normal - offset) < TOUCH
        length = RIM_CELL * len(np.unique(np.floor(rim[on_it] / RIM_CELL), axis=0))
        if length > LEAST_RIM and np.quantile(seen.vertices @ normal - offset, 0.02) > -OFF:
            found.append(Plane(normal, offset))
        alike |= np.abs(middles @ normal - offset) < OFF
        normals, areas, middles = normals[~alike], areas[~alike], middles[~alike]
    return found
