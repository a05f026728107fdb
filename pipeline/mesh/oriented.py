"""Points with the normals that reconstruction from points stands on: of local planes, towards the cameras."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import PointCloud

NEIGHBOURS = 24
MIN_COSINE = 0.087
"""Where plane and depth maps say normals of over 85 degrees between them, one of them is wrong (NKSR's own limit)."""


def oriented_points(cloud: PointCloud) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Points and unit normals (N, 3): a local plane's (PCA), turned to the cameras that saw the point.

    The cloud's own normals come from single depth maps and are noisier; they say the side. Points whose plane does not
    agree with them, on thin edges and in clutter, are left out.

    Args:
        cloud: At least three points [m].
    """
    import open3d as o3d

    points = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(cloud.points.astype(np.float64)))
    points.estimate_normals(o3d.geometry.KDTreeSearchParamKNN(NEIGHBOURS))
    planes = np.asarray(points.normals).astype(np.float32)
    cosine = np.einsum("nc,nc->n", planes, cloud.normals)
    sure = np.abs(cosine) > MIN_COSINE
    return cloud.points[sure], (planes * np.sign(cosine)[:, None])[sure]
