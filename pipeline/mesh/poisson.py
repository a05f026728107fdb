"""A smooth surface through the shared cloud's oriented points.

Source: M. Kazhdan, H. Hoppe, Screened Poisson surface reconstruction, TOG 2013; Open3D's implementation.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from scipy.spatial import KDTree

from pipeline.depth.maps import DepthMap
from pipeline.errors import ReconstructionError
from pipeline.geometry import Mesh, PointCloud
from pipeline.mesh.params import MeshParams
from pipeline.mesh.topology import canonical
from pipeline.mesh.tsdf import automatic_voxel_size

logger = logging.getLogger(__name__)

MIN_DENSITY_LEVELS = 3.0  # below the median: the surface is far from points there
FARTHEST_POINT = 3.0  # [voxels or point spacings]


def reconstruct(maps: Sequence[DepthMap], cloud: PointCloud, params: MeshParams) -> tuple[Mesh, float]:
    """The surface through the cloud, and its voxel size [m]; see `poisson`."""
    voxel_size = params.voxel_size or automatic_voxel_size(maps)
    return poisson(cloud, voxel_size, params.poisson_depth), voxel_size


def poisson(cloud: PointCloud, voxel_size: float, depth: int = 0) -> Mesh:
    """The surface, trimmed to where there are points; oriented like the normals; all grey.

    A `depth` of the octree of 0 makes its cells about as large as a voxel [m].

    Raises:
        ReconstructionError: With too few points, or when nothing is left of the surface.
    """
    import open3d as o3d

    if len(cloud) < 100:
        raise ReconstructionError(
            "poisson needs at least 100 oriented points",
            found=f"{len(cloud)}",
            remedy="use the TSDF: --set mesh.backend=tsdf",
        )
    extent = float(np.ptp(cloud.points.astype(np.float64), axis=0).max()) * 1.1
    levels = depth or int(np.clip(np.ceil(np.log2(extent / voxel_size)), 6, 11))
    points = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(cloud.points.astype(np.float64)))
    points.normals = o3d.utility.Vector3dVector(cloud.normals.astype(np.float64))
    # one thread: with more, sums come in varying order and the surface differs from run to run
    surface, densities = o3d.geometry.TriangleMesh.create_from_point_cloud_poisson(points, depth=levels, n_threads=1)
    density = np.asarray(densities)
    vertices = np.asarray(surface.vertices)
    tree = KDTree(cloud.points)
    spacing = float(np.median(tree.query(cloud.points[:: max(1, len(cloud) // 20_000)], k=2)[0][:, 1]))
    reach = FARTHEST_POINT * max(voxel_size, spacing)
    near = np.isfinite(tree.query(vertices, distance_upper_bound=reach, workers=-1)[0])
    dense = density > np.median(density) - MIN_DENSITY_LEVELS
    triangles = np.asarray(surface.triangles)
    mesh = Mesh.from_arrays(vertices, triangles)
    mesh = mesh.with_faces(mesh.faces_of(near & dense))
    logger.info("Poisson: depth %d, %d of %d triangles kept", levels, len(mesh.triangles), len(triangles))
    if not len(mesh.triangles):
        raise ReconstructionError(
            "a Poisson surface must stay near its points",
            found=f"none of {len(triangles)} triangles lies within {reach:.3f} m of a point",
            remedy="use the TSDF: --set mesh.backend=tsdf",
        )
    return canonical(mesh)
